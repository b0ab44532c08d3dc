"""What mask tokens add: linear probes of the 14 findings, from the film network's pooled features alone and with the tokens beside.

A third probe has tokens of the same masks on every film, so that masks are told from a mere wider input. Each probe is ridge
regression on standardised features of training films; its penalty is the best on calibration films, where its operating points
(best F1) are chosen too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import paired, scores
from eval.anatomy.looks import Labelled, Looks
from eval.significance import over_studies
from rag_service.datasets.films import Split

PENALTIES: Final = (300.0, 1000.0, 3000.0, 10000.0, 30000.0)
_TINY: Final = 1e-9
_FEATURES: Final[dict[str, Callable[[Looks], NDArray[np.float64]]]] = {
    "without": lambda looks: looks.pooled,
    "with": lambda looks: np.hstack([looks.pooled, looks.own]),
    "fixed_masks": lambda looks: np.hstack([looks.pooled, looks.fixed]),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Probed:
    """One probe's answers on the films that are measured: scores (n, 14), and which are called (n, 14)."""

    scores: Floats
    called: NDArray[np.bool_]
    penalty: float


def measure(films: Labelled, split: Split, seed: int) -> dict[str, Any] | None:
    """Macro-AUROC and macro-F1 of the three probes on a split, and the paired differences; None without films of every split."""
    train, calibration, test = (films.of(s) for s in (Split.TRAIN, Split.CALIBRATION, split))
    if not (len(train.rows) and len(calibration.rows) and len(test.rows)):
        return None
    found = {name: _probed(train, calibration, test, features) for name, features in _FEATURES.items()}
    return {
        "films": {s.value: len(part.rows) for s, part in zip(Split, (train, calibration, test), strict=True)},
        **{name: _scored(test, probed, seed) for name, probed in found.items()},
        "with_less_without": _compared(test, found["with"], found["without"], seed),
        "with_less_fixed_masks": _compared(test, found["with"], found["fixed_masks"], seed),
    }


def _probed(train: Labelled, calibration: Labelled, test: Labelled, features: Callable[[Looks], Floats]) -> Probed:
    known, held, asked = (features(part.looks) for part in (train, calibration, test))
    mean, spread = known.mean(0), known.std(0) + _TINY
    answers = dict(zip(PENALTIES, _ridge((known - mean) / spread, train.labels), strict=True))
    on_held = {p: (held - mean) / spread @ w for p, w in answers.items()}
    best = max(PENALTIES, key=lambda p: scores.macro_auroc(calibration.labels, on_held[p]) or 0.0)
    found = (asked - mean) / spread @ answers[best]
    cuts = [_cut(calibration.labels[:, i], on_held[best][:, i]) for i in range(found.shape[1])]
    return Probed(found, found >= np.array(cuts), best)


def _ridge(features: Floats, labels: Floats) -> list[Floats]:
    """Weights (D, 14) by penalty; a label that is not known is taken to be the mean of those that are."""
    rate = np.array([c[~np.isnan(c)].mean() if (~np.isnan(c)).any() else 0.0 for c in labels.T])
    values, vectors = np.linalg.eigh(features.T @ features)
    turned = vectors.T @ (features.T @ np.nan_to_num(labels - rate))
    return [vectors @ (turned / (values + p)[:, None]) for p in PENALTIES]


def _cut(labels: Floats, p: Floats) -> float:
    """The threshold of best F1; above every score where nothing is known or positive."""
    known = ~np.isnan(labels)
    labels, p = labels[known], p[known]
    if not labels.sum():
        return float("inf")
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(labels[order])
    return float(p[order][int((2 * hits / (np.arange(1, len(p) + 1) + labels.sum())).argmax())])


def _scored(test: Labelled, probed: Probed, seed: int) -> dict[str, Any]:
    labels = test.labels
    return {
        "auroc": scores.macro_auroc(labels, probed.scores),
        "auroc_ci": scores.interval(
            test.patients, lambda rows: scores.macro_auroc(labels[rows], probed.scores[rows]), seed
        ),
        "f1": scores.macro_f1(labels, probed.called),
        "penalty": probed.penalty,
    }


def _compared(test: Labelled, one: Probed, other: Probed, seed: int) -> dict[str, Any]:
    labels = test.labels
    return {
        "auroc": over_studies(labels, one.scores, other.scores, test.patients, seed),
        "f1": paired.difference(
            test.patients,
            lambda rows: scores.macro_f1(labels[rows], one.called[rows]),
            lambda rows: scores.macro_f1(labels[rows], other.called[rows]),
            seed,
        ),
    }
