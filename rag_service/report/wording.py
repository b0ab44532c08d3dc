"""What a draft printed as text has beside its sentences: fixed lines, and words for what it holds as codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from knowledge_base.findings import Laterality, Polarity


@dataclass(frozen=True)
class Frame:
    """The fixed lines; the names in braces are filled in. `width` is the characters of a line, half as many where they are wide."""

    title: str
    no_draft: str
    two_films: str
    impression: str
    findings: str
    answers: str
    measurements: str
    not_assessed: str
    few_cases: str
    similar_cases: str
    unlabelled: str
    finding: str
    one_box: str
    boxes: str
    asked_box: str
    flagged: str
    hedged: str
    counter: str
    apart: str
    overlap: str
    named: str
    comma: str
    semicolon: str
    width: int


@dataclass(frozen=True)
class Wording:
    """A language: names of the 14 findings and of measurements, words for polarities, sides and tiers, and for every reason.

    `reasons` has the codes of why a film is turned away, a finding passed over or only called possible, a question not answered,
    or nothing measured.
    """

    findings: Mapping[str, str]
    measurements: Mapping[str, str]
    polarities: Mapping[Polarity, str]
    sides: Mapping[Laterality, str]
    tiers: Mapping[str, str]
    reasons: Mapping[str, str]
    frame: Frame

    def reason(self, code: str) -> str:
        """A reason in words; "failed_the_check:FAULT" as its fault, a code without words as it is."""
        return self.reasons.get(code.rpartition(":")[2], code)

    def names(self, labels: tuple[str, ...]) -> str:
        """Names of findings in a row; a label that is none of the 14 as it is."""
        return self.frame.comma.join(self.findings.get(label, label) for label in labels)
