"""From decisions and retrieved evidence to the findings of a draft: each sentence verified, whoever proposed it, and each cited.

Nothing reaches a draft but through `verify` or, for a case's own words, through the same citation gate; and a finding is made only
with a citation that makes its sentence true alone. A statement without one cannot be composed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.guideline_search import PassageHit
from knowledge_base.records import CaseSentence
from rag_service.report.aspects import Verdict
from rag_service.report.citations import Reason, is_statement
from rag_service.report.comparisons import as_sentence, without_comparison
from rag_service.report.decisions import Decision
from rag_service.report.draft import CASE, FIXED, Citation, CounterEvidence, Finding, NotAssessed
from rag_service.report.emission import RULE, EmissionRule
from rag_service.report.entailment import entails
from rag_service.report.fixed_sentences import fixed_sentence
from rag_service.report.labeler import shared_labeler
from rag_service.report.plans import NO_SENTENCE, Evidence, Plan, plan
from rag_service.report.proposals import Proposals, propose
from rag_service.report.repetition import echoes
from rag_service.report.sentence_choice import MAX_COUNTER, choices, cite, nearest, opposite_of, similarity
from rag_service.report.sentences import split_sentences
from rag_service.report.verification import Verified, read_sentence, verify
from rag_service.report.writing import Candidate, Study, Task, Writer


@dataclass(frozen=True, eq=False)
class Author:
    """A writer at work on one study."""

    writer: Writer
    study: Study


@dataclass(frozen=True)
class Composition:
    """What is said, and of what nothing is said and why. `rejected` counts, by reason, what verification kept out of the writer's
    proposals; `writer_failure` is the code of why there were none.
    """

    findings: tuple[Finding, ...]
    not_assessed: tuple[NotAssessed, ...]
    rejected: Mapping[str, int]
    writer_failure: str | None = None


@dataclass(frozen=True)
class _Wording:
    """The words found for a finding, how the labeler reads them, what makes them true, and whose they are."""

    text: str
    sentence: CaseSentence
    citations: tuple[Citation, ...]
    source: str


def compose(
    decisions: Mapping[str, Decision], evidence: Evidence, author: Author | None = None, rule: EmissionRule = RULE
) -> Composition:
    """The findings in CheXpert order, those present before those denied.

    For each the writer's candidates are tried first, best first, then the words of cases, the best supported first, then the
    plainest sentence there is. What would say over again what the draft has said is passed over.
    """
    spoken = [d for f in FINDINGS if f != NO_FINDING and (d := decisions[f]).polarity is not None]
    spoken.sort(key=lambda d: d.polarity is Polarity.NEGATIVE)
    outcomes = {d.label: plan(d, evidence, rule) for d in spoken}
    plans = {label: p for label, p in outcomes.items() if isinstance(p, Plan)}
    meant = {**decisions, **{label: p.decision for label, p in plans.items()}}
    proposed = _proposed(author, [p.task for p in plans.values()])
    rejected: Counter[str] = Counter()
    said: dict[str, Finding] = {}
    for (label, planned), candidates in zip(plans.items(), proposed.by_task, strict=True):
        wordings = _wordings(planned, candidates, author, meant, rejected)
        taken = [f.sentence for f in said.values()]
        found = next((w for w in wordings if not echoes(w.text, taken)), None)
        if found is not None:
            said[label] = _finding(planned, found, evidence)
    silent = [_silent(decisions[f], outcomes.get(f)) for f in FINDINGS if f != NO_FINDING and f not in said]
    return Composition(tuple(said.values()), tuple(silent), dict(sorted(rejected.items())), proposed.failure)


def _proposed(author: Author | None, tasks: Sequence[Task]) -> Proposals:
    if author is None:
        return Proposals(((),) * len(tasks))
    return propose(author.writer, author.study, tasks)


def _silent(decision: Decision, outcome: Plan | str | None) -> NotAssessed:
    """Why nothing is said: the decision's own silence, or what became of it."""
    reason = decision.silence if outcome is None else outcome if isinstance(outcome, str) else None
    return NotAssessed(decision.label, reason or NO_SENTENCE, decision.present, decision.confidence.p)


