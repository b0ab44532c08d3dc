"""The engine of one machine: films are decoded in child processes ahead of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from indexer.builder import Mapped, Opened, StudyMap
from indexer.quarantine import Failure
from indexer.studies import Study

AHEAD: Final = 2
"""Batches whose films are decoded while one is encoded: 64 KiB a film."""


@dataclass(frozen=True, eq=False)
class LocalEngine:
    """See `Engine`. `readers` threads wait for the decode children of `work.decoder`, of which there are as many."""

    work: StudyMap
    readers: int

    def run(self, batches: Iterable[Sequence[Study]]) -> Iterator[Mapped]:
        """See `Engine.run`; in the order of the batches."""
        ahead: deque[list[Future[Opened | Failure]]] = deque()
        threads = ThreadPoolExecutor(self.readers)
        try:
            for batch in batches:
                ahead.append([threads.submit(self.work.open, study) for study in batch])
                if len(ahead) > AHEAD:
                    yield self._mapped(ahead.popleft())
            while ahead:
                yield self._mapped(ahead.popleft())
        finally:
            threads.shutdown(cancel_futures=True)

    def _mapped(self, opening: Sequence[Future[Opened | Failure]]) -> Mapped:
        return self.work.points([future.result() for future in opening])
