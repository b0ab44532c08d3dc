"""Ranks the case sentences that pass the citation gate by their support, and finds what else supports or opposes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from knowledge_base.case_sentences import Support, Wanted
from knowledge_base.duplicates import is_repeated
from knowledge_base.findings import Polarity
from knowledge_base.records import CaseSentence
from knowledge_base.search import CaseHit
from rag_service.report.citations import MAX_EXTRA_WORDS, extra_words, is_statement, objections
from rag_service.report.comparisons import as_sentence
from rag_service.report.decisions import Decision
from rag_service.report.draft import Citation
from rag_service.report.verification import implies

MAX_CITATIONS: Final = 3
MAX_COUNTER: Final = 2
_EXTRA_PENALTY: Final = 0.5
_SEVERITY_PENALTY: Final = 0.6
_MENTION_PENALTY: Final = 0.7


@dataclass(frozen=True)
class Supported:
    """A sentence that may be said, the case it is quoted from first, and the citations that carry it.

    `said` are its words as the draft says them: a clause gets a capital and a stop.
    """

    sentence: CaseSentence
    said: str
    citations: tuple[Citation, ...]
    support: float


def opposite_of(decision: Decision) -> Wanted:
    """What a sentence states that contradicts a decision, on any side."""
    return Wanted(decision.label, Polarity.NEGATIVE if decision.present else Polarity.POSITIVE)


def choices(decision: Decision, decisions: Mapping[str, Decision], found: Sequence[Support]) -> Iterator[Supported]:
    """The sentences that pass the gate, the one with the most support first.

    Cases that say the same words add up, each weighed by 1/rank; words the labeler does not read, a degree of severity and
    further mentions count against a sentence, since the image does not carry them. A clause comes after all that cases say in
    sentences of their own.
    """
    groups: dict[str, list[Support]] = {}
    for support in found:
        if not objections(support.sentence, decision, decisions) and extra_words(support.sentence) <= MAX_EXTRA_WORDS:
            groups.setdefault(_key(support.sentence.text), []).append(support)
    scored = {k: sum(1 / s.rank for s in group) * _quality(group[0]) for k, group in groups.items()}
    for key in sorted(groups, key=lambda k: (not groups[k][0].whole, -scored[k], len(k), k)):
        first = groups[key][0]
        said = first.sentence.text if first.whole else as_sentence(first.sentence.text)
        yield Supported(first.sentence, said, cite(first.sentence, groups[key], found), scored[key])


def cite(sentence: CaseSentence, named: Sequence[Support], found: Sequence[Support]) -> tuple[Citation, ...]:
    """At most MAX_CITATIONS of studies of their own that each make the sentence true alone: those `named` for it first. Nothing
    that gives orders or holds markup is cited.
    """
    stating = (s for s in (*named, *found) if implies(s, sentence) and is_statement(s.sentence.text))
    cited = nearest(stating, MAX_CITATIONS)
    return tuple(_citation(s) for s in cited)


def nearest(found: Iterable[Support], limit: int) -> tuple[Support, ...]:
    """The first `limit` that are from studies of their own."""
    kept: list[Support] = []
    for support in found:
        if not is_repeated(support.hit, [s.hit for s in kept]):
            kept.append(support)
        if len(kept) == limit:
            break
    return tuple(kept)


def similarity(hit: CaseHit) -> float:
    """Overlap of the two films' boxes where there is one, else the score of the search."""
    return hit.score if hit.box_overlap is None else hit.box_overlap


def _citation(support: Support) -> Citation:
    sentence, case = support.sentence, str(support.hit.case.id)
    return Citation("case", case, sentence.text, sentence.span, similarity(support.hit), entails=True)


def _quality(support: Support) -> float:
    sentence = support.sentence
    quality = _EXTRA_PENALTY ** extra_words(sentence)
    if any(m.severity for m in sentence.mentions):
        quality *= _SEVERITY_PENALTY
    return float(quality * _MENTION_PENALTY ** (len({m.finding for m in sentence.mentions}) - 1))


def _key(text: str) -> str:
    return re.sub(r"[^a-z ]+", "", text.lower()).strip()
