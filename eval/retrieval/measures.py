"""What a ranking is worth: precision, average precision, nDCG and the vote of the nearest, each query by itself; then intervals.

All take rankings as `low` (q, m): the lower, the nearer. `own` (q, m) are the cases a query must not find: its own study.
A case is relevant when its grade is above 0. Average precision is over the whole ranking (`map`), and over the 50 nearest, out
of at most 50 relevant ones (`map_at_50`); nDCG@10 has gains 2^grade - 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from knowledge_base.findings import FINDINGS
from knowledge_base.fusion import RRF_K, WEIGHTS

TOP: Final = 10
DEPTH: Final = 50
"""Cases a search is asked for, and the length of each of its lists: the service's own default."""
SERVICE: Final = "service"
RERANKED: Final = "reranked"
DIVERSIFIED: Final = "diversified"
HYBRID: Final = "hybrid"
SHIPPED: Final = (SERVICE, RERANKED, DIVERSIFIED, HYBRID)
"""The search that ships, by way: the fullest first."""
FIGURES: Final = ("map", "map_at_50", "ndcg_at_10", "p_at_1", "p_at_5", "p_at_10")
RESAMPLES: Final = 2000
VOTERS: Final = (10, 20)

Floats = NDArray[np.float64]


def scored(low: Floats, grade: Floats, own: NDArray[np.bool_]) -> Floats:
    """(q, 6): FIGURES of each query. Precision at k is over the k nearest, or all when there are fewer."""
    order = nearest(low, own)
    found = np.empty((len(low), len(FIGURES)))
    weights = 1.0 / np.log2(np.arange(2, TOP + 2))
    for q, (ranking, left_out) in enumerate(zip(order, own.sum(1), strict=True)):
        gains = grade[q, ranking[: len(ranking) - left_out]]
        hits, discount = gains > 0, weights[: len(gains)]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        ideal = ((2.0 ** np.sort(gains)[::-1][:TOP] - 1) * discount).sum()
        found[q] = (
            precision[hits].mean() if hits.any() else 0.0,
            (precision * hits)[:DEPTH].sum() / max(min(int(hits.sum()), DEPTH), 1),
            ((2.0 ** gains[:TOP] - 1) * discount).sum() / ideal if ideal else 0.0,
            *(hits[:k].mean() if len(hits) else 0.0 for k in (1, 5, 10)),
        )
    return found


