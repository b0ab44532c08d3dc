"""One suite for every knowledge store: memory, embedded engine, qdrant-client, a real server when QDRANT_URL is set."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import qdrant_edge as qe
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from knowledge_base.bm25 import document_vector, query_vector, term_id
from knowledge_base.cases import VectorNames, to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import CollectionMissing, DiskLow, ManifestMismatch, StoreUnavailable
from knowledge_base.findings import Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention, RecordError
from knowledge_base.schema import (
    CollectionSchema,
    DenseVector,
    Distance,
    IndexManifest,
    TermWeights,
    box_vector,
    cases_schema,
    text_vector,
)
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.server import ServerStore, connect
from knowledge_base.store import (
    EVERYTHING,
    Between,
    Filter,
    HasId,
    KnowledgeStore,
    Match,
    MatchAny,
    Nearest,
    Point,
    Scope,
    SparseVector,
)
from knowledge_base.verification import verify

BOX, TEXT = box_vector("box@1"), text_vector("mini@1")
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
PUBLIC_ONLY = Scope("public")
VOCABULARY = (
    "effusion",
    "pneumothorax",
    "clear",
    "lungs",
    "heart",
    "enlarged",
    "normal",
    "opacity",
    "left",
    "right",
    "small",
)


@dataclass
class Rig:
    """A store under test, how to open it again, and how to spoil one record behind its back."""

    store: KnowledgeStore
    schema: CollectionSchema
    reopen: Callable[[], KnowledgeStore] | None
    spoil: Callable[[UUID, dict[str, Any]], None]

    @property
    def name(self) -> str:
        return self.schema.name


def memory_rig(_: Path, schema: CollectionSchema) -> Iterator[Rig]:
    store = MemoryStore()

    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        points = store._collections[schema.name].points
        points[identity] = replace(points[identity], payload={**points[identity].payload, **change})

    yield Rig(store, schema, None, spoil)


def edge_rig(path: Path, schema: CollectionSchema) -> Iterator[Rig]:
    rig = Rig(EdgeStore(path, reserve_bytes=0), schema, None, lambda i, c: None)

    def reopen() -> KnowledgeStore:
        rig.store.close()
        rig.store = EdgeStore(path, reserve_bytes=0)
        return rig.store

    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        rig.store.close()
        shard = qe.EdgeShard.load(str(path / schema.name / "shard"))
        shard.update(qe.UpdateOperation.set_payload([identity], change))
        shard.close()
        reopen().open(schema, MANIFEST)

    rig.reopen, rig.spoil = reopen, spoil
    yield rig


def local_rig(path: Path, schema: CollectionSchema) -> Iterator[Rig]:
    def client() -> QdrantClient:
        return QdrantClient(path=str(path), force_disable_check_same_thread=True)

    rig = Rig(ServerStore(client(), local=True), schema, None, lambda i, c: None)

    def reopen() -> KnowledgeStore:
        rig.store.close()
        rig.store = ServerStore(client(), local=True)
        return rig.store

    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        assert isinstance(rig.store, ServerStore)
        rig.store._client.set_payload(schema.name, change, [str(identity)])

    rig.reopen, rig.spoil = reopen, spoil
    yield rig


def server_rig(_: Path, schema: CollectionSchema) -> Iterator[Rig]:
    url = os.environ["QDRANT_URL"]
    client = QdrantClient(url=url)
    rig = Rig(connect(url), schema, None, lambda i, c: None)

    def reopen() -> KnowledgeStore:
        rig.store.close()
        rig.store = connect(url)
        return rig.store

    rig.reopen = reopen
    rig.spoil = lambda identity, change: client.set_payload(schema.name, change, [str(identity)], wait=True)
    yield rig
    client.delete_collection(schema.name)


RIGS = {"memory": memory_rig, "edge": edge_rig, "local": local_rig}
if "QDRANT_URL" in os.environ:
    RIGS["server"] = server_rig
LASTING = [name for name in RIGS if name != "memory"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: the engine's many small flushes are slow on a busy disk."""
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def schema() -> CollectionSchema:
    return replace(cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6), name=f"cases-{uuid4().hex[:8]}")


