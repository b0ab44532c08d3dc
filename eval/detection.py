"""Average precision of boxes found on many films: all films are ranked together, as detection is scored in ChEX and COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.imaging.film import Box

OVERLAPS: Final = tuple(round(0.1 * i, 1) for i in range(1, 8))
"""IoU from which a box counts as found: 0.1 to 0.7, over which the mean is taken."""
RECALLS: Final = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Detection:
    """A box on a film, and how surely the finding lies there; scores of different films are compared."""

    film: str
    box: Box
    score: float


def average_precision(found: Sequence[Detection], truth: Mapping[str, Sequence[Box]], overlap: float) -> float | None:
    """Mean over 101 recalls of the best precision at that recall or above; None without a true box.

    Surest first, a box takes the true box that it overlaps most if none took it before and their IoU is `overlap` or more; what
    takes none is a false alarm.
    """
    total = sum(len(boxes) for boxes in truth.values())
    if not total:
        return None
    order = sorted(found, key=lambda d: -d.score)
    hits = np.cumsum(_hits(order, truth, overlap))
    if not len(hits):
        return 0.0
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(hits / total, RECALLS - 1e-9)
    return float(np.append(precision, 0.0)[at].mean())


def _hits(found: Sequence[Detection], truth: Mapping[str, Sequence[Box]], overlap: float) -> NDArray[np.bool_]:
    taken: set[tuple[str, int]] = set()
    hits = []
    for detection in found:
        overlaps = [detection.box.iou(t) for t in truth.get(detection.film, ())]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] >= overlap and (detection.film, best) not in taken
        if hit:
            taken.add((detection.film, best))
        hits.append(hit)
    return np.array(hits, np.bool_)
