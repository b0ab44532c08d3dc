"""Whether a proposed sentence may be said: what it says holds for the film, and a cited sentence makes it true.

Whoever wrote it. Nothing is taken from the writer but the words, the slots it names and the boxes it draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from knowledge_base.case_sentences import Support
from knowledge_base.findings import Laterality
from knowledge_base.records import CaseSentence
from rag_service.explain import anatomy
from rag_service.report.aspects import Verdict
from rag_service.report.citations import MAX_EXTRA_WORDS, Reason, extra_words, objections, unread_words
from rag_service.report.decisions import Decision
from rag_service.report.entailment import entails
from rag_service.report.labeler import shared_labeler
from rag_service.report.writing import Candidate, Task


@dataclass(frozen=True)
class Verified:
    """A candidate as the labeler reads it, the slots it names that make it true alone, and every reason against it."""

    sentence: CaseSentence
    slots: tuple[int, ...]
    reasons: tuple[Reason, ...]

    @property
    def accepted(self) -> bool:
        """Whether it may be said."""
        return not self.reasons


def read_sentence(text: str) -> CaseSentence:
    """A sentence that is no case's, with what the labeler reads in it."""
    return CaseSentence(text, (0, len(text)), "findings", shared_labeler().read(text))


def verify(candidate: Candidate, task: Task, decisions: Mapping[str, Decision]) -> Verified:
    """Whether a candidate may be said of the task's finding.

    Comparison words are never accepted: change is stated where it was measured on both films, not where a model writes of it.
    Severity and place are held to the cited sentence, as the heads know neither.
    """
    sentence = read_sentence(candidate.text)
    slots = tuple(n for n in candidate.slots if n <= len(task.slots) and implies(task.slots[n - 1], sentence))
    reasons = {*objections(sentence, task.decision, decisions), *_of_candidate(candidate, sentence, task.decision)}
    if not slots:
        reasons.add(Reason.NOT_ENTAILED)
    return Verified(sentence, slots, tuple(sorted(reasons)))


def implies(support: Support, sentence: CaseSentence) -> bool:
    """Whether a case's sentence alone makes a sentence true: in what the labeler reads, and word for word in what it does not."""
    if entails([support.sentence.mentions], sentence.mentions).verdict is not Verdict.ENTAILED:
        return False
    said = support.sentence.text.lower()
    return all(word in said for word in unread_words(sentence))


def _of_candidate(candidate: Candidate, sentence: CaseSentence, decision: Decision) -> Iterator[Reason]:
    """What is wrong with a candidate that could not be with a case's own sentence."""
    if extra_words(sentence) > MAX_EXTRA_WORDS:
        yield Reason.UNREAD_WORDS
    if not all(_on_side(box.x_min, box.x_max, decision) for box in candidate.boxes or ()):
        yield Reason.WRONG_BOXES


def _on_side(x_min: float, x_max: float, decision: Decision) -> bool:
    """Whether a box may belong to the finding: anywhere where no side is decided, nowhere where it is denied."""
    if not decision.present:
        return False
    known = decision.laterality not in {None, Laterality.BILATERAL}
    return not known or anatomy.side(x_min, x_max) is decision.laterality