def opened(kind: str, folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    for rig in RIGS[kind](folder, schema):
        rig.store.open(schema, MANIFEST)
        yield rig
        rig.store.close()


@pytest.fixture(params=list(RIGS))
def rig(request: pytest.FixtureRequest, folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    yield from opened(request.param, folder, schema)


@pytest.fixture(params=LASTING)
def lasting(request: pytest.FixtureRequest, folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    yield from opened(request.param, folder, schema)


def a_case(number: int, words: str, tenant: str = "public", finding: str | None = "Edema") -> Case:
    mentions = () if finding is None else (Mention(finding, Polarity.POSITIVE, (0, 3)),)
    sentences = (CaseSentence(words, (0, len(words)), "findings", mentions),)
    patient = f"p{number // 2}"
    return Case("openi", f"s{number}", patient, words, sentences, tenant=tenant, view="PA")


def a_point(
    number: int,
    schema: CollectionSchema,
    *,
    words: str = "small left effusion",
    tenant: str = "public",
    finding: str | None = "Edema",
) -> Point:
    rng = np.random.default_rng(number)
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    vector = rng.normal(size=6).astype(np.float32)
    return to_point(a_case(number, words, tenant, finding), schema, box=box, text_vector=vector)


def many(schema: CollectionSchema, count: int = 60) -> list[Point]:
    """Points of two tenants and the public with words of their own; the same on every machine."""
    rng = np.random.default_rng(7)
    points = []
    for number in range(count):
        words = " ".join(rng.choice(VOCABULARY, size=rng.integers(3, 12)))
        tenant = ("public", "isle", "coast")[number % 3]
        finding = ("Edema", "Pneumothorax", None)[number % 5 % 3]
        points.append(a_point(number, schema, words=words, tenant=tenant, finding=finding))
    return points


def words(text: str) -> SparseVector:
    vector = query_vector(text)
    assert vector is not None
    return vector


def unit(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_a_point_comes_back_as_it_was_stored(rig: Rig) -> None:
    point = a_point(1, rig.schema)
    rig.store.upsert(rig.name, [point])
    fetched = rig.store.get(rig.name, [point.id], PUBLIC_ONLY, [BOX, TEXT])
    assert fetched.damaged == ()
    (found,) = fetched.points
    assert found.id == point.id
    assert found.vectors[BOX].tolist() == point.vectors[BOX].tolist()
    length = float(np.linalg.norm(point.vectors[TEXT].astype(np.float64)))
    assert found.vectors[TEXT].tolist() == (point.vectors[TEXT] / length).astype(np.float32).tolist()
    assert found.payload["text"] == "small left effusion"
    assert found.payload["labels_positive"] == ["Edema"]


def test_vectors_nobody_asked_for_are_not_sent(rig: Rig) -> None:
    point = a_point(1, rig.schema)
    rig.store.upsert(rig.name, [point])
    assert dict(rig.store.get(rig.name, [point.id], PUBLIC_ONLY).points[0].vectors) == {}


def test_get_keeps_the_order_asked_and_passes_over_the_unknown(rig: Rig) -> None:
    points = [a_point(n, rig.schema) for n in range(5)]
    rig.store.upsert(rig.name, points)
    asked = [points[3].id, uuid4(), points[0].id, points[3].id]
    assert [p.id for p in rig.store.get(rig.name, asked, PUBLIC_ONLY).points] == [points[3].id, points[0].id]
    assert rig.store.get(rig.name, [], PUBLIC_ONLY).points == ()


def test_storing_twice_changes_nothing_and_the_later_record_wins(rig: Rig) -> None:
    points = [a_point(n, rig.schema) for n in range(4)]
    rig.store.upsert(rig.name, points)
    rig.store.upsert(rig.name, points)
    rig.store.upsert(rig.name, [a_point(2, rig.schema, words="heart enlarged")])
    assert rig.store.count(rig.name, PUBLIC_ONLY) == 4
    assert rig.store.ids(rig.name, PUBLIC_ONLY) == sorted(p.id for p in points)
    assert rig.store.get(rig.name, [points[2].id], PUBLIC_ONLY).points[0].payload["text"] == "heart enlarged"
    rig.store.upsert(rig.name, [])


def test_a_tenant_sees_its_own_and_the_public_points_only(rig: Rig) -> None:
    points = many(rig.schema)
    rig.store.upsert(rig.name, points)
    by_tenant = {t: sorted(p.id for p in points if p.payload["tenant"] == t) for t in ("public", "isle", "coast")}
    isle, lone, nobody = Scope("isle"), Scope("isle", also_public=False), Scope("nobody", also_public=False)
    everything = [p.id for p in points]
    assert rig.store.ids(rig.name, isle) == sorted(by_tenant["isle"] + by_tenant["public"])
    assert rig.store.ids(rig.name, lone) == by_tenant["isle"]
    assert rig.store.ids(rig.name, nobody) == []
    assert {p.id for p in rig.store.get(rig.name, everything, lone).points} == set(by_tenant["isle"])
    assert rig.store.count(rig.name, lone) == 20
    assert rig.store.facet(rig.name, "tenant", isle) == {"isle": 20, "public": 20}
    assert rig.store.tenants(rig.name) == {"coast": 20, "isle": 20, "public": 20}
    lists = [Nearest(BOX, np.ones(8, np.float32), 60), Nearest(TEXT, np.ones(6, np.float32), 60)]
    for found in rig.store.ranked(rig.name, [*lists, Nearest("bm25", words("effusion heart"), 60)], lone):
        assert found
        assert {h.id for h in found} <= set(by_tenant["isle"])


def test_another_tenants_filter_finds_nothing(rig: Rig) -> None:
    rig.store.upsert(rig.name, many(rig.schema))
    stolen = Filter(must=(Match("tenant", "coast"),))
    assert rig.store.count(rig.name, Scope("isle"), stolen) == 0
    (found,) = rig.store.ranked(rig.name, [Nearest(BOX, np.ones(8, np.float32), 60, stolen)], Scope("isle"))
    assert found == []


def test_a_tenant_cannot_withdraw_or_delete_for_another(rig: Rig) -> None:
    points = many(rig.schema, 6)
    rig.store.upsert(rig.name, points)
    everything = [p.id for p in points]
    rig.store.set_withdrawn(rig.name, everything, "isle")
    rig.store.delete(rig.name, everything, "coast")
    assert rig.store.tenants(rig.name) == {"isle": 2, "public": 2}
    withdrawn = Filter(must=(Match("withdrawn", 1),))
    assert rig.store.ids(rig.name, Scope("isle"), withdrawn) == sorted([points[1].id, points[4].id])
    rig.store.set_withdrawn(rig.name, [], "isle")
    rig.store.delete(rig.name, [], "isle")
    rig.store.delete(rig.name, [uuid4()], "isle")
    assert rig.store.tenants(rig.name) == {"isle": 2, "public": 2}


def test_a_withdrawal_outlives_being_indexed_again_and_can_be_taken_back(rig: Rig) -> None:
    points = [a_point(n, rig.schema) for n in range(3)]
    in_use = Filter(must_not=(Match("withdrawn", 1),))
    rig.store.upsert(rig.name, points)
    rig.store.set_withdrawn(rig.name, [points[1].id], "public")
    rig.store.upsert(rig.name, points)
    assert rig.store.ids(rig.name, PUBLIC_ONLY, in_use) == sorted([points[0].id, points[2].id])
    fetched = rig.store.get(rig.name, [points[1].id], PUBLIC_ONLY)
    assert fetched.damaged == ()
    assert fetched.points[0].payload["withdrawn"] == 1
    rig.store.set_withdrawn(rig.name, [points[1].id], "public", withdrawn=False)
    assert rig.store.count(rig.name, PUBLIC_ONLY, in_use) == 3


FILTERS = [
    (EVERYTHING, 6),
    (Filter(must=(Match("labels_positive", "Edema"),)), 2),
    (Filter(must=(MatchAny("labels_positive", ("Edema", "Pneumothorax")),)), 4),
    (Filter(must_not=(Match("labels_positive", "Edema"),)), 4),
    (Filter(must=(Match("labels_positive", "Edema"), Match("study", "s0"))), 1),
    (Filter(must=(Between("withdrawn", 1.0, None),)), 0),
    (Filter(must=(Between("withdrawn", None, 0.0),)), 6),
    (Filter(must=(Match("view", "AP"),)), 0),
    (Filter(must_not=(Match("patient_key", '["openi", "p0"]'),)), 4),
]


def test_filters_count_alike(rig: Rig) -> None:
    findings = ["Edema", "Pneumothorax", None, "Edema", "Pneumothorax", None]
    rig.store.upsert(rig.name, [a_point(n, rig.schema, finding=f) for n, f in enumerate(findings)])
    for wanted, count in FILTERS:
        assert rig.store.count(rig.name, PUBLIC_ONLY, wanted) == count, wanted
        assert len(rig.store.ids(rig.name, PUBLIC_ONLY, wanted)) == count, wanted


def test_ids_are_a_filter_too(rig: Rig) -> None:
    points = [a_point(n, rig.schema) for n in range(4)]
    rig.store.upsert(rig.name, points)
    chosen = HasId((points[0].id, points[2].id))
    assert rig.store.ids(rig.name, PUBLIC_ONLY, Filter(must=(chosen,))) == sorted(chosen.ids)
    assert rig.store.count(rig.name, PUBLIC_ONLY, Filter(must_not=(chosen,))) == 2


def test_euclid_lists_the_nearest_first_with_its_distance(rig: Rig) -> None:
    near, far = a_point(1, rig.schema), a_point(2, rig.schema)
    at = np.zeros(8, np.float32)
    points = []
    for point, shift in ((near, 1.0), (far, 3.0)):
        vector = at.copy()
        vector[0] = shift
        points.append(replace(point, vectors={**point.vectors, BOX: vector}))
    rig.store.upsert(rig.name, points)
    asked = at.copy()
    asked[0] = 0.5
    (found,) = rig.store.ranked(rig.name, [Nearest(BOX, asked, 5)], PUBLIC_ONLY)
    assert [(h.id, h.score) for h in found] == [(near.id, 0.5), (far.id, 2.5)]


def test_cosine_lists_the_most_alike_first_whatever_the_length(rig: Rig) -> None:
    points = []
    for number, vector in enumerate([unit(0, 2, 0, 0, 0, 0), unit(3, 4, 0, 0, 0, 0), unit(-1, 0, 0, 0, 0, 0)]):
        point = a_point(number, rig.schema)
        points.append(replace(point, vectors={TEXT: vector}))
    rig.store.upsert(rig.name, points)
    (found,) = rig.store.ranked(rig.name, [Nearest(TEXT, unit(7, 0, 0, 0, 0, 0), 5)], PUBLIC_ONLY)
    assert [h.id for h in found] == [points[1].id, points[0].id, points[2].id]
    assert [h.score for h in found] == pytest.approx([0.6, 0.0, -1.0], abs=1e-6)


def test_words_weigh_by_rarity_among_the_points_in_scope(rig: Rig) -> None:
    rig.store.upsert(
        rig.name,
        [
            a_point(0, rig.schema, words="effusion"),
            a_point(1, rig.schema, words="effusion edema"),
            a_point(2, rig.schema, words="clear"),
            *(a_point(n, rig.schema, words="edema", tenant="coast") for n in range(3, 9)),
        ],
    )
    (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("edema and effusion"), 9)], PUBLIC_ONLY)
    common, rare = np.log((3 - 2 + 0.5) / 2.5 + 1), np.log((3 - 1 + 0.5) / 1.5 + 1)
    one, two = 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / 30)), 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 30))
    assert [h.score for h in found] == pytest.approx([two * (rare + common), one * common], rel=1e-5)
    assert [h.id for h in found] == [a_point(1, rig.schema).id, a_point(0, rig.schema).id]


