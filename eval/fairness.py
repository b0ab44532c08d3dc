"""python -m eval fairness DIR: does the network serve every group alike? By age band, sex, view and manufacturer.

Groups are compared on macro-AUROC over the findings that have both classes in every compared group, and on the rates of true
and false positives at the operating points; a gap is the best group minus the worst. Films whose source does not say are a
row of their own. The probes of `eval.probe` say how much the latent tells of sex and age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, groups, probe, readings, scores
from eval.groups import Floats, Rows
from eval.readings import Readings
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow

MEASURES: Final = ("macro_auroc", "tpr", "fpr")


@dataclass(frozen=True, eq=False)
class Answers:
    """Labels (n, 14), NaN for unknown, calibrated probabilities (n, 14), and what is called at the operating points (n, 14)."""

    labels: Floats
    p: Floats
    called: NDArray[np.bool_]


def measure(rows: Sequence[FilmRow], read: Readings, calibration: Calibration, model: str, seed: int) -> dict[str, Any]:
    """Everything `fairness --json` writes, of films row by row with their readings."""
    p = calibration.probabilities(read.scores)
    flags = np.array([calibration.findings[f].flag for f in FINDINGS])
    answers = Answers(readings.labels(rows), p, p >= flags)
    names = groups.patients(rows)
    return {
        "attributes": {
            name: _attribute(groups.groups(rows, attribute), answers, names, seed)
            for name, attribute in groups.ATTRIBUTES.items()
        },
        "probe": probe.measure(rows, read, seed),
        "films": len(rows),
        "patients": len(set(names)),
        "seed": seed,
        "signature": {
            "films": films.signature(list(rows)),
            "model": model,
            "thresholds": calibration.digest,
            "min_films": groups.MIN_FILMS,
            "bootstrap": scores.RESAMPLES,
            "probe": f"{probe.FOLDS} folds by patient, logistic C {probe.COST:g}, ridge {probe.RIDGE:g}",
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['films']} films of {result['patients']} patients, seed {result['seed']}"]
    for name, found in result["attributes"].items():
        lines.append(f"{name}: {len(found['findings'])} findings have both classes in every compared group")
        for group, v in found["groups"].items():
            numbers = " ".join(f"{m} {_number(v[m])}" for m in MEASURES)
            lines.append(f"  {group:24s} n {v['films']:5d}  {numbers}{'' if v['compared'] else '  (not compared)'}")
        lines += [_gap_line(measure, gap) for measure, gap in found["gaps"].items()]
    return "\n".join(lines + probe.table(result["probe"]))


def _attribute(found: Mapping[str, Rows], answers: Answers, names: Sequence[str], seed: int) -> dict[str, Any]:
    compared = groups.compared(found)
    columns = groups.common_findings(answers.labels, list(compared.values())) if compared else []
    return {
        "groups": {g: _group(answers, rows, columns, g in compared) for g, rows in found.items()},
        "findings": [FINDINGS[i] for i in columns],
        "gaps": {m: _gap(answers, compared, columns, m, names, seed) for m in MEASURES} if columns else {},
    }


def _group(answers: Answers, rows: Rows, columns: Sequence[int], compared: bool) -> dict[str, Any]:
    columns = columns if compared else []
    by_finding = {FINDINGS[i]: {m: _score(answers, rows, [i], m) for m in MEASURES} for i in columns}
    return {
        "films": len(rows),
        "compared": compared and bool(columns),
        **{m: _score(answers, rows, columns, m) for m in MEASURES},
        "findings": {f: {"auroc" if m == "macro_auroc" else m: v for m, v in s.items()} for f, s in by_finding.items()},
    }


def _gap(
    answers: Answers,
    compared: Mapping[str, Rows],
    columns: Sequence[int],
    measure: str,
    names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Best minus worst group, its interval, and the finding whose own gap is largest."""
    member = np.full(len(answers.p), -1)
    for number, rows in enumerate(compared.values()):
        member[rows] = number

    def gap(rows: Rows) -> float | None:
        parts = [rows[member[rows] == g] for g in range(len(compared))]
        both = [c for c in groups.common_findings(answers.labels, parts) if c in columns]
        return _spread([_score(answers, part, both, measure) for part in parts])

    found = {FINDINGS[i]: _spread([_score(answers, rows, [i], measure) for rows in compared.values()]) for i in columns}
    known = {f: v for f, v in found.items() if v is not None}
    widest = max(known, key=lambda f: known[f], default=None)
    return {
        "gap": gap(np.arange(len(member))),
        "gap_ci": scores.interval(names, gap, seed),
        "widest": None if widest is None else {"finding": widest, "gap": known[widest]},
    }


def _score(answers: Answers, rows: Rows, columns: Sequence[int], measure: str) -> float | None:
    if measure == "macro_auroc":
        return groups.macro(answers.labels, answers.p, rows, columns)
    wanted = 1.0 if measure == "tpr" else 0.0
    rates = []
    for column in columns:
        of_class = rows[answers.labels[rows, column] == wanted]
        rates.append(float(answers.called[of_class, column].mean()) if len(of_class) else None)
    return scores.mean_known(rates)


def _spread(values: Sequence[float | None]) -> float | None:
    """Largest minus smallest; None unless all are known."""
    known = [v for v in values if v is not None]
    return max(known) - min(known) if len(known) == len(values) else None


def _gap_line(measure: str, gap: Mapping[str, Any]) -> str:
    low, high = gap["gap_ci"] or (float("nan"), float("nan"))
    widest = gap["widest"]
    of = "" if widest is None else f"  widest {widest['finding']} {widest['gap']:.3f}"
    return f"  gap {measure:20s} {_number(gap['gap'])} [{low:.3f}, {high:.3f}]{of}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
