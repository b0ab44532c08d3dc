"""What a source yields: a study to be indexed, or a row that cannot be and why."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Final

from indexer.deidentify import blank

OLDEST: Final = 90
"""Ages above 89 are one group, written as this (45 CFR 164.514(b)(2)(i)(C))."""
SEXES: Final = frozenset({"M", "F", "O"})
VIEWS: Final = frozenset(
    {"PA", "AP", "AP Supine", "AP Erect", "AP semi erect", "LL", "RL", "L", "LATERAL", "frontal", "lateral"}
)
"""What a source may call a projection; any other word in that place is a stranger's free text and is left out."""


@dataclass(frozen=True)
class Study:
    """A study before it is read: its film on disk, its report, who it is of. `labels` names findings when there is no report.

    De-identified as it is made, so that no source can forget to: `text` is blanked (see `deidentify.blank`), together with
    the words given as `known` (names and numbers that the study's own header or table states of its patient), an age above 89
    becomes 90, and a view or sex that is no known code becomes None. `known` is not kept. `study` and `patient` must be
    pseudonyms already. `date` (YYYY-MM-DD) says when the study was made; it chooses studies and is never stored.
    """

    source: str
    study: str
    patient: str
    film: Path | None
    text: str
    labels: tuple[str, ...] = ()
    view: str | None = None
    sex: str | None = None
    age_years: int | None = None
    date: str | None = None
    known: InitVar[tuple[str, ...]] = ()

    def __post_init__(self, known: tuple[str, ...]) -> None:
        object.__setattr__(self, "text", blank(self.text, known))
        object.__setattr__(self, "view", self.view if self.view in VIEWS else None)
        object.__setattr__(self, "sex", self.sex if self.sex in SEXES else None)
        if self.age_years is not None:
            object.__setattr__(self, "age_years", min(self.age_years, OLDEST))


@dataclass(frozen=True)
class Skipped:
    """A row that is no case, with a stable reason code."""

    study: str
    reason: str
