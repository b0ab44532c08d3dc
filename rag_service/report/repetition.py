"""Words that come twice: in one sentence, where a writer has lost its thread, and across the sentences of a draft."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

PHRASE: Final = 6
"""Words in a row that no two sentences of a draft need to share; "there is no evidence of" has five."""
_WORD: Final = re.compile(r"[a-z]+")


def repeats(text: str) -> bool:
    """Whether a word follows itself, or three words in a row come twice."""
    words = _words(text)
    threes = _runs(words, 3)
    return any(a == b for a, b in pairwise(words)) or len(set(threes)) < len(threes)


def echoes(text: str, others: Iterable[str]) -> bool:
    """Whether a sentence is one of the others over again, or shares PHRASE words in a row with one."""
    words = _words(text)
    runs = set(_runs(words, PHRASE))
    spoken = (_words(other) for other in others)
    return any(said == words or not runs.isdisjoint(_runs(said, PHRASE)) for said in spoken)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _runs(words: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
