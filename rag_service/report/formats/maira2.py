"""Sentences with boxes as MAIRA-2 writes them, in and out (Bannur et al., arXiv 2406.04449).

Its boxes are fractions of the square centre crop of the film; ours are of the whole film.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rag_service.imaging.film import Box, Frame
from rag_service.report import grammar
from rag_service.report.formats.grounded import GroundedSentence
from rag_service.report.grammar import BinBox, Phrase

_MARKS: Final = str.maketrans("", "", "<>")


def write_text(sentences: Sequence[GroundedSentence], frame: Frame) -> str:
    """The sentences in the grammar; of a box, what the centre crop of a film of that frame shows, and of words no angle bracket."""
    return grammar.write([Phrase(_words(s.text), _bins(s.boxes or (), frame)) for s in sentences])


def read_text(text: str, frame: Frame) -> tuple[GroundedSentence, ...]:
    """Sentences of a text in the grammar, boxes in fractions of a film of that frame. GrammarError for any other text."""
    return tuple(GroundedSentence(p.text, _boxes(p, frame)) for p in grammar.read(text))


def _words(text: str) -> str:
    return " ".join(text.translate(_MARKS).split())


def _bins(boxes: Sequence[Box], frame: Frame) -> tuple[BinBox, ...] | None:
    cropped = (grammar.to_centre_crop(b, *frame.square_pixels) for b in boxes)
    return tuple(BinBox.of(b) for b in cropped if b is not None) or None


def _boxes(phrase: Phrase, frame: Frame) -> tuple[Box, ...] | None:
    if phrase.boxes is None:
        return None
    return tuple(grammar.from_centre_crop(b.box, *frame.square_pixels) for b in phrase.boxes)
