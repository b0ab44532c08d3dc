"""What the image alone lets the draft say of each finding, before any word is chosen."""

from __future__ import annotations

from dataclasses import dataclass

from knowledge_base.findings import Laterality, Polarity
from rag_service.calibration import Confidence
from rag_service.imaging.film import Box
from rag_service.models.concepts import Concept
from rag_service.report.draft import Uncertainty


@dataclass(frozen=True)
class Decision:
    """One finding: what may be said of it (None when nothing may, with the reason), how surely, where it shows, and by what."""

    label: str
    polarity: Polarity | None
    confidence: Confidence
    uncertainty: Uncertainty
    boxes: tuple[Box, ...] | None = None
    laterality: Laterality | None = None
    silence: str | None = None
    concepts: tuple[Concept, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the finding is stated or called possible."""
        return self.polarity in {Polarity.POSITIVE, Polarity.UNCERTAIN}
