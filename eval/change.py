"""python -m eval change DIR: is it told right what has changed between two films of a patient? NIH ChestX-ray14, or Cohen et al.

A row is a finding that either film of a pair is known to show, and whose change is known: NIH by its labels, which come, go or
stay; Cohen by the extent of opacity that readers agreed on. `rule` tells a change by its measure alone, `drafts` only where a draft
would say it: where the calibrated heads decide the finding on both films. Of the rest nothing is said; `coverage` is the share of
which something is. The controls are measured on all rows: nothing ever changes, and a label that the heads alone see come or go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, scores
from knowledge_base.findings import FINDINGS, Polarity, Progression
from rag_service.calibration import Calibration, Reliability
from rag_service.changes import ChangeRule
from rag_service.datasets.films import DatasetError, Split
from rag_service.datasets.follow_ups import FollowUp, follow_ups
from rag_service.errors import BadWeights
from rag_service.reader import Reader
from rag_service.report.change import PROGRESSION, state_of
from rag_service.training.changes import film_amounts

CLASSES: Final[Mapping[int, str]] = {-1: "improved", 0: "stable", 1: "worsened"}
UNSAID: Final = 2
"""In place of a class where nothing is said."""
_OF: Final = {Progression.IMPROVED: -1, Progression.STABLE: 0, Progression.WORSENED: 1, Progression.NEW: 1}
METHODS: Final = ("rule", "drafts")
CONTROLS: Final = ("always_stable", "heads_alone")
FIGURES: Final = ("accuracy", "f1_macro", "coverage")

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """n findings of pairs: patients and findings, the change that is known (n,), and by method what is told (n,)."""

    patients: Sequence[str]
    findings: Sequence[str]
    known: Classes
    told: Mapping[str, Classes]


def measure(folder: Path, reader: Reader, split: Split | None, seed: int, limit: int | None = None) -> dict[str, Any]:
    """Every method's figures with intervals over patients. DatasetError without pairs, BadWeights for a model without a rule."""
    if reader.changes is None:
        raise BadWeights("the model folder has no change.json: this model compares no films")
    pairs = _chosen(follow_ups(folder), split, seed, limit)
    looked = list({r.path: r for p in pairs for r in (p.earlier, p.later)}.values())
    read = film_amounts(looked, reader.encoder, reader.calibration)
    shown = {r.path: amounts for r, amounts in zip(looked, read, strict=True)}
    rows = rows_of(pairs, shown, reader.changes, reader.calibration)
    every = np.arange(len(rows.known))
    return {
        "methods": {m: _with_intervals(rows, m, seed) for m in METHODS},
        "controls": {c: figures(rows, c, every) for c in CONTROLS},
        "per_finding": {f: _of_finding(rows, f) for f in dict.fromkeys(rows.findings)},
        "known": {name: int((rows.known == c).sum()) for c, name in CLASSES.items()},
        "rows": len(rows.known),
        "pairs": len(pairs),
        "patients": len(set(rows.patients)),
        "seed": seed,
        "signature": {
            "films": films.signature(looked),
            "model": reader.encoder.record.id,
            "rule": reader.changes.digest,
        },
    }


def rows_of(
    pairs: Sequence[FollowUp], shown: Mapping[Path, Floats], rule: ChangeRule, calibration: Calibration
) -> Rows:
    """What is known and what is told; `shown` has the amounts (14, 2) of every film. DatasetError when nothing is known."""
    found = [(p, f) for p in pairs for f in FINDINGS if f in p.change and f in p.present]
    if not found:
        raise DatasetError("these films show no finding whose change is known")
    told = [_told(f, shown[p.earlier.path], shown[p.later.path], rule, calibration) for p, f in found]
    return Rows(
        [p.earlier.patient for p, _ in found],
        [f for _, f in found],
        np.array([p.change[f] for p, f in found], np.int64),
        {m: np.array([t[m] for t in told], np.int64) for m in (*METHODS, *CONTROLS)},
    )


