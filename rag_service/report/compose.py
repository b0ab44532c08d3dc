"""From decisions and retrieved evidence to the findings of a draft: each sentence verbatim from a case, each cited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from knowledge_base.case_sentences import Support, Wanted
from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.guideline_search import PassageHit
from rag_service.report.decisions import Decision
from rag_service.report.draft import Citation, CounterEvidence, Finding, NotAssessed, SeparatingAxis
from rag_service.report.sentence_choice import MAX_COUNTER, choose, nearest, opposite_of, similarity, wanted_of
from rag_service.report.sentences import split_sentences

NO_SENTENCE: Final = "no_case_sentence_passes_the_citation_gate"
TOO_FAR: Final = "no_case_is_near_enough"
"""Cases say it in fitting words, but none of them passes the relevance gate."""


class Evidence(Protocol):
    """Contract: case sentences for and against what is wanted, nearest first, none from the film itself; passages for a finding.

    `prior` says whether the patient has an earlier film, so that evidence may compare.
    """

    @property
    def prior(self) -> bool:
        """Whether the patient has an earlier film."""
        ...

    def supporting(self, wanted: Wanted) -> Sequence[Support]:
        """Sentences that state what is wanted, from however far."""
        ...

    def opposing(self, wanted: Wanted) -> Sequence[Support]:
        """Sentences that state what is wanted, of the cases whose films are nearest by their boxes."""
        ...

    def passes(self, support: Support, polarity: Polarity) -> bool:
        """Whether a case lies near enough to the film to be evidence for a statement of that polarity."""
        ...

    def separating(self, support: Support, finding: str) -> tuple[SeparatingAxis, ...]:
        """The axes that tell the film from a case, for a finding."""
        ...

    def passages(self, finding: str, sentence: str) -> Sequence[PassageHit]:
        """Guideline passages on a finding, best first."""
        ...


@dataclass(frozen=True)
class Composition:
    """What is said, and of what nothing is said and why."""

    findings: tuple[Finding, ...]
    not_assessed: tuple[NotAssessed, ...]


def compose(decisions: Mapping[str, Decision], evidence: Evidence) -> Composition:
    """The findings in CheXpert order, those present before those denied."""
    said: list[Finding] = []
    silent: list[NotAssessed] = []
    for label in FINDINGS:
        if label == NO_FINDING:
            continue
        decision = decisions[label]
        finding = _finding(decision, decisions, evidence) if decision.polarity is not None else decision.silence
        if isinstance(finding, Finding):
            said.append(finding)
        else:
            silent.append(NotAssessed(label, finding or NO_SENTENCE, decision.present, decision.confidence.p))
    said.sort(key=lambda f: f.polarity is Polarity.NEGATIVE)
    return Composition(tuple(said), tuple(silent))


def _finding(decision: Decision, decisions: Mapping[str, Decision], evidence: Evidence) -> Finding | str:
    """The finding, or why it is not said."""
    assert decision.polarity is not None  # noqa: S101  (the caller's condition, restated for the type checker)
    stating = evidence.supporting(wanted_of(decision))
    near = [s for s in stating if evidence.passes(s, decision.polarity)]
    chosen = choose(decision, decisions, near, evidence.prior)
    if chosen is None:
        return NO_SENTENCE if choose(decision, decisions, stating, evidence.prior) is None else TOO_FAR
    sentence = chosen.sentence
    read = next(m for m in sentence.mentions if m.finding == decision.label)
    passages = evidence.passages(decision.label, sentence.text) if decision.present else ()
    return Finding(
        id=decision.label.lower().replace(" ", "-"),
        label=decision.label,
        sentence=chosen.said,
        polarity=decision.polarity,
        laterality=decision.laterality,
        location=read.location,
        severity=read.severity,
        progression=None,
        boxes=decision.boxes,
        confidence=decision.confidence,
        uncertainty=decision.uncertainty,
        citations=(*chosen.citations, *(quote_passage(h, decision.label) for h in passages)),
        counter_evidence=_counter_evidence(decision, evidence),
        concepts=decision.concepts,
    )


def _counter_evidence(decision: Decision, evidence: Evidence) -> tuple[CounterEvidence, ...]:
    """The nearest cases that say the opposite, where they lie near enough, each with what tells it from the film."""
    opposite = opposite_of(decision)
    near = [s for s in evidence.opposing(opposite) if evidence.passes(s, opposite.polarity)]
    return tuple(
        CounterEvidence(
            str(s.hit.case.id),
            similarity(s.hit),
            s.sentence.text,
            s.sentence.span,
            evidence.separating(s, decision.label),
        )
        for s in nearest(near, MAX_COUNTER)
    )


def quote_passage(hit: PassageHit, finding: str) -> Citation:
    """The passage's first sentence, which says its point; the span is in the passage's text."""
    text = hit.passage.text
    start, end = (split_sentences(text) or [(0, len(text))])[0]
    entails = finding in hit.passage.findings
    return Citation("guideline", str(hit.passage.id), text[start:end], (start, end), hit.score, entails)
