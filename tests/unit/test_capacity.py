"""Machines for so many cases: the arithmetic, and which file of a shard holds what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexer.capacity import MAX_CASES, Footprint, enlarge, footprint, plan_for
from knowledge_base.cases import to_point
from knowledge_base.memory import MemoryStore
from knowledge_base.records import Case
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.store import Scope

GIB = 1 << 30
PRINT = Footprint(9_000, {"vectors": 4_000.0, "reports": 1_000.0, "copies": 1_000.0, "graphs": 500.0}, 64 << 20)


def test_disk_counts_everything_and_memory_what_is_searched() -> None:
    assert (PRINT.disk, PRINT.memory) == (6_500.0, 1_500.0)
    plan = plan_for(PRINT, 1_000_000, replicas=2, node_memory=32 * GIB)
    assert plan.memory == 3_900_000_000
    assert plan.disk == 19_500_000_000 + 3 * 2 * (64 << 20)
    assert (plan.nodes, plan.shards) == (3, 3)
    assert plan.as_json()["memory_per_node"] == 1_300_000_000


def test_a_hundred_million_cases_take_as_many_nodes_as_their_memory_fills() -> None:
    plan = plan_for(PRINT, MAX_CASES, replicas=2, node_memory=32 * GIB)
    assert plan.memory == 390_000_000_000
    assert plan.nodes == 12
    assert plan.shards == 24
    assert plan.cases / plan.shards <= 5_000_000


def test_a_single_server_is_one_node() -> None:
    plan = plan_for(PRINT, 20_000, replicas=1, node_memory=32 * GIB)
    assert (plan.nodes, plan.shards, plan.memory) == (1, 1, 39_000_000)
    assert plan_for(PRINT, 20_000, replicas=5, node_memory=32 * GIB).nodes == 5


@pytest.mark.parametrize("cases", [0, -1, MAX_CASES + 1])
def test_out_of_range_is_refused(cases: int) -> None:
    with pytest.raises(ValueError, match="1 to 100000000 cases"):
        plan_for(PRINT, cases, replicas=2, node_memory=GIB)


def test_files_are_counted_by_what_they_hold_less_what_an_empty_index_has(tmp_path: Path) -> None:
    segment = "shard/segments/7/"
    files = {
        f"{segment}vector_storage-box.m@1/matrix.dat": 40,
        f"{segment}vector_storage-box.m@1/quantized.data": 10,
        f"{segment}vector_index-box.m@1/links.bin": 5,
        f"{segment}vector_storage-bm25/store/page": 4,
        f"{segment}vector_index-bm25/inverted": 3,
        f"{segment}payload_storage/page_0": 8,
        f"{segment}payload_index/tenant-map/x": 6,
        f"{segment}id_tracker.mappings": 2,
        "shard/wal/first": 16,
        "collection.json": 1,
    }
    for folder, factor in (("empty", 1), ("full", 3)):
        for name, blocks in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (blocks * factor * 4096))
    found = footprint(tmp_path / "full", tmp_path / "empty", 8)
    assert found.per_case == {
        "copies": 10 * 1024.0,
        "graphs": 5 * 1024.0,
        "ids": 3 * 1024.0,
        "indexes": 6 * 1024.0,
        "reports": 8 * 1024.0,
        "vectors": 40 * 1024.0,
        "words": 7 * 1024.0,
    }
    assert found.log == 48 * 4096


def test_likenesses_fill_a_sample_up() -> None:
    schema = cases_schema("box@1", "mini@1", box_dimension=2, text_dimension=3)
    store = MemoryStore()
    store.open(schema, IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 2, 3))
    assert list(enlarge(store, schema, 10)) == []
    cases = [Case("openi", f"s{n}", f"p{n}", "clear lungs", ()) for n in range(4)]
    store.upsert("cases", [to_point(c, schema, text_vector=np.array([1, 2, 3], np.float32)) for c in cases])
    assert list(enlarge(store, schema, 10)) == [4, 2]
    points = store.scroll("cases", Scope("public"), vectors=["text.mini@1"]).points
    assert len(points) == 10
    assert len({p.vectors["text.mini@1"].tobytes() for p in points}) == 7, "four alike, six of their own"
    assert list(enlarge(store, schema, 10)) == []