def test_a_word_no_report_has_finds_nothing(rig: Rig) -> None:
    rig.store.upsert(rig.name, [a_point(0, rig.schema)])
    (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("xylophone"), 5)], PUBLIC_ONLY)
    assert found == []


def test_equal_scores_come_in_order_of_id_even_at_the_cut(rig: Rig) -> None:
    points = [a_point(n, rig.schema, words="lungs clear") for n in range(40)]
    rig.store.upsert(rig.name, points[::-1])
    (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("clear"), 7)], PUBLIC_ONLY)
    assert [h.id for h in found] == sorted(p.id for p in points)[:7]


def test_every_list_is_filtered_before_it_is_cut(rig: Rig) -> None:
    points = many(rig.schema)
    rig.store.upsert(rig.name, points)
    rare = Filter(must=(Match("study", "s33"),))
    asked = [Nearest(BOX, points[0].vectors[BOX], 1, rare), Nearest(TEXT, points[0].vectors[TEXT], 1, rare)]
    lists = rig.store.ranked(rig.name, asked, PUBLIC_ONLY)
    assert [[h.id for h in found] for found in lists] == [[points[33].id], [points[33].id]]


def test_a_point_without_a_vector_is_in_the_other_lists_only(rig: Rig) -> None:
    point = a_point(0, rig.schema)
    rig.store.upsert(rig.name, [replace(point, vectors={TEXT: point.vectors[TEXT]})])
    lists = [Nearest(BOX, np.ones(8, np.float32), 5), Nearest(TEXT, np.ones(6, np.float32), 5)]
    by_box, by_text = rig.store.ranked(rig.name, lists, PUBLIC_ONLY)
    assert by_box == []
    assert [h.id for h in by_text] == [point.id]
    assert rig.store.ranked(rig.name, [], PUBLIC_ONLY) == []


