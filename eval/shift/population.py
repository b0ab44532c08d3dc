"""Population shifts: the same network on the films of one age band, sex, view, kind of markers or source against the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from eval import groups, scores
from eval.groups import Rows
from eval.shift.assess import Truth, label_f1, minus
from eval.shift.sweep import Floats
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow

ATTRIBUTES: Final = {**groups.ATTRIBUTES, "markers": lambda row: row.markers, "source": lambda row: row.source}


def measure(
    rows: Sequence[FilmRow], truth: Truth, p: Mapping[str, Floats], calibrations: Mapping[str, Calibration], seed: int
) -> dict[str, Any]:
    """Attribute -> group -> its films and, by network, macro-AUROC inside and outside it over the findings that have both
    classes in both. A group of under 20 films, or with under 20 others, is only counted."""
    return {
        name: {
            group: _group(truth, members, _others(found, group), p, calibrations, seed)
            for group, members in found.items()
        }
        for name, attribute in ATTRIBUTES.items()
        if (found := groups.groups(rows, attribute))
    }


def table(result: Mapping[str, Any]) -> list[str]:
    """Macro-AUROC inside and outside each group, for a reader."""
    lines = ["population: macro-AUROC of the group and of the other films"]
    for attribute, found in result.items():
        for group, v in found.items():
            for name, m in (v["networks"] or {}).items():
                lines.append(_line(f"{attribute} {group}", v["films"], name, m))
            if v["networks"] is None:
                lines.append(f"  {attribute + ' ' + group:34s} n {v['films']:5d}  not compared")
    return lines


def _group(
    truth: Truth,
    members: Rows,
    others: Rows,
    p: Mapping[str, Floats],
    calibrations: Mapping[str, Calibration],
    seed: int,
) -> dict[str, Any]:
    columns = groups.common_findings(truth.labels, [members, others])
    large = min(len(members), len(others)) >= groups.MIN_FILMS
    compared = {n: _network(truth, members, others, columns, p[n], calibrations[n], seed) for n in p} if columns else {}
    return {"films": len(members), "findings": len(columns), "networks": compared if large and columns else None}


def _network(
    truth: Truth, members: Rows, others: Rows, columns: Sequence[int], p: Floats, calibration: Calibration, seed: int
) -> dict[str, Any]:
    side = np.zeros(len(p), np.int8)  # 1 in the group, -1 in another, 0 where the source does not say
    side[members], side[others] = 1, -1

    def change(rows: Rows) -> float | None:
        parts = [rows[side[rows] == s] for s in (1, -1)]
        both = [c for c in groups.common_findings(truth.labels, parts) if c in columns]
        return minus(*(groups.macro(truth.labels, p, part, both) for part in parts))

    within, outside = (Truth(truth.labels[r], tuple(truth.patients[i] for i in r)) for r in (members, others))
    return {
        "macro_auroc": groups.macro(truth.labels, p, members, columns),
        "others_macro_auroc": groups.macro(truth.labels, p, others, columns),
        "change": change(np.arange(len(p))),
        "change_ci": scores.interval(truth.patients, change, seed),
        "label_f1": label_f1(within, p[members], calibration),
        "others_label_f1": label_f1(outside, p[others], calibration),
    }


def _line(group: str, films: int, network: str, m: Mapping[str, Any]) -> str:
    low, high = m["change_ci"] or (float("nan"), float("nan"))
    return (
        f"  {group:34s} n {films:5d}  {network:6s} {m['macro_auroc']:.3f}, others {m['others_macro_auroc']:.3f}"
        f"  ({m['change']:+.3f} [{low:+.3f}, {high:+.3f}])"
    )


def _others(found: Mapping[str, Rows], group: str) -> Rows:
    """The films of the other groups; those that say nothing of themselves belong to none."""
    rest = [rows for name, rows in found.items() if name not in {group, groups.MISSING}]
    return np.concatenate(rest) if rest and group != groups.MISSING else np.zeros(0, np.int64)
