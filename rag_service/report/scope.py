"""How far "no", "possible" and their like reach: the polarity that the cues of a sentence give to each of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from knowledge_base.findings import Polarity
from rag_service.report.cues import CUES, NOT_A_SEVERITY, PROGRESSIONS, SEVERITIES, Cue
from rag_service.report.phrases import Hit, Trie

NEW_ITEM: Final = frozenset({"a", "an", "there", "this", "the", "these", "some"})
"""After a joint these words, like a degree or a change, begin a new statement ("no effusion, a small nodule")."""
JOINTS: Final = frozenset({",", "and", "with"})
LIST_ENDS: Final = frozenset({"or", "nor", "/"})
VERSUS_REACH: Final = 8
"""Words before "versus" that it hedges."""


class Statement(NamedTuple):
    """An observation with its polarity over the tokens [first, last)."""

    finding: str
    polarity: Polarity
    first: int
    last: int


class Reach(NamedTuple):
    """The cue in force at a word, and the word it began at."""

    cue: Cue
    since: int


@dataclass(frozen=True)
class Scopes:
    """For each word the cue that reaches it from the left and the one that reaches it from the right."""

    forward: Sequence[Reach | None]
    backward: Sequence[Reach | None]

    def polarity(self, first: int, last: int, since: int = 0) -> Polarity | None:
        """Of a phrase over tokens [first, last); cues before `since` do not count. None when it is only history."""
        before, after = self.forward[first], self.backward[last - 1]
        cues = {r.cue for r in (before, after) if r is not None and r.since >= since}
        if Cue.PAST in cues:
            return None
        if cues & {Cue.HEDGE_BEFORE}:
            return Polarity.UNCERTAIN
        if cues & {Cue.DENY, Cue.DENY_BEFORE}:
            return Polarity.NEGATIVE
        return Polarity.UNCERTAIN if cues else Polarity.POSITIVE


class ScopeReader:
    """Finds the cues of a sentence and how far each reaches."""

    def __init__(self) -> None:
        self._cues = Trie((phrase, cue) for cue in reversed(Cue) for phrase in CUES.get(cue, ()))
        graded = [p for patterns in SEVERITIES.values() for p in patterns]
        changed = [p for patterns in PROGRESSIONS.values() for p in patterns]
        self._onsets = Trie([*((p, False) for p in NOT_A_SEVERITY), *((p, True) for p in (*graded, *changed))])

    def read(self, words: Sequence[str]) -> Scopes:
        """The cues in force at every word."""
        cues = self._cues.scan(words)
        if not cues:
            return Scopes([None] * len(words), [None] * len(words))
        return Scopes(self._forward(words, cues), _backward(words, cues))

    def _forward(self, words: Sequence[str], cues: Sequence[Hit[Cue]]) -> list[Reach | None]:
        starts = {hit.first: hit for hit in cues}
        onsets = {hit.first for hit in self._onsets.scan(words) if hit.value}
        lists = _list_ahead(words, starts)
        reach: Reach | None = None
        forward: list[Reach | None] = []
        for at, word in enumerate(words):
            hit = starts.get(at)
            if hit is not None:
                reach = _after_cue(reach, hit)
            joined = at > 0 and words[at - 1] in JOINTS and not lists[at]
            if joined and (at in onsets or word in NEW_ITEM):
                reach = None
            forward.append(reach)
        return forward


def _after_cue(reach: Reach | None, hit: Hit[Cue]) -> Reach | None:
    """The cue in force once `hit` is read."""
    if hit.value is Cue.STOP:
        return None
    if hit.value in {Cue.DENY, Cue.PAST}:
        return Reach(hit.value, hit.first)
    if hit.value in {Cue.HEDGE, Cue.HEDGE_BOTH}:
        return reach if reach is not None and reach.cue is Cue.DENY else Reach(Cue.HEDGE, hit.first)
    return reach


def _list_ahead(words: Sequence[str], starts: dict[int, Hit[Cue]]) -> list[bool]:
    """Whether "or" or "nor" still comes after a word, before the clause ends."""
    ahead, found = False, []
    for at in range(len(words) - 1, -1, -1):
        hit = starts.get(at)
        if hit is not None and hit.value in {Cue.STOP, Cue.DENY}:
            ahead = False
        found.append(ahead)
        ahead = ahead or words[at] in LIST_ENDS
    return found[::-1]


def _backward(words: Sequence[str], cues: Sequence[Hit[Cue]]) -> list[Reach | None]:
    ends = {hit.last - 1: hit for hit in cues}
    reach: Reach | None = None
    limit = -1
    backward: list[Reach | None] = []
    for at in range(len(words) - 1, -1, -1):
        hit = ends.get(at)
        if hit is not None:
            if hit.value in {Cue.DENY_BEFORE, Cue.HEDGE_BEFORE}:
                reach, limit = Reach(hit.value, hit.first), -1
            elif hit.value is Cue.HEDGE_BOTH:
                reach, limit = Reach(Cue.HEDGE, hit.first), at - VERSUS_REACH
            elif hit.value in {Cue.STOP, Cue.VERB, Cue.DENY}:
                reach = None
        if reach is not None and at < limit:
            reach = None
        backward.append(reach)
    return backward[::-1]
