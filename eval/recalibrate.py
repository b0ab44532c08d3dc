"""python -m eval recalibrate SCORES.csv: a site refits the calibration on 50 to 200 films that it labelled itself.

What is shown as after is cross-fitted: each film is judged by a calibration fitted to other patients. What is written is fitted
to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import drift, scores
from eval.scores import shown
from eval.site_scores import SiteScores
from knowledge_base.findings import FINDINGS
from rag_service import site
from rag_service.calibration import Calibration, FindingCalibration
from rag_service.calibrators import FOLDS, folds
from rag_service.datasets.films import DatasetError
from rag_service.finding_fit import fit
from rag_service.operating_points import Target, roc
from rag_service.site import SiteCalibration

Floats = NDArray[np.float64]

MIN_PATIENTS: Final = 5
"""Patients with a finding, and without it, below which it stays as shipped."""
COLUMNS: Final = ("brier", "ece", "auroc", "sensitivity", "specificity")


@dataclass(frozen=True, eq=False)
class _Column:
    """One finding at the site: scores, outcomes and patients of its labelled films."""

    scores: Floats
    outcomes: Floats
    patients: tuple[str, ...]


def refit(own: SiteScores, shipped: Calibration, target: Target | None) -> SiteCalibration:
    """The site's calibration. DatasetError when no finding has enough labelled patients of either kind."""
    kept = {f: reason for i, f in enumerate(FINDINGS) if (reason := _too_few(_column(own, i)))}
    fitted = [f for f in FINDINGS if f not in kept]
    if not fitted:
        raise DatasetError(
            f"no finding has {MIN_PATIENTS} patients with it and {MIN_PATIENTS} without it: nothing to refit"
        )
    indices = [FINDINGS.index(f) for f in fitted]
    calibrators = {f: shipped.findings[f].calibrator for f in fitted}
    entries = fit(own.scores[:, indices], own.labels[:, indices], own.patients, fitted, calibrators)
    curves = {}
    for index, finding in zip(indices, fitted, strict=True):
        column = _column(own, index)
        p = entries[finding].calibrator.p(column.scores)
        curves[finding] = roc(p, column.outcomes)
        if target is not None:
            entries[finding] = operated(entries[finding], target.threshold(p, column.outcomes))
    return SiteCalibration(shipped.model, len(own), own.digest, _wish(target), entries, kept, curves)


def operated(entry: FindingCalibration, threshold: float) -> FindingCalibration:
    """The entry with its operating points at a chosen threshold: called from there up, denied at most up to there."""
    state, deny = max(entry.state, threshold), min(entry.deny, threshold)
    return replace(entry, flag=threshold, possible=threshold, state=state, deny=deny)


def measure(own: SiteScores, shipped: Calibration, target: Target | None, fitted: SiteCalibration) -> dict[str, Any]:
    """Before and after, per refitted finding, on films that the calibration judging them was not fitted to; and the drift."""
    findings = {f: _compared(_column(own, FINDINGS.index(f)), f, shipped.findings[f], target) for f in fitted.findings}
    for name, entry in fitted.findings.items():
        findings[name]["calibrator"] = entry.calibrator.kind
        findings[name]["changed"] = entry.calibrator != shipped.findings[name].calibrator
        findings[name]["roc"] = [[p.threshold, p.sensitivity, p.specificity] for p in fitted.roc[name]]
    sides = {side: {c: scores.mean_known([v[side][c] for v in findings.values()]) for c in COLUMNS} for side in _SIDES}
    return {
        "macro": sides,
        "findings": findings,
        "kept": dict(fitted.kept),
        "drift": drift.measure(own, shipped),
        "n_films": len(own),
        "n_patients": len(set(own.patients)),
        "signature": {
            "scores": own.digest,
            "model": shipped.model,
            "thresholds": shipped.digest,
            "target": fitted.target,
            "folds": FOLDS,
        },
    }


_SIDES: Final = ("before", "after")


