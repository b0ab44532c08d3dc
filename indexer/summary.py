"""What a run did, and where its time went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

STORE_STAGES: Final = ("look up", "store", "optimize")
"""Stages in which the store is asked or written to."""


@dataclass
class Summary:
    """What a run did: cases added or changed, those already there, what was skipped and what was quarantined, by reason.

    `inconsistent` counts those added whose report contradicts their film, `earlier` studies that `--since` left out,
    `still_quarantined` those that failed before and have not changed. `seconds` is work by stage: stages overlap, and
    decoding counts each worker's; `elapsed` is time by the clock.
    """

    added: int = 0
    unchanged: int = 0
    inconsistent: int = 0
    earlier: int = 0
    still_quarantined: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def settled(self) -> int:
        """Studies that a run is done with, those left out by `--since` not among them."""
        failed = self.skipped.total() + self.quarantined.total() + self.still_quarantined
        return self.added + self.unchanged + failed

    @property
    def store_share(self) -> float | None:
        """Seconds of work in the store over all seconds by the clock; None before a run has ended."""
        return sum(self.seconds.get(s, 0.0) for s in STORE_STAGES) / self.elapsed if self.elapsed else None

    def skip(self, study: str, reason: str) -> None:
        """Count a row that is no study; the first of each reason is named."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, study)

    def quarantine(self, study: str, reason: str) -> None:
        """Count a study that failed; the first of each reason is named."""
        self.quarantined[reason] += 1
        self.examples.setdefault(reason, study)

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Add seconds of work by stage."""
        for stage, more in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + more

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as work of that stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.spent({name: time.monotonic() - began})

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time that passes inside as the run's."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.elapsed += time.monotonic() - began

    def to_json(self) -> dict[str, object]:
        """Plain values, seconds rounded."""
        share = self.store_share
        return {
            "added": self.added,
            "unchanged": self.unchanged,
            "inconsistent": self.inconsistent,
            "earlier": self.earlier,
            "still_quarantined": self.still_quarantined,
            "skipped": dict(self.skipped),
            "quarantined": dict(self.quarantined),
            "examples": self.examples,
            "seconds": {stage: round(s, 3) for stage, s in self.seconds.items()},
            "elapsed": round(self.elapsed, 3),
            "store_share": None if share is None else round(share, 4),
        }
