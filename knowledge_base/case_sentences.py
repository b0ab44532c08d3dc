"""The unit of evidence is the case sentence: ranked cases and what is wanted in, the sentences that state it out.

A case is found as a whole, but only one of its sentences supports a statement: the one with the finding, the polarity, the
side and the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from knowledge_base.bm25 import terms
from knowledge_base.findings import Laterality, Polarity
from knowledge_base.records import Case, CaseSentence, Mention
from knowledge_base.search import CaseHit

SAME: Final = 3
PARTLY: Final = 2
UNSAID: Final = 1
OTHER: Final = 0


class Fit(NamedTuple):
    """How a mention's side and place agree with those wanted, each `SAME` (also where none is wanted), `PARTLY` ("both sides"
    for one of them, or one for both), `UNSAID` or `OTHER`. Greater is better, the side first.
    """

    side: int
    place: int


@dataclass(frozen=True)
class Wanted:
    """What a sentence should state. A side or a place that is None is not asked for."""

    finding: str
    polarity: Polarity
    laterality: Laterality | None = None
    location: str | None = None

    def fit(self, mention: Mention) -> Fit | None:
        """How well a mention fits; None when it is of another finding or of another polarity."""
        if (mention.finding, mention.polarity) != (self.finding, self.polarity):
            return None
        return Fit(_side(mention.laterality, self.laterality), _place(mention.location, self.location))


Reading: TypeAlias = Callable[[CaseSentence, str], CaseSentence | None]
"""A sentence and a finding in, what of the sentence may be used as evidence for the finding out: all, a clause, or None."""


@dataclass(frozen=True, eq=False)
class Support:
    """A sentence of a case, or a clause of it, that states what is wanted; `sentence.text` is `hit.case.text` over its span.

    `rank` is the case's among the hits, from 1; `whole` says whether it is the sentence as the case has it.
    """

    hit: CaseHit
    rank: int
    sentence: CaseSentence
    fit: Fit
    whole: bool


def supporting(hits: Sequence[CaseHit], wanted: Wanted, usable: Reading) -> tuple[Support, ...]:
    """The sentences of `hits` that state what is wanted and not on another side or place: best fit first, then by rank of
    the case, then in the order of its text.
    """
    found = [s for rank, hit in enumerate(hits, 1) for s in _of_case(hit, rank, wanted, usable)]
    return tuple(sorted(found, key=lambda s: (-s.fit.side, -s.fit.place)))


def best_sentence(
    case: Case, wanted: Sequence[Wanted], question: str, usable: Reading
) -> tuple[CaseSentence, int] | None:
    """What of a case answers a question best, with how well (0 for words alone); the first of equals.

    By what is wanted: each thing stated counts, and more on the side and at the place wanted; of the sentence, what is `usable`.
    Where nothing is wanted or a case states none of it, the sentence with the most terms of `question`. None when it has none.
    """
    graded = [(sum(_grade(s, w) for w in wanted), s) for s in case.sentences]
    for grade, sentence in sorted(graded, key=lambda g: -g[0]):
        if not grade:
            break
        stated = next(w for w in wanted if _fit_of(sentence, w) is not None)
        if (clause := usable(sentence, stated.finding)) is not None:
            return clause, grade
    asked = set(terms(question))
    shared = [len(asked & set(terms(s.text))) for s in case.sentences]
    most = max(shared, default=0)
    return (case.sentences[shared.index(most)], 0) if most else None


def _of_case(hit: CaseHit, rank: int, wanted: Wanted, usable: Reading) -> Iterator[Support]:
    for sentence in hit.case.sentences:
        if _fit_of(sentence, wanted) is None:
            continue
        clause = usable(sentence, wanted.finding)
        fit = None if clause is None else _fit_of(clause, wanted)
        if clause is not None and fit is not None and OTHER not in fit:
            yield Support(hit, rank, clause, fit, whole=clause is sentence)


def _fit_of(sentence: CaseSentence, wanted: Wanted) -> Fit | None:
    """The best fit among the mentions of a sentence."""
    fits = [fit for m in sentence.mentions if (fit := wanted.fit(m)) is not None]
    return max(fits, default=None)


def _grade(sentence: CaseSentence, wanted: Wanted) -> int:
    """0 when the sentence does not state it, else 1 to 16, the side counting for more than the place."""
    fit = _fit_of(sentence, wanted)
    return 0 if fit is None else 1 + (SAME + 1) * fit.side + fit.place


def _side(said: Laterality | None, wanted: Laterality | None) -> int:
    if wanted is None or said is wanted:
        return SAME
    if said is None:
        return UNSAID
    return PARTLY if Laterality.BILATERAL in {said, wanted} else OTHER


def _place(said: str | None, wanted: str | None) -> int:
    if wanted is None or said == wanted:
        return SAME
    return UNSAID if said is None else OTHER
