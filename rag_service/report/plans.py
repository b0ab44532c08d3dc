"""What is to be said of each finding, and on what evidence, before any word is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol

from knowledge_base.case_sentences import Support, Wanted
from knowledge_base.findings import Polarity
from knowledge_base.guideline_search import PassageHit
from rag_service.calibration import Tier
from rag_service.report.citations import wording_objections
from rag_service.report.decisions import Decision
from rag_service.report.draft import SeparatingAxis
from rag_service.report.emission import EmissionRule, Lack, lacking
from rag_service.report.sentence_choice import nearest
from rag_service.report.writing import Task

NO_SENTENCE: Final = "no_case_sentence_passes_the_citation_gate"
TOO_FAR: Final = "no_case_is_near_enough"
"""Cases say it, but none of them passes the relevance gate."""
MAX_SLOTS: Final = 6
"""Sentences of evidence shown to a writer for one finding."""
MAX_NEAR: Final = 30
"""Sentences looked at for one statement: words to choose from and the citations for them are found among fewer."""


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
        """Whether a case that states something at a polarity lies near enough to the film to be evidence for it."""
        ...

    def separating(self, support: Support, finding: str) -> tuple[SeparatingAxis, ...]:
        """The axes that tell the film from a case, for a finding."""
        ...

    def passages(self, finding: str, sentence: str) -> Sequence[PassageHit]:
        """Guideline passages on a finding, best first."""
        ...


@dataclass(frozen=True, eq=False)
class Plan:
    """A finding as it may be said, what kept it from being said more strongly, and the near sentences that may be cited for it,
    best first; the first of them are the slots of `task`.
    """

    task: Task
    hedged: tuple[Lack, ...]
    near: tuple[Support, ...]

    @property
    def decision(self) -> Decision:
        """What is to be said."""
        return self.task.decision


def plan(decision: Decision, evidence: Evidence, rule: EmissionRule) -> Plan | str:
    """The plan for a decision that says something, or why nothing can be said: no case states it, or none that is near."""
    assert decision.polarity is not None  # noqa: S101  (the caller's condition, restated for the type checker)
    found = {p: evidence.supporting(_wanted(decision, p)) for p in _stating(decision.polarity)}
    near = {p: _near(supports, evidence, p) for p, supports in found.items()}
    lacks = lacking(decision, len({s.hit.case.id for s in near[decision.polarity]}), rule)
    if lacks:
        decision = _hedged(decision)
    stating = (Polarity.POSITIVE,) if decision.polarity is Polarity.POSITIVE else tuple(found)
    usable = [s for p in stating for s in near[p]]
    if not usable:
        return TOO_FAR if any(found.values()) else NO_SENTENCE
    return Plan(Task(decision, nearest(usable, MAX_SLOTS)), lacks, tuple(usable))


def _stating(polarity: Polarity) -> tuple[Polarity, ...]:
    """What evidence may state that makes a statement of a polarity true: a thing that is there is possible, too."""
    if polarity is Polarity.NEGATIVE:
        return (Polarity.NEGATIVE,)
    return (Polarity.UNCERTAIN, Polarity.POSITIVE)


def _wanted(decision: Decision, polarity: Polarity) -> Wanted:
    return Wanted(decision.label, polarity, decision.laterality)


def _near(found: Sequence[Support], evidence: Evidence, polarity: Polarity) -> list[Support]:
    """The first MAX_NEAR that are near enough, in words that may stand in a draft."""
    usable = (
        s
        for s in found
        if evidence.passes(s, polarity) and not any(wording_objections(s.sentence.text, evidence.prior))
    )
    return list(islice(usable, MAX_NEAR))


def _hedged(decision: Decision) -> Decision:
    """Called possible, which nobody should lean on."""
    return replace(decision, polarity=Polarity.UNCERTAIN, confidence=replace(decision.confidence, tier=Tier.LOW))