def test_scrolling_visits_every_point_once_in_order(rig: Rig) -> None:
    points = many(rig.schema, 31)
    rig.store.upsert(rig.name, points)
    wanted = Scope("isle")
    seen: list[UUID] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        page = rig.store.scroll(rig.name, wanted, after=after, limit=7, vectors=[BOX])
        assert all(p.vectors[BOX].shape == (8,) for p in page.points)
        seen += [p.id for p in page.points]
        after, pages = page.next_after, pages + 1
    assert seen == rig.store.ids(rig.name, wanted)
    assert (len(seen), pages) == (21, 3)


def test_facets_count_points_not_words(rig: Rig) -> None:
    rig.store.upsert(rig.name, many(rig.schema))
    assert rig.store.facet(rig.name, "labels_positive", PUBLIC_ONLY) == {"Edema": 8, "Pneumothorax": 8}
    sevens = Filter(must=(Match("study", "s6"),))
    assert rig.store.facet(rig.name, "labels_positive", PUBLIC_ONLY, sevens) == {"Pneumothorax": 1}
    with pytest.raises(ValueError, match="does not index 'text'"):
        rig.store.facet(rig.name, "text", PUBLIC_ONLY)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(rig: Rig, bad: float) -> None:
    good, spoiled = a_point(0, rig.schema), a_point(1, rig.schema)
    vector = spoiled.vectors[BOX].copy()
    vector[3] = bad
    with pytest.raises(RecordError, match="not finite"):
        rig.store.upsert(rig.name, [good, replace(spoiled, vectors={BOX: vector})])
    assert rig.store.count(rig.name, PUBLIC_ONLY) == 0
    with pytest.raises(RecordError, match="not finite"):
        rig.store.ranked(rig.name, [Nearest(BOX, vector, 5)], PUBLIC_ONLY)


