"""Where the sentences of a report begin and end, and a case's sentences with what the labeler reads in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from knowledge_base.records import CaseSentence, Mention

ABBREVIATIONS: Final = frozenset(
    {
        "dr",
        "mr",
        "mrs",
        "ms",
        "vs",
        "e.g",
        "i.e",
        "eg",
        "ie",
        "approx",
        "ca",
        "cf",
        "fig",
        "st",
        "resp",
        "incl",
        "min",
        "max",
    }
)
"""A full stop after one of these ends nothing."""
UNITS: Final = frozenset(
    {"cm", "mm", "ml", "cc", "kg", "yr", "yrs", "hr", "hrs", "r", "l", "no", "a.m", "p.m", "pt", "etc"}
)
"""A full stop after one of these ends a sentence only before a capital letter."""
HEADER: Final = re.compile(
    r"(?:^|(?<=[\s.:]))"
    r"(?:FINDINGS?|IMPRESSIONS?|CONCLUSIONS?|OPINION|COMPARISONS?|INDICATIONS?|TECHNIQUE|HISTORY|CLINICAL HISTORY|"
    r"CLINICAL INFORMATION|EXAM|EXAMINATION|PROCEDURE|REASON FOR EXAM|REASON FOR EXAMINATION|RECOMMENDATIONS?|"
    r"ADDENDUM|FINAL REPORT|WET READ|SUMMARY)(?:[ \t]+AND[ \t]+IMPRESSION)?[ \t]{0,4}:",
    re.IGNORECASE,
)
LIST_MARK: Final = re.compile(r"\(?\d{1,2}[.)](?=\s|[A-Z])\s*|[-*\u2022\u2013\u2014]{1,3}\s+")
STOP: Final = re.compile(r"[.!?]{1,5}[\"')\]]{0,3}(?=\s|$)|(?<=[a-z)])[.!?](?=[A-Z][a-z])|\n")
SECTIONS: Final = {
    "finding": "findings",
    "findings": "findings",
    "impression": "impression",
    "impressions": "impression",
}
REQUEST: Final = frozenset(
    {
        "comparison", "comparisons", "indication", "indications", "technique", "history", "clinical history", "exam",
        "clinical information", "examination", "procedure", "reason for exam", "reason for examination",
    }
)  # fmt: skip
"""Sections that say why and how the film was made: what they name is no finding."""


class Reader(Protocol):
    """Contract: `read` gives the mentions of one sentence with spans shifted by `offset`, and never raises on text."""

    def read(self, sentence_text: str, offset: int = 0) -> tuple[Mention, ...]:
        """Mentions of one sentence."""
        ...


def split_sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence, in order and apart; text[start:end] is stripped and holds a letter or digit.

    Section headers ("FINDINGS:") and list marks ("1.") are no part of a sentence. Decimals, abbreviations and XXXX
    marks do not end one; a line break does when the next line is blank, a header or a list item, or starts with a
    capital.
    """
    found: list[tuple[int, int]] = []
    for start, end, _ in _sections(text):
        found += _of_section(text, start, end)
    return found


def read_case_sentences(text: str, labeler: Reader) -> tuple[CaseSentence, ...]:
    """The sentences of a case text "FINDINGS: ...\\nIMPRESSION: ..."; spans are in `text`.

    Text before any header is findings. Sentences of a `REQUEST` section keep its name and carry no mentions.
    """
    return tuple(
        CaseSentence(text[a:b], (a, b), section, () if section in REQUEST else labeler.read(text[a:b], a))
        for start, end, section in _sections(text)
        for a, b in _of_section(text, start, end)
    )


def _sections(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, name) of the text under each header; a header of neither section keeps its own name, lower case."""
    start, name = 0, "findings"
    for header in HEADER.finditer(text):
        yield start, header.start(), name
        title = header.group().rstrip(" \t:").lower()
        start, name = header.end(), SECTIONS.get(title, title)
    yield start, len(text), name


def _of_section(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Sentences of one section's text."""
    begin = start
    for stop in STOP.finditer(text, start, end):
        if stop.start() < begin:
            continue
        begin = _past_marks(text, begin, end)
        if stop.start() < begin or not _ends(text, begin, stop, end):
            continue
        yield from _trimmed(text, begin, stop.end())
        begin = stop.end()
    yield from _trimmed(text, _past_marks(text, begin, end), end)


def _past_marks(text: str, begin: int, end: int) -> int:
    """Past white space and one list mark."""
    while begin < end and text[begin].isspace():
        begin += 1
    mark = LIST_MARK.match(text, begin, end)
    return mark.end() if mark else begin


def _ends(text: str, begin: int, stop: re.Match[str], end: int) -> bool:
    """Whether a full stop or a line break closes the sentence begun at `begin`."""
    after = stop.end()
    while after < end and text[after] in " \t\r":
        after += 1
    if stop.group() == "\n":
        return after >= end or text[after] == "\n" or text[after].isupper() or bool(LIST_MARK.match(text, after, end))
    word = _word_before(text, begin, stop.start())
    if word in ABBREVIATIONS:
        return after >= end
    if word in UNITS:
        return after >= end or not text[after].islower()
    return True


def _word_before(text: str, begin: int, at: int) -> str:
    """The word ending at `at`, lower case; longer than 8 characters it is no abbreviation."""
    first = at
    while first > begin and at - first < 9 and (text[first - 1].isalnum() or text[first - 1] == "."):
        first -= 1
    return text[first:at].lower()


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The span without white space at its ends, if any letter or digit is in it."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if any(c.isalnum() for c in text[start:end]):
        yield start, end
