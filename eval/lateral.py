"""python -m eval lateral DIR: what a lateral adds to its frontal, and how well the two views are told apart.

On Open-i studies that have both, each method by the same studies, gains with paired intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, scores
from eval.paired import difference
from eval.readings import Readings, labels
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.models.network import PRESENTATIONS
from rag_service.views import ViewFusion, logit

METHODS: Final = ("frontal", "lateral", "fused", "mean_logit")
"""The frontal alone, the lateral alone, what the service does, and the plain mean of the logits as a control."""
METRICS: Final = ("macro_auroc", "label_f1_macro", "brier_macro")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Studies:
    """The first frontal and the first lateral of each labelled study that has both, row by row."""

    frontals: tuple[FilmRow, ...]
    laterals: tuple[FilmRow, ...]


@dataclass(frozen=True, eq=False)
class Views:
    """Calibrated probabilities (n, 14) of each method, labels (n, 14) with NaN for unknown, flags (14,) and patients (n,)."""

    p: Mapping[str, Floats]
    labels: Floats
    flags: Floats
    patients: tuple[str, ...]

    def score(self, method: str, metric: str, rows: NDArray[np.int64]) -> float | None:
        """A metric of a method over some studies."""
        truth, p = self.labels[rows], self.p[method][rows]
        if metric == "macro_auroc":
            return scores.macro_auroc(truth, p)
        if metric == "label_f1_macro":
            return scores.macro_f1(truth, p >= self.flags)
        return scores.macro(scores.brier, truth, p)


def studies(folder: Path, split: Split | None) -> Studies:
    """The studies of an Open-i folder. DatasetError when none has both views."""
    first: dict[str, dict[str, FilmRow]] = {}
    for row in openi.films(folder):
        if row.labels and row.presentation in {"frontal", "lateral"} and (split is None or row.split is split):
            first.setdefault(row.study, {}).setdefault(row.presentation, row)
    both = [views for views in first.values() if len(views) == 2]
    if not both:
        raise DatasetError(f"{folder.name}/ holds no labelled study with a frontal and a lateral film")
    return Studies(tuple(v["frontal"] for v in both), tuple(v["lateral"] for v in both))


def measure(
    found: Studies,
    frontal: Readings,
    lateral: Readings,
    fusion: ViewFusion,
    calibration: Calibration,
    seed: int,
) -> dict[str, Any]:
    """Each method's figures, their gains over the frontal with paired intervals, each finding, and the view classifier's.

    Of one study each, `frontal` and `lateral` are row by row with `found`. Scores of every method go through the calibration.
    """
    views = _views(found, frontal.scores, lateral.scores, fusion, calibration)
    every = np.arange(len(views.patients))
    return {
        "methods": {m: {k: views.score(m, k, every) for k in METRICS} for m in METHODS},
        "gain_over_frontal": {m: {k: _gain(views, m, k, seed) for k in METRICS} for m in METHODS if m != "frontal"},
        "per_finding": {f: _finding(views, i, fusion) for i, f in enumerate(FINDINGS)},
        "view_classifier": told_apart({"frontal": frontal.presentation, "lateral": lateral.presentation}),
        "n_studies": len(views.patients),
        "seed": seed,
        "signature": {
            "films": films.signature([*found.frontals, *found.laterals]),
            "model": fusion.model,
            "thresholds": calibration.digest,
            "view_fusion": fusion.digest,
            "fitted_to": fusion.sample,
            "bootstrap": scores.RESAMPLES,
        },
    }


def told_apart(presentation: Mapping[str, Floats]) -> dict[str, Any]:
    """The view classifier: true view -> softmax (n, 5) of its films -> accuracy, and what each view was taken for, in counts."""
    taken = {view: [PRESENTATIONS[i] for i in found.argmax(1)] for view, found in presentation.items()}
    right = sum(kinds.count(view) for view, kinds in taken.items())
    total = sum(map(len, taken.values()))
    return {
        "accuracy": right / total,
        "n": total,
        "confusion": {view: {kind: kinds.count(kind) for kind in PRESENTATIONS} for view, kinds in taken.items()},
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['n_studies']} studies with both views, seed {result['seed']}"]
    lines.append(f"{'':12s}{'AUROC':>7s}{'F1':>7s}{'Brier':>8s}   gain in AUROC over the frontal")
    for method, v in result["methods"].items():
        numbers = f"{scores.shown(v['macro_auroc']):>7s}{scores.shown(v['label_f1_macro']):>7s}"
        gain = result["gain_over_frontal"].get(method, {}).get("macro_auroc")
        lines.append(f"{method:12s}{numbers}{scores.shown(v['brier_macro'], 4):>8s}   {_shown(gain)}".rstrip())
    lines.append(f"{'finding':28s}" + "".join(f"{m:>11s}" for m in METHODS) + "   w frontal  w lateral   pos     n")
    for finding, v in result["per_finding"].items():
        areas = "".join(f"{scores.shown(v['auroc'][m]):>11s}" for m in METHODS)
        weights = f"{v['weights']['frontal']:12.2f}{v['weights']['lateral']:11.2f}"
        lines.append(f"{finding:28s}{areas}{weights}{v['positives']:6d}{v['studies']:6d}")
    told = result["view_classifier"]
    lines.append(f"views told apart: {told['accuracy']:.4f} of {told['n']} films")
    for view, taken in told["confusion"].items():
        lines.append(f"  {view:8s} taken for " + ", ".join(f"{kind} {n}" for kind, n in taken.items() if n))
    return "\n".join(lines)


def _views(found: Studies, frontal: Floats, lateral: Floats, fusion: ViewFusion, calibration: Calibration) -> Views:
    mean = 1.0 / (1.0 + np.exp(-(logit(frontal) + logit(lateral)) / 2))
    raw = (frontal, lateral, fusion.scores(frontal, lateral), mean)
    return Views(
        p={m: calibration.probabilities(s) for m, s in zip(METHODS, raw, strict=True)},
        labels=labels(found.frontals),
        flags=np.array([calibration.findings[f].flag for f in FINDINGS]),
        patients=tuple(f"{r.source}/{r.patient}" for r in found.frontals),
    )


def _gain(views: Views, method: str, metric: str, seed: int) -> dict[str, Any]:
    return difference(
        views.patients,
        lambda rows: views.score(method, metric, rows),
        lambda rows: views.score("frontal", metric, rows),
        seed,
    )


def _finding(views: Views, index: int, fusion: ViewFusion) -> dict[str, Any]:
    known = ~np.isnan(views.labels[:, index])
    truth = views.labels[known, index]
    entry = fusion.findings[FINDINGS[index]]
    return {
        "auroc": {m: scores.auroc(truth, views.p[m][known, index]) for m in METHODS},
        "weights": {"frontal": entry.frontal, "lateral": entry.lateral, "offset": entry.offset},
        "positives": int(truth.sum()),
        "studies": len(truth),
    }


def _shown(gain: Mapping[str, Any] | None) -> str:
    if gain is None or gain["difference"] is None or gain["ci"] is None:
        return ""
    return f"{gain['difference']:+.4f} [{gain['ci'][0]:+.4f}, {gain['ci'][1]:+.4f}]"
