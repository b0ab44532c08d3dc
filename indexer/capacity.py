"""How much disk and memory so many cases take: from bytes measured on an index of the starter cases, never assumed.

A sample index is built and optimised, its files are added up by what they hold, and what an empty index occupies is
taken off: bytes per case. Over N cases and R copies of each:

    disk   = N * R * (all bytes per case) * DISK_HEADROOM + shards * R * (the log of a shard)
    memory = N * R * (bytes per case of what is searched: compressed copies, graphs, words, indexes, ids) * MEMORY_HEADROOM

Original vectors and reports are read from the disk when a candidate is scored again or shown, and are not counted as
memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid5

import numpy as np

from knowledge_base.archive import words_of
from knowledge_base.pages import pages_of
from knowledge_base.schema import BM25, CollectionSchema
from knowledge_base.store import PUBLIC, KnowledgeStore, Point

SAMPLE: Final = 9_000
"""Cases of a sample: enough for the engine to build its graphs (from 10 MB of one vector on: 6,700 cases)."""
MAX_CASES: Final = 100_000_000
DISK_HEADROOM: Final = 1.5
"""An optimisation writes a segment anew beside the old one."""
MEMORY_HEADROOM: Final = 1.3
"""What a server needs besides: queries, caches, the segments being filled."""
CASES_PER_SHARD: Final = 5_000_000
"""At most so many cases in a shard: what one node can rebuild or receive within hours."""
MIN_NODES: Final = 3
"""A cluster that outlives the loss of a node has three: two of them agree."""
IN_MEMORY: Final = ("copies", "graphs", "words", "indexes", "ids")
_SPREAD: Final = 0.05
_LOG: Final = "log"


@dataclass(frozen=True)
class Footprint:
    """Bytes per case by what they hold, and the bytes of one shard's log, as measured on `cases` cases."""

    cases: int
    per_case: Mapping[str, float]
    log: int

    @property
    def disk(self) -> float:
        """Bytes of a case on the disk."""
        return sum(self.per_case.values())

    @property
    def memory(self) -> float:
        """Bytes of a case that are searched."""
        return sum(self.per_case.get(part, 0.0) for part in IN_MEMORY)


@dataclass(frozen=True)
class Plan:
    """What `cases` cases need in all: one machine has one copy of one shard."""

    cases: int
    replicas: int
    nodes: int
    shards: int
    memory: int
    disk: int

    def as_json(self) -> dict[str, Any]:
        """Plain values, with those of each node."""
        shares = {"memory_per_node": -(-self.memory // self.nodes), "disk_per_node": -(-self.disk // self.nodes)}
        return {**vars(self), **shares}


def plan_for(footprint: Footprint, cases: int, *, replicas: int, node_memory: int) -> Plan:
    """The machines for so many cases; `node_memory` is in bytes. Raises `ValueError` out of range."""
    if not 1 <= cases <= MAX_CASES:
        raise ValueError(f"a plan is for 1 to {MAX_CASES} cases, got {cases}")
    memory = math.ceil(cases * replicas * footprint.memory * MEMORY_HEADROOM)
    least = 1 if replicas == 1 else max(MIN_NODES, replicas)
    nodes = max(least, math.ceil(memory / node_memory))
    shards = nodes * math.ceil(cases / (nodes * CASES_PER_SHARD))
    disk = math.ceil(cases * replicas * footprint.disk * DISK_HEADROOM) + shards * replicas * footprint.log
    return Plan(cases, replicas, nodes, shards, memory, disk)


def enlarge(store: KnowledgeStore, schema: CollectionSchema, cases: int) -> Iterator[int]:
    """Fill an opened collection up to `cases` with likenesses of its public cases: same words, vectors a little off."""
    pages = [list(page.points) for page in pages_of(store, schema.name, PUBLIC, list(schema.dense))]
    lacking, round_ = cases - sum(map(len, pages)), 0
    while lacking > 0 and any(pages):
        round_ += 1
        for points in pages:
            if lacking <= 0:
                return
            likenesses = [_likeness(p, schema, round_) for p in points[:lacking]]
            store.upsert(schema.name, likenesses)
            lacking -= len(likenesses)
            yield len(likenesses)


def _likeness(point: Point, schema: CollectionSchema, number: int) -> Point:
    rng = np.random.default_rng([number, point.id.int & 0xFFFFFFFF])
    vectors = {n: (v * rng.normal(1.0, _SPREAD, v.shape)).astype(np.float32) for n, v in point.vectors.items()}
    return replace(point, id=uuid5(point.id, str(number)), vectors=vectors, sparse=words_of(schema, point.payload))


def footprint(filled: Path, empty: Path, cases: int) -> Footprint:
    """Measure the folder of a collection with `cases` cases against that of an empty one."""
    full, bare = occupied(filled), occupied(empty)
    per_case = {part: max(0, full[part] - bare[part]) / cases for part in sorted(full) if part != _LOG}
    return Footprint(cases, per_case, full[_LOG])


def occupied(folder: Path) -> Counter[str]:
    """Bytes on the disk below a collection's folder, by what they hold."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file():
            found[_part(path.relative_to(folder))] += path.stat().st_blocks * 512
    return found


def _part(path: Path) -> str:
    """What a file of a Qdrant shard holds, from its folder: shard/segments/<id>/<folder>/..., or shard/wal."""
    folder = path.parts[3] if len(path.parts) > 4 else ""
    if "wal" in path.parts:
        return _LOG
    if folder.startswith("vector_") and folder.endswith(f"-{BM25}"):
        return "words"
    if folder.startswith("vector_storage"):
        return "copies" if path.name.startswith("quantized") else "vectors"
    kinds = {"vector_index": "graphs", "payload_storage": "reports", "payload_index": "indexes"}
    return next((part for prefix, part in kinds.items() if folder.startswith(prefix)), "ids")
