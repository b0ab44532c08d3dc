"""Every store ranks as the exact one in memory does, point by point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_base.cases import VectorNames, to_point
from knowledge_base.findings import Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent
from knowledge_base.schema import CollectionSchema
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import (
    EVERYTHING,
    Filter,
    HasId,
    Hit,
    KnowledgeStore,
    Match,
    MatchAny,
    Nearest,
    Point,
    Scope,
    SparseVector,
)
from knowledge_base.zones import ZONES
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import (
    BOX,
    MANIFEST,
    REGION_WIDTH,
    REGIONS,
    TEXT,
    VOCABULARY,
    a_case,
    a_schema,
    words,
)

POINTS = 2_000
TIES = 7
"""Every so many points are a copy of the one before: equal scores in every list."""
SCORES = 1e-5
FLOAT32 = 2e-6
"""Scores nearer than this are told apart by no sum of float32 products; they may come in either order."""
FILTERS = [
    EVERYTHING,
    Filter(must_not=(Match("withdrawn", 1),)),
    Filter(must=(Match("labels_positive", "Edema"),), must_not=(Match("patient_key", '["openi", "p3"]'),)),
    Filter(must=(MatchAny("labels_positive", ("Edema", "Pneumothorax")),)),
]
SCOPES = [Scope("isle"), Scope("coast"), Scope("public"), Scope("isle", also_public=False)]


def random_points(schema: CollectionSchema, count: int) -> list[Point]:
    """Cases of three tenants with every vector, in runs of copies."""
    rng = np.random.default_rng(42)
    points: list[Point] = []
    for number in range(count):
        tenant, finding = ("public", "isle", "coast")[number % 3], ("Edema", "Pneumothorax", None)[number % 5 % 3]
        said = " ".join(rng.choice(VOCABULARY, size=rng.integers(3, 12)))
        if points and number % TIES == 0:
            twin = points[-1]
            case = a_case(number, str(twin.payload["text"]), tenant, finding)
            points.append(replace(to_point(case, schema), vectors=twin.vectors))
            continue
        regions = {zone: rng.normal(size=REGION_WIDTH).astype(np.float32) for zone in ZONES if rng.random() < 0.8}
        point = to_point(
            a_case(number, said, tenant, finding),
            schema,
            box=a_box(rng),
            text_vector=rng.normal(size=6).astype(np.float32),
            regions=regions,
        )
        points.append(point)
    return points


def a_box(rng: np.random.Generator, axes: int = 4) -> BoxLatent:
    """Centres on a grid of eighths, so that many distances are equal."""
    centre = (rng.integers(-16, 17, axes) / 8).astype(np.float32)
    return BoxLatent(centre, rng.uniform(0.1, 1.0, axes).astype(np.float32))


def questions(count: int) -> Iterator[tuple[list[Nearest], Scope]]:
    """One list of each kind, with filters of every kind, in every scope."""
    rng = np.random.default_rng(43)
    for number in range(count):
        wanted = FILTERS[number % len(FILTERS)]
        asked: list[tuple[str, NDArray[np.float32] | SparseVector]] = [
            (BOX, a_box(rng).vector()),
            (TEXT, rng.normal(size=6).astype(np.float32)),
            (REGIONS[ZONES[number % len(ZONES)]], rng.normal(size=REGION_WIDTH).astype(np.float32)),
            ("bm25", words(" ".join(rng.choice(VOCABULARY, 3)))),
        ]
        limits = rng.integers(5, 40, len(asked))
        lists = [Nearest(name, vector, int(n), wanted) for (name, vector), n in zip(asked, limits, strict=True)]
        yield lists, SCOPES[number // len(FILTERS) % len(SCOPES)]


def assert_same_ranking(found: Sequence[Hit], exact: Sequence[Hit], limit: int) -> None:
    """The same ids in the same order, and scores within 1e-5; `exact` goes further than the cut."""
    assert [h.score for h in found] == pytest.approx([h.score for h in exact[:limit]], abs=SCORES)
    scores = {h.id: h.score for h in exact}
    for mine, theirs in zip(found, exact, strict=False):
        if mine.id != theirs.id:
            assert 0 < abs(scores[mine.id] - theirs.score) < FLOAT32, (mine, theirs)


class CongruenceSuite(StoreSuite):
    """Against `MemoryStore`, below the size from which an engine may answer approximately."""

    def test_two_thousand_points_are_read_and_ranked_as_by_the_exact_store(self, rig: Rig) -> None:
        exact = MemoryStore()
        exact.open(rig.schema, MANIFEST)
        points = random_points(rig.schema, POINTS)
        for store in (rig.store, exact):
            store.upsert(rig.name, points)
            store.set_withdrawn(rig.name, [p.id for p in points[::11]], "isle")
            store.delete(rig.name, [p.id for p in points[::97]], "public")
            store.upsert(rig.name, points[300:340])
        assert_same_lists(rig.store, exact, rig.name)
        assert_same_reads(rig.store, exact, rig.name)
        assert_same_searches(rig.store, exact, rig.schema)
        rig.store.optimize(rig.name)
        assert_same_lists(rig.store, exact, rig.name)


def assert_same_lists(store: KnowledgeStore, exact: KnowledgeStore, name: str) -> None:
    """Box, dense, region and sparse lists under every filter and scope."""
    ranked = 0
    for asked, scope in questions(16):
        further = [replace(n, limit=n.limit + 60) for n in asked]
        found, expected = store.ranked(name, asked, scope), exact.ranked(name, further, scope)
        for mine, theirs, nearest in zip(found, expected, asked, strict=True):
            assert_same_ranking(mine, theirs, nearest.limit)
            ranked += len(mine)
    assert ranked > 1_000


def assert_same_reads(store: KnowledgeStore, exact: KnowledgeStore, name: str) -> None:
    """Ids, counts, facets, pages."""
    some = exact.ids(name, Scope("public"))[5:9]
    for scope in SCOPES:
        for wanted in (*FILTERS, Filter(must=(HasId(tuple(some)),))):
            assert store.ids(name, scope, wanted) == exact.ids(name, scope, wanted)
            assert store.count(name, scope, wanted) == exact.count(name, scope, wanted)
            facets = [s.facet(name, "labels_positive", scope, wanted) for s in (store, exact)]
            assert facets[0] == facets[1]
        mine, theirs = (s.scroll(name, scope, after=some[0], limit=50) for s in (store, exact))
        assert [(p.id, p.payload) for p in mine.points] == [(p.id, p.payload) for p in theirs.points]
        assert mine.next_after == theirs.next_after
    assert store.tenants(name) == exact.tenants(name)


def assert_same_searches(store: KnowledgeStore, exact: KnowledgeStore, schema: CollectionSchema) -> None:
    """Hybrid searches, case by case."""
    names = VectorNames.of(schema)
    rng = np.random.default_rng(3)
    for number in range(12):
        query = CaseQuery(
            tenant=("isle", "coast")[number % 2],
            box=a_box(rng),
            text_vector=rng.normal(size=6).astype(np.float32) if number % 3 else None,
            text=" ".join(rng.choice(VOCABULARY, 4)),
            exclude_patient=("openi", f"p{number}"),
            exclude_study=("openi", f"s{number * 3}"),
            finding=("Edema", Polarity.POSITIVE) if number % 4 == 0 else None,
            limit=10,
            prefetch=20,
        )
        found = CaseSearch(store, names, collection=schema.name).search(query).hits
        expected = CaseSearch(exact, names, collection=schema.name).search(query).hits
        assert [h.case for h in found] == [h.case for h in expected]
        assert [dict(h.ranks) for h in found] == [dict(h.ranks) for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=SCORES)
        assert [h.w2 for h in found] == [h.w2 for h in expected]
        assert len(found) == 10


class RecallSuite(StoreSuite):
    """Above that size, once a graph is built: what an approximate answer may miss."""

    POINTS = 11_000
    AXES = 128

    @pytest.fixture
    def schema(self) -> CollectionSchema:
        """Boxes as wide as the product's: 11,000 of them pass the engine's threshold of 10,000 KiB."""
        return a_schema(self.AXES)

    def test_of_the_ten_nearest_at_most_one_in_fifty_is_missed(self, rig: Rig) -> None:
        rng = np.random.default_rng(8)
        basis = rng.normal(size=(16, 2 * self.AXES)).astype(np.float32)
        boxes = rng.normal(size=(self.POINTS, 16)).astype(np.float32) @ basis / 4 + 4
        points = [
            Point(a_case(n, "x").id, {BOX: box}, {}, {"tenant": ("public", "isle")[n % 2], "withdrawn": 0})
            for n, box in enumerate(boxes)
        ]
        rig.store.upsert(rig.name, points)
        rig.store.optimize(rig.name)
        met = 0
        for number in range(50):
            asked = boxes[number] + rng.normal(size=2 * self.AXES).astype(np.float32) / 20
            (found,) = rig.store.ranked(rig.name, [Nearest(BOX, asked, 10)], Scope("isle"))
            distances = np.linalg.norm(boxes.astype(np.float64) - asked, axis=1)
            met += len({h.id for h in found} & {points[i].id for i in np.argsort(distances)[:10]})
            assert [h.score for h in found] == sorted(h.score for h in found)
        assert met / 500 >= 0.98
