"""A run of the indexer: what is new or has changed goes through an engine, and one thread keeps the store.

The store is the checkpoint: a case says what it was made from (`Case.origin`). A run that is killed has lost nothing that
was stored; the next one finds it there, and works again at most on what had been encoded and not yet stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from indexer.builder import BATCH, Mapped
from indexer.checkpoint import Checkpoint
from indexer.films import FilmFile, Stamp, hashed, origin_of
from indexer.quarantine import Quarantine
from indexer.studies import Skipped, Study
from indexer.summary import Summary
from knowledge_base.records import case_id
from knowledge_base.schema import CASES
from knowledge_base.store import PUBLIC, KnowledgeStore, Scope

LOOK_UP: Final = 512
"""Studies that the store is asked about at once."""


class Engine(Protocol):
    """Runs the map of studies to points.

    Contract: each batch of studies comes back once, mapped as `StudyMap` maps it, in any order; batches are drawn no
    further ahead than the engine needs to stay busy; closing the iterator ends the work.
    """

    def run(self, batches: Iterable[Sequence[Study]]) -> Iterator[Mapped]:
        """What the batches become."""
        ...


@dataclass(frozen=True, eq=False)
class Indexing:
    """A run over the studies of one folder.

    `stopping` is asked between batches: once it says yes, what is encoded is stored and the run ends. `retry` tries again
    what is quarantined, changed or not. `told` hears that the summary has changed.
    """

    store: KnowledgeStore
    engine: Engine
    checkpoint: Checkpoint
    quarantine: Quarantine
    folder: Path
    summary: Summary
    tenant: str = PUBLIC
    retry: bool = False
    stopping: Callable[[], bool] = lambda: False
    told: Callable[[], None] = lambda: None

    def run(self, items: Iterable[Study | Skipped]) -> None:
        """Index what is new or has changed. Raises what the store and the engine raise; what was stored stays stored."""
        with ThreadPoolExecutor(1) as keeper:
            self._run(iter(items), keeper)

    def _run(self, items: Iterator[Study | Skipped], keeper: ThreadPoolExecutor) -> None:
        """`keeper` is the one thread that talks to the store: while it writes a batch, the next one is encoded."""
        storing: Future[None] | None = None
        for mapped in self.engine.run(self._batches(items, keeper)):
            if storing:
                storing.result()
            storing = keeper.submit(self._store, mapped)
            if self.stopping():
                break
        if storing:
            storing.result()

    def _batches(self, items: Iterator[Study | Skipped], keeper: ThreadPoolExecutor) -> Iterator[list[Study]]:
        """Studies to be worked on, BATCH at a time."""
        waiting: list[Study] = []
        while (chunk := list(islice(items, LOOK_UP))) and not self.stopping():
            waiting += keeper.submit(self._changed, chunk).result()
            self.told()
            while len(waiting) >= BATCH:
                yield waiting[:BATCH]
                del waiting[:BATCH]
        if waiting:
            yield waiting

    def _changed(self, chunk: Sequence[Study | Skipped]) -> list[Study]:
        """The studies that the store does not hold as they are now, without those that failed before and would again."""
        studies: list[Study] = []
        for item in chunk:
            if isinstance(item, Skipped):
                self.summary.skip(item.study, item.reason)
            elif not self.retry and self.quarantine.holds(item):
                self.summary.still_quarantined += 1
            else:
                studies.append(item)
        with self.summary.stage("look up"):
            held = self._held(studies)
        with self.summary.stage("compare"):
            changed = [s for s in studies if not self._same(s, held)]
        self.summary.unchanged += len(studies) - len(changed)
        return changed

    def _held(self, studies: Sequence[Study]) -> dict[UUID, object]:
        """Origins of the cases that are stored and intact, by id."""
        ids = [self._id(s) for s in studies]
        found = self.store.get(CASES, ids, Scope(self.tenant, also_public=False)).points if ids else ()
        return {p.id: p.payload.get("origin") for p in found}

    def _same(self, study: Study, held: dict[UUID, object]) -> bool:
        origin = held.get(self._id(study))
        if origin is None:
            return False
        try:
            return origin == origin_of(study, None if study.film is None else self._digest(study.film))
        except OSError:
            return False

    def _digest(self, film: Path) -> str:
        """SHA-256 of a film's file, read only when its stamp is not one that was read before."""
        stamp = Stamp.of(film)
        known = self.checkpoint.digest(film, stamp)
        if known is not None:
            return known
        read: FilmFile = hashed(film)
        self.checkpoint.remember([read])
        return read.sha256

    def _store(self, mapped: Mapped) -> None:
        """Store a batch durably, then say so."""
        if mapped.points:
            with self.summary.stage("store"):
                self.store.upsert(CASES, mapped.points)
        self.checkpoint.remember(mapped.films)
        failed = {f.study for f in mapped.failures}
        self.quarantine.update(mapped.failures, [s for s in mapped.studies if s not in failed], self.folder)
        self.summary.added += len(mapped.points)
        self.summary.inconsistent += sum(p.payload.get("consistent") == 0 for p in mapped.points)
        for failure in mapped.failures:
            self.summary.quarantine(failure.study.study, failure.reason)
        self.summary.spent(mapped.seconds)
        self.told()

    def _id(self, study: Study) -> UUID:
        return case_id(study.source, study.study, self.tenant)
