"""From raw scores to probabilities that mean what they say, with an interval, an operating point and a tier.

Per finding, on a calibration split no training saw: Platt scaling of the logit (monotone, so ranking is kept); a
Venn-Abers interval, the two isotonic answers that bracket the truth without assumptions (Vovk & Petej, UAI 2014); and two
operating points, one to state a finding and one to deny it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights

FILE: Final = "calibration.json"
_LIMIT: Final = 1e-6
POSSIBLE_FLOOR: Final = 0.15
"""No finding is called possible below this, however rare it is: the best F1 of a rare finding lies where nine calls of ten err."""


class Reliability(StrEnum):
    """Whether a finding may be spoken of at all."""

    RELIABLE = "reliable"
    TOO_FEW = "too_few_cases_to_calibrate"
    TOO_WEAK = "not_reliable_enough"


class Tier(StrEnum):
    """How far a reader may lean on a finding: accuracy falls from high to low, measured by `python -m eval labels`."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True)
class Confidence:
    """Calibrated probability that the finding is present, its interval, and the tier of the statement made."""

    p: float
    interval: tuple[float, float]
    tier: Tier


@dataclass(frozen=True)
class FindingCalibration:
    """One finding's calibration.

    p = sigmoid(slope * logit(score) + offset). From `state` up it is stated, from `flag` (and POSSIBLE_FLOOR) up it is called
    possible, up to `deny` it is denied; in between nothing is said. `flag` maximises the expected F1, `deny` leaves at most
    a tenth of the positives below it. `scores` and `outcomes` are the calibration sample, sorted, for the interval.
    """

    slope: float
    offset: float
    state: float
    flag: float
    deny: float
    reliability: Reliability
    positives: int
    films: int
    auroc: float | None
    scores: tuple[float, ...]
    outcomes: tuple[int, ...]

    def p(self, score: float) -> float:
        """Calibrated probability of a raw score in [0, 1]."""
        clipped = min(max(score, _LIMIT), 1 - _LIMIT)
        return float(1.0 / (1.0 + np.exp(-(self.slope * np.log(clipped / (1 - clipped)) + self.offset))))

    def interval(self, score: float) -> tuple[float, float]:
        """Venn-Abers bracket of a raw score, widened to hold `p`."""
        low, high = (self._isotonic_at(score, outcome) for outcome in (0.0, 1.0))
        centre = self.p(score)
        return (min(low, centre), max(high, centre))

    def polarity(self, p: float) -> Polarity | None:
        """What may be said at a calibrated probability; None when it lies between the operating points."""
        if p >= self.state:
            return Polarity.POSITIVE
        if p >= max(self.flag, POSSIBLE_FLOOR):
            return Polarity.UNCERTAIN
        return Polarity.NEGATIVE if p <= self.deny else None

    @cached_property
    def _prefix(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.asarray(self.scores, np.float64), np.asarray(self.outcomes, np.float64)

    def _isotonic_at(self, score: float, outcome: float) -> float:
        """The isotonic fit's value at `score` when the sample is joined by (score, outcome)."""
        scores, outcomes = self._prefix
        place = int(np.searchsorted(scores, score, side="right" if outcome else "left"))
        joined = np.insert(outcomes, place, outcome)
        total = np.concatenate([[0.0], np.cumsum(joined)])
        index = np.arange(len(total), dtype=np.float64)
        # Pool-adjacent-violators at one point: the largest mean to the left of the smallest mean to its right.
        starts, ends = index[: place + 1], index[place + 1 :]
        slopes = (total[place + 1 :][None] - total[: place + 1][:, None]) / (ends[None] - starts[:, None])
        return float(slopes.min(1).max())


@dataclass(frozen=True)
class Tiers:
    """Cut-offs on the probability of the statement made, and on the film's mean radius."""

    high: float
    low: float
    radius_high: float

    def of(self, p: float, polarity: Polarity | None, radius: float) -> Tier:
        """The tier of saying `polarity` at probability `p` on a film whose box has this mean radius."""
        if polarity in {None, Polarity.UNCERTAIN}:
            return Tier.LOW
        stated = p if polarity is Polarity.POSITIVE else 1.0 - p
        if stated < self.low:
            return Tier.LOW
        return Tier.HIGH if stated >= self.high and radius <= self.radius_high else Tier.MEDIUM


@dataclass(frozen=True)
class Calibration:
    """Everything fixed on the calibration split, for one model."""

    model: str
    findings: Mapping[str, FindingCalibration]
    tiers: Tiers
    axis_names: tuple[str, ...]
    sample: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole calibration; with the gate's, the `thresholds` of a draft's provenance."""
        return digest(asdict(self))

    def confidence(self, finding: str, score: float, radius: float) -> Confidence:
        """Calibrated confidence of a finding."""
        entry = self.findings[finding]
        p = entry.p(score)
        return Confidence(p, entry.interval(score), self.tiers.of(p, entry.polarity(p), radius))

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores (..., 14) -> calibrated probabilities of the same shape."""
        columns = [np.vectorize(self.findings[f].p)(scores[..., i]) for i, f in enumerate(FINDINGS)]
        return np.stack(columns, axis=-1)

    def save(self, folder: Path) -> None:
        """Write `calibration.json`."""
        sealed.write(folder / FILE, asdict(self))


def load_calibration(folder: Path, model: str) -> Calibration:
    """The calibration of `model` in `folder`. BadWeights when absent, altered or of another model."""
    raw = sealed.read(folder / FILE)
    try:
        calibration = _parse(raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{FILE} is absent or malformed in the model folder") from error
    if calibration.model != model:
        raise BadWeights(f"{FILE} belongs to {calibration.model}, the model is {model}")
    return calibration


def _parse(raw: dict[str, Any]) -> Calibration:
    findings = {name: _parse_finding(entry) for name, entry in raw["findings"].items()}
    if set(findings) != set(FINDINGS):
        raise ValueError("a calibration covers all 14 findings")
    return Calibration(
        model=raw["model"],
        findings=findings,
        tiers=Tiers(**raw["tiers"]),
        axis_names=tuple(raw["axis_names"]),
        sample=raw["sample"],
    )


def _parse_finding(entry: dict[str, Any]) -> FindingCalibration:
    kept = {**entry, "reliability": Reliability(entry["reliability"])}
    return FindingCalibration(**{**kept, "scores": tuple(entry["scores"]), "outcomes": tuple(entry["outcomes"])})
