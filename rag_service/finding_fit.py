"""Fits findings on films the network never saw: the calibrator, chosen among four, and the operating points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rag_service.calibration import FindingCalibration, Reliability
from rag_service.calibrators import Calibrator, Platt, choose
from rag_service.operating_points import HALF, flags, most_accurate

Floats = NDArray[np.float64]

MIN_FILMS: Final = 5
"""Films with the finding, and without it, below which nothing is chosen and nothing said."""
MIN_AUROC: Final = 0.65
DENY_MISSED_SHARE: Final = 0.10
POSSIBLE_FLOOR: Final = 0.15
"""No finding is called possible below this, however rare it is: the best F1 of a rare finding lies where nine calls of ten err."""


def fit(
    scores: Floats,
    labels: NDArray[Any],
    patients: Sequence[str],
    findings: Sequence[str],
    shipped: Mapping[str, Calibrator] | None = None,
) -> dict[str, FindingCalibration]:
    """Calibrations of k findings from raw scores (n, k), labels (n, k) and patients (n,).

    A label is 1, 0, or unknown: negative or NaN. With `shipped`, a finding keeps that calibrator unless another is better on
    patients it was not fitted to. `flag` of each finding is settled together with those of the others.
    """
    samples = [_known(scores[:, i], labels[:, i], patients) for i in range(len(findings))]
    beside = shipped or {}
    calibrators = [_calibrator(*s, beside.get(f)) for f, s in zip(findings, samples, strict=True)]
    chances = [c.p(s[0]) for c, s in zip(calibrators, samples, strict=True)]
    chosen = zip(findings, calibrators, chances, samples, flags(chances), strict=True)
    return {f: _entry(c, p, score, outcome, flag) for f, c, p, (score, outcome, _), flag in chosen}


def _known(scores: Floats, labels: NDArray[Any], patients: Sequence[str]) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Scores, outcomes and patients of the films whose label is known, by rising score."""
    known = np.flatnonzero(labels >= 0)
    rows = known[np.argsort(scores[known], kind="stable")]
    return scores[rows], labels[rows].astype(np.float64), tuple(patients[i] for i in rows)


def _calibrator(scores: Floats, outcomes: Floats, patients: Sequence[str], shipped: Calibrator | None) -> Calibrator:
    if _rarer(outcomes) < MIN_FILMS:  # a choice among four would be a choice by chance
        return shipped or Platt.fit(scores, outcomes)
    return choose(scores, outcomes, patients, shipped)


def _entry(calibrator: Calibrator, p: Floats, scores: Floats, outcomes: Floats, flag: float) -> FindingCalibration:
    positives = int(outcomes.sum())
    auroc = float(roc_auc_score(outcomes, scores)) if 0 < positives < len(outcomes) else None
    possible = max(flag, POSSIBLE_FLOOR)
    return FindingCalibration(
        calibrator=calibrator,
        state=max(HALF, possible),
        possible=possible,
        flag=flag,
        accurate=most_accurate(p, outcomes) if len(p) else HALF,
        deny=min(flag, float(np.quantile(p[outcomes == 1], DENY_MISSED_SHARE)) if positives else 0.0),
        reliability=_reliability(outcomes, auroc),
        positives=positives,
        films=len(outcomes),
        auroc=auroc,
        scores=tuple(np.round(scores, 6).tolist()),
        outcomes=tuple(int(o) for o in outcomes),
    )


def _reliability(outcomes: Floats, auroc: float | None) -> Reliability:
    if _rarer(outcomes) < MIN_FILMS or auroc is None:
        return Reliability.TOO_FEW
    return Reliability.RELIABLE if auroc >= MIN_AUROC else Reliability.TOO_WEAK


def _rarer(outcomes: Floats) -> int:
    positives = int(outcomes.sum())
    return min(positives, len(outcomes) - positives)
