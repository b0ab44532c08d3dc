"""One set of boxes from two that look differently: the place maps' and the region queries'.

Boxes that overlap are taken for the same place and averaged by weight (weighted boxes fusion, Solovyev et al., 2021); a place that
both see weighs more than one that only one of them sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rag_service.imaging.film import Box

SAME: Final = 0.3
"""IoU from which two boxes are the same place."""
MOST: Final = 3
LEAST: Final = 0.3
"""Share of the heaviest box's weight from which a further box is kept."""
_LEAST_SIDE: Final = 0.02


@dataclass(frozen=True)
class BoxChoice:
    """How a finding's boxes are made: the weight of the queries' against the place maps' (0 to 1), and how many times as wide and
    high the result is drawn. Chosen on calibration films."""

    queries: float = 0.5
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.queries <= 1.0 and 0.1 <= self.scale <= 10.0):
            raise ValueError(f"no way to make boxes: {self}")


def fused(places: Sequence[Box], queries: Sequence[Box], choice: BoxChoice) -> tuple[Box, ...]:
    """Up to three boxes, heaviest first; weights lie in (0, 1]."""
    weighed = [(b, b.weight * (1 - choice.queries)) for b in places] + [(b, b.weight * choice.queries) for b in queries]
    groups: list[list[tuple[Box, float]]] = []
    for box, weight in sorted((pair for pair in weighed if pair[1] > 0), key=lambda pair: -pair[1]):
        group = next((g for g in groups if g[0][0].iou(box) >= SAME), None)
        if group is None:
            groups.append([(box, weight)])
        else:
            group.append((box, weight))
    merged = sorted((_mean(group, choice.scale) for group in groups), key=lambda b: -b.weight)
    return tuple(b for b in merged[:MOST] if b.weight >= LEAST * merged[0].weight)


def _mean(group: Sequence[tuple[Box, float]], scale: float) -> Box:
    weights = np.array([w for _, w in group])
    corners = np.array([(b.x_min, b.y_min, b.x_max, b.y_max) for b, _ in group])
    x_min, y_min, x_max, y_max = weights @ corners / weights.sum()
    half = np.maximum(np.array([x_max - x_min, y_max - y_min]) * scale, _LEAST_SIDE) / 2
    centre = np.array([x_min + x_max, y_min + y_max]) / 2
    low = np.clip(centre - half, 0.0, 1.0 - _LEAST_SIDE)
    high = np.clip(centre + half, low + _LEAST_SIDE, 1.0)
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]), float(min(weights.sum(), 1.0)))