def figures(rows: Rows, method: str, chosen: NDArray[np.int64]) -> dict[str, float | None]:
    """Accuracy and macro-F1 over the three classes where something is said, and how often that is."""
    known, told = rows.known[chosen], rows.told[method][chosen]
    said = told != UNSAID
    right = known[said] == told[said]
    of_class = [scores.f1(_is(known[said], c), _is(told[said], c)) for c in CLASSES]
    return {
        "accuracy": float(right.mean()) if said.any() else None,
        "f1_macro": scores.mean_known(of_class),
        "coverage": float(said.mean()) if len(said) else None,
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    known = ", ".join(f"{n} {name}" for name, n in result["known"].items())
    lines = [
        f"{result['rows']} findings of {result['pairs']} pairs of films, {result['patients']} patients ({known}),"
        f" seed {result['seed']}; accuracy and F1 where a change is said",
        f"{'':32s}" + "".join(f"{name:>24s}" for name in FIGURES),
    ]
    for name, found in result["methods"].items():
        lines.append(f"{name:32s}" + "".join(f"{_with(found, k):>24s}" for k in FIGURES))
    parts = {f"  {f} ({v['rows']})": v for f, v in result["per_finding"].items()}
    parts |= {f"control {name}": v for name, v in result["controls"].items()}
    lines += [f"{name:32s}" + "".join(f"{scores.shown(v[k]):>24s}" for k in FIGURES) for name, v in parts.items()]
    return "\n".join(lines)


def _chosen(pairs: Sequence[FollowUp], split: Split | None, seed: int, limit: int | None) -> list[FollowUp]:
    """The pairs of a split, at most `limit` of them, by chance."""
    kept = [p for p in pairs if split is None or p.earlier.split is split]
    if not kept:
        raise DatasetError(f"no two films of one patient of the {split} split")
    if limit is None or limit >= len(kept):
        return kept
    drawn = np.random.default_rng(seed).choice(len(kept), limit, replace=False)
    return [kept[i] for i in sorted(drawn)]


def _told(finding: str, earlier: Floats, later: Floats, rule: ChangeRule, calibration: Calibration) -> dict[str, int]:
    """What each method tells of one finding of one pair."""
    direction = rule.findings[finding].direction(rule.measured(finding, earlier, later))
    index, entry = FINDINGS.index(finding), calibration.findings[finding]
    before, after = (1 / (1 + np.exp(-amounts[index, 0])) for amounts in (earlier, later))
    state = None
    if entry.reliability is Reliability.RELIABLE:
        now: Polarity | None = entry.polarity(after)
        state = None if now is None else state_of(now, entry.polarity(before), direction)
    return {
        "rule": UNSAID if direction is None else direction,
        "drafts": UNSAID if state is None else _OF[PROGRESSION[state]],
        "always_stable": 0,
        "heads_alone": int(after >= entry.flag) - int(before >= entry.flag),
    }


def _with_intervals(rows: Rows, method: str, seed: int) -> dict[str, Any]:
    def one(name: str) -> tuple[float, float] | None:
        return scores.interval(rows.patients, lambda drawn: figures(rows, method, drawn)[name], seed)

    found = figures(rows, method, np.arange(len(rows.known)))
    return {**found, "intervals": {name: one(name) for name in FIGURES}}


def _of_finding(rows: Rows, finding: str) -> dict[str, Any]:
    chosen = np.array([i for i, f in enumerate(rows.findings) if f == finding], np.int64)
    return {**figures(rows, "rule", chosen), "rows": len(chosen)}


def _is(classes: Classes, wanted: int) -> Floats:
    return np.asarray(classes == wanted, np.float64)


def _with(found: Mapping[str, Any], name: str) -> str:
    low, high = found["intervals"][name] or (None, None)
    return f"{scores.shown(found[name])} [{scores.shown(low)}, {scores.shown(high)}]"
