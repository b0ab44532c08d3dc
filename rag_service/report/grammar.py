"""The grammar of grounded sentences, read and written: `<obj>text<box><x10><y20><x30><y40></box></obj>`, as MAIRA-2 writes it.

An axis has BINS bins; a coordinate is the middle of its bin, in fractions of a square: of the whole film squeezed to one for our
own decoder, of the centre crop for MAIRA-2 (`from_centre_crop`, `to_centre_crop`). A sentence without a place is `<obj>text</obj>`.
Our own addition are citation slots after the boxes: `<cite_2>`. MAIRA-2: Bannur et al., arXiv 2406.04449.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rag_service.imaging.film import Box

BINS: Final = 100
"""Bins of an axis."""
LONGEST: Final = 1 << 16
"""Characters of a text that is read."""
_EDGE: Final = 1e-9
"""0.29 * 100 is a little less than 29."""
_PHRASE: Final = re.compile(
    r"<obj>([^<>]*)((?:<box><x\d{1,2}><y\d{1,2}><x\d{1,2}><y\d{1,2}></box>)*)((?:<cite_[1-9]\d?>)*)</obj>"
)
_BOX: Final = re.compile(r"<box><x(\d+)><y(\d+)><x(\d+)><y(\d+)></box>")
_CITE: Final = re.compile(r"<cite_(\d+)>")


class GrammarError(ValueError):
    """The text does not follow the grammar, or a phrase cannot be written in it; the message says where, never what it read."""


@dataclass(frozen=True)
class BinBox:
    """A box by the bins of its corners: 0 <= x_min <= x_max < BINS, y downwards."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    def __post_init__(self) -> None:
        if not (0 <= self.x_min <= self.x_max < BINS and 0 <= self.y_min <= self.y_max < BINS):
            raise GrammarError(f"not a box in bins: {self}")

    @classmethod
    def of(cls, box: Box) -> BinBox:
        """The bins in which the corners of a box lie; one on the edge of two bins lies in the second."""
        return cls(*(min(int(v * BINS + _EDGE), BINS - 1) for v in (box.x_min, box.y_min, box.x_max, box.y_max)))

    @property
    def box(self) -> Box:
        """In fractions of the square. A side that begins and ends in one bin is as wide as the bin."""
        (x_min, x_max), (y_min, y_max) = _side(self.x_min, self.x_max), _side(self.y_min, self.y_max)
        return Box(x_min, y_min, x_max, y_max)


@dataclass(frozen=True)
class Phrase:
    """One finding as a sentence, where it shows (None: it is not said; never empty), and the slots it cites, from 1, ascending."""

    text: str
    boxes: tuple[BinBox, ...] | None = None
    slots: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip() or self.text != self.text.strip() or set("<>\n\r") & set(self.text):
            raise GrammarError("the text of a phrase is one stripped line without angle brackets")
        if self.boxes == ():
            raise GrammarError("a phrase without boxes has None, not an empty tuple")
        if list(self.slots) != sorted(set(self.slots)) or any(not 1 <= s <= 99 for s in self.slots):
            raise GrammarError("slots are numbers from 1 to 99, each once, ascending")


def read(text: str) -> tuple[Phrase, ...]:
    """The phrases of a text that holds nothing else than phrases and white space. GrammarError otherwise."""
    if len(text) > LONGEST:
        raise GrammarError(f"longer than {LONGEST} characters")
    return tuple(_phrases(text))


def write(phrases: Sequence[Phrase]) -> str:
    """The phrases one after another, as a model that speaks the grammar writes them."""
    return "".join(f"<obj>{p.text}{_boxes(p.boxes)}{_cites(p.slots)}</obj>" for p in phrases)


def from_centre_crop(box: Box, columns: int, rows: int) -> Box:
    """A box in fractions of the square centre crop -> in fractions of the image it was cropped from, to whole pixels.

    As MAIRA-2's processor adjusts boxes, but no thinner than a pixel.
    """
    crop, left, top = _crop(columns, rows)
    x_min, x_max = _pixels(box.x_min, box.x_max, crop)
    y_min, y_max = _pixels(box.y_min, box.y_max, crop)
    return Box(
        (x_min + left) / columns, (y_min + top) / rows, (x_max + left) / columns, (y_max + top) / rows, box.weight
    )


def to_centre_crop(box: Box, columns: int, rows: int) -> Box | None:
    """A box in fractions of an image -> what of it lies in the square centre crop, in fractions of that; None when nothing does."""
    crop, left, top = _crop(columns, rows)
    x_min, x_max = (min(max((v * columns - left) / crop, 0.0), 1.0) for v in (box.x_min, box.x_max))
    y_min, y_max = (min(max((v * rows - top) / crop, 0.0), 1.0) for v in (box.y_min, box.y_max))
    return Box(x_min, y_min, x_max, y_max, box.weight) if x_min < x_max and y_min < y_max else None


def _phrases(text: str) -> Iterator[Phrase]:
    at = 0
    while (at := _past_space(text, at)) < len(text):
        found = _PHRASE.match(text, at)
        if found is None:
            raise GrammarError(f"no phrase at character {at}")
        words, boxes, cites = found.groups()
        placed = tuple(BinBox(*map(int, b.groups())) for b in _BOX.finditer(boxes))
        yield Phrase(words.strip(), placed or None, tuple(int(c[1]) for c in _CITE.finditer(cites)))
        at = found.end()


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _boxes(boxes: Sequence[BinBox] | None) -> str:
    return "".join(f"<box><x{b.x_min}><y{b.y_min}><x{b.x_max}><y{b.y_max}></box>" for b in boxes or ())


def _cites(slots: Sequence[int]) -> str:
    return "".join(f"<cite_{s}>" for s in slots)


def _side(low: int, high: int) -> tuple[float, float]:
    """The middles of two bins, or both edges of one."""
    return (low / BINS, (low + 1) / BINS) if low == high else ((low + 0.5) / BINS, (high + 0.5) / BINS)


def _crop(columns: int, rows: int) -> tuple[int, int, int]:
    """Side of the centre crop, and what is cut off at the left and at the top, in pixels."""
    side = min(columns, rows)
    return side, (columns - side) // 2, (rows - side) // 2


def _pixels(low: float, high: float, crop: int) -> tuple[int, int]:
    first = min(int(low * crop), crop - 1)
    return first, max(int(high * crop), first + 1)
