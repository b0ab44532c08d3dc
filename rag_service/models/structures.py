"""The lungs and the heart of one film as masks: whole, in fractions of the film, with their hulls and their widths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rag_service.imaging.film import Box
from rag_service.models.network import ANATOMY

INSIDE: Final = 0.5
"""Chance from which a place belongs to a structure."""

Masks = NDArray[np.bool_]
Floats = NDArray[np.float32]


class Span(NamedTuple):
    """A horizontal line across a structure, in fractions of the film: from x_min to x_max at height y."""

    x_min: float
    x_max: float
    y: float


@dataclass(frozen=True, eq=False)
class StructureMasks:
    """`chances` float32 (3, S, S): how likely right lung, left lung and heart (the patient's sides) lie at each place of the film,
    which they cover whole, squeezed to a square.
    """

    chances: Floats

    def __post_init__(self) -> None:
        if self.chances.ndim != 3 or len(self.chances) != len(ANATOMY):
            raise ValueError(f"masks are ({len(ANATOMY)}, S, S), got {self.chances.shape}")

    @cached_property
    def masks(self) -> Masks:
        """(3, S, S): of each structure the largest connected piece, its holes filled; all False where it is not seen."""
        return np.stack([_whole(c >= INSIDE) for c in self.chances])

    def mask(self, structure: str) -> Masks:
        """(S, S) of one of ANATOMY."""
        return np.asarray(self.masks[ANATOMY.index(structure)])

    def area(self, structure: str) -> float:
        """Fraction of the film that a structure covers."""
        return float(self.mask(structure).mean())

    def hull(self, structure: str) -> Box | None:
        """The rectangle around a structure; None where it is not seen."""
        mask = self.mask(structure)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return None
        ends = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        return Box(*(int(end) / len(mask) for end in ends))


def _whole(mask: Masks) -> Masks:
    pieces, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(pieces.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(pieces == 1 + int(sizes.argmax())), np.bool_)