def write(fitted: SiteCalibration, folder: Path) -> Path:
    """The file written, for RAG_SITE_CALIBRATION."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / site.FILE
    fitted.save(path)
    return path


def table(result: dict[str, Any], written: Path) -> str:
    """The result for a reader."""
    lines = [
        f"{result['n_films']} films of {result['n_patients']} patients; operating points: {result['signature']['target']}",
        f"before is as shipped, after is cross-fitted over {FOLDS} folds of patients",
        f"{'finding':28s} {'':6s} {'Brier':>6s} {'ECE':>6s} {'AUROC':>6s} {'sens':>6s} {'spec':>6s} {'pos':>4s} {'n':>4s}",
    ]
    for name, v in [*result["findings"].items(), ("mean of these", result["macro"])]:
        for side in _SIDES:
            figures = " ".join(f"{shown(v[side][c]):>6s}" for c in COLUMNS)
            counts = f" {v['positives']:4d} {v['films']:4d}" if "films" in v else ""
            kind = f"  {v['calibrator']}" if side == "after" and "calibrator" in v else ""
            lines.append(f"{name if side == 'before' else '':28s} {side:6s} {figures}{counts}{kind}")
    lines += [f"{name:28s} as shipped: {reason}" for name, reason in result["kept"].items()]
    return "\n".join([*lines, drift.table(result["drift"]), f"written to {written}: set RAG_SITE_CALIBRATION to it"])


def _compared(column: _Column, finding: str, shipped: FindingCalibration, target: Target | None) -> dict[str, Any]:
    before = shipped.calibrator.p(column.scores)
    after, called = _cross_fitted(column, finding, shipped, target)
    return {
        "before": _figures(column.outcomes, before, before >= shipped.flag),
        "after": _figures(column.outcomes, after, called),
        "positives": int(column.outcomes.sum()),
        "films": len(column.outcomes),
    }


def _cross_fitted(
    column: _Column, finding: str, shipped: FindingCalibration, target: Target | None
) -> tuple[Floats, NDArray[np.bool_]]:
    """Probability (n,) of each film, and whether it is called, by a calibration fitted to the patients of the other folds."""
    p, called = np.empty(len(column.scores)), np.empty(len(column.scores), bool)
    fold = folds(column.patients, column.outcomes)
    for part in np.unique(fold):
        inside, others = fold == part, np.flatnonzero(fold != part)
        patients = [column.patients[i] for i in others]
        score, outcome = column.scores[others], column.outcomes[others]
        beside = {finding: shipped.calibrator}
        entry = fit(score[:, None], outcome[:, None], patients, (finding,), beside)[finding]
        p[inside] = entry.calibrator.p(column.scores[inside])
        flag = target.threshold(entry.calibrator.p(score), outcome) if target else entry.flag
        called[inside] = p[inside] >= flag
    return p, called


def _figures(outcomes: Floats, p: Floats, called: NDArray[np.bool_]) -> dict[str, float | None]:
    return {
        "brier": scores.brier(outcomes, p),
        "ece": scores.ece(outcomes, p),
        "auroc": scores.auroc(outcomes, p),
        "sensitivity": float(called[outcomes == 1].mean()),
        "specificity": float((~called[outcomes == 0]).mean()),
    }


def _column(own: SiteScores, index: int) -> _Column:
    known = np.flatnonzero(~np.isnan(own.labels[:, index]))
    return _Column(own.scores[known, index], own.labels[known, index], tuple(own.patients[i] for i in known))


def _too_few(column: _Column) -> str | None:
    """Why a finding stays as shipped; None when it need not."""
    counts: Mapping[str, int] = {
        kind: len({p for p, o in zip(column.patients, column.outcomes, strict=True) if o == outcome})
        for kind, outcome in (("with", 1.0), ("without", 0.0))
    }
    if min(counts.values()) >= MIN_PATIENTS:
        return None
    return f"{counts['with']} patients with it and {counts['without']} without, {MIN_PATIENTS} of each are needed"


def _wish(target: Target | None) -> str:
    if target is None:
        return "best expected F1"
    wished = target.sensitivity
    return f"sensitivity {wished:g}" if wished is not None else f"specificity {target.specificity:g}"
