"""python -m eval drift SCORES.csv: do a site's scores come from where the calibration films came from?

Per finding the population stability index over tenths of the calibration sample, less what chance alone gives at these sizes,
and the Kolmogorov-Smirnov test, its p-values corrected over the findings by Holm's method. Labels are not needed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from eval.site_scores import SiteScores
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration

Floats = NDArray[np.float64]

BINS: Final = 10
WATCH: Final = {"psi": 0.10, "p": 0.05}
ALARM: Final = {"psi": 0.25, "p": 0.01}
"""Limits on the index, as credit scoring has them, and on the corrected p-value; both must be passed."""
VERDICTS: Final = ("ok", "watch", "alarm")


def measure(site: SiteScores, calibration: Calibration) -> dict[str, Any]:
    """Verdict over all findings (the worst of them), and for each its index, statistic, corrected p-value and verdict."""
    samples = [np.array(calibration.findings[f].scores) for f in FINDINGS]
    tests = [ks_2samp(s, site.scores[:, i], method="asymp") for i, s in enumerate(samples)]
    corrected = holm(np.array([float(t.pvalue) for t in tests]))
    findings = {}
    for index, (finding, test) in enumerate(zip(FINDINGS, tests, strict=True)):
        excess = stability(samples[index], site.scores[:, index])
        found = {"psi": excess, "ks": float(test.statistic), "p": float(corrected[index])}
        findings[finding] = {**found, "verdict": verdict(excess, found["p"])}
    worst = max((v["verdict"] for v in findings.values()), key=VERDICTS.index)
    return {
        "verdict": worst,
        "findings": findings,
        "limits": {"watch": WATCH, "alarm": ALARM},
        "n_films": len(site),
        "n_calibration": max(map(len, samples)),
        "signature": {
            "scores": site.digest,
            "model": calibration.model,
            "thresholds": calibration.digest,
            "bins": BINS,
        },
    }


def stability(expected: Floats, found: Floats) -> float:
    """Population stability index of scores (m,) against (n,), less its mean under no change, (bins - 1) * (1 / n + 1 / m).

    Zero where nothing moved, on average; half a film is added to each bin so that an empty one is not infinite.
    """
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, s, "right"), minlength=len(edges) + 1) + 0.5 for s in (expected, found)
    ]
    one, other = (c / c.sum() for c in counts)
    chance = len(edges) * (1 / len(expected) + 1 / len(found))
    return float(((other - one) * np.log(other / one)).sum() - chance)


def holm(p: Floats) -> Floats:
    """Holm's correction of k p-values: the chance of one false alarm among all stays at the level asked for."""
    order = np.argsort(p, kind="stable")
    steps = np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def verdict(psi: float, p: float) -> str:
    """ok, watch or alarm."""
    for name, limits in (("alarm", ALARM), ("watch", WATCH)):
        if psi >= limits["psi"] and p < limits["p"]:
            return name
    return "ok"


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"drift: {result['verdict']}   {result['n_films']} films against {result['n_calibration']} calibration films",
        f"watch from PSI {WATCH['psi']} with p < {WATCH['p']}, alarm from {ALARM['psi']} with p < {ALARM['p']} (Holm)",
        f"{'finding':28s} {'PSI':>7s} {'KS':>6s} {'p':>8s}",
    ]
    for name, v in result["findings"].items():
        lines.append(f"{name:28s} {v['psi']:7.3f} {v['ks']:6.3f} {v['p']:8.4f} {v['verdict']}")
    return "\n".join(lines)
