"""Blanks what looks like a person's name, date, number or place in a report. A sentence with a blank is never quoted in a draft."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from indexer.deidentify_patterns import PATTERNS

BLANK: Final = "XXXX"
MAX_KNOWN: Final = 200
"""Parts of names and numbers that one study may bring along; a header with more is not believed beyond them."""
MAX_PART: Final = 64
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff\u202a\u202b\u202c\u202d\u202e"))
"""Characters that show nothing: between the letters of a name they would hide it."""
_SEPARATORS: Final = re.compile(r"[\s^=,;、　]+")
_ALPHABETIC: Final = re.compile(r"[\u0000-\u058f]+")
"""Scripts that put spaces between words (Latin, Greek, Cyrillic ...)."""
_LEAD: Final = r"\g<lead>" + BLANK


def blank(text: str, known: Iterable[str] = ()) -> str:
    """The text with such parts replaced by XXXX; done twice, it changes nothing more.

    `known` are names and numbers that the study's own header or table states: they are blanked wherever they stand, in any
    case. Time is proportional to the length of the text.
    """
    text = text.translate(_INVISIBLE)
    if pattern := _known(known):
        text = pattern.sub(BLANK, text)
    for pattern in PATTERNS:
        text = pattern.sub(_LEAD if "lead" in pattern.groupindex else BLANK, text)
    return text


def name_parts(name: str) -> tuple[str, ...]:
    """What of a person's name may stand alone in a report: its words, and of a name without spaces the whole too.

    Understands DICOM's form (PS3.5 6.2.1): family^given^middle^prefix^suffix in up to three scripts parted by '='.
    """
    groups = [[p for p in _SEPARATORS.split(g) if p] for g in name.split("=")]
    return tuple(dict.fromkeys([*(p for g in groups for p in g), *("".join(g) for g in groups if len(g) > 1)]))


def _known(known: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern for all parts, longest first."""
    parts = sorted({_squeezed(p)[:MAX_PART] for p in known}, key=lambda p: (-len(p), p))[:MAX_KNOWN]
    alternatives = [a for p in parts for a in _alternatives(p)]
    return re.compile("|".join(alternatives)) if alternatives else None


def _alternatives(part: str) -> Iterator[str]:
    """A part of three letters or fewer counts only as a name is written: 'Li' must not blank the middle of a list."""
    if not _ALPHABETIC.fullmatch(part):
        if len(part) > 1:
            yield re.escape(part)
        return
    if len(part) > 3:
        yield rf"(?<!\w)(?i:{re.escape(part)})(?!\w)"
    elif len(part) > 1 and part.isalpha():
        yield rf"(?<!\w)(?:{re.escape(part.title())}|{re.escape(part.upper())})(?!\w)"


def _squeezed(part: str) -> str:
    return re.sub(r"\s+", " ", part).strip()
