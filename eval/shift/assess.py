"""Scores of one network under changes, paired with its scores on the same films unchanged; and of two networks, paired."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eval import scores
from eval.shift import statements
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration

Floats = NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Truth:
    """Labels (n, 14), NaN for unknown, and whom each film is of."""

    labels: Floats
    patients: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Losses:
    """Macro-AUROC lost to each change: on the films as they are, and in each bootstrap sample (None where undefined)."""

    clean: float | None
    changed: Mapping[Any, float | None]
    sampled: Mapping[Any, Sequence[float | None]]

    def loss(self, change: Hashable) -> float | None:
        """Clean minus changed."""
        return minus(self.clean, self.changed[change])


def losses(truth: Truth, clean: Floats, changed: Mapping[Name, Floats], seed: int) -> Losses:
    """Every change against the clean films, the same bootstrap samples for all."""
    stack = np.stack([clean, *changed.values()])
    sampled = [_lost(macro_aurocs(truth.labels[rows], stack[:, rows])) for rows in scores.draws(truth.patients, seed)]
    clean_now, *now = macro_aurocs(truth.labels, stack)
    return Losses(
        clean_now, dict(zip(changed, now, strict=True)), dict(zip(changed, zip(*sampled, strict=True), strict=True))
    )


def macro_aurocs(labels: Floats, stack: Floats) -> list[float | None]:
    """Macro-AUROC of each of C sets of probabilities (C, n, 14) for the same labels (n, 14): ranked together, for speed."""
    found = []
    for column, known in enumerate((~np.isnan(labels)).T):
        present = labels[known, column] == 1
        positives, pairs = int(present.sum()), int(present.sum()) * int((~present).sum())
        if pairs:
            ranks = rankdata(stack[:, known, column], axis=1)[:, present].sum(1)
            found.append((ranks - positives * (positives + 1) / 2) / pairs)
    return np.mean(found, axis=0).tolist() if found else [None] * len(stack)


def row(truth: Truth, clean: Floats, changed: Floats, calibration: Calibration) -> dict[str, Any]:
    """Label-F1 at the operating points with its drop, and what happens to the statements."""
    before, after = label_f1(truth, clean, calibration), label_f1(truth, changed, calibration)
    flips = statements.flips(statements.sides(clean, calibration), statements.sides(changed, calibration))
    return {
        "label_f1": after,
        "label_f1_drop": minus(before, after),
        "statements": statements.total(flips),
        "flips": flips,
    }


def label_f1(truth: Truth, p: Floats, calibration: Calibration) -> float | None:
    """Macro label-F1 with each finding called from its flag up."""
    return scores.macro_f1(truth.labels, p >= np.array([calibration.findings[f].flag for f in FINDINGS]))


def difference(weak: Losses, strong: Losses, change: Hashable) -> dict[str, Any]:
    """How much more the weak network loses than the strong one, with a paired interval."""
    pairs = zip(weak.sampled[change], strong.sampled[change], strict=True)
    return {
        "loss": minus(weak.loss(change), strong.loss(change)),
        "loss_ci": scores.middle([minus(w, s) for w, s in pairs]),
    }


def _lost(macros: Sequence[float | None]) -> list[float | None]:
    clean, *changed = macros
    return [minus(clean, c) for c in changed]


def minus(one: float | None, other: float | None) -> float | None:
    """Their difference; None when either is unknown."""
    return None if one is None or other is None else one - other
