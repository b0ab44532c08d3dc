"""Decides whether a film may be read at all. What it turns away gets reasons, never findings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.imaging.film import Film, View
from rag_service.imaging.normalise import squeeze
from rag_service.models.encoder import FilmReading, presentation_of
from rag_service.models.network import PRESENTATIONS
from rag_service.ood import SCORES, Combination, Reference, scores_of

RECORD_FILE: Final = "gate.json"
REFERENCE_FILE: Final = "gate.safetensors"
_BLANK_SPREAD: Final = 0.02
"""Interquartile range of grey, of full scale, below which a film shows nothing."""
_FLAT_SHARE: Final = 0.97
"""Share of pixels at one grey level above which a film is blank or saturated."""


@dataclass(frozen=True)
class GateThresholds:
    """The gate's operating points for one model, chosen on calibration frontals so that together they turn away at most
    `false_alarm_share` of them.

    `presentation`: probability from which a film counts as lateral, rotated ...; `limit`: log-odds of the combined score
    from which a film is out of distribution; `reference` is the SHA-256 of the file that holds the `Reference`.
    """

    model: str
    presentation: Mapping[str, float]
    combination: Combination
    limit: float
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
    """The combined score of `ood.Combination`, in log-odds, with the scores it joins; from the threshold up nothing is drafted."""

    score: float
    threshold: float
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Why a film is turned away (empty when it is not) and how far it lies from the films the model learned from."""

    reasons: tuple[str, ...]
    out_of_distribution: OutOfDistribution


class Gate:
    """Thresholds and the films to compare with, loaded once."""

    def __init__(self, thresholds: GateThresholds, reference: Reference) -> None:
        self.thresholds, self.reference = thresholds, reference

    def save(self, folder: Path) -> None:
        """Write record and reference; the record names the reference as it was written."""
        replace(self.thresholds, reference=save_reference(folder, self.reference)).save(folder)

    def judge(self, film: Film, reading: FilmReading) -> Verdict:
        """The verdict on one film."""
        scores = scores_of([reading], self.reference)
        combined, limit = float(self.thresholds.combination.of(scores)[0]), self.thresholds.limit
        far = combined >= limit
        reasons = self._presentations(reading, far)
        if film.view is View.LATERAL and "lateral" not in reasons:
            reasons.append("lateral")
        if is_blank(film):
            reasons.insert(0, "blank")
        if far:
            reasons.append("out_of_distribution")
        return Verdict(
            tuple(reasons), OutOfDistribution(combined, limit, dict(zip(SCORES, scores[0].tolist(), strict=True)))
        )

    def _presentations(self, reading: FilmReading, far: bool) -> list[str]:
        """The presentations over their own limit; of a film out of distribution also the likeliest, which says why."""
        limits, likeliest = self.thresholds.presentation, presentation_of(reading)
        return [
            name
            for name, p in zip(PRESENTATIONS, reading.presentation, strict=True)
            if name in limits and (p >= limits[name] or (far and name == likeliest))
        ]


def is_blank(film: Film) -> bool:
    """Whether the film shows next to nothing: hardly any spread of grey, or nearly all of it one level."""
    stored = squeeze(film.pixels)
    low, high = np.percentile(stored, (25, 75))
    commonest = np.bincount(stored.ravel(), minlength=256).max() / stored.size
    return bool((high - low) / 255.0 < _BLANK_SPREAD and np.ptp(np.percentile(stored, (2, 98))) < 12) or bool(
        commonest > _FLAT_SHARE
    )


def load_gate(folder: Path, model: str) -> Gate:
    """The gate of `model` in `folder`. BadWeights when its record or reference is absent, altered or of another model."""
    thresholds = _load_thresholds(folder, model)
    return Gate(thresholds, load_reference(folder, thresholds.reference))


def save_reference(folder: Path, reference: Reference) -> str:
    """Write the reference, the bank as float16; its SHA-256."""
    path = folder / REFERENCE_FILE
    arrays = {
        "mean": reference.mean.astype(np.float32),
        "axes": reference.axes.astype(np.float32),
        "spread": reference.spread.astype(np.float32),
        "rest": np.array([reference.rest], np.float32),
        "bank": reference.bank.astype(np.float16),
    }
    # safetensors writes the bytes as they lie: a transposed array would come back scrambled.
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_reference(folder: Path, sha256: str) -> Reference:
    """The reference in `folder`. BadWeights when it has another digest or is malformed."""
    content = sealed.weights(folder / REFERENCE_FILE, sha256)
    try:
        arrays = {name: array.astype(np.float64) for name, array in load(content).items()}
        rest = float(arrays.pop("rest").item())
        return Reference(rest=rest, **arrays)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadWeights(f"{REFERENCE_FILE} is malformed (expected sha256 {sha256})") from error


def _load_thresholds(folder: Path, model: str) -> GateThresholds:
    raw = sealed.read(folder / RECORD_FILE)
    try:
        thresholds = GateThresholds(**{**raw, "combination": Combination(**raw["combination"])})
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(f"{RECORD_FILE} is absent or malformed in the model folder") from error
    if thresholds.model != model:
        raise BadWeights(f"{RECORD_FILE} belongs to {thresholds.model}, the model is {model}")
    return thresholds
