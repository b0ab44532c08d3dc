"""The case search once it has fused its lists: regions, the re-ranker, diverse answers, and records that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_base.cases import VectorNames, to_point
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention
from knowledge_base.rerank import FEATURES, Reranker
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.search import RERANKED, CaseQuery, CaseSearch
from knowledge_base.store import Fetched, Scope, seal

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=2, text_dimension=3, region_dimension=2)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 2, 3)
NAMES = VectorNames.of(SCHEMA)


def box(x: float) -> BoxLatent:
    return BoxLatent(np.array([x, 0.0], np.float32), np.ones(2, np.float32))


def vector(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def a_case(study: str, finding: str) -> Case:
    mention = Mention(finding, Polarity.POSITIVE, (0, 1))
    return Case("openi", study, f"p-{study}", "seen", (CaseSentence("seen", (0, 4), "findings", (mention,)),))


def preferring(**weights: float) -> Reranker:
    """A re-ranker that weighs these features as they are, and no other."""
    return Reranker(np.zeros(len(FEATURES)), np.ones(len(FEATURES)), np.array([weights.get(f, 0.0) for f in FEATURES]))


@pytest.fixture
def store() -> MemoryStore:
    """Three cases with films at 0, 1 and 2, whose regions and reports differ, and one without a film."""
    held = MemoryStore()
    held.open(SCHEMA, MANIFEST)
    rows = [
        ("first", "Edema", 0.0, vector(1, 0), vector(1, 0, 0)),
        ("second", "Edema", 1.0, vector(0.6, 0.8), vector(1, 0, 0)),
        ("third", "Fracture", 2.0, vector(0, 1), vector(0, 1, 0)),
    ]
    held.upsert(
        "cases",
        [
            to_point(a_case(s, f), SCHEMA, box=box(x), text_vector=t, regions={"left-lower": r, "mediastinum": -r})
            for s, f, x, r, t in rows
        ],
    )
    held.upsert("cases", [to_point(a_case("filmless", "Fracture"), SCHEMA, text_vector=vector(0, 0, 1))])
    return held


def studies(search: CaseSearch, query: CaseQuery) -> list[str]:
    return [h.case.study for h in search.search(query).hits]


def test_a_region_finds_cases_that_look_alike_there(store: MemoryStore) -> None:
    search = CaseSearch(store, NAMES)
    assert studies(search, CaseQuery("isle", region=("left-lower", vector(0, 2)))) == ["third", "second", "first"]
    assert studies(search, CaseQuery("isle", region=("mediastinum", vector(0, 2)))) == ["first", "second", "third"]
    found = search.search(CaseQuery("isle", box=box(0), region=("left-lower", vector(0, 1)))).hits
    assert {h.case.study: dict(h.ranks) for h in found}["third"] == {"box": 3, "region": 1}
    assert found[0].score == pytest.approx(1 / 63 + 1 / 61)
    limited = CaseQuery("isle", region=("left-lower", vector(0, 1)), finding=("Edema", Polarity.POSITIVE))
    assert studies(search, limited) == ["second", "first"]


def test_weights_and_k_are_the_searchs_own(store: MemoryStore) -> None:
    search = CaseSearch(store, NAMES, k=9, weights={"box": 3.0})
    assert search.search(CaseQuery("isle", box=box(2), limit=1)).hits[0].score == 0.3


def test_a_reranker_puts_what_agrees_first_and_says_why(store: MemoryStore) -> None:
    query = CaseQuery("isle", box=box(0), probabilities={"Fracture": 0.9, "Edema": 0.1})
    assert studies(CaseSearch(store, NAMES), query) == ["first", "second", "third"]
    hits = CaseSearch(store, NAMES, reranker=preferring(agreement=1.0)).search(query).hits
    assert [h.case.study for h in hits] == ["third", "first", "second"]
    told = hits[0].features
    assert told is not None
    assert hits[0].reranked == pytest.approx(0.9 / 1.1)
    assert told["agreement"] == pytest.approx(0.9 / 1.1)
    assert (told["text"], told["region"]) == (None, None)
    assert (hits[0].w2, told["w2"]) == (2.0, 2.0)
    assert [h.score for h in hits] == pytest.approx([1 / 63, 1 / 61, 1 / 62])


def test_without_a_reranker_nothing_is_claimed_of_one(store: MemoryStore) -> None:
    hit = CaseSearch(store, NAMES).search(CaseQuery("isle", box=box(0))).hits[0]
    assert (hit.reranked, hit.features, hit.box_overlap) == (None, None, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("feature", "asked", "first"),
    [
        ("text", {"text_vector": vector(0, 5, 0)}, "third"),
        ("region", {"region": ("left-lower", vector(0, 3))}, "third"),
        ("w2", {"box": box(0)}, "third"),
        ("box_overlap", {"box": box(1)}, "second"),
    ],
)
def test_each_vector_is_fetched_for_its_feature(
    store: MemoryStore, feature: str, asked: dict[str, Any], first: str
) -> None:
    hits = CaseSearch(store, NAMES, reranker=preferring(**{feature: 1.0})).search(CaseQuery("isle", **asked)).hits
    assert hits[0].case.study == first
    assert hits[0].features is not None
    assert hits[0].features[feature] == pytest.approx({"w2": 2.0}.get(feature, 1.0))


def test_a_case_without_a_film_is_compared_by_what_it_has(store: MemoryStore) -> None:
    search = CaseSearch(store, NAMES, reranker=preferring(text=1.0, box_overlap=-9.0))
    hits = search.search(CaseQuery("isle", box=box(0), text_vector=vector(0, 0, 1))).hits
    assert hits[0].case.study == "filmless"
    assert (hits[0].box, hits[0].w2, hits[0].reranked) == (None, None, 1.0)


def test_a_diverse_answer_puts_a_copy_after_what_is_new(store: MemoryStore) -> None:
    store.upsert("cases", [to_point(a_case(f"far-{x}", "Pneumonia"), SCHEMA, box=box(x)) for x in range(9, 15)])
    query = CaseQuery("isle", box=box(0), limit=3, probabilities={"Edema": 0.6, "Fracture": 0.59, "Pneumonia": 0.0})
    search = CaseSearch(store, NAMES, reranker=preferring(agreement=1.0))
    assert studies(search, query) == ["first", "second", "third"]
    assert studies(search, replace(query, diverse=True)) == ["first", "third", "second"]
    assert studies(CaseSearch(store, NAMES), replace(query, diverse=True)) == ["first", "third", "second"]


def test_queries_asked_together_are_answered_as_alone(store: MemoryStore) -> None:
    search = CaseSearch(store, NAMES, reranker=preferring(agreement=1.0, region=1.0, text=1.0))
    queries = [
        CaseQuery("isle", box=box(0), probabilities={"Fracture": 1.0}),
        CaseQuery("isle", region=("mediastinum", vector(0, 1)), diverse=True),
        CaseQuery("isle", text_vector=vector(0, 1, 0), limit=1),
    ]
    together = [[(h.case.study, h.reranked, h.w2) for h in found.hits] for found in search.search_many(queries)]
    assert together == [[(h.case.study, h.reranked, h.w2) for h in search.search(q).hits] for q in queries]


def test_queries_of_two_tenants_are_not_asked_together(store: MemoryStore) -> None:
    with pytest.raises(ValueError, match="have one tenant"):
        CaseSearch(store, NAMES).search_many([CaseQuery("isle", box=box(0)), CaseQuery("coast", box=box(0))])


class Partial:
    """A store some of whose records are damaged, deleted meanwhile, or no case though their checksum holds."""

    def __init__(self, store: MemoryStore, fates: Mapping[str, str]) -> None:
        self._store, self._fates, self.asked = store, fates, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str]) -> Fetched:
        self.asked.append(len(ids))
        fetched = self._store.get(collection, ids, scope, vectors)
        fate = {p.id: self._fates.get(p.payload["study"]) for p in fetched.points}
        points = [p if fate[p.id] is None else replace(p, payload=seal({"tenant": "x"})) for p in fetched.points]
        kept = tuple(p for p in points if fate[p.id] in {None, "no case"})
        return Fetched(kept, tuple(i for i, f in fate.items() if f == "damaged"))


@pytest.mark.parametrize(
    ("fates", "found", "damaged"),
    [
        ({}, ["first", "second"], 0),
        ({"first": "damaged"}, ["second", "third"], 1),
        ({"first": "no case"}, ["second", "third"], 1),
        ({"first": "deleted", "second": "damaged"}, ["third"], 1),
        ({"first": "damaged", "second": "no case", "third": "deleted"}, [], 2),
    ],
)
@pytest.mark.parametrize("reranker", [None, preferring(w2=-1.0)])
def test_what_cannot_be_read_gives_way_to_the_next(
    store: MemoryStore, fates: dict[str, str], found: list[str], damaged: int, reranker: Reranker | None
) -> None:
    search = CaseSearch(Partial(store, fates), NAMES, reranker=reranker)  # type: ignore[arg-type]
    answer = search.search(CaseQuery("isle", box=box(0), limit=2))
    assert ([h.case.study for h in answer.hits], answer.damaged) == (found, damaged)


def test_only_the_first_fused_are_read_to_be_compared(store: MemoryStore) -> None:
    many = [to_point(a_case(f"s{i}", "Edema"), SCHEMA, box=box(3.0 + i)) for i in range(RERANKED)]
    store.upsert("cases", many)
    counting = Partial(store, {})
    for reranker, read in ((None, 2), (preferring(w2=1.0), RERANKED)):
        query = CaseQuery("isle", box=box(0), limit=2)
        CaseSearch(counting, NAMES, reranker=reranker).search(query)  # type: ignore[arg-type]
        assert counting.asked.pop() == read
    farthest = CaseSearch(store, NAMES, reranker=preferring(w2=1.0)).search(CaseQuery("isle", box=box(0))).hits[0]
    assert farthest.case.study == f"s{RERANKED - 4}"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"region": ("left", vector(1, 0))}, "unknown zone 'left'"),
        ({"text": "x", "probabilities": {"Hiccups": 0.5}}, "no probability of a finding called 'Hiccups'"),
        ({"text": "x", "probabilities": {"Edema": 1.5}}, "1.5 is no probability"),
        ({"text": "x", "probabilities": {"Edema": float("nan")}}, "nan is no probability"),
        ({}, "needs a box, a region"),
    ],
)
def test_queries_check_regions_and_probabilities(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CaseQuery("isle", **arguments)


def test_what_is_asked_is_in_the_order_of_the_findings() -> None:
    asked = CaseQuery("isle", text="x", probabilities={"Edema": 0.25, "No Finding": 0.5}).asked
    assert asked.chances is not None
    assert {f: v for f, v in zip(FINDINGS, asked.chances.tolist(), strict=True) if not np.isnan(v)} == {
        "No Finding": 0.5,
        "Edema": 0.25,
    }
    assert (asked.box, asked.text, asked.region) == (None, None, None)
