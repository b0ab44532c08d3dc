"""What a sentence says of anatomy: "the heart is enlarged", "normal mediastinal contours", "the lungs are clear"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from knowledge_base.findings import Polarity
from rag_service.report.anatomy_terms import PREDICATES, SUBJECTS, State, Subject
from rag_service.report.cues import CUES, Cue
from rag_service.report.phrases import Hit, Trie
from rag_service.report.scope import Scopes, Statement

MAX_GAP: Final = 14
"""Words between a subject and what is said of it."""
BRIDGES: Final = frozenset(
    {"of", "the", "in", "and", "size", "contour", "appearance", "bilateral", "visualized", "otherwise", "to"}
)
"""Words that may stand between a predicate and the subject after it ("enlargement of the heart")."""


class AnatomyReader:
    """Pairs each piece of anatomy with the state said of it."""

    def __init__(self) -> None:
        subjects: list[tuple[str, Any]] = [(p, s) for s in SUBJECTS for p in s.phrases]
        states: list[tuple[str, Any]] = [(p, state) for state, patterns in PREDICATES.items() for p in patterns]
        stops: list[tuple[str, Any]] = [(p, Cue.STOP) for p in CUES[Cue.STOP]]
        self._parts: Trie[Any] = Trie([*subjects, *states, *stops])

    def parts(self, words: Sequence[str], named: Sequence[Hit[tuple[str, ...]]]) -> list[Hit[Any]]:
        """Subjects, predicates and terminators; words of a phrase that `named` already covers are not read again."""
        taken = {at for hit in named for at in range(hit.first, hit.last)}
        return [h for h in self._parts.scan(words) if taken.isdisjoint(range(h.first, h.last))]

    def read(self, words: Sequence[str], scopes: Scopes, parts: Sequence[Hit[Any]]) -> list[Statement]:
        """Statements about the subjects among `parts`."""
        found: list[Statement] = []
        for index, part in enumerate(parts):
            if isinstance(part.value, Subject):
                found += _said_of(part, index, parts, words, scopes)
        return found


def _said_of(
    subject: Hit[Any], index: int, parts: Sequence[Hit[Any]], words: Sequence[str], scopes: Scopes
) -> Iterator[Statement]:
    """The statement a subject's nearest predicate makes: one standing directly before it, else the next after it."""
    predicate = _before(subject, index, parts, words) or _after(subject, index, parts)
    if predicate is None:
        return
    first, last = min(subject.first, predicate.first), max(subject.last, predicate.last)
    since = first if subject.first < predicate.first else 0
    cue = scopes.polarity(predicate.first, predicate.last, since)
    for finding, polarity in subject.value.readings.get(predicate.value, ()):
        if cue is Polarity.POSITIVE:
            yield Statement(finding, polarity, first, last)
        elif polarity is not Polarity.NEGATIVE and cue is not None:
            yield Statement(finding, cue, first, last)


def _before(subject: Hit[Any], index: int, parts: Sequence[Hit[Any]], words: Sequence[str]) -> Hit[Any] | None:
    at = subject.first - 1
    for part in reversed(parts[max(0, index - 3) : index]):
        while at >= part.last and words[at] in BRIDGES:
            at -= 1
        if at >= part.last:
            return None
        if isinstance(part.value, State):
            return part if part.value in subject.value.readings else None
        if not isinstance(part.value, Subject):
            return None
        at = part.first - 1
    return None


def _after(subject: Hit[Any], index: int, parts: Sequence[Hit[Any]]) -> Hit[Any] | None:
    for at in range(index + 1, min(index + 8, len(parts))):
        part = parts[at]
        if part.value is Cue.STOP or part.first - subject.last > MAX_GAP:
            return None
        if isinstance(part.value, State):
            part = _contrasted(at, parts)
            return part if part.value in subject.value.readings else None
    return None


def _contrasted(at: int, parts: Sequence[Hit[Any]]) -> Hit[Any]:
    """The predicate at `at`, or the one set against it: "hyperinflated but clear", "stable but enlarged"."""
    if parts[at].value is State.OTHER and at + 2 < len(parts):
        stop, other = parts[at + 1], parts[at + 2]
        if stop.value is Cue.STOP and isinstance(other.value, State) and other.first - stop.last <= 1:
            return other
    return parts[at]
