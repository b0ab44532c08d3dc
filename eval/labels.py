"""python -m eval labels DIR: the 14 findings from films alone, against the labels of an Open-i or NIH folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval import films, scores
from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from rag_service.calibration import Calibration, Tier
from rag_service.datasets.films import FilmRow
from rag_service.imaging.decode import decode
from rag_service.models.encoder import BL_TTA_SAMPLES, FilmEncoder

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Calibrated probabilities (n, 14) and mean box radius (n,) of n films, row by row with `rows`."""

    rows: tuple[FilmRow, ...]
    p: Floats
    radius: Floats


@dataclass(frozen=True, eq=False)
class Studies:
    """Films gathered by study: mean probability (m, 14), labels (m, 14) with NaN for unknown, mean radius, patients."""

    p: Floats
    labels: Floats
    radius: Floats
    patients: tuple[str, ...]


def predict(rows: Sequence[FilmRow], encoder: FilmEncoder, calibration: Calibration) -> Predictions:
    """Read every film as the service would."""
    found = [encoder.read(decode(r.path.read_bytes())) for r in tqdm(rows, desc="reading films", unit="film")]
    raw = np.stack([f.probabilities for f in found])
    return Predictions(tuple(rows), calibration.probabilities(raw), np.array([f.box.radius.mean() for f in found]))


def scorable(predictions: Predictions) -> Predictions:
    """Only the films whose source labels them."""
    kept = [i for i, r in enumerate(predictions.rows) if r.labels]
    return Predictions(tuple(predictions.rows[i] for i in kept), predictions.p[kept], predictions.radius[kept])


def by_study(predictions: Predictions) -> Studies:
    """The films of a study count once: their probabilities are averaged."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(predictions.rows):
        groups.setdefault((row.source, row.study), []).append(index)
    first = [predictions.rows[g[0]] for g in groups.values()]
    known = [[float(r.labels[f]) if f in r.labels else np.nan for f in FINDINGS] for r in first]
    return Studies(
        p=np.stack([predictions.p[g].mean(0) for g in groups.values()]),
        labels=np.array(known),
        radius=np.array([predictions.radius[g].mean() for g in groups.values()]),
        patients=tuple(f"{r.source}/{r.patient}" for r in first),
    )


def measure(predictions: Predictions, calibration: Calibration, model: str, seed: int) -> dict[str, Any]:
    """Everything `labels --json` writes; films without a label are predicted, not scored."""
    predictions = scorable(predictions)
    studies = by_study(predictions)
    every = np.arange(len(studies.p))
    flags = np.array([calibration.findings[f].flag for f in FINDINGS])
    per_label = {f: _label(studies, i, flags[i]) for i, f in enumerate(FINDINGS)}
    return {
        "macro_auroc": _macro_auroc(studies, every),
        "macro_auroc_ci": scores.interval(studies.patients, lambda rows: _macro_auroc(studies, rows), seed),
        "labels_in_macro": [f for f, v in per_label.items() if v["auroc"] is not None],
        "element_accuracy": _accuracy(studies, flags),
        "element_accuracy_at_half": _accuracy(studies, np.full(len(FINDINGS), 0.5)),
        "label_f1_macro": scores.mean_known([v["f1"] for v in per_label.values()]),
        "label_f1_micro": _micro_f1(studies, flags),
        "brier_macro": scores.mean_known([v["brier"] for v in per_label.values()]),
        "ece_macro": scores.mean_known([v["ece"] for v in per_label.values()]),
        "tiers": _tiers(studies, calibration),
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


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    low, high = result["macro_auroc_ci"] or (float("nan"), float("nan"))
    lines = [
        f"{result['n_films']} films, {result['n_studies']} studies, seed {result['seed']}",
        f"macro-AUROC {_number(result['macro_auroc'])} [{low:.3f}, {high:.3f}] over {len(result['labels_in_macro'])} labels",
        f"element accuracy {_number(result['element_accuracy'])} (at 0.5: {_number(result['element_accuracy_at_half'])})"
        f"   label-F1 macro {_number(result['label_f1_macro'])} micro {_number(result['label_f1_micro'])}",
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


def _tiers(studies: Studies, calibration: Calibration) -> dict[str, dict[str, Any]]:
    """Accuracy of what the draft would state or deny, by tier, over the findings it speaks of."""
    hits: dict[Tier, list[bool]] = {t: [] for t in Tier}
    for index, finding in enumerate(FINDINGS):
        entry = calibration.findings[finding]
        if finding == NO_FINDING or entry.reliability != "reliable":
            continue
        for label, p, radius in zip(studies.labels[:, index], studies.p[:, index], studies.radius, strict=True):
            polarity = entry.polarity(p)
            if polarity is None or np.isnan(label):
                continue
            hits[calibration.tiers.of(p, polarity, radius)].append((polarity is not Polarity.NEGATIVE) == bool(label))
    return {str(t): {"accuracy": float(np.mean(h)) if h else None, "statements": len(h)} for t, h in hits.items()}


def _relative(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