def test_malformed_points_are_refused(rig: Rig) -> None:
    point = a_point(0, rig.schema)
    refused = {
        "zero": replace(point, vectors={BOX: np.zeros(8, np.float32)}),
        r"wants \(8,\)": replace(point, vectors={BOX: np.ones(7, np.float32)}),
        r"no vectors named \['box.other@1'\]": replace(point, vectors={"box.other@1": np.ones(8, np.float32)}),
        "no vector": replace(point, vectors={}, sparse={}),
        "names no tenant": replace(point, payload={"text": "x"}),
        "is not JSON": replace(point, payload={**point.payload, "film": object()}),
    }
    for reason, bad in refused.items():
        with pytest.raises(RecordError, match=reason):
            rig.store.upsert(rig.name, [bad])
    with pytest.raises(RecordError, match="no dense vector 'bm25'"):
        rig.store.ranked(rig.name, [Nearest("bm25", np.ones(8, np.float32), 5)], PUBLIC_ONLY)
    with pytest.raises(RecordError, match="no sparse vector"):
        rig.store.ranked(rig.name, [Nearest(BOX, words("heart"), 5)], PUBLIC_ONLY)
    with pytest.raises(ValueError, match="no dense vectors"):
        rig.store.get(rig.name, [point.id], PUBLIC_ONLY, ["nothing"])
    with pytest.raises(ValueError, match="no index on 'text'"):
        rig.store.count(rig.name, PUBLIC_ONLY, Filter(must=(Match("text", "x"),)))
    assert rig.store.count(rig.name, PUBLIC_ONLY) == 0


