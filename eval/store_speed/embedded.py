"""The shipped store in a folder: what filling it costs, how long it takes to open again, what it weighs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import psutil
from tqdm import tqdm

from eval.store_speed.exact import WordsWriter
from eval.store_speed.synthetic import TENANT, Arrays, case, size
from knowledge_base.cases import VectorNames, to_point
from knowledge_base.records import CaseSentence
from knowledge_base.schema import BM25, CASES
from knowledge_base.store import KnowledgeStore, Point, Scope
from rag_service.settings import Settings
from rag_service.wiring import Layout, build_store

UPSERT: Final = 1024
_MIB: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Place:
    """Where a store lies, and the layout of its cases."""

    folder: Path
    layout: Layout
    settings: Settings

    @property
    def names(self) -> VectorNames:
        """Which named vector holds what."""
        return VectorNames.of(self.layout.cases)

    @contextmanager
    def opened(self) -> Iterator[KnowledgeStore]:
        """The store, closed afterwards."""
        store = build_store(replace(self.settings, store=str(self.folder)))
        try:
            store.open(self.layout.cases, self.layout.cases_manifest)
            yield store
        finally:
            store.close()


def fill(
    place: Place, arrays: Arrays, sentences: Sequence[CaseSentence], n: int, words: WordsWriter | None
) -> dict[str, Any]:
    """Index the first `n` cases and build the graphs; `words`, if any, gets their BM25 vectors and ids.

    `upsert_seconds` is the store's own share, `points_seconds` that of making the points: words, checksums, JSON.
    """
    making = storing = 0.0
    with place.opened() as store:
        rows = iter(tqdm(range(n), desc="indexing", unit="case"))
        while batch := list(islice(rows, UPSERT)):
            begun = perf_counter()
            points = [_point(place, arrays, sentences, row) for row in batch]
            made = perf_counter()
            store.upsert(CASES, points)
            making, storing = making + made - begun, storing + perf_counter() - made
            if words is not None:
                words.add((p.id, p.sparse.get(BM25)) for p in points)
        begun = perf_counter()
        store.optimize(CASES)
        optimising = perf_counter() - begun
    if words is not None:
        words.close()
    return {
        "cases": n,
        "points_seconds": round(making, 2),
        "upsert_seconds": round(storing, 2),
        "cases_per_second": round(n / (making + storing), 1),
        "optimize_seconds": round(optimising, 2),
        "bytes_per_case": round(size(place.folder) / n, 1),
    }


def reopen_seconds(place: Place) -> float:
    """From nothing to the first answer."""
    begun = perf_counter()
    with place.opened() as store:
        store.count(CASES, Scope(TENANT))
        return round(perf_counter() - begun, 3)


def memory_mb() -> dict[str, float]:
    """Resident MiB of the engine's process, of it anonymous and of files (which the system may drop), and of this process."""
    engines = [p for p in psutil.Process().children() if any("edge_engine" in word for word in p.cmdline())]
    used = [p.memory_info() for p in engines]
    return {
        "engine": sum(m.rss for m in used) / _MIB,
        "engine_anonymous": sum(m.rss - m.shared for m in used) / _MIB,
        "engine_files": sum(m.shared for m in used) / _MIB,
        "client": psutil.Process().memory_info().rss / _MIB,
    }


def _point(place: Place, arrays: Arrays, sentences: Sequence[CaseSentence], row: int) -> Point:
    return to_point(
        case(arrays, sentences, row),
        place.layout.cases,
        box=arrays.box(row),
        text_vector=arrays.texts[row].astype(np.float32),
        regions=arrays.zones(row),
    )
