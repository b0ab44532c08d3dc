"""python -m eval ood DIR: how well each score tells usual frontals from outliers, by kind, and what the gate does with both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from tqdm import tqdm

from eval.gate import judged, tally
from eval.ood_sets import FilmSet, Role
from eval.scores import auroc, interval, shown
from knowledge_base.records import digest
from rag_service.ood import SCORES
from rag_service.reader import Reader

COLUMNS: Final = (*SCORES, "combined")
HEADLINE: Final = ("not_chest", "lateral", "rotated")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """A set after the gate: reasons of every picture; `scores` (m, 6) in the order of COLUMNS and `patients` of those decoded."""

    films: FilmSet
    reasons: tuple[tuple[str, ...], ...]
    scores: Floats
    patients: tuple[str, ...]


def judge(films: FilmSet, reader: Reader) -> Judged:
    """Every picture of a set through the gate, as the service would."""
    pictures = tqdm(films.pictures, desc=films.name, unit="film")
    found = [judged(p.film, reader) for p in pictures]
    scored = [(p, far) for p, (_, far) in zip(films.pictures, found, strict=True) if far is not None]
    rows = [[*(far.scores[s] for s in SCORES), far.score] for _, far in scored]
    return Judged(
        films,
        tuple(reasons for reasons, _ in found),
        np.array(rows, np.float64).reshape(len(rows), len(COLUMNS)),
        tuple(p.patient for p, _ in scored),
    )


def fpr_at_95_tpr(labels: Floats, scores: Floats) -> float | None:
    """Share of usual films (label 0) above the score that 95 % of the outliers (label 1) reach; None without both."""
    if not 0 < labels.sum() < len(labels):
        return None
    reached = np.quantile(scores[labels == 1], 0.05, method="lower")
    return float((scores[labels == 0] >= reached).mean())


def aupr(labels: Floats, scores: Floats) -> float | None:
    """Average precision with the outliers as positives; None without both. Depends on how many there are of each."""
    return float(average_precision_score(labels, scores)) if 0 < labels.sum() < len(labels) else None


_FIGURES: Final[Mapping[str, Callable[[Floats, Floats], float | None]]] = MappingProxyType(
    {"auroc": auroc, "fpr_at_95_tpr": fpr_at_95_tpr, "aupr": aupr}
)


def measure(sets: Sequence[FilmSet], reader: Reader, seed: int) -> dict[str, Any]:
    """Figures by set and score, the share that the gate turns away, its false alarms on usual films, and the signature."""
    usual, *others = [judge(s, reader) for s in sets]
    outliers = {o.films.name: o for o in others if o.films.role is Role.OUTLIER and len(o.scores)}
    tables = {
        figure: {name: dict(zip(COLUMNS, _by_score(score, usual, o), strict=True)) for name, o in outliers.items()}
        for figure, score in _FIGURES.items()
    }
    limits = reader.gate.thresholds
    return {
        "in_distribution": {**_gate_figures(usual, seed), "radius_quantiles": _quantiles(usual)},
        "sets": {o.films.name: {"role": str(o.films.role), **_gate_figures(o, seed)} for o in others},
        **tables,
        "auroc_ci": {
            name: {c: _auroc_interval(usual, o, i, seed) for i, c in enumerate(COLUMNS)} for name, o in outliers.items()
        },
        "radius_alone": _headline(tables["auroc"], "radius"),
        "combined": _headline(tables["auroc"], "combined"),
        "seed": seed,
        "signature": {
            "films": digest([[s.name, [p.name for p in s.pictures]] for s in sets]),
            "model": limits.model,
            "gate": limits.digest,
            "limit": limits.limit,
            "false_alarm_share": limits.false_alarm_share,
        },
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    usual = result["in_distribution"]
    low, high = usual["turned_away_ci"]
    lines = [
        f"usual frontals: turned away {usual['turned_away']:.3f} [{low:.3f}, {high:.3f}] of {usual['n']}"
        f" (asked for on calibration films: {result['signature']['false_alarm_share']}; {_reasons(usual)})",
        f"AUROC        {'n':>5} {'away':>6} " + " ".join(f"{c:>12}" for c in COLUMNS) + "   combined, 95 %   FPR@95TPR",
    ]
    for name, found in result["auroc"].items():
        entry, ci = result["sets"][name], result["auroc_ci"][name]["combined"]
        lines.append(
            f"{name:16} {entry['n']:>4} {entry['turned_away']:6.3f} "
            + " ".join(f"{shown(found[c]):>12}" for c in COLUMNS)
            + f"   [{ci[0]:.3f}, {ci[1]:.3f}]   {shown(result['fpr_at_95_tpr'][name]['combined'])}"
        )
    mixed = {k: v for k, v in result["sets"].items() if v["role"] == Role.MIXED}
    lines += [f"{k}: turned away {v['turned_away']:.3f} of {v['n']} ({_reasons(v)})" for k, v in mixed.items()]
    return "\n".join(lines)


def _by_score(score: Callable[[Floats, Floats], float | None], usual: Judged, outliers: Judged) -> list[float | None]:
    labels, scores, _ = _joined(usual, outliers)
    return [score(labels, column) for column in scores.T]


def _auroc_interval(usual: Judged, outliers: Judged, column: int, seed: int) -> tuple[float, float] | None:
    labels, scores, patients = _joined(usual, outliers)
    return interval(patients, lambda rows: auroc(labels[rows], scores[rows, column]), seed)


def _joined(usual: Judged, outliers: Judged) -> tuple[Floats, Floats, list[str]]:
    labels = np.concatenate([np.zeros(len(usual.scores)), np.ones(len(outliers.scores))])
    return labels, np.concatenate([usual.scores, outliers.scores]), [*usual.patients, *outliers.patients]


def _gate_figures(found: Judged, seed: int) -> dict[str, Any]:
    away = np.array([bool(r) for r in found.reasons], np.float64)
    patients = [p.patient for p in found.films.pictures]
    return {
        **tally(found.reasons),
        "turned_away_ci": interval(patients, lambda rows: float(away[rows].mean()), seed),
        "patients": len(set(patients)),
        "scored": len(found.scores),
    }


def _quantiles(usual: Judged) -> dict[str, float]:
    """Of the mean log radius of usual films."""
    radius = usual.scores[:, COLUMNS.index("radius")]
    return {str(q): float(np.quantile(radius, q)) for q in (0.05, 0.5, 0.95)}


def _headline(table_: Mapping[str, Mapping[str, float | None]], score: str) -> dict[str, float | None]:
    return {name: table_[name][score] if name in table_ else None for name in HEADLINE}


def _reasons(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in entry["reasons"].items()) or "no reason given"