def test_a_damaged_record_is_withheld_counted_and_named(rig: Rig) -> None:
    points = [a_point(n, rig.schema) for n in range(4)]
    rig.store.upsert(rig.name, points)
    assert verify(rig.store, rig.schema).intact
    rig.spoil(points[2].id, {"text": "large right pneumothorax"})
    fetched = rig.store.get(rig.name, [p.id for p in points], PUBLIC_ONLY)
    assert [p.id for p in fetched.points] == [points[0].id, points[1].id, points[3].id]
    assert fetched.damaged == (points[2].id,)
    assert rig.store.scroll(rig.name, PUBLIC_ONLY).damaged == (points[2].id,)
    report = verify(rig.store, rig.schema)
    assert (report.checked, report.damaged, report.intact) == ({"public": 4}, (points[2].id,), False)


def test_a_search_goes_on_without_the_damaged_record(rig: Rig) -> None:
    points = sorted((a_point(n, rig.schema) for n in range(4)), key=lambda p: p.id)
    rig.store.upsert(rig.name, points)
    rig.spoil(points[0].id, {"labels_positive": ["Fracture"]})
    found = search_of(rig).search(CaseQuery("isle", text="effusion", limit=3))
    assert found.damaged == 1
    assert {h.case.id for h in found.hits} == {points[1].id, points[2].id, points[3].id}


def test_a_vector_changed_behind_the_checksum_is_found(rig: Rig) -> None:
    points = [a_point(n, rig.schema) for n in range(3)]
    rig.store.upsert(rig.name, points)
    stale = rig.store.get(rig.name, [points[0].id], PUBLIC_ONLY).points[0].payload
    rig.store.upsert(rig.name, [replace(points[0], vectors={BOX: np.ones(8, np.float32)})])
    fresh = rig.store.get(rig.name, [points[0].id], PUBLIC_ONLY).points[0].payload
    changed = {k: stale[k] for k in ("vectors_sha256", "sha256") if stale[k] != fresh[k]}
    rig.spoil(points[0].id, changed)
    assert set(changed) == {"vectors_sha256", "sha256"}
    assert verify(rig.store, rig.schema).damaged == (points[0].id,)


def search_of(rig: Rig) -> CaseSearch:
    return CaseSearch(rig.store, VectorNames.of(rig.schema), collection=rig.name)


def test_other_models_or_another_layout_are_an_error_that_names_the_remedy(rig: Rig) -> None:
    newer = replace(MANIFEST, text_model="mini@2")
    with pytest.raises(ManifestMismatch, match=r"text_model mini@1, this program runs mini@2.*--rebuild") as caught:
        rig.store.open(rig.schema, newer)
    assert caught.value.field == "text_model"
    dense = {**rig.schema.dense, BOX: DenseVector(10, Distance.EUCLID)}
    with pytest.raises(ManifestMismatch) as caught:
        rig.store.open(replace(rig.schema, dense=dense), MANIFEST)
    assert caught.value.field == "dense"
    with pytest.raises(ManifestMismatch) as caught:
        rig.store.open(replace(rig.schema, sparse={"bm25": TermWeights(average_terms=99.0)}), MANIFEST)
    assert caught.value.field == "sparse"
    rig.store.open(rig.schema, MANIFEST)
    assert rig.store.manifest(rig.name) == MANIFEST
    assert rig.store.manifest("guidelines") is None


def test_a_collection_nobody_opened_is_missing(rig: Rig) -> None:
    with pytest.raises(CollectionMissing, match="python -m indexer add"):
        rig.store.count("guidelines", PUBLIC_ONLY)
    with pytest.raises(CollectionMissing):
        rig.store.upsert("guidelines", [])


def test_a_closed_store_is_unavailable(rig: Rig) -> None:
    assert rig.store.health().collections == {rig.name: 0}
    rig.store.close()
    rig.store.close()
    assert not rig.store.health().ready
    with pytest.raises(StoreUnavailable):
        rig.store.count(rig.name, PUBLIC_ONLY)


def test_what_was_stored_is_there_after_closing_and_opening(lasting: Rig) -> None:
    points = many(lasting.schema)
    lasting.store.upsert(lasting.name, points)
    lasting.store.set_withdrawn(lasting.name, [points[0].id], "public")
    asked = [Nearest(BOX, points[5].vectors[BOX], 10), Nearest("bm25", words("heart effusion"), 10)]
    before = lasting.store.ranked(lasting.name, asked, Scope("isle"))
    assert lasting.reopen is not None
    store = lasting.reopen()
    store.open(lasting.schema, MANIFEST)
    assert store.tenants(lasting.name) == {"coast": 20, "isle": 20, "public": 20}
    assert store.ids(lasting.name, PUBLIC_ONLY, Filter(must=(Match("withdrawn", 1),))) == [points[0].id]
    assert store.ranked(lasting.name, asked, Scope("isle")) == before
    assert verify(store, lasting.schema).damaged == ()


