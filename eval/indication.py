"""python -m eval indication DIR: what the indication adds to the film. Open-i studies, the same films with and without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, scores
from eval.paired import difference
from eval.readings import Readings, labels
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.reader import Reader
from rag_service.views import logit

METHODS: Final = ("film", "told")
ROUNDING: Final = 1e-9
METRICS: Final = ("macro_auroc", "label_f1_macro", "label_f1_micro", "brier_macro")

Floats = NDArray[np.float64]


def told(rows: list[FilmRow], folder: Path, reader: Reader, read: Readings) -> Floats:
    """Raw scores (n, 14) after the indication of each study. DatasetError where the reports are no Open-i ones."""
    if reader.indication is None:
        raise DatasetError("the model folder has no indication.json")
    reports = openi.reports(openi.archive_of(folder))
    shifts = np.stack(
        [reader.indication.shift(reports[r.study].indication if r.study in reports else "") for r in rows]
    )
    return np.asarray(1 / (1 + np.exp(-(logit(read.scores) + shifts))))


def measure(rows: list[FilmRow], reader: Reader, read: Readings, moved: Floats, seed: int) -> dict[str, Any]:
    """Both methods' figures, and the gain with a paired interval over patients."""
    calibration, truth = reader.calibration, labels(rows)
    p = {"film": calibration.probabilities(read.scores), "told": calibration.probabilities(moved)}
    flags = np.array([entry.flag for entry in calibration.findings.values()])
    patients = [r.patient for r in rows]
    every = np.arange(len(rows))
    return {
        "films": len(rows),
        "with_known_words": int((np.abs(moved - read.scores) > ROUNDING).any(1).sum()),
        "methods": {m: {k: _score(k, truth, p[m], flags, every) for k in METRICS} for m in METHODS},
        "gain": {k: _gain(k, truth, p, flags, patients, seed) for k in METRICS},
        "seed": seed,
        "signature": {"films": films.signature(rows), "model": reader.encoder.record.id},
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{result['films']} films, {result['with_known_words']} with an indication of known words, seed {result['seed']}"
    ]
    lines.append(f"{'':18s}{'film':>8s} {'told':>8s}  gain")
    for name in METRICS:
        alone, moved = (result["methods"][m][name] for m in METHODS)
        gain = result["gain"][name]
        low, high = gain["ci"] or (float("nan"), float("nan"))
        shown = f"{gain['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        lines.append(f"{name:18s}{scores.shown(alone):>8s} {scores.shown(moved):>8s}  {shown}")
    return "\n".join(lines)


def _score(metric: str, truth: Floats, p: Floats, flags: Floats, rows: NDArray[np.int64]) -> float | None:
    known, chances = truth[rows], p[rows]
    if metric == "macro_auroc":
        return scores.macro_auroc(known, chances)
    if metric == "brier_macro":
        return scores.macro(scores.brier, known, chances)
    called = chances >= flags
    if metric == "label_f1_macro":
        return scores.macro_f1(known, called)
    counted = ~np.isnan(known)
    return scores.f1(known[counted], called[counted].astype(np.float64))


def _gain(
    metric: str, truth: Floats, p: Mapping[str, Floats], flags: Floats, patients: list[str], seed: int
) -> dict[str, Any]:
    return difference(
        patients,
        lambda rows: _score(metric, truth, p["told"], flags, rows),
        lambda rows: _score(metric, truth, p["film"], flags, rows),
        seed,
    )
