"""The picture: the film with its boxes, numbered as the sentences are."""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from knowledge_base.findings import Polarity
from rag_service.imaging.film import Film
from rag_service.report.draft import Draft, Finding

HEIGHT: Final = 1024
_COLOURS: Final = (
    (255, 196, 0),
    (0, 200, 255),
    (255, 110, 110),
    (120, 230, 120),
    (230, 140, 255),
    (255, 160, 60),
    (160, 190, 255),
)
_PANEL: Final = 460


def picture(film: Film, draft: Draft) -> bytes:
    """PNG bytes: the film at true aspect, boxes with the numbers of their sentences, and the sentences beside it in English, whose
    letters every font has.
    """
    width = max(1, round(HEIGHT * film.frame.columns / (film.frame.rows * film.frame.pixel_aspect)))
    grey = Image.fromarray(np.rint(film.pixels * 255).astype(np.uint8)).resize(
        (width, HEIGHT), Image.Resampling.LANCZOS
    )
    canvas = Image.new("RGB", (width + _PANEL, HEIGHT), (16, 18, 22))
    canvas.paste(grey.convert("RGB"), (0, 0))
    pen = ImageDraw.Draw(canvas)
    line = 28
    for number, finding in enumerate(draft.findings, 1):
        if finding.polarity is Polarity.NEGATIVE:
            continue
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        _boxes(pen, finding, number, colour, width)
        line = _sentence(pen, finding, number, colour, width + 18, line)
    if draft.abstain_reasons:
        pen.text(
            (width + 18, 28), "no draft: " + ", ".join(draft.abstain_reasons), fill=(255, 120, 120), font=_font(20)
        )
    pen.text((width + 18, HEIGHT - 34), "research use; a clinician decides", fill=(150, 150, 150), font=_font(16))
    out = BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()


def _boxes(pen: ImageDraw.ImageDraw, finding: Finding, number: int, colour: tuple[int, int, int], width: int) -> None:
    for box in finding.boxes or ():
        corners = (box.x_min * width, box.y_min * HEIGHT, box.x_max * width, box.y_max * HEIGHT)
        pen.rectangle(corners, outline=colour, width=2 + round(2 * box.weight))
        # Each number has its own place along the top edge, so that boxes that coincide keep their numbers apart.
        left = min(corners[0] + 26 * ((number - 1) % 5), width - 28)
        pen.rectangle((left, corners[1], left + 24, corners[1] + 26), fill=colour)
        pen.text((left + 5, corners[1] + 1), str(number), fill=(0, 0, 0), font=_font(20))


def _sentence(
    pen: ImageDraw.ImageDraw, finding: Finding, number: int, colour: tuple[int, int, int], left: int, line: int
) -> int:
    """Write one sentence with its number and probability; returns where the next one goes."""
    words, rows = f"{number}. {finding.sentence_en or finding.sentence}".split(), [""]
    for word in words:
        longer = f"{rows[-1]} {word}".strip()
        if pen.textlength(longer, font=_font(20)) > _PANEL - 36:
            rows.append(word)
        else:
            rows[-1] = longer
    for row in rows:
        pen.text((left, line), row, fill=colour, font=_font(20))
        line += 26
    sure = finding.confidence
    pen.text(
        (left, line), f"{finding.label}  p {sure.p:.2f}  {sure.tier} confidence", fill=(190, 190, 190), font=_font(16)
    )
    return line + 44


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
