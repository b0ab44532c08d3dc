"""Films by what is known of their patients and machines: age band, sex, view, manufacturer, marker kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eval import scores
from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import FilmRow

MISSING: Final = "missing"
"""The group of films whose source does not say; counted, never compared."""
MIN_FILMS: Final = 20
"""A group smaller than this is counted, not compared: its AUROC would be noise."""
BANDS: Final = ((0, "<20"), (20, "20-39"), (40, "40-59"), (60, "60-79"), (80, "80+"))

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def age_band(years: int | None) -> str | None:
    """The band of an age in whole years."""
    return None if years is None else [name for start, name in BANDS if years >= start][-1]


ATTRIBUTES: Final[Mapping[str, Callable[[FilmRow], str | None]]] = {
    "age": lambda row: age_band(row.age_years),
    "sex": lambda row: row.sex,
    "view": lambda row: row.view,
    "manufacturer": lambda row: row.manufacturer,
}


def groups(rows: Sequence[FilmRow], attribute: Callable[[FilmRow], str | None]) -> dict[str, Rows]:
    """Group -> row indices, by name, the films that say nothing last."""
    named = [attribute(row) or MISSING for row in rows]
    names = sorted(
        set(named), key=lambda n: (n == MISSING, [b for _, b in BANDS].index(n) if n in _BAND_NAMES else 0, n)
    )
    return {name: np.flatnonzero([n == name for n in named]) for name in names}


def compared(found: Mapping[str, Rows]) -> dict[str, Rows]:
    """The groups large enough to compare; empty unless there are two."""
    large = {name: rows for name, rows in found.items() if name != MISSING and len(rows) >= MIN_FILMS}
    return large if len(large) > 1 else {}


def patients(rows: Sequence[FilmRow]) -> list[str]:
    """Who each film is of, told apart across sources."""
    return [f"{r.source}/{r.patient}" for r in rows]


def common_findings(labels: Floats, parts: Sequence[Rows]) -> list[int]:
    """The columns of (n, 14) with both classes in every part."""
    return [
        i
        for i in range(len(FINDINGS))
        if all({0.0, 1.0} <= set(labels[rows, i][~np.isnan(labels[rows, i])]) for rows in parts)
    ]


def macro(labels: Floats, p: Floats, rows: Rows, columns: Sequence[int]) -> float | None:
    """Macro-AUROC of some rows over some findings."""
    kept = list(columns)
    return scores.macro_auroc(labels[rows][:, kept], p[rows][:, kept])


_BAND_NAMES: Final = frozenset(name for _, name in BANDS)
