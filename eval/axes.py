"""python -m eval axes DIR: is each axis of the box what it is named after, and is its radius an uncertainty?

On films that the naming has not seen: how well the centre along an axis tells the label it is named after; how much the radius
rises when the device changes; and whether films that are wide on an axis are those whose named finding is misjudged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval import films, scores
from eval.readings import Readings, labels
from eval.shift import acquisition, sweep
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow
from rag_service.datasets.mesh import Tag
from rag_service.models.encoder import FilmEncoder

STRENGTH: Final = 2.0
"""Of the device shift, in units of what training varies."""
TELLING: Final = 0.7
"""AUROC from which an axis is counted as telling its label."""
TOP: Final = 3
"""Axes listed for each finding, as many as a draft shows."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AxisName:
    """What an axis is named after, a finding or a MeSH heading, and whether its centre rises or falls with it."""

    label: str
    sign: int

    @classmethod
    def parse(cls, text: str) -> AxisName:
        """From "Cardiomegaly (+)"."""
        label, _, sign = text.rpartition(" ")
        return cls(label, -1 if sign == "(-)" else 1)


def shifted_radius(rows: Sequence[FilmRow], encoder: FilmEncoder, side: int, seed: int) -> Floats:
    """Radii (n, d) of the films under a change of device at STRENGTH, painted where training paints at input `side`."""
    unit, found = acquisition.unit(side), []
    for start in tqdm(range(0, len(rows), sweep.BATCH), desc="reading shifted films", unit="batch"):
        batch = rows[start : start + sweep.BATCH]
        changed = [
            acquisition.shifted(sweep.stored(r.path), "device", STRENGTH, (seed, sweep.own_seed(r)), unit)
            for r in batch
        ]
        found += [r.box.radius for r in encoder.read_stored(np.stack(changed))]
    return np.stack(found).astype(np.float64)


def measure(
    rows: Sequence[FilmRow], read: Readings, shifted: Floats, encoder: FilmEncoder, calibration: Calibration, seed: int
) -> dict[str, Any]:
    """Every axis, a summary over axes, and the axes that matter most to each finding.

    `read` and `shifted` (n, d) are row by row with `rows`.
    """
    names = [AxisName.parse(n) for n in calibration.axis_names]
    truth = np.stack([target(rows, n.label) for n in names], 1)
    told = read.centre * [n.sign for n in names]
    errors = np.abs(labels(rows) - calibration.probabilities(read.scores))
    every = [_axis(j, n, truth[:, j], told[:, j], read, shifted, errors) for j, n in enumerate(names)]
    patients = [f"{r.source}/{r.patient}" for r in rows]
    return {
        "summary": _summary(every, truth, told, read, errors, patients, seed),
        "axes": every,
        "of_findings": {f: _of_finding(i, every, read, labels(rows)[:, i], encoder) for i, f in enumerate(FINDINGS)},
        "n_films": len(rows),
        "seed": seed,
        "signature": {
            "films": films.signature(list(rows)),
            "model": encoder.record.id,
            "thresholds": calibration.digest,
            "shift": f"device at {STRENGTH:g} times the training program's ranges",
            "bootstrap": scores.RESAMPLES,
        },
    }


def target(rows: Sequence[FilmRow], label: str) -> Floats:
    """(n,): whether each film's study has the finding or the MeSH heading; NaN where the source does not say."""
    if label in FINDINGS:
        return labels(rows)[:, FINDINGS.index(label)]
    headings = [None if r.tags is None else {Tag.parse(t).heading for t in r.tags} for r in rows]
    return np.array([np.nan if h is None else float(label in h) for h in headings])


def table(result: Mapping[str, Any]) -> str:
    """The summary and the top axes of each finding, for a reader."""
    v = result["summary"]
    lines = [
        f"{result['n_films']} films, seed {result['seed']}; {v['axes']} axes, {v['named_by_finding']} named after a finding",
        f"AUROC of the centre for the axis's own label: mean {_with(v['auroc'])}; {v['telling']} axes from {TELLING} up",
        f"mean radius {v['mean_radius']:.4f}; at a device shift of {STRENGTH:g}x {v['radius_ratio']:.3f} times as wide, "
        f"wider on {v['axes_wider']} axes",
        f"radius against error, axis by axis for its named finding: mean rank correlation {_with(v['error_by_axis'])} "
        f"({v['positive_by_axis']} of {v['named_by_finding']} positive)",
        f"mean radius against mean error of a film: rank correlation {_with(v['error_by_film'])}",
        f"{'finding':28s} axes that matter most (name, AUROC for the finding, mean radius)",
    ]
    for finding, axes in result["of_findings"].items():
        told = "; ".join(
            f"{a['axis']} {a['name']} {scores.shown(a['auroc'], 2)} r {a['mean_radius']:.3f}" for a in axes
        )
        lines.append(f"{finding:28s} {told}")
    return "\n".join(lines)


