"""python -m eval projection DIR: does the network tell an AP film from a PA one? On films whose source says which it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from eval import films, scores
from eval.readings import Readings
from rag_service.datasets.films import DatasetError, FilmRow

AP: Final = frozenset({"AP", "AP Supine"})
PA: Final = "PA"


def told(rows: Sequence[FilmRow]) -> list[int]:
    """Which of the films are known to be PA or AP."""
    return [i for i, r in enumerate(rows) if r.view in AP or r.view == PA]


def measure(rows: Sequence[FilmRow], read: Readings, model: str, seed: int) -> dict[str, Any]:
    """AUROC with its interval over patients, accuracy at one half, and the counts. DatasetError when no film says which it is."""
    known = told(rows)
    if not known or np.isnan(read.ap[known]).any():
        raise DatasetError("no film says whether it is PA or AP, or the model does not")
    truth = np.array([float(rows[i].view in AP) for i in known])
    p = read.ap[known]
    called = p >= 0.5
    patients = [f"{rows[i].source}/{rows[i].patient}" for i in known]
    return {
        "auroc": scores.auroc(truth, p),
        "auroc_ci": scores.interval(patients, lambda drawn: scores.auroc(truth[drawn], p[drawn]), seed),
        "accuracy": float((called == (truth == 1)).mean()),
        "counts": {
            f"{name}_as_{as_}": int((called[truth == t] == c).sum())
            for name, t in (("ap", 1), ("pa", 0))
            for as_, c in (("ap", True), ("pa", False))
        },
        "n": len(known),
        "seed": seed,
        "signature": {"films": films.signature([rows[i] for i in known]), "model": model},
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    low, high = result["auroc_ci"] or (float("nan"), float("nan"))
    area = "-" if result["auroc"] is None else f"{result['auroc']:.3f}"
    counts = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in result["counts"].items())
    return f"PA against AP: AUROC {area} [{low:.3f}, {high:.3f}], accuracy {result['accuracy']:.3f} of {result['n']} ({counts})"
