"""What the formats share: a sentence with its boxes, and a draft as such sentences."""

from __future__ import annotations

from dataclasses import dataclass

from knowledge_base.findings import Polarity
from rag_service.imaging.film import Box
from rag_service.report.draft import Draft, Finding


@dataclass(frozen=True)
class GroundedSentence:
    """One finding as an English sentence, and where it shows (None: it is not said; never empty)."""

    text: str
    boxes: tuple[Box, ...] | None = None

    def __post_init__(self) -> None:
        if not self.text.strip() or self.boxes == ():
            raise ValueError("a grounded sentence has words, and boxes or None")


def sentences_of(draft: Draft) -> tuple[GroundedSentence, ...]:
    """The sentences of a draft in English, in its order; none of one that was turned away."""
    return tuple(GroundedSentence(english(f), places(f)) for f in draft.findings)


def english(finding: Finding) -> str:
    """The sentence of a finding in English, on one line."""
    return " ".join((finding.sentence_en or finding.sentence).split())


def places(finding: Finding) -> tuple[Box, ...] | None:
    """Where a finding shows; None for what is denied, which shows nowhere."""
    return None if finding.polarity is Polarity.NEGATIVE else finding.boxes or None
