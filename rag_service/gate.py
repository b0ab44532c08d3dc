"""Decides whether a film may be read at all. What it turns away gets reasons, never findings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from rag_service.calibration import GateThresholds
from rag_service.errors import BadWeights
from rag_service.imaging.film import Film, View
from rag_service.imaging.normalise import squeeze
from rag_service.models.encoder import FilmReading
from rag_service.models.network import PRESENTATIONS

REFERENCE_FILE: Final = "gate.safetensors"
_BLANK_SPREAD: Final = 0.02
"""Interquartile range of grey, of full scale, below which a film shows nothing."""
_FLAT_SHARE: Final = 0.97
"""Share of pixels at one grey level above which a film is blank or saturated."""


@dataclass(frozen=True)
class OutOfDistribution:
    """How far the film lies from those the model learned from; above the threshold nothing is drafted."""

    score: float
    threshold: float


@dataclass(frozen=True)
class Verdict:
    """Why a film is turned away (empty when it is not) and how far it lies from the films the model learned from."""

    reasons: tuple[str, ...]
    out_of_distribution: OutOfDistribution


class Gate:
    """Thresholds and the reference distribution, loaded once. `mean` (D,), `whitening` (D, D)."""

    def __init__(self, thresholds: GateThresholds, mean: NDArray[np.float32], whitening: NDArray[np.float32]) -> None:
        self._thresholds, self._mean, self._whitening = thresholds, mean, whitening

    def judge(self, film: Film, reading: FilmReading) -> Verdict:
        """The verdict on one film."""
        distance = float(distances(reading.pooled[None], self._mean, self._whitening)[0])
        limit = self._thresholds.distance
        reasons = [
            name
            for name, p in zip(PRESENTATIONS, reading.presentation, strict=True)
            if name in self._thresholds.presentation and p >= self._thresholds.presentation[name]
        ]
        if film.view is View.LATERAL and "lateral" not in reasons:
            reasons.append("lateral")
        if is_blank(film):
            reasons.insert(0, "blank")
        if distance > limit:
            reasons.append("out_of_distribution")
        return Verdict(tuple(reasons), OutOfDistribution(distance, limit))


def is_blank(film: Film) -> bool:
    """Whether the film shows next to nothing: hardly any spread of grey, or nearly all of it one level."""
    stored = squeeze(film.pixels)
    low, high = np.percentile(stored, (25, 75))
    commonest = np.bincount(stored.ravel(), minlength=256).max() / stored.size
    return bool((high - low) / 255.0 < _BLANK_SPREAD and np.ptp(np.percentile(stored, (2, 98))) < 12) or bool(
        commonest > _FLAT_SHARE
    )


def distances(
    pooled: NDArray[np.float32], mean: NDArray[np.float32], whitening: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mahalanobis distance of features (B, D) from the reference, divided by sqrt(D): about 1 for a usual film."""
    centred = (pooled.astype(np.float64) - mean) @ whitening.T.astype(np.float64)
    return np.asarray(np.sqrt((centred**2).mean(1)))


def load_gate(folder: Path, thresholds: GateThresholds) -> Gate:
    """The gate whose reference lies in `folder`. BadWeights when its digest is not the calibration's."""
    path = folder / REFERENCE_FILE
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != thresholds.reference:
        raise BadWeights(f"{REFERENCE_FILE}: expected sha256 {thresholds.reference}")
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise BadWeights(f"{REFERENCE_FILE} is malformed (expected sha256 {thresholds.reference})") from error
    return Gate(thresholds, arrays["mean"].astype(np.float32), arrays["whitening"].astype(np.float32))
