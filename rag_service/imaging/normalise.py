"""From a film to what the network reads: the whole film squeezed to a square, its grey levels stretched.

The square keeps the whole field of view and makes fractions of the input equal to fractions of the original, so boxes
need no offsets; the network is trained with jittered aspect. One function serves training and serving alike.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PREPROCESSING: Final = "squeeze256-p0.5-99.5@1"
"""Name and version; part of every index manifest."""
STORED_SIDE: Final = 256
_LOW, _HIGH = 0.5, 99.5


def squeeze(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Film pixels (rows, columns) in [0, 1] -> uint8 (256, 256), antialiased."""
    image = Image.fromarray(np.ascontiguousarray(pixels, np.float32))
    small = np.asarray(image.resize((STORED_SIDE, STORED_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))
    return np.clip(np.rint(small * 255.0), 0, 255).astype(np.uint8)


def stretch(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (256, 256) -> float32 in [0, 1]: the 0.5th to the 99.5th percentile of grey mapped to the whole range."""
    low, high = np.percentile(stored, (_LOW, _HIGH))
    grey = (stored.astype(np.float32) - np.float32(low)) / np.float32(max(float(high - low), 1.0))
    return np.asarray(np.clip(grey, 0.0, 1.0), np.float32)


def to_stored(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Film pixels (rows, columns) in [0, 1] -> uint8 (256, 256), squeezed and stretched: what encoders read."""
    return np.asarray(np.rint(stretch(squeeze(pixels)) * 255.0), np.uint8)
