"""Re-ranking: what a query and a case share, as a few numbers, weighed by a small linear model that was fitted to graded relevance.

Each feature compares one thing; what the query or the case lacks is absent (NaN) and moves the score neither way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, PATHOLOGIES, Polarity
from knowledge_base.records import SQRT3, RecordError, digest

FEATURES: Final = ("agreement", "likelihood", "box_overlap", "box_volume", "w2", "text", "region", "fused")
"""Columns of a feature array, in order.

agreement: overlap of the film's findings and the case's, sum of p over the case's / expected size of the union, where what the
case suspects counts half;
likelihood: mean log-likelihood of what the case affirms and denies, under the film's probabilities;
box_overlap, box_volume: mean over axes of interval intersection over union, and of its logarithm;
w2: 2-Wasserstein distance of the boxes; text, region: cosines of the text vectors and of the region vectors of one zone;
fused: the score of the rank fusion.
"""
LEAST_SHARE: Final = 1e-3
"""Intervals that share less count as sharing this much, so that one axis cannot make the log-volume infinite."""
LEAST_CHANCE: Final = 1e-3
"""No probability is taken for surer than this."""
DECIMALS: Final = 9
"""Scores are rounded to this, so that cases alike in all features are equal however the sum was computed."""
_NO_FINDING: Final = FINDINGS.index(NO_FINDING)
_PATHOLOGIES: Final = [FINDINGS.index(f) for f in PATHOLOGIES]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Asked:
    """What the query brings: `box` (2d,) as stored, `text` (t,) and `region` (R,) unit vectors, `chances` (14,) calibrated
    probabilities in the order of FINDINGS, NaN where unknown. None where it brings none.
    """

    box: NDArray[np.floating] | None = None
    text: NDArray[np.floating] | None = None
    region: NDArray[np.floating] | None = None
    chances: NDArray[np.floating] | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """n cases to compare: `boxes` (n, 2d), `texts` (n, t), `regions` (n, R) of the zone asked for, each with rows of NaN where
    a case has none, or None when not compared; `stated` (n, 14) as `stated_findings` gives it; `fused` (n,) fusion scores.
    """

    stated: Floats
    fused: Floats
    boxes: NDArray[np.floating] | None = None
    texts: NDArray[np.floating] | None = None
    regions: NDArray[np.floating] | None = None


def stated_findings(payloads: Sequence[Mapping[str, Any]]) -> Floats:
    """(n, 14) what stored cases state: 1 affirmed, 0.5 uncertain, 0 denied, NaN unsaid.

    A case that neither affirms nor suspects a pathology affirms No Finding, whether it says so or not.
    """
    found = np.full((len(payloads), len(FINDINGS)), np.nan)
    columns = {f: i for i, f in enumerate(FINDINGS)}
    for row, payload in zip(found, payloads, strict=True):
        for value, polarity in ((0.0, Polarity.NEGATIVE), (0.5, Polarity.UNCERTAIN), (1.0, Polarity.POSITIVE)):
            row[[columns[f] for f in payload.get(f"labels_{polarity}", ()) if f in columns]] = value
    found[:, _NO_FINDING] = ~(found[:, _PATHOLOGIES] > 0).any(1)
    return found


def features(asked: Asked, cases: Candidates) -> Floats:
    """(n, len(FEATURES)), NaN where a feature is absent."""
    found = np.full((len(cases.stated), len(FEATURES)), np.nan)
    if asked.chances is not None:
        found[:, 0:2] = _findings(np.asarray(asked.chances, np.float64), cases.stated)
    if asked.box is not None and cases.boxes is not None:
        found[:, 2:5] = _boxes(np.asarray(asked.box, np.float64), np.asarray(cases.boxes, np.float64))
    for column, vector, others in ((5, asked.text, cases.texts), (6, asked.region, cases.regions)):
        if vector is not None and others is not None:
            found[:, column] = others @ vector
    found[:, 7] = cases.fused
    return found


@dataclass(frozen=True, eq=False)
class Reranker:
    """A linear model over FEATURES: `mean`, `scale` (> 0) and `weight`, each (len(FEATURES),)."""

    mean: Floats
    scale: Floats
    weight: Floats

    def __post_init__(self) -> None:
        for part in (self.mean, self.scale, self.weight):
            if part.shape != (len(FEATURES),) or not np.isfinite(part).all():
                raise RecordError(f"a re-ranker has {len(FEATURES)} finite means, scales and weights")
        if not (self.scale > 0).all():
            raise RecordError("the scales of a re-ranker are positive")

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the model: the `reranker` of a draft's provenance."""
        return digest([self.mean.tolist(), self.scale.tolist(), self.weight.tolist()])

    def scores(self, found: Floats) -> Floats:
        """(n,) of features (n, len(FEATURES)): higher is more relevant; an absent feature counts as an average one."""
        standard = np.nan_to_num((found - self.mean) / self.scale, nan=0.0)
        return np.round(standard @ self.weight, DECIMALS)


def _findings(chances: Floats, stated: Floats) -> Floats:
    """(n, 2): agreement and likelihood; findings whose chance is unknown are not compared."""
    known = ~np.isnan(chances)
    p, said = np.clip(chances[known], LEAST_CHANCE, 1 - LEAST_CHANCE), stated[:, known]
    borne = np.nan_to_num(said, nan=0.0)
    shared = borne @ p
    union = p.sum() + borne.sum(1) - shared
    affirmed, denied = said == 1.0, said == 0.0
    heard = affirmed.sum(1) + denied.sum(1)
    likely = affirmed @ np.log(p) + denied @ np.log1p(-p)
    return np.stack([shared / union, likely / np.where(heard > 0, heard, np.nan)], 1)


def _boxes(asked: Floats, boxes: Floats) -> Floats:
    """(n, 3): mean interval overlap, mean log overlap, W2."""
    half = len(asked) // 2
    centre, radius = asked[:half], asked[half:] * SQRT3
    centres, radii = boxes[:, :half], boxes[:, half:] * SQRT3
    shared = np.minimum(centre + radius, centres + radii) - np.maximum(centre - radius, centres - radii)
    shared = np.clip(shared, 0.0, None)
    share = shared / (2.0 * (radius + radii) - shared)
    logs = np.log(np.maximum(share, LEAST_SHARE)).mean(1)
    return np.stack([share.mean(1), logs, np.linalg.norm(boxes - asked, axis=1)], 1)
