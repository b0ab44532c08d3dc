"""Label-conditional (Mondrian) split conformal prediction: which of present and absent a score is compatible with.

A class is left out of the set only when fewer than alpha of that class's own calibration films look as unlike it. Whatever the
network, and however rare the finding, a film of either class is then in its set with probability at least 1 - alpha, as
long as it is exchangeable with the calibration films of its class (Vovk, Gammerman & Shafer, 2005, chapter 4.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA: Final = 0.1
"""Level of the sets a draft shows: a film's own class is missing from at most a tenth of them."""
_ROUNDING: Final = 1e-9


class Presence(StrEnum):
    """The two classes of a finding."""

    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True)
class ConformalCutoffs:
    """From `present` up a score is compatible with the finding, up to `absent` with its absence.

    -inf and inf where the class has too few films, under 1 / alpha - 1, for any score to be left out.
    """

    present: float
    absent: float

    def holds(self, scores: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the sets of scores (n,) hold present (n,) and absent (n,)."""
        return scores >= self.present, scores <= self.absent

    def of(self, score: float) -> tuple[Presence, ...]:
        """The set of one score; empty when it is unlike the films of either class."""
        fits = {Presence.PRESENT: score >= self.present, Presence.ABSENT: score <= self.absent}
        return tuple(presence for presence, fit in fits.items() if fit)


def cutoffs(scores: Floats, outcomes: Floats, alpha: float = ALPHA) -> ConformalCutoffs:
    """The cut-offs at level alpha from calibration scores (n,) and outcomes (n,) of 0 and 1.

    Of the k films of a class the floor(alpha * (k + 1)) least like it are cut off, the same as the quantile
    ceil((k + 1) * (1 - alpha)) / k of how unlike it they are.
    """
    present, absent = np.sort(scores[outcomes == 1]), np.sort(scores[outcomes == 0])
    return ConformalCutoffs(
        present=_rank(present, _spared(len(present), alpha), -math.inf),
        absent=_rank(absent[::-1], _spared(len(absent), alpha), math.inf),
    )


def expected_coverage(films: int, alpha: float) -> float:
    """The coverage of a class that `films` calibration films give on average: at least 1 - alpha, more where they are few."""
    return 1.0 - _spared(films, alpha) / (films + 1)


def _spared(films: int, alpha: float) -> int:
    return math.floor(alpha * (films + 1) + _ROUNDING)


def _rank(ordered: Floats, rank: int, otherwise: float) -> float:
    """The rank-th value, counted from one; `otherwise` at rank zero."""
    return float(ordered[rank - 1]) if rank else otherwise
