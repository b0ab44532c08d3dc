"""python -m eval labels DIR: the 14 findings from films alone, against the labels of an Open-i or NIH folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, readings, scores, tiers
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow
from rag_service.models.encoder import BL_TTA_SAMPLES, FilmEncoder

Floats = NDArray[np.float64]

_FIGURES: Final = ("p", "raw", "spread", "radius")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of n films, row by row with `rows`: calibrated probabilities, raw scores and their BL-TTA deviation (n, 14), mean box
    radius (n,)."""

    rows: tuple[FilmRow, ...]
    p: Floats
    raw: Floats
    spread: Floats
    radius: Floats


@dataclass(frozen=True, eq=False)
class Studies:
    """Films gathered by study: labels (m, 14) with NaN for unknown, the means of what was predicted, patients."""

    labels: Floats
    p: Floats
    raw: Floats
    spread: Floats
    radius: Floats
    patients: tuple[str, ...]


def predict(rows: Sequence[FilmRow], encoder: FilmEncoder, calibration: Calibration) -> Predictions:
    """Read every film as the service would."""
    found = readings.read(rows, encoder)
    p = calibration.probabilities(found.scores)
    return Predictions(tuple(rows), p, found.scores, found.spread, found.radius.mean(1))


def scorable(predictions: Predictions) -> Predictions:
    """Only the films whose source labels them."""
    kept = [i for i, r in enumerate(predictions.rows) if r.labels]
    figures = (getattr(predictions, name)[kept] for name in _FIGURES)
    return Predictions(tuple(predictions.rows[i] for i in kept), *figures)


def by_study(predictions: Predictions) -> Studies:
    """The films of a study count once: what was predicted of them is averaged."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(predictions.rows):
        groups.setdefault((row.source, row.study), []).append(index)
    first = [predictions.rows[g[0]] for g in groups.values()]
    known = [[float(r.labels[f]) if f in r.labels else np.nan for f in FINDINGS] for r in first]
    averaged = {n: np.stack([getattr(predictions, n)[g].mean(0) for g in groups.values()]) for n in _FIGURES}
    return Studies(
        labels=np.array(known),
        **averaged,
        patients=tuple(f"{r.source}/{r.patient}" for r in first),
    )


def measure(predictions: Predictions, calibration: Calibration, model: str, seed: int) -> dict[str, Any]:
    """Everything `labels --json` writes; films without a label are predicted, not scored."""
    predictions = scorable(predictions)
    studies = by_study(predictions)
    every = np.arange(len(studies.p))
    flags, accurate = (np.array([getattr(calibration.findings[f], n) for f in FINDINGS]) for n in ("flag", "accurate"))
    per_label = {f: _label(studies, i, flags[i]) for i, f in enumerate(FINDINGS)}
    return {
        "macro_auroc": _macro_auroc(studies, every),
        "macro_auroc_ci": scores.interval(studies.patients, lambda rows: _macro_auroc(studies, rows), seed),
        "labels_in_macro": [f for f, v in per_label.items() if v["auroc"] is not None],
        "element_accuracy": _accuracy(studies, accurate),
        "element_accuracy_at_flag": _accuracy(studies, flags),
        "element_accuracy_at_half": _accuracy(studies, np.full(len(FINDINGS), 0.5)),
        "label_f1_macro": scores.mean_known([v["f1"] for v in per_label.values()]),
        "label_f1_micro": _micro_f1(studies, flags),
        "brier_macro": scores.mean_known([v["brier"] for v in per_label.values()]),
        "ece_macro": scores.mean_known([v["ece"] for v in per_label.values()]),
        "tiers": tiers.measure(studies.labels, studies.p, studies.raw, studies.spread, studies.radius, calibration),
        "per_label": per_label,
        "n_films": len(predictions.rows),
        "n_studies": len(studies.p),
        "seed": seed,
        "signature": {
            "films": films.signature(list(predictions.rows)),
            "model": model,
            "thresholds": calibration.digest,
            "bl_tta": BL_TTA_SAMPLES,
            "bootstrap": scores.RESAMPLES,
            "ece": f"equal mass, {scores.ECE_BINS} bins",
        },
    }


def write_predictions(predictions: Predictions, path: Path) -> None:
    """CSV: file, one column a label, in CheXpert order."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *FINDINGS])
        for row, p in zip(predictions.rows, predictions.p, strict=True):
            writer.writerow([_relative(row.path), *(f"{v:.6f}" for v in p)])


