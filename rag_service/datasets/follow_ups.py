"""Pairs of films of one patient, the earlier first, and what is known to have changed between them.

NIH ChestX-ray14 numbers a patient's films in order: a label that comes is more, one that goes is less, one that stays is as before.
The Cohen collection gives days, and for some films the extent of opacity that three readers agreed on (Cohen et al., Cureus 2020).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from knowledge_base.findings import NO_FINDING
from rag_service.datasets import nih, others
from rag_service.datasets.films import DatasetError, FilmRow, read_table

SEVERITIES: Final = "covid-severity-scores.csv"
SCORED: Final = "Lung Opacity"
"""The finding that a severity score measures."""
MORE: Final = 0.7
"""Difference of two scores from which they differ for a reader: two of the three readers moved by one step of eight."""
ALIKE: Final = 0.4
"""Difference up to which at most one reader moved."""


@dataclass(frozen=True)
class FollowUp:
    """Two films of one patient. `change` has 1 for more, -1 for less, 0 for as before; findings nothing is known of are absent.

    `present` has the findings that either film is known to show.
    """

    earlier: FilmRow
    later: FilmRow
    change: Mapping[str, int]
    present: frozenset[str]


def follow_ups(folder: Path) -> list[FollowUp]:
    """The pairs of a folder laid out as NIH ChestX-ray14 or as the Cohen collection.

    DatasetError when it is neither or has none.
    """
    found = _cohen(folder) if (folder / "metadata.csv").is_file() else _nih(folder)
    if not found:
        raise DatasetError(f"{folder.name}/ holds no two films of one patient with a known change")
    return found


def _nih(folder: Path) -> list[FollowUp]:
    rows = sorted(nih.films(folder), key=lambda r: r.study)
    return [_labelled(*pair) for pair in _pairs([r for r in rows if r.presentation == "frontal"])]


def _labelled(earlier: FilmRow, later: FilmRow) -> FollowUp:
    known = [f for f in earlier.labels if f in later.labels and f != NO_FINDING]
    change = {f: int(later.labels[f]) - int(earlier.labels[f]) for f in known}
    present = frozenset(f for f in known if earlier.labels[f] or later.labels[f])
    return FollowUp(earlier, later, change, present)


def _cohen(folder: Path) -> list[FollowUp]:
    days = {r["file"]: r["offset"] for r in read_table(folder / "metadata.csv", ("file", "offset"))}
    scores = _scores(folder / SEVERITIES)
    rows = [(day, r) for r in others.cohen(folder) if (day := _number(days[f"images/{r.path.name}"])) is not None]
    dated = [r for _, r in sorted(rows, key=lambda x: x[0]) if r.presentation == "frontal" and r.path.stem in scores]
    found = []
    for earlier, later in _pairs(dated):
        before, after = scores[earlier.path.stem], scores[later.path.stem]
        moved = after - before
        if abs(moved) >= MORE or abs(moved) <= ALIKE:
            direction = 0 if abs(moved) <= ALIKE else 1 if moved > 0 else -1
            shown = frozenset({SCORED} if max(before, after) > 0 else ())
            found.append(FollowUp(earlier, later, {SCORED: direction}, shown))
    return found


def _pairs(rows: Sequence[FilmRow]) -> Iterator[tuple[FilmRow, FilmRow]]:
    """Every two films of a patient, in the order of `rows`."""
    by_patient: dict[str, list[FilmRow]] = {}
    for row in rows:
        by_patient.setdefault(row.patient, []).append(row)
    for films in by_patient.values():
        yield from combinations(films, 2)


def _scores(path: Path) -> dict[str, float]:
    """Extent of opacity, 0 to 8, by a film's name without its ending; the table has remarks above its header."""
    if not path.is_file():
        raise DatasetError(f"{path.name} is missing from {path.parent.name}/")
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if not line.lstrip('"').startswith("#")]
    table = csv.DictReader(lines)
    if not {"filename", "geographic_mean"} <= set(table.fieldnames or ()):
        raise DatasetError(f"{path.name} lacks the columns filename, geographic_mean")
    scores = {Path(r["filename"]).stem: _number(r["geographic_mean"]) for r in table}
    return {name: score for name, score in scores.items() if score is not None}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
