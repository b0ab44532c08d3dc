"""Scores of probabilities against labels, and bootstrap intervals over patients. Absent is None, never 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

RESAMPLES: Final = 500
ECE_BINS: Final = 10

Floats = NDArray[np.float64]


def auroc(labels: Floats, scores: Floats) -> float | None:
    """Area under the ROC curve (n,) vs (n,), ties counted half; None without both classes."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def f1(labels: Floats, predicted: Floats) -> float | None:
    """F1 of binary predictions; None when there is neither a positive label nor a positive prediction."""
    truth, called = float(labels.sum()), float(predicted.sum())
    return None if truth + called == 0 else 2.0 * float((labels * predicted).sum()) / (truth + called)


def brier(labels: Floats, p: Floats) -> float:
    """Mean squared difference."""
    return float(np.mean((p - labels) ** 2))


def ece(labels: Floats, p: Floats, bins: int = ECE_BINS) -> float:
    """Expected calibration error over bins of equal mass: the mean gap of accuracy and confidence, by share of the bin."""
    order = np.argsort(p, kind="stable")
    parts = [b for b in np.array_split(order, bins) if len(b)]
    return float(sum(len(b) / len(p) * abs(labels[b].mean() - p[b].mean()) for b in parts))


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean of those that are known; None when none is."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def macro_auroc(labels: Floats, p: Floats) -> float | None:
    """Mean AUROC over the columns of (n, F) that have both classes; a NaN label is unknown. None when no column has both."""
    known = ~np.isnan(labels)
    return mean_known([auroc(labels[k, i], p[k, i]) for i, k in enumerate(known.T)])


def macro_f1(labels: Floats, called: NDArray[np.bool_]) -> float | None:
    """Mean F1 of the columns of (n, F), each over the rows whose label is known."""
    known = ~np.isnan(labels)
    return mean_known([f1(labels[k, i], called[k, i].astype(np.float64)) for i, k in enumerate(known.T)])


def macro(score: Callable[[Floats, Floats], float | None], labels: Floats, p: Floats) -> float | None:
    """Mean of a score over the columns of (n, F), each over the rows whose label is known; a column with none is left out."""
    known = ~np.isnan(labels)
    return mean_known([score(labels[k, i], p[k, i]) for i, k in enumerate(known.T) if k.any()])


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Spearman's rho of (n,) and (n,); None when either is constant."""
    if len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def shown(value: float | None, places: int = 3) -> str:
    """A figure for a reader; a dash where there is none."""
    return "-" if value is None else f"{value:.{places}f}"


def draws(patients: Sequence[str], seed: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.int64]]:
    """Row indices of bootstrap samples: patients are drawn with replacement, each with all its rows."""
    names, where = np.unique(np.asarray(patients), return_inverse=True)
    rows = [np.flatnonzero(where == i) for i in range(len(names))]
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])


def interval(
    patients: Sequence[str],
    statistic: Callable[[NDArray[np.int64]], float | None],
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """95 % bootstrap interval of a statistic of row indices, patients drawn with replacement; None when it is undefined."""
    return middle([statistic(drawn) for drawn in draws(patients, seed, resamples)])


def middle(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The middle 95 % of those that are known; None when none is."""
    known = [v for v in values if v is not None]
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if known else None
