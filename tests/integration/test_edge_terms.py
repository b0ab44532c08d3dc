"""The embedded engine's scores of words stay exact whatever was deleted, replaced, withdrawn, optimised or loaded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from knowledge_base.edge import EdgeStore
from knowledge_base.memory import MemoryStore
from knowledge_base.schema import BM25, CollectionSchema, IndexManifest, cases_schema
from knowledge_base.store import KnowledgeStore, Nearest, Point, Scope, SparseVector

SCHEMA: CollectionSchema = cases_schema("box@1", "mini@1", box_dimension=2, text_dimension=4, region_dimension=4)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 2, 4)
SCOPES = (Scope("public"), Scope("island"), Scope("island", also_public=False))
TERMS = 30


def a_point(number: int, seed: int, tenant: str) -> Point:
    rng = np.random.default_rng([number, seed])
    terms = np.sort(rng.choice(TERMS, size=4, replace=False)).astype(np.uint32)
    words = SparseVector(terms, rng.uniform(0.5, 2.0, 4).astype(np.float32))
    payload = {"tenant": tenant, "study": str(number), "withdrawn": 0}
    return Point(UUID(int=number + 1), {"text.mini@1": rng.normal(size=4).astype(np.float32)}, {BM25: words}, payload)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[EdgeStore, MemoryStore]]:
    edge, memory = EdgeStore(tmp_path, reserve_bytes=0), MemoryStore()
    for store in (edge, memory):
        store.open(SCHEMA, MANIFEST)
    yield edge, memory
    edge.close()


QUESTIONS = [
    Nearest(BM25, SparseVector(np.array([t, t + 7], np.uint32), np.ones(2, np.float32)), 20) for t in range(20)
]


def assert_equal(edge: KnowledgeStore, memory: KnowledgeStore) -> None:
    for scope in SCOPES:
        for found, wanted in zip(*(s.ranked("cases", QUESTIONS, scope) for s in (edge, memory)), strict=True):
            assert [h.id for h in found] == [h.id for h in wanted]
            assert [h.score for h in found] == pytest.approx([h.score for h in wanted], rel=1e-6)


def test_scores_of_words_stay_exact(pair: tuple[EdgeStore, MemoryStore], tmp_path: Path) -> None:
    edge, memory = pair
    for store in pair:
        store.upsert("cases", [a_point(n, 0, "public") for n in range(400)])
    assert_equal(edge, memory)  # all points in scope
    for store in pair:
        store.upsert("cases", [a_point(n, 0, "island") for n in range(400, 500)])
    assert_equal(edge, memory)  # some in scope
    for store in pair:
        store.upsert("cases", [a_point(n, 1, "public") for n in range(100)])  # replaced
        store.set_withdrawn("cases", [UUID(int=n + 1) for n in range(150, 200)], "public")
        store.delete("cases", [UUID(int=n + 1) for n in range(200, 320)], "public")
    assert_equal(edge, memory)
    edge.optimize("cases")
    assert_equal(edge, memory)
    edge.close()
    again = EdgeStore(tmp_path, reserve_bytes=0)
    again.open(SCHEMA, MANIFEST)
    assert_equal(again, memory)
    again.close()


def test_one_tenant_alone_stays_exact_after_deletions(pair: tuple[EdgeStore, MemoryStore]) -> None:
    edge, memory = pair
    for store in pair:
        store.upsert("cases", [a_point(n, 0, "public") for n in range(300)])
        store.delete("cases", [UUID(int=n + 1) for n in range(0, 120)], "public")
    assert_equal(edge, memory)
    edge.optimize("cases")
    for store in pair:
        store.upsert("cases", [a_point(n, 2, "public") for n in range(100, 200)])
    assert_equal(edge, memory)