def _axis(
    index: int, name: AxisName, truth: Floats, told: Floats, read: Readings, shifted: Floats, errors: Floats
) -> dict[str, Any]:
    known = ~np.isnan(truth)
    radius = read.radius[:, index]
    return {
        "axis": index,
        "name": name.label,
        "sign": name.sign,
        "auroc": scores.auroc(truth[known], told[known]),
        "positives": int(truth[known].sum()),
        "films": int(known.sum()),
        "mean_radius": float(radius.mean()),
        "radius_ratio": float(shifted[:, index].mean() / radius.mean()),
        "error_correlation": _error_correlation(name, radius, errors),
    }


def _error_correlation(name: AxisName, radius: Floats, errors: Floats) -> float | None:
    """None for an axis named after what the model gives no probability of."""
    if name.label not in FINDINGS:
        return None
    error = errors[:, FINDINGS.index(name.label)]
    known = ~np.isnan(error)
    return scores.rank_correlation(radius[known], error[known])


def _summary(
    axes: Sequence[Mapping[str, Any]],
    truth: Floats,
    told: Floats,
    read: Readings,
    errors: Floats,
    patients: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    names = [AxisName(a["name"], a["sign"]) for a in axes]
    correlations = [a["error_correlation"] for a in axes if a["error_correlation"] is not None]
    width, mean_error = read.radius.mean(1), np.nanmean(errors, axis=1)

    def by_axis(rows: NDArray[np.int64]) -> float | None:
        found = [_error_correlation(n, read.radius[rows, j], errors[rows]) for j, n in enumerate(names)]
        return scores.mean_known(found)

    def by_film(rows: NDArray[np.int64]) -> float | None:
        return scores.rank_correlation(width[rows], mean_error[rows])

    def areas(rows: NDArray[np.int64]) -> float | None:
        return scores.macro_auroc(truth[rows], told[rows])

    return {
        "axes": len(axes),
        "named_by_finding": sum(n.label in FINDINGS for n in names),
        "auroc": _headline(areas, patients, seed),
        "telling": sum(a["auroc"] is not None and a["auroc"] >= TELLING for a in axes),
        "mean_radius": float(read.radius.mean()),
        "radius_ratio": float(np.mean([a["radius_ratio"] for a in axes])),
        "axes_wider": sum(a["radius_ratio"] > 1 for a in axes),
        "error_by_axis": _headline(by_axis, patients, seed),
        "positive_by_axis": sum(c > 0 for c in correlations),
        "error_by_film": _headline(by_film, patients, seed),
    }


def _headline(statistic: Any, patients: Sequence[str], seed: int) -> dict[str, Any]:
    every = np.arange(len(patients))
    return {"value": statistic(every), "ci": scores.interval(patients, statistic, seed)}


def _of_finding(
    index: int, axes: Sequence[Mapping[str, Any]], read: Readings, truth: Floats, encoder: FilmEncoder
) -> list[dict[str, Any]]:
    """The axes whose radius moves the finding's logit most, as a draft ranks them, by their mean over the films."""
    weights = encoder.finding_weights[index]
    order = np.argsort(-np.abs(weights) * read.radius.mean(0), kind="stable")[:TOP]
    known = ~np.isnan(truth)
    return [
        {
            "axis": int(j),
            "name": f"{axes[j]['name']} ({'-' if axes[j]['sign'] < 0 else '+'})",
            "auroc": scores.auroc(truth[known], np.sign(weights[j]) * read.centre[known, j]),
            "mean_radius": axes[j]["mean_radius"],
        }
        for j in order
    ]


def _with(headline: Mapping[str, Any]) -> str:
    ci = headline["ci"]
    return scores.shown(headline["value"]) + ("" if ci is None else f" [{ci[0]:.3f}, {ci[1]:.3f}]")