def test_searches_are_the_same_point_by_point_in_every_store(lasting: Rig) -> None:
    points = many(lasting.schema, 120)
    oracle = MemoryStore()
    oracle.open(lasting.schema, MANIFEST)
    for store in (lasting.store, oracle):
        store.upsert(lasting.name, points)
    lasting.store.optimize(lasting.name)
    names = VectorNames.of(lasting.schema)
    rng = np.random.default_rng(3)
    for number in range(12):
        query = CaseQuery(
            tenant=("isle", "coast")[number % 2],
            box=BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32)),
            text_vector=rng.normal(size=6).astype(np.float32) if number % 3 else None,
            text=" ".join(rng.choice(VOCABULARY, 4)),
            exclude_patient=("openi", f"p{number}"),
            exclude_study=("openi", f"s{number * 3}"),
            finding=("Edema", Polarity.POSITIVE) if number % 4 == 0 else None,
            limit=10,
            prefetch=20,
        )
        found = CaseSearch(lasting.store, names, collection=lasting.name).search(query)
        expected = CaseSearch(oracle, names, collection=lasting.name).search(query)
        assert [(h.case, h.score, h.ranks) for h in found.hits] == [(h.case, h.score, h.ranks) for h in expected.hits]
        assert [h.w2 for h in found.hits] == [h.w2 for h in expected.hits]
        assert [h.box_overlap for h in found.hits] == [h.box_overlap for h in expected.hits]


def test_raw_scores_agree_with_exact_arithmetic(lasting: Rig) -> None:
    points = many(lasting.schema, 60)
    oracle = MemoryStore()
    oracle.open(lasting.schema, MANIFEST)
    for store in (lasting.store, oracle):
        store.upsert(lasting.name, points)
        store.delete(lasting.name, [points[0].id, points[3].id], "public")
        store.upsert(lasting.name, points[30:40])
    asked = [
        Nearest(BOX, points[9].vectors[BOX], 15),
        Nearest(TEXT, points[9].vectors[TEXT], 15),
        Nearest("bm25", words("small effusion heart"), 15),
    ]
    for found, exact in zip(
        lasting.store.ranked(lasting.name, asked, Scope("isle")),
        oracle.ranked(lasting.name, asked, Scope("isle")),
        strict=True,
    ):
        assert [h.id for h in found] == [h.id for h in exact]
        assert [h.score for h in found] == pytest.approx([h.score for h in exact], rel=2e-6, abs=2e-6)


def test_several_threads_may_ask_and_write_at_once(rig: Rig) -> None:
    points = many(rig.schema)
    rig.store.upsert(rig.name, points)
    asked = [Nearest(BOX, points[5].vectors[BOX], 10), Nearest("bm25", words("heart effusion"), 10)]
    expected = rig.store.ranked(rig.name, asked, Scope("isle"))
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(10):
            if (found := rig.store.ranked(rig.name, asked, Scope("isle"))) != expected:
                wrong.append(found)

    def write() -> None:
        for number in range(5):
            rig.store.upsert(rig.name, [a_point(200 + number, rig.schema, tenant="third")])

    threads = [threading.Thread(target=t) for t in (ask, ask, ask, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert rig.store.tenants(rig.name)["third"] == 5


def test_one_word_vectors_have_the_stable_ids_the_store_keeps() -> None:
    vector = document_vector("effusions", TermWeights())
    assert vector is not None
    assert vector.indices.tolist() == [term_id("effusion")]


def test_the_embedded_store_keeps_a_disk_reserve(folder: Path, schema: CollectionSchema) -> None:
    free = shutil.disk_usage(folder).free
    store = EdgeStore(folder, reserve_bytes=free * 2)
    with pytest.raises(DiskLow, match="would stay free"):
        store.open(schema, MANIFEST)
    store.close()
    assert [p.name for p in folder.iterdir()] == ["engine.lock"]
