"""What is looked for in every draft as a whole before it leaves, and taken out where it is found.

Each sentence alone was verified when it was chosen. Here they are held against each other, against the boxes, and against the
impression; the words are looked through once more for what no report may carry.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

from knowledge_base.findings import FINDINGS, Laterality, Polarity
from knowledge_base.records import CaseSentence, Mention
from rag_service.explain.boxes import apparent_side
from rag_service.report.aspects import Aspect, Verdict
from rag_service.report.draft import Finding, NotAssessed
from rag_service.report.emission import counts
from rag_service.report.entailment import entails
from rag_service.report.impression import impression, told_in
from rag_service.report.labeler import comparison_words, deidentification_marks
from rag_service.report.repetition import echoes, repeats
from rag_service.report.verification import read_sentence

DEVICES: Final = "Support Devices"
FAILED: Final = "failed_the_check:"
"""Before the fault that took a finding's sentence out of the draft."""
_OPPOSITE: Final = {Laterality.LEFT: Laterality.RIGHT, Laterality.RIGHT: Laterality.LEFT}
_PRIVATE: Final = re.compile(
    r"\b(?:Dr|Mr|Mrs|Ms|Prof)\.?\s+[A-Z][a-z]|\b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b|\bMRN\b|\b\d{5,}\b|\S@\S|"
    r"\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b|\b(?:January|February|April|June|July|August|September|October|November|December)\b"
)
"""What names a person or a day: a title with a name, a date, a record number, a telephone number, an address of mail."""


class Fault(StrEnum):
    """What is wrong with a draft; the codes are stable."""

    LATERALITY = "laterality_conflict"
    NEGATION = "negation_conflict"
    IMPRESSION = "impression_contradicts_findings"
    REPEATED = "repeated_phrase"
    PLACEHOLDER = "placeholder_text"
    COMPARISON = "comparison_without_prior"
    DEVICE = "unsupported_device"
    PRIVATE = "private_text"


@dataclass(frozen=True)
class Checked:
    """A draft's findings, silences and impression as they may leave, and what `Draft.checks` says of them."""

    findings: tuple[Finding, ...]
    not_assessed: tuple[NotAssessed, ...]
    impression: str
    checks: Mapping[str, Any]


def check(findings: Sequence[Finding], silent: Sequence[NotAssessed], prior: bool) -> Checked:
    """The findings that pass every check; the others are among the silences, with the fault; the impression is of what is left.

    Of two sentences that cannot stand together the denial goes, else the less probable. With a `prior` film they may compare.
    """
    kept = {f.label: (f, read_sentence(f.sentence)) for f in findings}
    gone, removed = list(silent), Counter[Fault]()
    while (found := next(_faulty(kept, prior), None)) is not None:
        fault, label = found
        gone.append(_unsaid(kept.pop(label)[0], fault))
        removed[fault] += 1
    gone.sort(key=lambda n: FINDINGS.index(n.label))
    left = [f for f, _ in kept.values()]
    return Checked(
        tuple(left),
        tuple(gone),
        impression(left, gone),
        {
            "emission": counts(left, gone),
            "faults": _remaining(kept, prior),
            "removed": {str(f): removed[f] for f in Fault if removed[f]},
        },
    )


def _unsaid(finding: Finding, fault: Fault) -> NotAssessed:
    present = finding.polarity is not Polarity.NEGATIVE
    return NotAssessed(finding.label, f"{FAILED}{fault}", present, finding.confidence.p)


def _remaining(kept: Mapping[str, tuple[Finding, CaseSentence]], prior: bool) -> dict[str, int]:
    """Every fault with how often it is in what is left, looked for once more; the impression is looked at beside the findings."""
    left = Counter(fault for fault, _ in _faulty(kept, prior))
    told = [read_sentence(text) for text in told_in([f for f, _ in kept.values()])]
    left[Fault.IMPRESSION] += contradicts(told, [sentence for _, sentence in kept.values()])
    return {str(fault): left[fault] for fault in Fault}


def word_faults(text: str, prior: bool) -> Iterator[Fault]:
    """What is wrong with a sentence's words alone."""
    if deidentification_marks(text):
        yield Fault.PLACEHOLDER
    if _PRIVATE.search(text):
        yield Fault.PRIVATE
    if not prior and comparison_words(text):
        yield Fault.COMPARISON
    if repeats(text):
        yield Fault.REPEATED


def conflict(one: CaseSentence, other: CaseSentence) -> Fault | None:
    """Why two sentences cannot both stand: one denies what the other states, they place one finding on opposite sides, or one says
    the other over again.
    """
    if _denies(one, other) or _denies(other, one):
        return Fault.NEGATION
    if any(_opposite_sides(a, b) for a in one.mentions for b in other.mentions):
        return Fault.LATERALITY
    return Fault.REPEATED if echoes(one.text, [other.text]) else None


def contradicts(impression_sentences: Sequence[CaseSentence], said: Sequence[CaseSentence]) -> bool:
    """Whether an impression says what the findings do not make true."""
    premises = [sentence.mentions for sentence in said]
    return any(
        sentence.mentions and entails(premises, sentence.mentions).verdict is not Verdict.ENTAILED
        for sentence in impression_sentences
    )


def unsupported_device(sentence: CaseSentence, stated: Sequence[str]) -> bool:
    """Whether a sentence has a device on the film that is no finding of it; `stated` are the labels that are."""
    return DEVICES not in stated and any(
        m.finding == DEVICES and m.polarity is not Polarity.NEGATIVE for m in sentence.mentions
    )


def _faulty(findings: Mapping[str, tuple[Finding, CaseSentence]], prior: bool) -> Iterator[tuple[Fault, str]]:
    """Every fault with the label of the finding that has to go for it."""
    stated = [label for label, (f, _) in findings.items() if f.polarity is not Polarity.NEGATIVE]
    for label, (finding, sentence) in findings.items():
        for fault in word_faults(sentence.text, prior):
            yield fault, label
        if unsupported_device(sentence, stated):
            yield Fault.DEVICE, label
        if _off_its_side(finding, sentence):
            yield Fault.LATERALITY, label
    for one, other in combinations(findings, 2):
        clash = conflict(findings[one][1], findings[other][1])
        if clash is not None:
            yield clash, min(one, other, key=lambda label: _weight(findings[label][0]))


def _weight(finding: Finding) -> tuple[bool, float]:
    """The lighter of two sentences gives way."""
    return finding.polarity is not Polarity.NEGATIVE, finding.confidence.p


def _denies(said: CaseSentence, asked: CaseSentence) -> bool:
    found = entails([said.mentions], asked.mentions)
    return found.verdict is Verdict.CONTRADICTED and found.aspects.get(Aspect.POLARITY) is Verdict.CONTRADICTED


def _opposite_sides(one: Mention, other: Mention) -> bool:
    """Whether both affirm one finding, each on a side of its own."""
    alike = one.finding == other.finding and Polarity.NEGATIVE not in {one.polarity, other.polarity}
    return alike and one.laterality in _OPPOSITE and _OPPOSITE[one.laterality] is other.laterality


def _off_its_side(finding: Finding, sentence: CaseSentence) -> bool:
    """Whether the words place a finding on the side opposite to its own, or to where its boxes lie."""
    own = {finding.laterality, apparent_side(finding.boxes, finding.label)} & set(_OPPOSITE)
    said = {m.laterality for m in sentence.mentions if m.finding == finding.label}
    return any(_OPPOSITE[side] in said for side in own if side is not None)
