"""Two views of one study: what may stand as a lateral, and how its scores join the frontal's, finding by finding.

Late fusion: each film is read on its own, and only the logits of their scores are added. The fused score is made to stand where
a frontal's own would stand, so that it goes through the same calibration and the same operating points
(docs/decisions/0016-two-views-are-joined-late.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights, LateralNotUsable
from rag_service.gate import is_blank
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmReading, presentation_of

FILE: Final = "views.json"
_LIMIT: Final = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FindingFusion:
    """One finding: logit(fused) = frontal * logit(frontal's score) + lateral * logit(lateral's score) + offset.

    Neither weight is negative: a view that shows more of a finding never lowers it. `studies` with both views were fitted to,
    `positives` of them with the finding.
    """

    frontal: float
    lateral: float
    offset: float
    studies: int
    positives: int

    def __post_init__(self) -> None:
        if not np.isfinite((self.frontal, self.lateral, self.offset)).all() or min(self.frontal, self.lateral) < 0:
            raise ValueError("the weights of a fusion are finite and not negative")

    def score(self, frontal: Floats, lateral: Floats) -> Floats:
        """Scores of the two views, of one shape and in [0, 1] -> the fused score, of that shape."""
        z = self.frontal * logit(frontal) + self.lateral * logit(lateral) + self.offset
        return np.asarray(np.exp(-np.logaddexp(0.0, -z)))


@dataclass(frozen=True)
class ViewFusion:
    """The fusion of every finding, for one model; `sample` says what it was fitted to."""

    model: str
    findings: Mapping[str, FindingFusion]
    sample: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the record: the `view_fusion` of a draft's provenance."""
        return digest(asdict(self))

    def scores(self, frontal: Floats, lateral: Floats) -> Floats:
        """Raw scores (..., 14) of a frontal and of its lateral -> fused raw scores of the same shape."""
        columns = [self.findings[f].score(frontal[..., i], lateral[..., i]) for i, f in enumerate(FINDINGS)]
        return np.stack(columns, axis=-1)

    def fused(self, frontal: FilmReading, lateral: FilmReading) -> FilmReading:
        """The frontal's reading with the fused scores and their spread; its box, its maps and all else stay the frontal's."""
        fused = self.scores(frontal.probabilities, lateral.probabilities)
        frontals, laterals = (
            weight * reading.spread / _slope(reading.probabilities)
            for weight, reading in zip(self._weights(), (frontal, lateral), strict=True)
        )
        # In logits, to first order, the samples of the two boxes being independent.
        return replace(frontal, probabilities=fused, spread=_slope(fused) * np.hypot(frontals, laterals))

    def _weights(self) -> tuple[Floats, Floats]:
        entries = [self.findings[f] for f in FINDINGS]
        return np.array([e.frontal for e in entries]), np.array([e.lateral for e in entries])

    def save(self, folder: Path) -> None:
        """Write `views.json`."""
        sealed.write(folder / FILE, asdict(self))


def load_views(folder: Path, model: str) -> ViewFusion | None:
    """The fusion of `model` in `folder`; None when the folder has none. BadWeights when it is altered or of another model."""
    if not (folder / FILE).is_file():
        return None
    try:
        fusion = _parse(sealed.read(folder / FILE))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder") from error
    if fusion.model != model:
        raise BadWeights(f"{FILE} belongs to {fusion.model}, the model is {model}")
    return fusion


def check_lateral(film: Film, reading: FilmReading, frontal: FilmReading) -> None:
    """LateralNotUsable when a film given as the lateral is none, by the view classifier; swapped films are told apart."""
    kind = "blank" if is_blank(film) else presentation_of(reading)
    if kind == "lateral":
        return
    if kind != "frontal":
        raise LateralNotUsable(f"the film given as lateral is not a lateral chest film ({kind})")
    if presentation_of(frontal) == "lateral":
        raise LateralNotUsable(
            "the films are swapped: the frontal was given as the lateral, the lateral as the frontal"
        )
    raise LateralNotUsable("the film given as lateral is a frontal film")


def logit(scores: Floats) -> Floats:
    """Log odds of scores in [0, 1], of any shape; finite at the ends."""
    clipped = np.clip(np.asarray(scores, np.float64), _LIMIT, 1 - _LIMIT)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _slope(scores: Floats) -> Floats:
    """How much a score moves with its logit."""
    clipped = np.clip(scores, _LIMIT, 1 - _LIMIT)
    return np.asarray(clipped * (1 - clipped))


def _parse(raw: dict[str, Any]) -> ViewFusion:
    findings = {name: FindingFusion(**entry) for name, entry in raw["findings"].items()}
    if set(findings) != set(FINDINGS):
        raise ValueError("a fusion covers all 14 findings")
    return ViewFusion(raw["model"], findings, raw["sample"])
