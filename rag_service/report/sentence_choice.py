"""Chooses, among the sentences of retrieved cases that pass the citation gate, the best supported one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from knowledge_base.records import CaseSentence
from knowledge_base.search import CaseHit
from rag_service.report.citations import MAX_EXTRA_WORDS, entails, extra_words, holds, speaks_of_this_film_only
from rag_service.report.decisions import Decision
from rag_service.report.draft import Citation, CounterEvidence

MAX_CITATIONS: Final = 3
MAX_COUNTER: Final = 2
_EXTRA_PENALTY: Final = 0.5
_SEVERITY_PENALTY: Final = 0.6
_MENTION_PENALTY: Final = 0.7


@dataclass(frozen=True)
class Supported:
    """A sentence that may be said, the case it is quoted from first, and the citations that carry it."""

    sentence: CaseSentence
    citations: tuple[Citation, ...]
    support: float


def choose(decision: Decision, decisions: Mapping[str, Decision], hits: Sequence[CaseHit]) -> Supported | None:
    """The sentence with the most support; None when none passes the gate.

    Cases that say the same words add up, each weighed by 1/rank; words the labeler does not read, a degree of severity and
    further mentions count against a sentence, since the image does not carry them.
    """
    groups: dict[str, list[tuple[CaseHit, CaseSentence]]] = {}
    for hit in hits:
        for sentence in hit.case.sentences:
            if holds(sentence, decision, decisions) and extra_words(sentence) <= MAX_EXTRA_WORDS:
                groups.setdefault(_key(sentence.text), []).append((hit, sentence))
    if not groups:
        return None
    rank = {hit.case.id: index + 1 for index, hit in enumerate(hits)}
    scored = {k: sum(1 / rank[h.case.id] for h, _ in g) * _quality(g[0][1]) for k, g in groups.items()}
    best = min(groups, key=lambda k: (-scored[k], len(k), k))
    return Supported(groups[best][0][1], _citations(decision, groups[best], hits), scored[best])


def counter_evidence(decision: Decision, hits: Sequence[CaseHit]) -> tuple[CounterEvidence, ...]:
    """The nearest of `hits` with a sentence that says the opposite of the decision, at most two."""
    found: list[CounterEvidence] = []
    for hit in hits:
        opposite = next((s for s in hit.case.sentences if _contradicts(s, decision)), None)
        if opposite is not None:
            found.append(CounterEvidence(str(hit.case.id), similarity(hit), opposite.text))
        if len(found) == MAX_COUNTER:
            break
    return tuple(found)


def similarity(hit: CaseHit) -> float:
    """Overlap of the two films' boxes where there is one, else the fused rank score; both in [0, 1]."""
    return hit.score if hit.box_overlap is None else hit.box_overlap


def _contradicts(sentence: CaseSentence, decision: Decision) -> bool:
    return any(m.finding == decision.label and _opposed(m.polarity, decision) for m in sentence.mentions)


def _opposed(polarity: str, decision: Decision) -> bool:
    return polarity == ("negative" if decision.present else "positive")


def _citations(
    decision: Decision, group: Sequence[tuple[CaseHit, CaseSentence]], hits: Sequence[CaseHit]
) -> tuple[Citation, ...]:
    """The cases that say these words, then others whose own sentence implies the same."""
    cited = {hit.case.id: (hit, sentence) for hit, sentence in reversed(group)}
    ordered = [cited[h.case.id] for h in hits if h.case.id in cited]
    for hit in hits:
        if len(ordered) >= MAX_CITATIONS:
            break
        other = next((s for s in hit.case.sentences if entails(s, decision) and speaks_of_this_film_only(s.text)), None)
        if hit.case.id not in cited and other is not None:
            ordered.append((hit, other))
    return tuple(
        Citation("case", str(h.case.id), s.text, s.span, similarity(h), entails(s, decision))
        for h, s in ordered[:MAX_CITATIONS]
    )


def _quality(sentence: CaseSentence) -> float:
    quality = _EXTRA_PENALTY ** extra_words(sentence)
    if any(m.severity for m in sentence.mentions):
        quality *= _SEVERITY_PENALTY
    return float(quality * _MENTION_PENALTY ** (len({m.finding for m in sentence.mentions}) - 1))


def _key(text: str) -> str:
    return re.sub(r"[^a-z ]+", "", text.lower()).strip()
