"""Average precision of boxes found on many films: all films are ranked together, as detection is scored in ChEX and COCO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.imaging.film import Box

OVERLAPS: Final = tuple(round(0.1 * i, 1) for i in range(1, 8))
"""IoU from which a box counts as found: 0.1 to 0.7, over which the mean is taken."""
RECALLS: Final = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class FilmHits:
    """One finding on one film: `scores` (k,) of the boxes found, surest first; `hits` (7, k) which of them find a reader's box at
    each of OVERLAPS; `drawn` how many boxes the readers drew."""

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    drawn: int


def film_hits(found: Sequence[Box], presence: float, truth: Sequence[Box]) -> FilmHits:
    """Boxes found on a film, each as sure as `presence` times its weight, against those drawn.

    Surest first, a box takes the drawn box that it overlaps most if none took it before; what takes none is a false alarm.
    """
    order = sorted(found, key=lambda b: -b.weight)
    overlaps = np.array([[b.iou(t) for t in truth] for b in order]).reshape(len(order), len(truth))
    hits = np.stack([_taken(overlaps, least) for least in OVERLAPS])
    return FilmHits(np.array([presence * b.weight for b in order]), hits, len(truth))


def _taken(overlaps: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """(k,): which found boxes take a drawn one, from IoUs (k, t)."""
    hits = np.zeros(len(overlaps), np.bool_)
    if not overlaps.shape[1]:
        return hits
    gone: set[int] = set()
    for i, row in enumerate(overlaps):
        best = int(row.argmax())
        hits[i] = row[best] >= least and best not in gone
        if hits[i]:
            gone.add(best)
    return hits


def average_precisions(films: Sequence[FilmHits]) -> NDArray[np.float64] | None:
    """(7,) of one finding at each of OVERLAPS: the mean over 101 recalls of the best precision at that recall or above; None
    without a drawn box."""
    drawn = sum(f.drawn for f in films)
    if not drawn:
        return None
    scores = np.concatenate([f.scores for f in films])
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([f.hits for f in films], 1)[:, order]
    return np.array([_precision(row, drawn) for row in hits])


def _precision(hits: NDArray[np.bool_], drawn: int) -> float:
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(found / drawn, RECALLS - 1e-9)].mean())
