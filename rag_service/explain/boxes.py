"""From a map of where a finding lies to boxes in fractions of the original film."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from knowledge_base.findings import Laterality
from rag_service.explain import anatomy
from rag_service.imaging.film import Box

THRESHOLD: Final = 0.5
"""Share of the map's peak that a place must reach to be inside a box."""
MAX_BOXES: Final = 3
MIN_MASS: Final = 0.15
"""Share of the heaviest box's mass below which a further box is dropped."""


def boxes(places: NDArray[np.float32], finding: str) -> tuple[Box, ...] | None:
    """Up to three boxes of a finding's map (S, S) inside its region, heaviest first; None when it has no place."""
    if finding not in anatomy.REGIONS:
        return None
    weighed = places * anatomy.prior(finding)
    peak = float(weighed.max())
    if peak <= 1e-6:
        return None
    islands, count = ndimage.label(weighed >= THRESHOLD * peak)
    masses = ndimage.sum_labels(weighed, islands, range(1, count + 1))
    order = sorted(range(count), key=lambda i: (-masses[i], i))[:MAX_BOXES]
    found = ndimage.find_objects(islands)
    heaviest = float(masses[order[0]])
    return tuple(
        _box(found[i], float(masses[i]) / heaviest, places.shape[0]) for i in order if masses[i] >= MIN_MASS * heaviest
    )


def apparent_side(found: tuple[Box, ...] | None, finding: str) -> Laterality | None:
    """The side the boxes lie on, for findings that have one. Measured, not asserted: see decision record 10."""
    if not found or finding not in anatomy.SIDED:
        return None
    sides = {anatomy.side(b.x_min, b.x_max) for b in found}
    return sides.pop() if len(sides) == 1 else Laterality.BILATERAL


def _box(place: tuple[slice, ...], weight: float, side: int) -> Box:
    rows, columns = place
    return Box(columns.start / side, rows.start / side, columns.stop / side, rows.stop / side, weight)
