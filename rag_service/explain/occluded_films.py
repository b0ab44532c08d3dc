"""The films with parts left out that the explanations of one finding are made from, drawn once and read once."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.explain.lime import draws, lime
from rag_service.explain.occlusion import OccludedFilm
from rag_service.explain.shapley import along, antithetic_orders, shapley

PAIRS: Final = 1
"""Pairs of an order and its reverse."""
DRAWS: Final = 48
TRIALS: Final = 16
"""Films that no explanation is made from, to try it on."""

Floats = NDArray[np.float64]
Kept = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Draw:
    """What is left of a film of `count` superpixels: `orders` in which they appear, independent `draws`, and `trials`."""

    orders: NDArray[np.int64]
    draws: Kept
    trials: Kept

    @classmethod
    def of(cls, count: int, seed: int) -> Draw:
        """The same for the same count and seed."""
        rng = np.random.default_rng(seed)
        return cls(antithetic_orders(count, PAIRS, rng), draws(count, DRAWS, rng), draws(count, TRIALS, rng))


@dataclass(frozen=True, eq=False)
class OccludedReadings:
    """Log-odds of a finding: of the `film` and of its blur, of the films `along` the orders, `drawn` and `tried`.

    `seconds` for the films along the orders, and for the others that LIME takes.
    """

    of: Draw
    film: float
    blurred: float
    along: Floats
    drawn: Floats
    tried: Floats
    seconds: tuple[float, float]

    def shapley(self) -> Floats:
        """Shapley values (count,); they add up to film - blurred."""
        return shapley(self.of.orders, self.along, self.blurred, self.film)

    def lime(self) -> Floats:
        """Coefficients (count,). The films along the orders serve too: each is one of as many superpixels as chance has it."""
        kept = np.concatenate([along(self.of.orders), self.of.draws, np.ones((1, self.of.draws.shape[1]), bool)])
        return lime(kept, np.concatenate([self.along, self.drawn, [self.film]]))


def occluded_readings(film: OccludedFilm, seed: int) -> OccludedReadings:
    """Read a film with parts left out, as often as explanations need it."""
    drawn = Draw.of(film.cut.count, seed)
    ends = np.array([[True], [False]]).repeat(film.cut.count, 1)
    start = perf_counter()
    whole, blurred = film.log_odds(ends).tolist()
    ordered = film.log_odds(along(drawn.orders))
    between = perf_counter()
    at_random = film.log_odds(drawn.draws)
    seconds = between - start, perf_counter() - between
    return OccludedReadings(drawn, whole, blurred, ordered, at_random, film.log_odds(drawn.trials), seconds)
