"""Where to draw the line on a calibrated probability: for the F1, for accuracy, for a wished sensitivity or specificity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF: Final = 0.5
EXPECTED_SHARE: Final = 0.75
"""How much of a film's weight is its probability, the rest being its label: counting few positives alone chases noise."""
WORTH_MOVING: Final = 2.0
"""Films that a threshold must spare, of those it was chosen on, to be preferred to one half."""
_ROUNDS: Final = 20
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class RocPoint:
    """Calling every film from `threshold` up finds this share of the positives and spares this share of the negatives."""

    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True)
class Target:
    """A wished sensitivity, or else a wished specificity, of every finding: exactly one of the two, in (0, 1]."""

    sensitivity: float | None = None
    specificity: float | None = None

    def __post_init__(self) -> None:
        wished = [v for v in (self.sensitivity, self.specificity) if v is not None]
        if len(wished) != 1 or not 0.0 < wished[0] <= 1.0:
            raise ValueError("a target is one sensitivity or one specificity, over 0 and up to 1")

    def threshold(self, p: Floats, outcomes: Floats) -> float:
        """Highest threshold of that sensitivity, or lowest of that specificity, on p (n,) and outcomes (n,) of both kinds."""
        if self.sensitivity is not None:
            shown = np.sort(p[outcomes == 1])[::-1]
            return float(shown[_count(self.sensitivity, len(shown)) - 1])
        spared = np.sort(p[outcomes == 0])
        return float(np.nextafter(spared[_count(float(self.specificity or 0), len(spared)) - 1], np.inf))


class _Calls:
    """One finding's choices: call no film, or every film from one of its probabilities up, and what each is expected to hit."""

    def __init__(self, p: Floats) -> None:
        values, films = (part[::-1] for part in np.unique(p, return_counts=True))
        self.thresholds = np.append(np.nextafter(values[0], np.inf), values) if len(p) else np.array([HALF])
        self.hits = np.append(0.0, np.cumsum(values * films))
        self.size = np.append(0.0, np.cumsum(films)) + p.sum()
        """Films called plus films expected to show it: the denominator of twice the hits."""

    def f1(self) -> Floats:
        return _f1(self.hits, self.size)


def flags(probabilities: Sequence[Floats]) -> list[float]:
    """One threshold a finding, from calibrated probabilities (n_k,) of each: best mean of expected macro- and micro-F1.

    Expected, if the probabilities are right, not counted: steadier with few positives. Macro-F1 alone calls rare findings
    so freely that nine calls of ten err; micro-F1 alone never calls them. Findings are settled in turn until none moves.
    """
    calls = [_Calls(p) for p in probabilities]
    chosen = [int(np.argmax(c.f1())) for c in calls]
    for _ in range(_ROUNDS):
        before = list(chosen)
        for index in range(len(calls)):
            chosen[index] = _best_beside(calls, chosen, index)
        if chosen == before:
            break
    return [float(c.thresholds[k]) for c, k in zip(calls, chosen, strict=True)]


def _best_beside(calls: Sequence[_Calls], chosen: Sequence[int], index: int) -> int:
    """The best choice of one finding while the others stay as chosen."""
    others = [(c, k) for i, (c, k) in enumerate(zip(calls, chosen, strict=True)) if i != index]
    hits, size = (sum(float(getattr(c, name)[k]) for c, k in others) for name in ("hits", "size"))
    one = calls[index]
    return int(np.argmax(one.f1() / len(calls) + _f1(hits + one.hits, size + one.size)))


def _f1(hits: Floats, size: Floats) -> Floats:
    """F1 (n,) of hits (n,), `size` (n,) being films called plus films that show it."""
    return np.divide(2 * hits, size, out=np.zeros_like(size), where=size > 0)


def most_accurate(p: Floats, outcomes: Floats) -> float:
    """The threshold of best expected accuracy on p (n,) and outcomes (n,) of 0 and 1.

    One half, were the probabilities beyond doubt; another only if it errs on WORTH_MOVING films fewer, a film's error being
    EXPECTED_SHARE what its probability says and for the rest what its label says.
    """
    order = np.argsort(-p, kind="stable")
    likely = EXPECTED_SHARE * p[order] + (1 - EXPECTED_SHARE) * outcomes[order]
    gain = np.append(0.0, np.cumsum(2 * likely - 1))
    best = int(np.argmax(gain))
    if gain[best] < gain[int((p >= HALF).sum())] + WORTH_MOVING:
        return HALF
    return float(p[order][best - 1]) if best else float(np.nextafter(p.max(), np.inf))


def roc(p: Floats, outcomes: Floats) -> tuple[RocPoint, ...]:
    """Every operating point of p (n,) against outcomes (n,) of 0 and 1, both present, from the highest threshold down."""
    thresholds = np.unique(p)[::-1]
    shown, spared = np.sort(p[outcomes == 1]), np.sort(p[outcomes == 0])
    found = 1 - np.searchsorted(shown, thresholds) / len(shown)
    left = np.searchsorted(spared, thresholds) / len(spared)
    return tuple(RocPoint(*map(float, point)) for point in zip(thresholds, found, left, strict=True))


def _count(share: float, films: int) -> int:
    """The least number of films that is at least this share of them."""
    return max(1, math.ceil(share * films - _ROUNDING))
