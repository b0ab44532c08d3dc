"""LIME over superpixels (Ribeiro et al., KDD 2016): a linear model of the log-odds, fitted to films near the one explained."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

KERNEL_WIDTH: Final = 0.25
"""Of the exponential kernel over cosine distance, as published for pictures."""
RIDGE: Final = 1.0
"""Penalty on the squared values, as published."""

Floats = NDArray[np.float64]
Kept = NDArray[np.bool_]


def draws(count: int, number: int, rng: np.random.Generator) -> Kept:
    """(number, count): which superpixels are kept, first how many, then which, both uniformly, as published; never none or all."""
    many = rng.integers(1, count, number)
    return np.stack([rng.permutation(count) < kept for kept in many])


def lime(kept: Kept, log_odds: Floats) -> Floats:
    """Values (count,): a ridge regression of log-odds (n,) on kept (n, count), in which films nearer the whole weigh more."""
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=RIDGE).fit(kept.astype(np.float64), log_odds, sample_weight=nearness(kept))
    return np.asarray(fitted.coef_, np.float64)


def nearness(kept: Kept) -> Floats:
    """(n,): the square root of exp(-d^2 / width^2), d the cosine distance from the whole film; 1 for the film itself."""
    distance = 1.0 - np.sqrt(kept.mean(1))
    return np.asarray(np.sqrt(np.exp(-(distance**2) / KERNEL_WIDTH**2)), np.float64)