def write_raw_scores(predictions: Predictions, model: str, path: Path) -> None:
    """CSV for `recalibrate` and `drift`: file, patient, model, one column a raw score, one `label:` column a label or empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient", "model", *FINDINGS, *(f"label:{f}" for f in FINDINGS)])
        for row, raw in zip(predictions.rows, predictions.raw, strict=True):
            known = (str(int(row.labels[f])) if f in row.labels else "" for f in FINDINGS)
            writer.writerow([_relative(row.path), row.patient, model, *(f"{v:.6f}" for v in raw), *known])


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    low, high = result["macro_auroc_ci"] or (float("nan"), float("nan"))
    lines = [
        f"{result['n_films']} films, {result['n_studies']} studies, seed {result['seed']}",
        f"macro-AUROC {_number(result['macro_auroc'])} [{low:.3f}, {high:.3f}] over {len(result['labels_in_macro'])} labels",
        f"element accuracy {_number(result['element_accuracy'])} (at 0.5: {_number(result['element_accuracy_at_half'])},"
        f" at the flags of F1: {_number(result['element_accuracy_at_flag'])})",
        f"label-F1 macro {_number(result['label_f1_macro'])} micro {_number(result['label_f1_micro'])}",
        f"Brier macro {_number(result['brier_macro'])}   ECE macro {_number(result['ece_macro'])}",
        f"{'finding':28s} {'AUROC':>6s} {'F1':>6s} {'Brier':>6s} {'ECE':>6s} {'pos':>5s} {'n':>6s}",
    ]
    for name, v in result["per_label"].items():
        numbers = " ".join(f"{_number(v[k]):>6s}" for k in ("auroc", "f1", "brier", "ece"))
        lines.append(f"{name:28s} {numbers} {v['positives']:5d} {v['studies']:6d}")
    for tier, v in result["tiers"].items():
        lines.append(f"tier {tier:7s} accuracy {_number(v['accuracy'])} of {v['statements']} statements")
    return "\n".join(lines)


def _label(studies: Studies, index: int, flag: float) -> dict[str, Any]:
    known = ~np.isnan(studies.labels[:, index])
    labels, p = studies.labels[known, index], studies.p[known, index]
    if not len(labels):
        return dict.fromkeys(("auroc", "f1", "brier", "ece")) | {"positives": 0, "studies": 0, "flag": flag}
    return {
        "auroc": scores.auroc(labels, p),
        "f1": scores.f1(labels, (p >= flag).astype(float)),
        "brier": scores.brier(labels, p),
        "ece": scores.ece(labels, p),
        "positives": int(labels.sum()),
        "studies": len(labels),
        "flag": flag,
    }


def _macro_auroc(studies: Studies, rows: NDArray[np.int64]) -> float | None:
    found = []
    for index in range(len(FINDINGS)):
        labels, p = studies.labels[rows, index], studies.p[rows, index]
        known = ~np.isnan(labels)
        found.append(scores.auroc(labels[known], p[known]))
    return scores.mean_known(found)


def _accuracy(studies: Studies, thresholds: Floats) -> float:
    known = ~np.isnan(studies.labels)
    return float(((studies.p >= thresholds) == (studies.labels == 1))[known].mean())


def _micro_f1(studies: Studies, flags: Floats) -> float | None:
    known = ~np.isnan(studies.labels)
    return scores.f1(studies.labels[known], (studies.p >= flags)[known].astype(float))


def _relative(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
