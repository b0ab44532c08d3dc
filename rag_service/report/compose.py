"""From decisions and retrieved evidence to the findings of a draft: each sentence verbatim from a case, each cited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.guideline_search import PassageHit
from knowledge_base.search import CaseHit
from rag_service.report.decisions import Decision
from rag_service.report.draft import Citation, Finding, NotAssessed
from rag_service.report.sentence_choice import choose, counter_evidence
from rag_service.report.sentences import split_sentences

NO_SENTENCE = "no_case_sentence_passes_the_citation_gate"


class Evidence(Protocol):
    """Contract: cases near the film; those among them that state a finding with a polarity; passages for a finding."""

    def near(self) -> Sequence[CaseHit]:
        """The cases nearest to the film, best first."""
        ...

    def stating(self, finding: str, polarity: Polarity) -> Sequence[CaseHit]:
        """Cases that state `finding` with `polarity`, nearest first."""
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
        finding = _finding(decision, decisions, evidence) if decision.polarity is not None else None
        if finding is None:
            silent.append(NotAssessed(label, decision.silence or NO_SENTENCE, decision.present, decision.confidence.p))
        else:
            said.append(finding)
    said.sort(key=lambda f: f.polarity is Polarity.NEGATIVE)
    return Composition(tuple(said), tuple(silent))


def _finding(decision: Decision, decisions: Mapping[str, Decision], evidence: Evidence) -> Finding | None:
    assert decision.polarity is not None  # noqa: S101  (the caller's condition, restated for the type checker)
    stating = evidence.stating(decision.label, decision.polarity)
    chosen = choose(decision, decisions, stating)
    if chosen is None:
        return None
    sentence = chosen.sentence
    read = next(m for m in sentence.mentions if m.finding == decision.label)
    passages = evidence.passages(decision.label, sentence.text) if decision.present else ()
    opposite = evidence.stating(decision.label, Polarity.NEGATIVE) if decision.present else evidence.near()
    return Finding(
        id=decision.label.lower().replace(" ", "-"),
        label=decision.label,
        sentence=sentence.text,
        polarity=decision.polarity,
        laterality=decision.laterality,
        location=read.location,
        severity=read.severity,
        progression=None,
        boxes=decision.boxes,
        confidence=decision.confidence,
        uncertainty=decision.uncertainty,
        citations=(*chosen.citations, *(quote_passage(h, decision.label) for h in passages)),
        counter_evidence=counter_evidence(decision, opposite),
        concepts=decision.concepts,
    )


def quote_passage(hit: PassageHit, finding: str) -> Citation:
    """The passage's first sentence, which says its point; the span is in the passage's text."""
    text = hit.passage.text
    start, end = (split_sentences(text) or [(0, len(text))])[0]
    entails = finding in hit.passage.findings
    return Citation("guideline", str(hit.passage.id), text[start:end], (start, end), hit.score, entails)
