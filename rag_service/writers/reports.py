"""What a writer of whole reports says, by task: the labeler reads each sentence, and what it reads there is its task."""

from __future__ import annotations

from collections.abc import Sequence

from knowledge_base.records import Mention
from rag_service.report.formats.grounded import GroundedSentence
from rag_service.report.labeler import shared_labeler
from rag_service.report.proposals import MOST
from rag_service.report.writing import Candidate, Task


def by_task(report: Sequence[GroundedSentence], tasks: Sequence[Task]) -> tuple[tuple[Candidate, ...], ...]:
    """The sentences that state each task's finding at its polarity, those that state least besides it first.

    Such a writer cites nothing: the slots of a candidate are those whose sentences the labeler reads as it reads the candidate's.
    """
    read = [(said, shared_labeler().read(said.text)) for said in report]
    return tuple(tuple(_of_task(read, task))[:MOST] for task in tasks)


def _of_task(read: Sequence[tuple[GroundedSentence, tuple[Mention, ...]]], task: Task) -> list[Candidate]:
    label, polarity = task.decision.label, task.decision.polarity
    found = [
        Candidate(said.text, _slots(mention, task), said.boxes, float(-len({m.finding for m in mentions})))
        for said, mentions in read
        for mention in mentions
        if (mention.finding, mention.polarity) == (label, polarity)
    ]
    return sorted(dict.fromkeys(found), key=lambda c: -c.score)


def _slots(mention: Mention, task: Task) -> tuple[int, ...]:
    return tuple(
        number for number, slot in enumerate(task.slots, 1) if any(_same(mention, m) for m in slot.sentence.mentions)
    )


def _same(one: Mention, other: Mention) -> bool:
    """Of one finding and polarity, and on no other side."""
    sides = {one.laterality, other.laterality} - {None}
    return len(sides) < 2 and (one.finding, one.polarity) == (other.finding, other.polarity)