def _wordings(
    planned: Plan,
    candidates: Iterable[Candidate],
    author: Author | None,
    decisions: Mapping[str, Decision],
    rejected: Counter[str],
) -> Iterator[_Wording]:
    """All the ways in which a finding may be said, the preferred first; empty when there is none."""
    for candidate in candidates:
        verified = _repaired(candidate, planned.task, decisions)
        rejected.update(str(r) for r in verified.reasons)
        if verified.accepted and author is not None:
            yield _cited(verified, planned, author.writer.id)
    for chosen in choices(planned.decision, decisions, planned.near):
        yield _Wording(chosen.said, chosen.sentence, chosen.citations, CASE)
    decision = planned.decision
    assert decision.polarity is not None  # noqa: S101  (a plan says something)
    plainest = Candidate(fixed_sentence(decision.label, decision.polarity), _every_slot(planned.task))
    verified = verify(plainest, planned.task, decisions)
    if verified.accepted:
        yield _cited(verified, planned, FIXED)


def _repaired(candidate: Candidate, task: Task, decisions: Mapping[str, Decision]) -> Verified:
    """A candidate without its comparison, resting on the slots that make it true: those it names, else any there are."""
    read = read_sentence(candidate.text)
    clause = without_comparison(read, task.decision.label)
    if clause is not None and clause is not read:
        candidate = replace(candidate, text=as_sentence(clause.text))
    verified = verify(candidate, task, decisions)
    if verified.reasons == (Reason.NOT_ENTAILED,):
        return verify(replace(candidate, slots=_every_slot(task)), task, decisions)
    return verified


def _every_slot(task: Task) -> tuple[int, ...]:
    return tuple(range(1, len(task.slots) + 1))


def _cited(verified: Verified, planned: Plan, source: str) -> _Wording:
    """A verified sentence with the slots it rests on as its citations, topped up by further cases."""
    named = [planned.task.slots[n - 1] for n in verified.slots]
    sentence = verified.sentence
    return _Wording(sentence.text, sentence, cite(sentence, named, planned.near), source)


def _finding(planned: Plan, wording: _Wording, evidence: Evidence) -> Finding:
    decision = planned.decision
    assert decision.polarity is not None  # noqa: S101  (a plan says something)
    read = next(m for m in wording.sentence.mentions if m.finding == decision.label)
    found = evidence.passages(decision.label, wording.text) if decision.present else ()
    passages = [_quoted(h, wording.sentence) for h in found]
    return Finding(
        id=decision.label.lower().replace(" ", "-"),
        label=decision.label,
        sentence=wording.text,
        polarity=decision.polarity,
        laterality=decision.laterality,
        location=read.location,
        severity=read.severity,
        progression=None,
        boxes=decision.boxes,
        confidence=decision.confidence,
        uncertainty=decision.uncertainty,
        citations=(*wording.citations, *(p for p in passages if p.entails)),
        counter_evidence=_counter_evidence(decision, evidence),
        concepts=decision.concepts,
        source=wording.source,
        hedged=tuple(str(lack) for lack in planned.hedged),
        guidance=tuple(p for p in passages if not p.entails),
    )


def _counter_evidence(decision: Decision, evidence: Evidence) -> tuple[CounterEvidence, ...]:
    """The nearest cases that say the opposite, where they lie near enough, each with what tells it from the film."""
    opposite = opposite_of(decision)
    found = [s for s in evidence.opposing(opposite) if is_statement(s.sentence.text)]
    near = [s for s in found if evidence.passes(s, opposite.polarity)]
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
    return _quote(hit, _spans(hit)[0], finding in hit.passage.findings)


def _quoted(hit: PassageHit, sentence: CaseSentence) -> Citation:
    """The first sentence of a passage that makes a sentence true, else its first."""
    read, text = shared_labeler().read, hit.passage.text
    for start, end in _spans(hit):
        if entails([read(text[start:end])], sentence.mentions).verdict is Verdict.ENTAILED:
            return _quote(hit, (start, end), entails=True)
    return _quote(hit, _spans(hit)[0], entails=False)


def _spans(hit: PassageHit) -> list[tuple[int, int]]:
    text = hit.passage.text
    return split_sentences(text) or [(0, len(text))]


def _quote(hit: PassageHit, span: tuple[int, int], entails: bool) -> Citation:
    passage = hit.passage
    return Citation("guideline", str(passage.id), passage.text[slice(*span)], span, hit.score, entails)
