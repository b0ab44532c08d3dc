"""Decides whether a film may be read at all. What it turns away gets reasons, never findings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.imaging.film import Film, View
from rag_service.imaging.normalise import squeeze
from rag_service.models.encoder import FilmReading
from rag_service.models.network import PRESENTATIONS

RECORD_FILE: Final = "gate.json"
REFERENCE_FILE: Final = "gate.safetensors"
_BLANK_SPREAD: Final = 0.02
"""Interquartile range of grey, of full scale, below which a film shows nothing."""
_FLAT_SHARE: Final = 0.97
"""Share of pixels at one grey level above which a film is blank or saturated."""


@dataclass(frozen=True)
class GateThresholds:
    """The gate's operating points for one model, chosen on calibration films so that each turns away at most a stated share.

    `presentation`: probability from which a film counts as lateral, rotated ...; `distance`: Mahalanobis distance from
    the training films, per root dimension; `reference` is the SHA-256 of the file that holds their mean and spread.
    """

    model: str
    presentation: Mapping[str, float]
    distance: float
    reference: str
    false_alarm_share: float

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the record; with the calibration's, the `thresholds` of a draft's provenance."""
        return digest(asdict(self))

    def save(self, folder: Path) -> None:
        """Write `gate.json`."""
        sealed.write(folder / RECORD_FILE, asdict(self))


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
        self.thresholds, self._mean, self._whitening = thresholds, mean, whitening

    def judge(self, film: Film, reading: FilmReading) -> Verdict:
        """The verdict on one film."""
        distance = float(distances(reading.pooled[None], self._mean, self._whitening)[0])
        limit = self.thresholds.distance
        reasons = [
            name
            for name, p in zip(PRESENTATIONS, reading.presentation, strict=True)
            if name in self.thresholds.presentation and p >= self.thresholds.presentation[name]
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


def load_gate(folder: Path, model: str) -> Gate:
    """The gate of `model` in `folder`. BadWeights when its record or reference is absent, altered or of another model."""
    thresholds = _load_thresholds(folder, model)
    path = folder / REFERENCE_FILE
    content = path.read_bytes() if path.is_file() else b""
    if (found := hashlib.sha256(content).hexdigest()) != thresholds.reference:
        raise BadWeights(
            f"{REFERENCE_FILE}: expected sha256 {thresholds.reference}, found {found if content else 'no file'}"
        )
    try:
        arrays = load(content)
        return Gate(thresholds, arrays["mean"].astype(np.float32), arrays["whitening"].astype(np.float32))
    except (SafetensorError, KeyError) as error:
        raise BadWeights(f"{REFERENCE_FILE} is malformed (expected sha256 {thresholds.reference})") from error


def _load_thresholds(folder: Path, model: str) -> GateThresholds:
    raw = sealed.read(folder / RECORD_FILE)
    try:
        thresholds = GateThresholds(**raw)
    except TypeError as error:
        raise BadWeights(f"{RECORD_FILE} is absent or malformed in the model folder") from error
    if thresholds.model != model:
        raise BadWeights(f"{RECORD_FILE} belongs to {thresholds.model}, the model is {model}")
    return thresholds