def nearest(low: Floats, own: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(q, m): rows of the cases, nearest first, ties by row; those a query must not find come last."""
    return np.argsort(np.where(own, np.inf, low), axis=1, kind="stable")


def votes(low: Floats, own: NDArray[np.bool_], labels: Floats, voters: int) -> Floats:
    """(q, F): the share of the `voters` nearest cases that have each finding, the r-th counting 1 / log2(r + 1)."""
    kept = nearest(low, own)[:, : min(voters, len(labels) - int(own.sum(1).max(initial=0)))]
    weights = 1.0 / np.log2(np.arange(2, kept.shape[1] + 2))
    return np.asarray(np.einsum("k,qkf->qf", weights, labels[kept]) / weights.sum())


@dataclass(frozen=True, eq=False)
class Resamples:
    """(RESAMPLES, q): how often each query is drawn when patients are drawn with replacement, each with all its queries."""

    counts: Floats

    @classmethod
    def of(cls, patients: Sequence[str], seed: int) -> Resamples:
        """By the patient of each query."""
        names, where = np.unique(np.asarray(patients), return_inverse=True)
        drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
        return cls(drawn[:, where].astype(np.float64))

    def at(self, rows: NDArray[np.int64]) -> Resamples:
        """Only these queries."""
        return Resamples(self.counts[:, rows])

    def means(self, values: Floats) -> Floats:
        """(RESAMPLES, ...) means of per-query values (q, ...); NaN in a resample that draws none of them."""
        with np.errstate(invalid="ignore"):
            total = self.counts.sum(1).reshape(-1, *[1] * (values.ndim - 1))
            return np.asarray(np.tensordot(self.counts, values, axes=1) / total)

    def interval(self, values: Floats) -> tuple[float, float] | None:
        """The middle 95 % of the mean of per-query values (q,)."""
        return middle(self.means(values))


def middle(drawn: Floats) -> tuple[float, float] | None:
    """The middle 95 % of what is known; None when nothing is."""
    known = drawn[~np.isnan(drawn)]
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else None


def difference(one: Floats, other: Floats, resamples: Resamples) -> dict[str, Any]:
    """Mean of per-query `one` less `other`, (q,) each, with its interval and a two-sided p of the paired bootstrap.

    p is twice the share of resamples in which the difference is on the other side of 0 (or at it), at least 2 / (n + 1).
    """
    drawn = resamples.means(one - other)
    drawn = drawn[~np.isnan(drawn)]
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return {
        "difference": float((one - other).mean()),
        "ci": middle(drawn),
        "p": min(1.0, 2.0 * (beyond + 1) / (len(drawn) + 1)),
    }


def vote_auroc(labels: Floats, voted: Floats, resamples: Resamples) -> dict[str, Any]:
    """AUROC of the vote by finding, (q, F) each, NaN labels unknown; their mean over the findings that have both classes.

    `macro_ci` is None when no finding has both; a finding that a resample leaves with one class is left out of its mean.
    """
    each: dict[str, float | None] = {}
    drawn = []
    for f, finding in enumerate(FINDINGS):
        area = _area(labels[:, f], voted[:, f], resamples.counts)
        each[finding] = None if area is None else area[0]
        if area is not None:
            drawn.append(area[1])
    known = [v for v in each.values() if v is not None]
    return {
        "macro": float(np.mean(known)) if known else None,
        "macro_ci": middle(_known_means(np.stack(drawn))) if drawn else None,
        "findings": len(known),
        "each": each,
    }


def _area(labels: Floats, scores: Floats, counts: Floats) -> tuple[float, Floats] | None:
    """Area under the curve of one finding, and in each resample; None without both classes."""
    yes, no = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    if not len(yes) or not len(no):
        return None
    above = (np.sign(scores[yes][:, None] - scores[no][None]) + 1) / 2
    won = ((counts[:, yes] @ above) * counts[:, no]).sum(1)
    with np.errstate(invalid="ignore"):
        return float(above.mean()), won / (counts[:, yes].sum(1) * counts[:, no].sum(1))


def _known_means(drawn: Floats) -> Floats:
    """Mean over rows of (F, n), NaN left out; NaN where all are."""
    known = ~np.isnan(drawn)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, drawn, 0.0).sum(0) / known.sum(0))


def _ranks(low: Floats) -> Floats:
    """(q, m): the rank, from 1, of each case in its query's list; ties share the first rank."""
    return np.asarray(rankdata(low, method="min", axis=1), np.float64)


def fused(low: Mapping[str, Floats], lists: Sequence[str]) -> Floats:
    """(q, m): weighted reciprocal ranks over whole lists, higher is nearer."""
    return np.asarray(sum(WEIGHTS[name] / (RRF_K + _ranks(low[name])) for name in lists), np.float64)


def found_first(found: Sequence[Sequence[int]], rest: Floats) -> Floats:
    """(q, m): rankings that begin with the rows found, in their order, and go on by `rest` (q, m), lower first."""
    low = rest.copy()
    floor = rest.min() - 1.0
    for q, rows in enumerate(found):
        low[q, list(rows)] = floor - np.arange(len(rows), 0, -1)
    return low


def figures(values: Floats, resamples: Resamples) -> dict[str, Any]:
    """Means of FIGURES over queries, with intervals of mAP, nDCG and P@5."""
    found: dict[str, Any] = dict(zip(FIGURES, values.mean(0).tolist(), strict=True))
    for name in ("map", "ndcg_at_10", "p_at_5"):
        found[f"{name}_ci"] = resamples.interval(values[:, FIGURES.index(name)])
    return found


def differences(
    values: Mapping[str, Floats], ours: Sequence[str], theirs: Sequence[str], resamples: Resamples
) -> dict[str, Any]:
    """For each of `ours` against each of `theirs`: paired differences of mAP, nDCG@10 and P@5."""
    return {
        f"{one} - {other}": {
            name: difference(values[one][:, FIGURES.index(name)], values[other][:, FIGURES.index(name)], resamples)
            for name in ("map", "ndcg_at_10", "p_at_5")
        }
        for one in ours
        for other in theirs
        if one in values and other in values and one != other
    }
