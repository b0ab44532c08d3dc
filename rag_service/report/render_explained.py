"""An explained finding as text for a terminal."""

from __future__ import annotations

from typing import Final

import numpy as np

from rag_service.imaging.film import Box
from rag_service.report.explained import ExplainAnswer, MethodExplanation

SHOWN: Final = 3
"""Superpixels told of each method, those with the highest values."""


def render(answer: ExplainAnswer) -> str:
    """Lines: what is explained, each method with its boxes and highest superpixels, and how far methods agree."""
    if answer.abstain_reasons:
        return f"not explained: {', '.join(answer.abstain_reasons)}"
    lines = [
        f"{answer.finding}  p {answer.p:.2f}  log-odds {answer.log_odds:+.2f}, of the blurred film {answer.log_odds_blurred:+.2f}"
    ]
    for one in answer.explanations:
        lines += [f"{one.method}  fidelity {_number(one.fidelity)}", *_highest(one, answer)]
        lines += [f"    box {_place(box)}  weight {box.weight:.2f}" for box in one.boxes or ()]
    for pair in answer.agreements:
        first, second = pair.methods
        lines.append(
            f"{first} and {second}: rank correlation {_number(pair.rank_correlation)}, highest tenths' IoU {pair.top_iou:.2f}"
        )
    return "\n".join(lines)


def _highest(one: MethodExplanation, answer: ExplainAnswer) -> list[str]:
    order = np.argsort(-np.asarray(one.values), kind="stable")[:SHOWN].tolist()
    return [f"    {one.values[i]:+.3f} at {_place(answer.superpixels[i].box)}" for i in order]


def _place(box: Box) -> str:
    return f"x {box.x_min:.2f}-{box.x_max:.2f} y {box.y_min:.2f}-{box.y_max:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
