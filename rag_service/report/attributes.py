"""Side, place, degree and change of each statement, from its own stretch of the sentence or shared in a list."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from knowledge_base.findings import Laterality, Progression
from rag_service.report import cues
from rag_service.report.lexicon import UNSIDED
from rag_service.report.phrases import Hit, Trie
from rag_service.report.scope import Statement

BREAKS: Final = frozenset(
    {"but", ";", "however", "although", "though", "while", "whereas", "except", "without", "there", "no"}
)
CONNECTORS: Final = frozenset({",", "and", "or", "/", "with", "plus"}) | BREAKS
LISTS: Final = frozenset({",", "and", "or", "/"})
PLACING: Final = frozenset(
    {"in", "at", "within", "on", "over", "overlying", "along", "involving", "throughout", "of", "near"}
)


class Traits(NamedTuple):
    """What qualifies one statement; None where the sentence does not say."""

    laterality: Laterality | None = None
    location: str | None = None
    severity: str | None = None
    progression: Progression | None = None


class Stretch(NamedTuple):
    """The tokens [first, last) of one statement at [head, tail); `link` is what joins it to the one before it."""

    first: int
    last: int
    head: int
    tail: int
    link: str


class AttributeReader:
    """Reads the qualifiers of statements. Holds one trie per kind of qualifier."""

    def __init__(self) -> None:
        self._sides = _trie(cues.SIDES, cues.NOT_A_SIDE)
        self._places = _trie(cues.LOCATIONS, ())
        self._degrees = _trie(cues.SEVERITIES, cues.NOT_A_SEVERITY)
        self._changes = _trie(cues.PROGRESSIONS, cues.NOT_A_PROGRESSION)

    def read(self, words: Sequence[str], said: Sequence[Statement]) -> list[Traits]:
        """One `Traits` per statement, which are ordered by first token."""
        stretches = _stretches(words, said)
        sides = _shared([_side(hits) for hits in _each(self._sides, words, stretches)], stretches)
        places = _shared(_nearest_each(self._places, words, stretches), stretches)
        degrees = _nearest_each(self._degrees, words, stretches)
        changes = _shared(_nearest_each(self._changes, words, stretches), stretches)
        return [
            Traits(
                laterality=None if s.finding in UNSIDED else _value(side),
                location=None if s.finding in UNSIDED else _value(place),
                severity=_value(degree),
                progression=_value(change),
            )
            for s, side, place, degree, change in zip(said, sides, places, degrees, changes, strict=True)
        ]


def _trie(table: Mapping[Any, tuple[str, ...]], shadows: Sequence[str]) -> Trie[Any]:
    return Trie([*((p, "") for p in shadows), *((p, value) for value, patterns in table.items() for p in patterns)])


def _stretches(words: Sequence[str], said: Sequence[Statement]) -> list[Stretch]:
    """The sentence cut between neighbouring statements; statements over the same words share a stretch."""
    found: list[Stretch] = []
    for index, statement in enumerate(said):
        head, tail = statement.first, statement.last
        if found and head < found[-1].tail:
            found.append(found[-1]._replace(tail=max(tail, found[-1].tail)))
            continue
        cut, link = _cut(words, found[-1].tail, head) if found else (0, ".")
        for earlier in range(index - 1, -1, -1):
            if found[earlier].last != len(words):
                break
            found[earlier] = found[earlier]._replace(last=cut)
        found.append(Stretch(cut, len(words), head, tail, link))
    return found


def _cut(words: Sequence[str], tail: int, head: int) -> tuple[int, str]:
    """Where the stretch of a statement ending at `tail` gives way to that of the next one at `head`, and the joint."""
    joints = [at for at in range(tail, head) if words[at] in CONNECTORS]
    if not joints:
        return tail if head == tail or words[tail] not in PLACING else head, ""
    breaks = [at for at in joints if words[at] in BREAKS]
    if breaks:
        return breaks[0], words[breaks[0]]
    at = joints[-1] if words[tail] in PLACING else joints[0]
    return at, words[at]


def _each(trie: Trie[Any], words: Sequence[str], stretches: Sequence[Stretch]) -> list[list[Hit[Any]]]:
    """The hits that lie in each stretch."""
    hits = [h for h in trie.scan(words) if h.value != ""]
    if not hits:
        return [[]] * len(stretches)
    starts = [h.first for h in hits]
    return [hits[bisect_left(starts, s.first) : bisect_left(starts, s.last)] for s in stretches]


def _side(hits: Sequence[Hit[Any]]) -> Hit[Any] | None:
    """The side a stretch names; left and right together are both."""
    if not hits:
        return None
    side = hits[0].value if len({h.value for h in hits}) == 1 else Laterality.BILATERAL
    return Hit(side, hits[0].first, hits[-1].last)


def _nearest_each(trie: Trie[Any], words: Sequence[str], stretches: Sequence[Stretch]) -> list[Hit[Any] | None]:
    """For each stretch the hit nearest to its statement."""
    each = _each(trie, words, stretches)
    return [_nearest(hits, stretch) if hits else None for hits, stretch in zip(each, stretches, strict=True)]


def _nearest(hits: Sequence[Hit[Any]], stretch: Stretch) -> Hit[Any]:
    """The hit nearest to the statement; of two equally near, the one before it."""
    return min(hits, key=lambda h: (max(stretch.head - h.last, h.first - stretch.tail, 0), h.first))


def _shared(own: Sequence[Hit[Any] | None], stretches: Sequence[Stretch]) -> list[Hit[Any] | None]:
    """Qualifiers, those missing taken from list neighbours: "left effusion and atelectasis", "X and Y on the left"."""
    shared = list(own)
    if len(own) < 2 or not any(own):
        return shared
    for at in range(1, len(shared)):
        before, here = stretches[at - 1], stretches[at]
        known = shared[at - 1]
        leads = known is not None and known.first < before.head and here.link in LISTS
        if shared[at] is None and (here.link == "" or leads):
            shared[at] = known
    for at in range(len(shared) - 2, -1, -1):
        following = shared[at + 1]
        trails = following is not None and following.first >= stretches[at + 1].tail
        if shared[at] is None and trails and stretches[at + 1].link in LISTS:
            shared[at] = following
    return shared


def _value(hit: Hit[Any] | None) -> Any:
    return None if hit is None else hit.value
