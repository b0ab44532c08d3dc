"""Two ways of doing the same thing, compared on the same films: their difference with a paired bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval import scores

Statistic = Callable[[NDArray[np.int64]], float | None]


def difference(patients: Sequence[str], one: Statistic, other: Statistic, seed: int) -> dict[str, Any]:
    """`one` minus `other` of all rows, with a 95 % interval: each resample of patients is scored by both. None when undefined."""

    def gap(rows: NDArray[np.int64]) -> float | None:
        first, second = one(rows), other(rows)
        return None if first is None or second is None else first - second

    return {"difference": gap(np.arange(len(patients))), "ci": scores.interval(patients, gap, seed)}
