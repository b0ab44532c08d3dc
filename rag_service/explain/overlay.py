"""The picture of an explanation: the film, then the map of each method over it, side by side, each with its name."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rag_service.explain.explanation import Explanation
from rag_service.explain_request import Method
from rag_service.imaging.film import Box, Film

HEIGHT: Final = 512
"""Of a film in the picture, in pixels."""
_GAP: Final = 8
_TITLE: Final = 34
_FOOT: Final = 26
_GROUND: Final = (16, 18, 22)
_HOT: Final = np.array([255.0, 110.0, 0.0])
_MOST: Final = 0.6
"""How much of the film the highest cell of a map covers: the film stays visible under it."""
_BOX: Final = (0, 220, 255)
NAMES: Final = {
    Method.GRAD_CAM: "Grad-CAM",
    Method.SHAPLEY: "occlusion Shapley",
    Method.LIME: "LIME",
    Method.ATTENTION: "query attention",
}
"""Method -> its title in the picture."""

Colours = NDArray[np.uint8]


def overlay(film: Film, finding: str, made: Sequence[Explanation]) -> bytes:
    """PNG bytes: the film at true aspect and a panel for each explanation, its boxes drawn in."""
    grey = _grey(film)
    width = grey.shape[1]
    canvas = Image.new("RGB", ((width + _GAP) * (len(made) + 1) - _GAP, _TITLE + HEIGHT + _FOOT), _GROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((6, 6), finding, fill=(255, 255, 255), font=ImageFont.load_default(20))
    canvas.paste(Image.fromarray(grey).convert("RGB"), (0, _TITLE))
    for number, one in enumerate(made, 1):
        left = number * (width + _GAP)
        canvas.paste(Image.fromarray(_heated(grey, one.map)), (left, _TITLE))
        _boxes(pen, one.boxes or (), left, width)
        _words(pen, one, left)
    foot = _TITLE + HEIGHT + 4
    pen.text((6, foot), "research use; a clinician decides", fill=(150, 150, 150), font=ImageFont.load_default(14))
    out = BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()


def _grey(film: Film) -> Colours:
    width = max(1, round(HEIGHT * film.frame.columns / (film.frame.rows * film.frame.pixel_aspect)))
    image = Image.fromarray(np.rint(film.pixels * 255).astype(np.uint8))
    return np.asarray(image.resize((width, HEIGHT), Image.Resampling.LANCZOS))


def _heated(grey: Colours, places: NDArray[np.float32]) -> Colours:
    """(h, w, 3): the film with a map laid over it; cells of superpixels keep their edges."""
    wide = Image.fromarray(places).resize((grey.shape[1], grey.shape[0]), Image.Resampling.NEAREST)
    share = _MOST * np.asarray(wide)[..., None]
    return np.rint(grey[..., None] * (1 - share) + _HOT * share).astype(np.uint8)


def _boxes(pen: ImageDraw.ImageDraw, boxes: Sequence[Box], left: int, width: int) -> None:
    for box in boxes:
        across = (box.x_min * width + left, box.x_max * width + left)
        down = (box.y_min * HEIGHT + _TITLE, box.y_max * HEIGHT + _TITLE)
        pen.rectangle((across[0], down[0], across[1], down[1]), outline=_BOX, width=2)


def _words(pen: ImageDraw.ImageDraw, one: Explanation, left: int) -> None:
    pen.text((left + 6, 6), NAMES[one.method], fill=(255, 255, 255), font=ImageFont.load_default(20))
    told = "-" if one.fidelity is None else f"{one.fidelity:.2f}"
    foot = _TITLE + HEIGHT + 4
    pen.text((left + 6, foot), f"fidelity {told}", fill=(190, 190, 190), font=ImageFont.load_default(14))
