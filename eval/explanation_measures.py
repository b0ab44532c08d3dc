"""Measures of one map of a finding against radiologists' boxes, and of what taking its highest places away does to the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rag_service.datasets.nih import ReaderBox
from rag_service.explain.explanation import overlap
from rag_service.explain.occlusion import OccludedFilm, Scores
from rag_service.explain.saliency import MAP_SIDE
from rag_service.explain.superpixels import Superpixels

THRESHOLDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
STEPS: Final = 8
"""Parts that a film is taken away or put back in."""
WASHED: Final = 20.0
"""Blur in pixels of 256 under deletion and insertion: heavier than that of the explanations, so that the whole finding goes, and
no method is tried on its own ground.
"""

Floats = NDArray[np.float64]
Inside = NDArray[np.bool_]


@dataclass(frozen=True)
class MapScores:
    """Of one map: share of its highest cells inside a box, contrast to noise (None for a map without variance), mean IoU over
    THRESHOLDS, and the areas under the deletion (low is good) and insertion (high is good) curves of the probability.
    """

    pointing: float
    cnr: float | None
    miou: float
    deletion: float
    insertion: float


def inside(boxes: Sequence[ReaderBox]) -> Inside:
    """(64, 64): the cells whose middle lies in a box."""
    middles = (np.arange(MAP_SIDE) + 0.5) / MAP_SIDE
    parts = [
        ((b.y_min <= middles) & (middles <= b.y_max))[:, None] & ((b.x_min <= middles) & (middles <= b.x_max))
        for b in boxes
    ]
    return np.asarray(np.any(parts, axis=0))


def pointing(places: NDArray[np.floating], truth: Inside) -> float:
    """The pointing game (Zhang et al., 2016): is the highest cell in a box? Equals share the hit. 0 for a map of one value."""
    return 0.0 if np.ptp(places) == 0 else float(truth[places == places.max()].mean())


def contrast(places: NDArray[np.floating], truth: Inside) -> float | None:
    """Contrast to noise (BioViL, Boecking et al., ECCV 2022) with its sign: above 0 where the map is higher in the boxes."""
    within, without = places[truth].astype(np.float64), places[~truth].astype(np.float64)
    noise = float(np.sqrt(within.var() + without.var()))
    return None if noise < 1e-12 else float(within.mean() - without.mean()) / noise


def miou(places: NDArray[np.floating], truth: Inside) -> float:
    """Mean over THRESHOLDS of the IoU of the boxes with where the map, its peak 1, reaches the threshold."""
    peak = max(float(places.max()), 1e-12)
    return float(np.mean([overlap(places / peak >= t, truth) for t in THRESHOLDS]))


def faithfulness(
    places: NDArray[np.floating], stored: NDArray[np.uint8], scores: Scores, seed: int
) -> tuple[float, float]:
    """Deletion and insertion (Petsiuk et al., BMVC 2018) in STEPS parts, the highest first, the rest of the film washed out.

    Equal cells are ordered at random, by seed.
    """
    chance = np.random.default_rng(seed).random(places.size)
    ranks = np.argsort(np.lexsort((chance, -places.ravel())))
    parts = Superpixels((ranks * STEPS // places.size).reshape(places.shape))
    put_back = np.tri(STEPS + 1, STEPS, -1, dtype=bool)
    log_odds = OccludedFilm(stored, parts, scores, WASHED).log_odds(np.concatenate([~put_back, put_back[1:-1]]))
    chances = 1.0 / (1.0 + np.exp(-log_odds))
    deleted, between = chances[: STEPS + 1], chances[STEPS + 1 :]
    inserted = np.concatenate([deleted[-1:], between, deleted[:1]])
    return float(np.trapezoid(deleted) / STEPS), float(np.trapezoid(inserted) / STEPS)


def scored(
    places: NDArray[np.floating], truth: Inside, stored: NDArray[np.uint8], scores: Scores, seed: int
) -> MapScores:
    """All measures of one map."""
    deletion, insertion = faithfulness(places, stored, scores, seed)
    return MapScores(pointing(places, truth), contrast(places, truth), miou(places, truth), deletion, insertion)


def centre() -> Floats:
    """A control: a Gaussian in the middle of the film, a quarter of it wide."""
    away = (np.arange(MAP_SIDE) + 0.5) / MAP_SIDE - 0.5
    return np.exp(-(away[:, None] ** 2 + away**2) / (2 * 0.25**2))


def edges(stored: NDArray[np.uint8]) -> Floats:
    """A control: the edges of the film, which look like an explanation and know of no finding (Adebayo et al., NeurIPS 2018)."""
    steep = ndimage.gaussian_gradient_magnitude(stored.astype(np.float64), 2.0)
    cell = steep.shape[0] // MAP_SIDE
    return np.asarray(steep.reshape(MAP_SIDE, cell, MAP_SIDE, cell).mean((1, 3)))
