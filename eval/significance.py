"""Is one set of scores better than another on the same studies? Paired tests that assume nothing of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_rel

from eval import scores
from eval.paired import difference
from eval.scores import Floats

PERMUTATIONS: Final = 1000


def over_studies(labels: Floats, ours: Floats, theirs: Floats, patients: Sequence[str], seed: int) -> dict[str, Any]:
    """Macro-AUROC of ours less that of theirs, all (m, F), labels NaN for unknown, with its bootstrap interval over patients.

    `p_value` is two-sided, by approximate randomisation: how often the difference is as large when each study's scores are
    swapped or not by the toss of a coin (Noreen, 1989). None where the difference is undefined.
    """

    def area(p: Floats, rows: NDArray[np.int64]) -> float | None:
        return scores.macro_auroc(labels[rows], p[rows])

    found = difference(patients, lambda rows: area(ours, rows), lambda rows: area(theirs, rows), seed)
    gap = found["difference"]
    return {
        "difference": gap,
        "interval": found["ci"],
        "p_value": None if gap is None else _chance(labels, ours, theirs, abs(gap), seed),
        "studies": len(labels),
        "permutations": PERMUTATIONS,
    }


def over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Ours less theirs by seed: how many seeds ours wins, and the p of the sign test and of the paired t test.

    None where nothing can be said: no seed differs, or the differences do not vary.
    """
    gaps = np.asarray(ours) - np.asarray(theirs)
    decided = gaps[gaps != 0]
    wins = int((decided > 0).sum())
    varied = len(gaps) > 1 and float(np.ptp(gaps)) > 1e-12
    return {
        "seeds": len(gaps),
        "wins": wins,
        "sign_p_value": float(binomtest(wins, len(decided)).pvalue) if len(decided) else None,
        "t_p_value": float(ttest_rel(ours, theirs).pvalue) if varied else None,
    }


def _chance(labels: Floats, ours: Floats, theirs: Floats, least: float, seed: int) -> float:
    rng = np.random.default_rng(seed)
    as_large = 0
    for _ in range(PERMUTATIONS):
        swap = rng.random((len(labels), 1)) < 0.5
        one = scores.macro_auroc(labels, np.where(swap, theirs, ours))
        other = scores.macro_auroc(labels, np.where(swap, ours, theirs))
        as_large += one is not None and other is not None and abs(one - other) >= least - 1e-12
    return (as_large + 1) / (PERMUTATIONS + 1)
