"""python -m eval bl-tta DIR: what the number of samples in the box buys, and what the box buys over its centre."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, scores
from eval.paired import difference
from eval.readings import Readings, labels
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow
from rag_service.models.encoder import BL_TTA_SEED, FilmEncoder

COUNTS: Final = (1, 2, 4, 8, 16, 32)
"""Samples in the box; 1 is its centre alone."""
POINT: Final = 1
FINEST: Final = COUNTS[-1]
TIMED: Final = 50
"""Films, one at a time, whose heads are timed."""

Floats = NDArray[np.float64]


def measure(
    rows: Sequence[FilmRow], read: Readings, encoder: FilmEncoder, calibration: Calibration, seed: int
) -> dict[str, Any]:
    """The curve over COUNTS, whether it repeats bit for bit, and the box as the service samples it against its centre.

    `read` is row by row with `rows`, labelled films; only the head is computed anew, on the boxes read before.
    """
    counts = sorted({*COUNTS, encoder.bl_tta})
    raw = {n: encoder.over_box(read.centre, read.radius, n) for n in counts}
    p = {n: calibration.probabilities(raw[n][0]) for n in counts}
    truth = labels(rows)
    return {
        "curve": [_point(n, raw, p[n], truth, _milliseconds(read, encoder, n)) for n in counts],
        "repeats_bit_for_bit": all(_same(raw[n], encoder.over_box(read.centre, read.radius, n)) for n in counts),
        "samples_in_service": encoder.bl_tta,
        "box_minus_point": _against_point(rows, truth, p[encoder.bl_tta], p[POINT], seed),
        "n_films": len(rows),
        "seed": seed,
        "signature": {
            "films": films.signature(list(rows)),
            "model": encoder.record.id,
            "thresholds": calibration.digest,
            "calibrated_at": encoder.bl_tta,
            "sampler": f"scrambled Sobol, mirrored, seed {BL_TTA_SEED}",
            "bootstrap": scores.RESAMPLES,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['n_films']} films, seed {result['seed']}"]
    lines.append(f"{'N':>4s}{'AUROC':>8s}{'Brier':>9s}{'ECE':>8s}{f'|p - p{FINEST}|':>11s}{'sd':>9s}{'ms/film':>9s}")
    for v in result["curve"]:
        numbers = f"{scores.shown(v['macro_auroc'], 4):>8s}{v['brier_macro']:9.5f}{v['ece_macro']:8.4f}"
        lines.append(f"{v['samples']:4d}{numbers}{v['gap']:11.6f}{v['sd']:9.5f}{v['ms_per_film']:9.3f}")
    lines.append(f"repeats bit for bit: {'yes' if result['repeats_bit_for_bit'] else 'NO'}")
    for metric, v in result["box_minus_point"].items():
        ci = "no interval" if v["ci"] is None else f"[{v['ci'][0]:+.5f}, {v['ci'][1]:+.5f}]"
        gain = scores.shown(v["difference"], 5)
        lines.append(f"N = {result['samples_in_service']} minus the centre alone, {metric}: {gain} {ci}")
    return "\n".join(lines)


def _point(
    count: int, raw: Mapping[int, tuple[Floats, Floats]], p: Floats, truth: Floats, milliseconds: float
) -> dict[str, Any]:
    """One count: scores of calibrated probabilities; `gap` to the finest count and `sd` over the samples, both before."""
    mean, spread = raw[count]
    return {
        "samples": count,
        "macro_auroc": scores.macro_auroc(truth, p),
        "brier_macro": scores.macro(scores.brier, truth, p),
        "ece_macro": scores.macro(scores.ece, truth, p),
        "gap": float(np.abs(mean - raw[FINEST][0]).mean()),
        "sd": float(spread.mean()),
        "ms_per_film": milliseconds,
    }


def _against_point(
    rows: Sequence[FilmRow], truth: Floats, box: Floats, point: Floats, seed: int
) -> dict[str, dict[str, Any]]:
    patients = [f"{r.source}/{r.patient}" for r in rows]

    def paired(metric: Any) -> dict[str, Any]:
        return difference(patients, lambda i: metric(truth[i], box[i]), lambda i: metric(truth[i], point[i]), seed)

    return {
        "macro_auroc": paired(scores.macro_auroc),
        "brier_macro": paired(lambda labels, p: scores.macro(scores.brier, labels, p)),
    }


def _milliseconds(read: Readings, encoder: FilmEncoder, count: int) -> float:
    """Median time of the head for one film, its samples drawn beforehand as in the service."""
    ready = FilmEncoder(encoder.record, encoder.network, count)
    seconds = []
    for centre, radius in zip(read.centre[:TIMED, None], read.radius[:TIMED, None], strict=True):
        begun = perf_counter()
        ready.probabilities_at(centre, radius)
        seconds.append(perf_counter() - begun)
    return 1000 * median(seconds)


def _same(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))
