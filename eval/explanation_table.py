"""The measurement of explanations for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.scores import shown


def table(result: Mapping[str, Any]) -> str:
    """Maps by measure, with the controls below; methods; agreement."""
    lines = [
        f"{result['n']} findings with boxes, of films with their markers {result['n_original']}, seed {result['seed']}"
    ]
    lines += _maps(result["maps"])
    if result["maps_original"]:
        lines += ["films with their markers", *_maps(result["maps_original"])]
    lines.append(
        f"{'method':12s} {'fidelity':>9s} {'p50 s':>7s} {'random layer':>13s}   (rank correlation with itself)"
    )
    for method, v in result["methods"].items():
        numbers = f"{shown(v['fidelity']):>9s} {v['p50_seconds']:7.2f} {shown(v['sanity_rank_correlation']):>13s}"
        lines.append(f"{method:12s} {numbers}   of {result['sanity_films']} films")
    lines.append("agreement of methods: rank correlation over superpixels, IoU of the highest tenths")
    for pair in result["agreement"]:
        lines.append(f"{' and '.join(pair['methods']):24s} {_cell(pair['rank_correlation'])} {_cell(pair['top_iou'])}")
    lines.append(f"Shapley values miss their sum by at most {result['shapley_sum_missed_by']:.1e}")
    return "\n".join(lines)


def _maps(maps: Mapping[str, Any]) -> list[str]:
    measures = ("pointing", "cnr", "miou", "deletion", "insertion")
    head = f"{'map':12s} " + " ".join(f"{m:>22s}" for m in measures)
    return [head, *(f"{name:12s} " + " ".join(_cell(v[m]) for m in measures) for name, v in maps.items())]


def _cell(value: Mapping[str, Any]) -> str:
    low, high = value["ci"] or (None, None)
    return f"{shown(value['mean']):>6s} [{shown(low):>6s},{shown(high):>6s}]".rjust(22)
