"""Is a black square taken for a finding? Squares are painted in each corner of the same films; what moves is the shortcut.

NIH films with reader boxes have their markers painted out in black, so a network can learn "black square = finding".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from eval import scores
from eval.shift import acquisition, statements, sweep
from eval.shift.assess import Truth, minus
from eval.shift.sweep import Floats, Stored
from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import FilmRow
from rag_service.reader import Reader

SHARE: Final = 0.10
"""Side of the square, in fractions of the film."""
CORNERS: Final = {
    "upper_left": (False, False),
    "upper_right": (False, True),
    "lower_left": (True, False),
    "lower_right": (True, True),
}
CLEAN: Final = "clean"


def measure(rows: Sequence[FilmRow], truth: Truth, readers: Mapping[str, Reader], seed: int) -> dict[str, Any]:
    """By network: each finding's mean change of probability over the four corners, on all, positive and negative films; the
    AUROC when only positives, or only negatives, are painted; and statements flipped."""
    read = sweep.read(
        rows, list(readers.values()), {CLEAN: _same} | {n: partial(_painted, at=c) for n, c in CORNERS.items()}
    )
    return {
        name: _network(truth, found, reader, seed) for (name, reader), found in zip(readers.items(), read, strict=True)
    }


def table(result: Mapping[str, Any]) -> list[str]:
    """The change of probability by finding, for a reader."""
    lines = []
    for name, found in result.items():
        worst = found["largest"]
        lines.append(f"black square, {name}: largest mean change {worst['delta']:+.4f} ({worst['finding']})")
        lines += [_line(f, v) for f, v in found["findings"].items()]
    return lines


def _network(truth: Truth, found: Mapping[str, Floats], reader: Reader, seed: int) -> dict[str, Any]:
    clean = found[CLEAN]
    painted = np.mean([found[c] for c in CORNERS], axis=0)
    findings = {f: _finding(truth, clean[:, i], painted[:, i], i, seed) for i, f in enumerate(FINDINGS)}
    sides = statements.sides(clean, reader.calibration)
    flips = [statements.total(statements.flips(sides, statements.sides(found[c], reader.calibration))) for c in CORNERS]
    worst = max(findings, key=lambda f: abs(findings[f]["delta"]))
    return {
        "findings": findings,
        "largest": {"finding": worst, "delta": findings[worst]["delta"]},
        "flipped": sum(f["flipped"] for f in flips),
        "stated": sum(f["stated"] for f in flips),
    }


def _finding(truth: Truth, clean: Floats, painted: Floats, column: int, seed: int) -> dict[str, Any]:
    labels, moved = truth.labels[:, column], painted - clean
    known = ~np.isnan(labels)
    base = scores.auroc(labels[known], clean[known])
    result: dict[str, Any] = {
        "delta": float(moved.mean()),
        "delta_ci": scores.interval(truth.patients, lambda rows: float(moved[rows].mean()), seed),
        "films": len(moved),
    }
    for name, value in (("positive", 1.0), ("negative", 0.0)):
        of_class = labels == value
        mixed = np.where(of_class, painted, clean)
        result[name] = {
            "films": int(of_class.sum()),
            "delta": float(moved[of_class].mean()) if of_class.any() else None,
            "auroc_change": minus(scores.auroc(labels[known], mixed[known]), base),
        }
    return result


def _line(finding: str, v: Mapping[str, Any]) -> str:
    low, high = v["delta_ci"] or (float("nan"), float("nan"))
    changes = [v[c]["auroc_change"] for c in ("positive", "negative")]
    told = ", ".join("-" if c is None else f"{c:+.3f}" for c in changes)
    return f"  {finding:28s} {v['delta']:+.4f} [{low:+.4f}, {high:+.4f}]  AUROC if only positives, negatives painted {told}"


def _painted(film: Stored, _: int, *, at: tuple[bool, bool]) -> Stored:
    return acquisition.black_square(film, at, SHARE)


def _same(film: Stored, _: int) -> Stored:
    return film
