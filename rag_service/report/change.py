"""What is said of a finding's change since the prior film: computed from both films, in fixed words around the verified sentence.

The prior film's report decides nothing: it is quoted where one of its sentences says of the prior film what that film shows, and
is told as disagreeing where it says otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

from knowledge_base.findings import Laterality, Polarity, Progression
from knowledge_base.records import CaseSentence
from rag_service.report.citations import MAX_EXTRA_WORDS, extra_words, wording_objections
from rag_service.report.decisions import Decision
from rag_service.report.draft import Citation, Comparison, Finding
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentences import read_case_sentences

PRIOR: Final = "prior"


class State(StrEnum):
    """What became of a finding between two films."""

    NEW = "new"
    WORSENED = "worsened"
    STABLE = "stable"
    IMPROVED = "improved"
    RESOLVED = "resolved"


PROGRESSION: Final[Mapping[State, Progression]] = {
    State.NEW: Progression.NEW,
    State.WORSENED: Progression.WORSENED,
    State.STABLE: Progression.STABLE,
    State.IMPROVED: Progression.IMPROVED,
    State.RESOLVED: Progression.IMPROVED,
}
OF_SIZE: Final = frozenset(
    {"Pleural Effusion", "Pneumothorax", "Lung Lesion", "Cardiomegaly", "Enlarged Cardiomediastinum"}
)
"""Findings that are larger or smaller; the others are more or less extensive."""
_SIZE: Final = {
    State.WORSENED: ("larger than on the prior film", "more extensive than on the prior film"),
    State.IMPROVED: ("smaller than on the prior film", "less extensive than on the prior film"),
}
_WORDS: Final = {
    State.NEW: "new since the prior film",
    State.STABLE: "unchanged from the prior film",
    State.RESOLVED: "resolved since the prior film",
}


@dataclass(frozen=True)
class Measured:
    """A finding's measured change in log odds, and its direction: 1 more, -1 less, 0 as before, None where it is not certain."""

    change: float
    direction: int | None


@dataclass(frozen=True, eq=False)
class PriorStudy:
    """The prior film as read: what was decided of each finding and how far it changed since; with its report, "" for none."""

    decisions: Mapping[str, Decision]
    measured: Mapping[str, Measured]
    report: str = ""

    @property
    def id(self) -> str:
        """SHA-256 of the report: the id of what is cited from it."""
        return hashlib.sha256(self.report.encode()).hexdigest()

    @cached_property
    def sentences(self) -> tuple[CaseSentence, ...]:
        """The report's sentences as the labeler reads them."""
        return read_case_sentences(self.report, shared_labeler())

    def disagreeing(self) -> list[str]:
        """The findings of which the report says other than its film shows, among those that the film decides."""
        decided = {d.label: d.polarity for d in self.decisions.values() if d.polarity is not None}
        read = [m for s in self.sentences for m in s.mentions]
        against = {m.finding for m in read if m.finding in decided and not _alike(m.polarity, decided[m.finding])}
        return [f for f in self.decisions if f in against]


def state_of(now: Polarity, then: Polarity | None, direction: int | None) -> State | None:
    """What became of a finding that is `now` said so, was decided `then` on the prior film, and measurably changed in `direction`.

    None where that does not fit together: a possible finding, one the prior film leaves open, a change that is not certain.
    """
    if now is Polarity.NEGATIVE:
        return State.RESOLVED if then is Polarity.POSITIVE and direction == -1 else None
    if now is not Polarity.POSITIVE or then is None:
        return None
    if then is Polarity.NEGATIVE:
        return State.NEW if direction == 1 else None
    return {1: State.WORSENED, 0: State.STABLE, -1: State.IMPROVED}.get(direction) if direction is not None else None


def wording(finding: str, state: State) -> str:
    """The fixed words for a change."""
    return _WORDS[state] if state in _WORDS else _SIZE[state][finding not in OF_SIZE]


def compared(findings: Sequence[Finding], prior: PriorStudy) -> tuple[Finding, ...]:
    """The findings with what has changed of them; one whose change is not certain stays as it is."""
    return tuple(_compared(f, prior) for f in findings)


def _compared(finding: Finding, prior: PriorStudy) -> Finding:
    then, measured = prior.decisions[finding.label], prior.measured.get(finding.label)
    state = None if measured is None else state_of(finding.polarity, then.polarity, measured.direction)
    if state is None or measured is None:
        return finding
    said = f"{finding.sentence.rstrip('. ')}, {wording(finding.label, state)}."
    if not _reads(said, finding, PROGRESSION[state]):
        return finding
    quoted = _quote(finding, then, prior)
    return replace(
        finding,
        sentence=said,
        progression=PROGRESSION[state],
        comparison=Comparison(state, measured.change, then.confidence.p, then.boxes, quoted),
        citations=finding.citations if quoted is None or not quoted.entails else (*finding.citations, quoted),
    )


def _reads(text: str, finding: Finding, progression: Progression) -> bool:
    """Whether a sentence still says of the finding, and of nothing else, what it did, and the change besides."""
    said = shared_labeler().read(text)
    return bool(said) and all(
        (m.finding, m.polarity, m.progression) == (finding.label, finding.polarity, progression) for m in said
    )


def _quote(finding: Finding, then: Decision, prior: PriorStudy) -> Citation | None:
    """The first plain sentence of the prior report that says of the finding what the prior film shows; it entails the finding
    where that is still so.
    """
    assert then.polarity is not None  # noqa: S101  (a state comes of what was decided)
    for sentence in prior.sentences:
        if _says(sentence, finding, then.polarity):
            return Citation(PRIOR, prior.id, sentence.text, sentence.span, 1.0, _alike(then.polarity, finding.polarity))
    return None


def _says(sentence: CaseSentence, finding: Finding, polarity: Polarity) -> bool:
    about = [m for m in sentence.mentions if m.finding == finding.label]
    if not about or any(wording_objections(sentence.text, prior=True)) or extra_words(sentence) > MAX_EXTRA_WORDS:
        return False
    sides = {None, finding.laterality, Laterality.BILATERAL}
    return all(_alike(m.polarity, polarity) and m.laterality in sides for m in about)


def _alike(one: Polarity, other: Polarity) -> bool:
    return (one is Polarity.NEGATIVE) == (other is Polarity.NEGATIVE)
