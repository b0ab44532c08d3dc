"""From raw scores to probabilities that mean what they say, with an interval, operating points, a conformal set and a tier.

Per finding, on a calibration split no training saw: a monotone calibrator (`calibrators`), so ranking is kept; a
Venn-Abers interval, the two isotonic answers that bracket the truth without assumptions (Vovk & Petej, UAI 2014); a
label-conditional conformal set (`conformal`); and operating points to state a finding, to call it possible and to deny it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.records import digest
from rag_service import calibrators, sealed
from rag_service.calibrators import Calibrator
from rag_service.conformal import ConformalCutoffs, Presence, cutoffs
from rag_service.errors import BadWeights

FILE: Final = "calibration.json"


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
    """Calibrated probability that the finding is present, its interval, the tier of the statement made, the conformal set.

    `set` holds present, absent or both: the classes the score is compatible with at level `conformal.ALPHA`; it is empty when
    the score is unlike the films of either.
    """

    p: float
    interval: tuple[float, float]
    tier: Tier
    set: tuple[Presence, ...]


@dataclass(frozen=True)
class FindingCalibration:
    """One finding's calibration.

    Calibrated probabilities from `state` up are stated, from `possible` up called possible, up to `deny` denied; in between
    nothing is said. `flag` maximises the expected F1, together with the other findings', and `accurate` the expected
    accuracy of a label table: two thresholds, as no one serves both. `deny` leaves at most a tenth of the positives below it.
    `scores` and `outcomes` are the calibration sample, sorted, for the interval and the conformal set.
    """

    calibrator: Calibrator
    state: float
    possible: float
    flag: float
    accurate: float
    deny: float
    reliability: Reliability
    positives: int
    films: int
    auroc: float | None
    scores: tuple[float, ...]
    outcomes: tuple[int, ...]

    def p(self, score: float) -> float:
        """Calibrated probability of a raw score in [0, 1]."""
        return float(self.calibrator.p(np.asarray(score, np.float64)))

    def interval(self, score: float) -> tuple[float, float]:
        """Venn-Abers bracket of a raw score, widened to hold `p`."""
        low, high = (self._isotonic_at(score, outcome) for outcome in (0.0, 1.0))
        centre = self.p(score)
        return (min(low, centre), max(high, centre))

    def polarity(self, p: float) -> Polarity | None:
        """What may be said at a calibrated probability; None when it lies between the operating points."""
        if p >= self.state:
            return Polarity.POSITIVE
        if p >= self.possible:
            return Polarity.UNCERTAIN
        return Polarity.NEGATIVE if p <= self.deny else None

    @cached_property
    def conformal(self) -> ConformalCutoffs:
        """Cut-offs of the conformal set that a draft shows."""
        return cutoffs(*self._prefix)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the calibrator with its kind."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "calibrator": calibrators.to_json(self.calibrator)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The entry of `to_json`. ValueError, TypeError or KeyError when it is none."""
        sample = {"scores": tuple(raw["scores"]), "outcomes": tuple(raw["outcomes"])}
        fitted = calibrators.from_json(raw["calibrator"])
        return cls(**{**raw, **sample, "calibrator": fitted, "reliability": Reliability(raw["reliability"])})

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
    """What a statement must show to be leaned on.

    `high` and `low` are cut-offs on its probability. `radius_high` is the 90th percentile of the mean radius of calibration
    films and `radius_bound` the largest; `spread_high` the 90th percentile of the BL-TTA deviation, as `steadiness` has it.
    """

    high: float
    low: float
    radius_high: float
    radius_bound: float
    spread_high: float

    def of(self, p: float, polarity: Polarity | None, held: tuple[Presence, ...], radius: float, spread: float) -> Tier:
        """The tier of saying `polarity` at probability `p`, given the conformal set, the mean radius and the steadiness.

        High: at least `high`, the set holds what is said and nothing else, and film and samples are as usual. Low: a mere
        possibility, a probability under `low`, or under `high` with a set that holds both classes, or a box wider than any of
        the calibration films. A rare finding has too few positives for a decisive set: its sure denials are medium.
        """
        if polarity in {None, Polarity.UNCERTAIN}:
            return Tier.LOW
        said, stated = (Presence.PRESENT, p) if polarity is Polarity.POSITIVE else (Presence.ABSENT, 1.0 - p)
        sure = stated >= self.high
        if stated < self.low or (len(held) == 2 and not sure) or radius > self.radius_bound:
            return Tier.LOW
        usual = radius <= self.radius_high and spread <= self.spread_high
        return Tier.HIGH if sure and held == (said,) and usual else Tier.MEDIUM


def steadiness(scores: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """BL-TTA deviation of raw scores in units of the logit, to first order: the same at a score of 0.01 as at one half."""
    clipped = np.clip(scores, calibrators.SCORE_LIMIT, 1 - calibrators.SCORE_LIMIT)
    return np.asarray(spread / (clipped * (1 - clipped)))


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
        return digest(self.to_json())

    def confidence(self, finding: str, score: float, radius: float, spread: float) -> Confidence:
        """Calibrated confidence of a finding, from its raw score, the film's mean radius and the score's BL-TTA deviation."""
        entry = self.findings[finding]
        p, held = entry.p(score), entry.conformal.of(score)
        unsteady = float(steadiness(np.asarray(score), np.asarray(spread)))
        return Confidence(p, entry.interval(score), self.tiers.of(p, entry.polarity(p), held, radius, unsteady), held)

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores (..., 14) -> calibrated probabilities of the same shape."""
        columns = [self.findings[f].calibrator.p(scores[..., i]) for i, f in enumerate(FINDINGS)]
        return np.stack(columns, axis=-1)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        findings = {name: entry.to_json() for name, entry in self.findings.items()}
        return {
            "model": self.model,
            "findings": findings,
            "tiers": asdict(self.tiers),
            "axis_names": self.axis_names,
            "sample": self.sample,
        }

    def save(self, folder: Path) -> None:
        """Write `calibration.json`."""
        sealed.write(folder / FILE, self.to_json())


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
    findings = {name: FindingCalibration.from_json(entry) for name, entry in raw["findings"].items()}
    if set(findings) != set(FINDINGS):
        raise ValueError("a calibration covers all 14 findings")
    return Calibration(
        model=raw["model"],
        findings=findings,
        tiers=Tiers(**raw["tiers"]),
        axis_names=tuple(raw["axis_names"]),
        sample=raw["sample"],
    )
