"""A study as other models may take it: the film as a picture, words as words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from rag_service.imaging.film import Film

if TYPE_CHECKING:
    from PIL.Image import Image

_MARK: Final = re.compile(r"<(?=[^\s\d=<])")


def picture(film: Film) -> Image:
    """The film as RGB of 8 bits with square pixels, its darkest to its brightest stretched over 0 to 255."""
    from PIL import Image

    low, high = float(film.pixels.min()), float(film.pixels.max())
    spread = (high - low) or 1.0
    grey = (film.pixels - low) / spread * 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB").resize(film.frame.square_pixels)


def plain(text: str) -> str:
    """The text on one line, with no "<" that could open a mark such as <image>, </s> or <end_of_turn>; "<5 mm" stays."""
    return _MARK.sub("< ", " ".join(text.split()))
