"""Whether what some sentences say makes another sentence true: the one rule behind citations, drafts and their measurement.

It compares what the labeler reads in both: finding, polarity, side, place, degree and change (`aspects`). A statement that says
more makes one that says less true and never the other way round; a denial works backwards. Words that the labeler does not read
decide nothing, so a sentence in which it reads nothing is neither true nor false here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from knowledge_base.findings import NO_FINDING, Laterality, Polarity
from knowledge_base.records import Mention
from rag_service.report.aspects import Aspect, Verdict, compare
from rag_service.report.labeler import shared_labeler
from rag_service.report.lexicon import IMPLIED

AIRSPACE: Final = frozenset({"Consolidation", "Pneumonia"})
"""What a denied Lung Opacity denies with it. Reports deny a focal opacity beside atelectasis and edema that they state."""
ACUTE: Final = frozenset({"Edema", "Consolidation", "Pneumonia", "Pneumothorax", "Pleural Effusion"})
"""What a film called normal, or without acute disease, does not show; a nodule or a scar it may."""
_SIDES: Final = frozenset({Laterality.LEFT, Laterality.RIGHT})


@dataclass(frozen=True)
class Entailment:
    """The verdict on a hypothesis, and on each aspect that was compared, of the statement that fails where one does.

    No statement of the premises that bears on it: `Aspect.FINDING` alone, neutral.
    """

    verdict: Verdict
    aspects: Mapping[Aspect, Verdict]

    @property
    def lacking(self) -> tuple[Aspect, ...]:
        """The aspects that do not follow."""
        return tuple(a for a, v in self.aspects.items() if v is not Verdict.ENTAILED)


class Judge(Protocol):
    """Contract: says whether texts make another text true; whatever goes wrong while judging is `NEUTRAL`, never an error."""

    def __call__(self, premises: Sequence[str], hypothesis: str) -> Verdict:
        """The verdict on a hypothesis, one sentence."""
        ...


_UNSAID: Final = Entailment(Verdict.NEUTRAL, {Aspect.FINDING: Verdict.NEUTRAL})


def entails(premises: Iterable[Sequence[Mention]], hypothesis: Sequence[Mention]) -> Entailment:
    """Whether sentences, read by the labeler, together make another true: every statement of it must follow from one of theirs, or
    from two that say the same of either side. One statement that cannot be true beside theirs contradicts the whole.
    """
    said = tuple(_read_together([m for mentions in premises for m in mentions]))
    each = [_follows(said, asked) for asked in hypothesis] or [_UNSAID]
    order = (Verdict.CONTRADICTED, Verdict.NEUTRAL, Verdict.ENTAILED)
    return min(each, key=lambda e: order.index(e.verdict))


def judge(premises: Sequence[str], hypothesis: str) -> Verdict:
    """`Judge` by rule."""
    read = shared_labeler().read_report
    return entails([read(p) for p in premises], read(hypothesis)).verdict


def _read_together(said: Sequence[Mention]) -> Iterator[Mention]:
    """The statements, and those that two of them make: the same on the left and on the right is on both sides."""
    yield from said
    for i, one in enumerate(said):
        for other in said[i + 1 :]:
            same = (one.finding, one.polarity) == (other.finding, other.polarity)
            if same and {one.laterality, other.laterality} == _SIDES:
                yield _joined(one, other)


def _joined(one: Mention, other: Mention) -> Mention:
    """What both say, on both sides."""
    return replace(
        one,
        laterality=Laterality.BILATERAL,
        location=one.location if one.location == other.location else None,
        severity=one.severity if one.severity == other.severity else None,
        progression=one.progression if one.progression is other.progression else None,
    )


def _follows(said: Sequence[Mention], asked: Mention) -> Entailment:
    """The verdict on one statement: entailed by one of `said`; contradicted by a polarity, or by all that bears on it."""
    bearing = [compare(s, asked) for mention in said for s in _bearing(mention, asked)]
    if not bearing:
        return _UNSAID
    best = max(bearing, key=lambda aspects: (_all_entailed(aspects), list(aspects.values()).count(Verdict.ENTAILED)))
    if _all_entailed(best):
        return Entailment(Verdict.ENTAILED, best)
    denying = [a for a in bearing if a[Aspect.POLARITY] is Verdict.CONTRADICTED]
    if denying:
        return Entailment(Verdict.CONTRADICTED, denying[0])
    clash = all(Verdict.CONTRADICTED in a.values() for a in bearing)
    return Entailment(Verdict.CONTRADICTED if clash else Verdict.NEUTRAL, best)


def _all_entailed(aspects: Mapping[Aspect, Verdict]) -> bool:
    return all(v is Verdict.ENTAILED for v in aspects.values())


def _bearing(said: Mention, asked: Mention) -> Iterator[Mention]:
    """What a statement says of the finding asked about: itself, or what follows from it by the hierarchy of findings."""
    if said.finding == asked.finding:
        yield said
        return
    of_asked = replace(said, finding=asked.finding, severity=None)
    affirmed = said.polarity is not Polarity.NEGATIVE
    if said.finding in IMPLIED.get(asked.finding, ()) and affirmed:
        if asked.polarity is not Polarity.NEGATIVE or said.finding in AIRSPACE:
            yield of_asked
    elif asked.finding in IMPLIED.get(said.finding, ()) and not affirmed and asked.finding in AIRSPACE:
        yield of_asked
    elif said.finding == NO_FINDING and said.polarity is Polarity.POSITIVE and asked.finding in ACUTE:
        yield replace(of_asked, polarity=Polarity.NEGATIVE)
    elif asked.finding == NO_FINDING and asked.polarity is Polarity.POSITIVE and said.finding in ACUTE and affirmed:
        yield Mention(NO_FINDING, _OPPOSITE[said.polarity], said.span)


_OPPOSITE: Final = {Polarity.POSITIVE: Polarity.NEGATIVE, Polarity.UNCERTAIN: Polarity.UNCERTAIN}
