"""Shapley values of superpixels by occlusion: what each adds to the log-odds of a finding, over orders in which they appear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Orders = NDArray[np.int64]


def antithetic_orders(count: int, pairs: int, rng: np.random.Generator) -> Orders:
    """(2 * pairs, count): random orders of `count` superpixels, each followed by its reverse.

    What a superpixel adds early and what it adds late are then both seen, and their errors cancel to first order (Mitchell et al.,
    JMLR 2022).
    """
    drawn = [rng.permutation(count) for _ in range(pairs)]
    return np.stack([order for one in drawn for order in (one, one[::-1])])


def along(orders: Orders) -> NDArray[np.bool_]:
    """(orders * (count - 1), count): the superpixels present after each step of each order, the whole film left out."""
    steps, count = np.arange(1, orders.shape[1]), orders.shape[1]
    ranks = np.argsort(orders, axis=1)
    return np.asarray((ranks[:, None, :] < steps[:, None]).reshape(-1, count))


def shapley(orders: Orders, log_odds: Floats, blurred: float, film: float) -> Floats:
    """Values (count,): the mean of what each superpixel added along the orders (Castro et al., 2009).

    `log_odds` of the films of `along`, in its order; `blurred` with no superpixel, `film` with all. The values add up to
    film - blurred, whatever the orders: along each of them what is added telescopes.
    """
    count = orders.shape[1]
    ends = np.full((len(orders), 1), [blurred]), np.full((len(orders), 1), [film])
    added = np.diff(np.concatenate([ends[0], log_odds.reshape(len(orders), count - 1), ends[1]], axis=1), axis=1)
    values = np.zeros(count)
    np.add.at(values, orders, added)
    return values / len(orders)
