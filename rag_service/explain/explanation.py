"""An explanation of one finding on one film, whatever the method, and how far two of them agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from rag_service.explain.boxes import boxes
from rag_service.explain.saliency import MAP_SIDE
from rag_service.explain.superpixels import Superpixels
from rag_service.explain_request import Method
from rag_service.imaging.film import Box

TOP: Final = 0.1
"""Share of the film that counts as the highest part of a map."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where and how much a film speaks for a finding, by one method.

    `map` float32 (64, 64) in [0, 1], its highest cell 1 unless nothing speaks for the finding. `values` (count,) of each
    superpixel: log-odds for Shapley and LIME, which can be negative, the mean of the map for the others. `boxes` of the map inside
    the finding's region, None where it draws none. `seconds` it took. `fidelity`: the correlation of the log-odds of films with
    superpixels left out at random with the sum of the values that were left in (Bhatt et al., IJCAI 2020), None where either is
    constant.
    """

    method: Method
    finding: str
    map: NDArray[np.float32]
    values: Floats
    boxes: tuple[Box, ...] | None
    seconds: float
    fidelity: float | None

    def __post_init__(self) -> None:
        if self.map.shape != (MAP_SIDE, MAP_SIDE) or self.map.min() < 0.0 or self.map.max() > 1.0:
            raise ValueError(f"a map has {MAP_SIDE} x {MAP_SIDE} cells between 0 and 1")
        if not np.isfinite(self.values).all():
            raise ValueError("the values of superpixels are finite")


@dataclass(frozen=True)
class Agreement:
    """How alike two maps are: Spearman's rho over superpixels, None where either is constant, and IoU of their highest tenths."""

    one: Method
    other: Method
    rank_correlation: float | None
    top_iou: float


def from_map(method: Method, finding: str, places: NDArray[np.floating], cut: Superpixels) -> Explanation:
    """The explanation that a map of any size makes: brought to (64, 64), negative parts left out, the highest cell 1."""
    scaled = _scaled(_resized(np.asarray(places, np.float64)))
    return Explanation(method, finding, scaled, cut.means(scaled), boxes(scaled, finding), 0.0, None)


def from_values(method: Method, finding: str, values: Floats, cut: Superpixels) -> Explanation:
    """The explanation that values (count,) of superpixels make; its map shows what speaks for the finding, not against it."""
    scaled = _scaled(cut.painted(values))
    return Explanation(method, finding, scaled, values, boxes(scaled, finding), 0.0, None)


def fidelity(values: Floats, kept: NDArray[np.bool_], log_odds: Floats) -> float | None:
    """Correlation of the values kept (n, count), summed, with the log-odds (n,) of those films; None where either is constant."""
    told = kept @ values
    if np.ptp(told) < 1e-12 or np.ptp(log_odds) < 1e-12:
        return None
    return float(np.corrcoef(told, log_odds)[0, 1])


def agreement(one: Explanation, other: Explanation, cut: Superpixels) -> Agreement:
    """How far two explanations of the same film point to the same places."""
    return Agreement(
        one.method,
        other.method,
        rank_correlation(cut.means(one.map), cut.means(other.map)),
        overlap(highest(one.map), highest(other.map)),
    )


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Spearman's rho of (n,) and (n,); None when either is constant."""
    if np.ptp(one) < 1e-12 or np.ptp(other) < 1e-12:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def highest(places: NDArray[np.floating], share: float = TOP) -> NDArray[np.bool_]:
    """(64, 64): the highest cells of a map, this share of the film; among equals those that come first in reading order."""
    order = np.argsort(-places.ravel(), kind="stable")
    chosen = np.zeros(places.size, bool)
    chosen[order[: round(share * places.size)]] = True
    return chosen.reshape(places.shape)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two parts of a film, 0 when both are empty."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def _resized(places: Floats) -> Floats:
    """Bilinear, the outer edge of the first and the last cell being the edge of the film."""
    rows, columns = (np.clip((np.arange(MAP_SIDE) + 0.5) * side / MAP_SIDE - 0.5, 0, side - 1) for side in places.shape)
    return ndimage.map_coordinates(places, np.meshgrid(rows, columns, indexing="ij"), order=1)


def _scaled(places: NDArray[np.floating]) -> NDArray[np.float32]:
    peak = float(places.max())
    return np.zeros(places.shape, np.float32) if peak <= 1e-9 else np.clip(places / peak, 0, 1).astype(np.float32)
