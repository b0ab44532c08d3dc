"""How much of a finding there is on a film compared with an earlier one, and from where on the difference is a change.

The measure joins two differences of the films, which are read alike: of the calibrated log odds, and of the extent of the place
map. Its weights and its cut-offs were fitted to follow-up films by `python -m rag_service.training change`
(docs/decisions/0031-change-is-computed-from-both-films.md). Of a finding whose direction the fit could not tell, no change is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING
from knowledge_base.records import digest
from rag_service import sealed
from rag_service.calibration import Calibration
from rag_service.errors import BadWeights
from rag_service.models.encoder import FilmReading

FILE: Final = "change.json"
FEATURES: Final = ("log_odds", "log_extent")
NO_WEIGHTS: Final = (0.0, 0.0)
"""Of a finding with too few known changes to learn a measure from."""
_LIMIT: Final = 1e-3
"""Probabilities and extents nearer to 0 (or 1) than this differ by nothing that is seen."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FindingChange:
    """The weights of one finding's measure, in the order of FEATURES, none negative; and its cut-offs.

    From `changed` on, either way, the measure tells a change; up to `still` it tells none. In between nothing is said. Both are
    None where the direction of change could not be told: `pairs` of films with a known change were looked at, and the area under
    the ROC curve of more against less was `auroc`.
    """

    weights: tuple[float, float]
    changed: float | None
    still: float | None
    pairs: int
    auroc: float | None

    def __post_init__(self) -> None:
        if len(self.weights) != len(FEATURES) or not np.isfinite(self.weights).all() or min(self.weights) < 0:
            raise ValueError("the weights are finite and not negative")
        if (self.changed is None) != (self.still is None):
            raise ValueError("a finding has both cut-offs or none")
        if self.changed is not None and self.still is not None and not 0.0 <= self.still <= self.changed:
            raise ValueError("what is still lies below what has changed")

    def direction(self, measured: float) -> int | None:
        """1 for more, -1 for less, 0 for as before, None where it is not certain."""
        if self.changed is None or self.still is None:
            return None
        if abs(measured) >= self.changed:
            return 1 if measured > 0 else -1
        return 0 if abs(measured) <= self.still else None


@dataclass(frozen=True)
class ChangeRule:
    """Every finding's measure of change, for one film model; `sample` says what it was fitted to."""

    model: str
    findings: Mapping[str, FindingChange]
    sample: str

    def __post_init__(self) -> None:
        if set(self.findings) != set(FINDINGS) - {NO_FINDING}:
            raise ValueError("a rule covers all findings but the absence of any")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the record: the `change` of a draft's provenance."""
        return digest(asdict(self))

    def measured(self, finding: str, earlier: Floats, later: Floats) -> float:
        """Amounts (14, 2) of two films -> the change of a finding in log odds, above 0 for more of it."""
        index = FINDINGS.index(finding)
        return float((later[index] - earlier[index]) @ np.asarray(self.findings[finding].weights))

    def save(self, folder: Path) -> None:
        """Write `change.json`."""
        sealed.write(folder / FILE, asdict(self))


def amounts(reading: FilmReading, calibration: Calibration) -> Floats:
    """(14, 2): calibrated log odds of each finding, and the logarithm of the extent of its place map, in the order of FEATURES.

    BadWeights for a model that has no place maps.
    """
    if reading.places is None:
        raise BadWeights("this film model has no place maps: changes cannot be measured with it")
    p = np.clip(calibration.probabilities(reading.probabilities), _LIMIT, 1 - _LIMIT)
    extent = reading.places[: len(FINDINGS)].astype(np.float64).mean((1, 2))
    return np.stack([np.log(p) - np.log1p(-p), np.log(np.maximum(extent, _LIMIT))], axis=1)


def load_changes(folder: Path, model: str) -> ChangeRule | None:
    """The rule of `model` in `folder`; None when the folder has none. BadWeights when it is altered or of another model."""
    if not (folder / FILE).is_file():
        return None
    try:
        rule = _parse(sealed.read(folder / FILE))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder") from error
    if rule.model != model:
        raise BadWeights(f"{FILE} belongs to {rule.model}, the model is {model}")
    return rule


def _parse(raw: dict[str, Any]) -> ChangeRule:
    findings = {
        n: FindingChange(**{**entry, "weights": tuple(entry["weights"])}) for n, entry in raw["findings"].items()
    }
    return ChangeRule(raw["model"], findings, raw["sample"])
