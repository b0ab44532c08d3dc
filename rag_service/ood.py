"""How unlike the films the model learned from a film is: five scores of one reading, and one that joins them.

All scores rise with unlikeness. Shapes: n films, D trunk features, K principal axes, N films in the bank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.models.encoder import FilmReading

SCORES: Final = ("radius", "knn", "mahalanobis", "energy", "presentation")
NEIGHBOURS: Final = 5
_LEAST: Final = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """The training frontals by their trunk features.

    `mean` (D,) and `axes` (K, D), orthonormal, with the standard deviations `spread` (K,) along them; `rest` is the
    standard deviation along every other direction (probabilistic principal components: Tipping & Bishop, 1999).
    `bank` (N, K) holds some of the films by their coordinates along the axes.
    """

    mean: Floats
    axes: Floats
    spread: Floats
    rest: float
    bank: Floats

    def __post_init__(self) -> None:
        kept, width = self.axes.shape
        if self.mean.shape != (width,) or self.spread.shape != (kept,) or self.bank.shape[1] != kept:
            raise ValueError(f"a reference of {kept} axes in {width} features fits together")
        if len(self.bank) < NEIGHBOURS or not self.rest > 0 or not np.all(self.spread > 0):
            raise ValueError(f"a reference has {NEIGHBOURS} films or more, and spread in every direction")
        if not all(np.isfinite(part).all() for part in (self.mean, self.axes, self.bank)):
            raise ValueError("a reference is finite")

    def mahalanobis(self, pooled: Floats) -> Floats:
        """Distance (n,) of features (n, D) from the mean, divided by sqrt(D): about 1 for a usual film."""
        centred = pooled - self.mean
        along = centred @ self.axes.T
        across = (centred**2).sum(1) - (along**2).sum(1)
        squared = ((along / self.spread) ** 2).sum(1) + np.maximum(across, 0.0) / self.rest**2
        return np.asarray(np.sqrt(squared / pooled.shape[1]))

    def knn(self, pooled: Floats) -> Floats:
        """Distance (n,) to the fifth nearest film of the bank along the axes, of which two usual films lie about 1 apart.

        Not whitened (Sun et al., ICML 2022, use features as they are): directions without variance would outweigh the rest.
        """
        along = (pooled - self.mean) @ self.axes.T
        squared = (along**2).sum(1)[:, None] + (self.bank**2).sum(1) - 2.0 * along @ self.bank.T
        nearest = np.partition(squared, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
        return np.asarray(np.sqrt(np.maximum(nearest, 0.0) / (2.0 * (self.spread**2).sum())))


@dataclass(frozen=True)
class Combination:
    """Log-odds that a film is none the model learned from: offset + sum of weight * (score - centre) / scale.

    Each mapping has every name of SCORES. No weight is negative: a film cannot look more usual by being further away.
    """

    centre: Mapping[str, float]
    scale: Mapping[str, float]
    weight: Mapping[str, float]
    offset: float

    def __post_init__(self) -> None:
        parts = (self.centre, self.scale, self.weight)
        if any(set(part) != set(SCORES) for part in parts):
            raise ValueError(f"a combination covers {', '.join(SCORES)}")
        if min(self.scale.values()) <= 0 or min(self.weight.values()) < 0:
            raise ValueError("scales are positive and weights not negative")
        if not np.isfinite([self.offset, *(value for part in parts for value in part.values())]).all():
            raise ValueError("a combination is finite")

    def of(self, scores: Floats) -> Floats:
        """(n,) from scores (n, 5) in the order of SCORES."""
        centre, scale, weight = (np.array([part[s] for s in SCORES]) for part in (self.centre, self.scale, self.weight))
        return np.asarray(self.offset + (scores - centre) / scale @ weight)


def scores_of(readings: Sequence[FilmReading], reference: Reference) -> Floats:
    """(n, 5) in the order of SCORES.

    radius: mean of log r over the axes of the box. energy: minus the joint energy, -sum log(1 + e^logit) over the findings
    (Wang et al., NeurIPS 2021). presentation: log-odds that the film is not frontal.
    """
    pooled = np.stack([r.pooled for r in readings]).astype(np.float64)
    radius = np.stack([r.box.radius for r in readings]).astype(np.float64)
    absent = np.clip(1.0 - np.stack([r.probabilities for r in readings]), _LEAST, 1.0)
    frontal = np.clip(np.array([r.presentation[0] for r in readings]), _LEAST, 1.0 - _LEAST)
    return np.stack(
        [
            np.log(np.maximum(radius, _LEAST)).mean(1),
            reference.knn(pooled),
            reference.mahalanobis(pooled),
            np.log(absent).sum(1),
            np.log((1.0 - frontal) / frontal),
        ],
        axis=1,
    )
