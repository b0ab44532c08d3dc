"""What a source yields: a study to be indexed, or a row that cannot be and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Study:
    """A study before it is read: its film on disk, its report, who it is of. `labels` names findings when there is no report."""

    source: str
    study: str
    patient: str
    film: Path | None
    text: str
    labels: tuple[str, ...] = ()
    view: str | None = None
    sex: str | None = None
    age_years: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A row that is no case, with a stable reason code."""

    study: str
    reason: str
