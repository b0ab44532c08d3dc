"""A film cut into superpixels by SLIC (Achanta et al., TPAMI 2012, as scikit-image has it): what occlusion takes away or leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rag_service.explain.saliency import MAP_SIDE
from rag_service.imaging.film import Box

WANTED: Final = 32
"""Superpixels asked for: a lung becomes six to ten. SLIC may return somewhat fewer."""
_COMPACTNESS: Final = 0.1
"""How much nearness counts against greyness in [0, 1]: low enough to follow the edge of the heart."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Superpixels:
    """`labels` (64, 64): the superpixel of each cell of a map, numbered 0 ... count - 1 without gaps."""

    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.labels.shape != (MAP_SIDE, MAP_SIDE):
            raise ValueError(f"superpixels are labels of a {MAP_SIDE} x {MAP_SIDE} map")
        if not np.array_equal(np.unique(self.labels), np.arange(self.count)):
            raise ValueError("superpixels are numbered from 0 without gaps")

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.labels.max()) + 1

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(count,): the share of the film that each covers."""
        return np.bincount(self.labels.ravel()) / self.labels.size

    def painted(self, values: NDArray[np.floating]) -> Floats:
        """(64, 64): every cell has the value (count,) of its superpixel."""
        return np.asarray(np.asarray(values)[self.labels], np.float32)

    def means(self, places: NDArray[np.floating]) -> NDArray[np.float64]:
        """(count,): the mean of a map (64, 64) over each."""
        return np.bincount(self.labels.ravel(), np.asarray(places, np.float64).ravel()) / self.areas / self.labels.size

    def boxes(self) -> tuple[Box, ...]:
        """The box around each, in fractions of the film."""
        return tuple(
            Box(x.start / MAP_SIDE, y.start / MAP_SIDE, x.stop / MAP_SIDE, y.stop / MAP_SIDE)
            for y, x in ndimage.find_objects(self.labels + 1)
        )


def superpixels(stored: NDArray[np.uint8]) -> Superpixels:
    """Superpixels of a film as it is read, uint8 (256, 256). The same film is always cut in the same way."""
    from skimage.segmentation import slic

    cell = stored.shape[0] // MAP_SIDE
    grey = stored.reshape(MAP_SIDE, cell, MAP_SIDE, cell).mean((1, 3)) / 255.0
    labels = slic(grey, WANTED, _COMPACTNESS, channel_axis=None, start_label=0)
    return Superpixels(np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64))
