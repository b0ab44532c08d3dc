"""What a network says of a film of which only some superpixels are left, the rest blurred.

What is taken away gives way to the film's own blur, not to black: black squares are painted over the markers of some public
films, a network may have learned to read them, and an edge of black would be one more thing to see. The blur keeps the mean grey
of the place and the coarse shape of the chest: what is explained is the detail on top of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rag_service.explain.superpixels import Superpixels

BLUR: Final = 6.0
"""Standard deviation of the blur in pixels of 256, as wide as a rib: chosen on calibration films, where values of a heavier blur
lay less often in readers' boxes, for the network then answers to the missing chest before it answers to the missing finding.
"""
_SEAM: Final = 2.0
"""Standard deviation in pixels over which a superpixel fades into the blur: a hard seam would be an edge of its own."""
_TOGETHER: Final = 8
"""Films read in one pass; more at once no longer fit the cache of a core."""

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Films (B, 256, 256) -> the log-odds (B,) of one finding."""


class OccludedFilm:
    """A film, uint8 (256, 256), cut into superpixels, and behind it its blur, of `blur` pixels."""

    def __init__(self, stored: NDArray[np.uint8], cut: Superpixels, scores: Scores, blur: float = BLUR) -> None:
        self._scores = scores
        self.cut = cut
        film = stored.astype(np.float32)
        self._blurred = ndimage.gaussian_filter(film, blur, mode="nearest")
        self._detail = (film - self._blurred).ravel()
        self._shares = _soft(cut, stored.shape[0])

    def log_odds(self, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The log-odds (n,) of the finding with the superpixels `kept` (n, count); those left out are blurred."""
        parts = [self._scores(self._films(kept[i : i + _TOGETHER])) for i in range(0, len(kept), _TOGETHER)]
        return np.concatenate([np.zeros(0), *parts])

    def _films(self, kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
        detail = (kept.astype(np.float32) @ self._shares) * self._detail
        films = self._blurred + detail.reshape(len(kept), *self._blurred.shape)
        return np.clip(np.rint(films), 0, 255).astype(np.uint8)


def _soft(cut: Superpixels, side: int) -> NDArray[np.float32]:
    """(count, side * side): how much of each pixel belongs to each superpixel; the shares of a pixel add up to 1."""
    wide = np.repeat(np.repeat(cut.labels, side // len(cut.labels), 0), side // len(cut.labels), 1)
    shares = [
        ndimage.gaussian_filter((wide == i).astype(np.float32), _SEAM, mode="nearest").ravel() for i in range(cut.count)
    ]
    return np.stack(shares)
