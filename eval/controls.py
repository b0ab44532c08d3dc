"""Reports that nobody wrote for the film in hand: what a draft must beat before its figures mean anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import numpy as np

from eval import readings
from eval.drafting import Drafted, Study
from eval.report_labels import Bools, with_normal
from knowledge_base.findings import FINDINGS
from rag_service.reader import Reader
from rag_service.report.draft import Draft
from rag_service.service import RadiographService

Texts = Sequence[str]
"""One report: its sentences or its sections."""
NORMAL: Final = (
    "The heart is normal in size and the mediastinum is unremarkable.",
    "The lungs are clear.",
    "There is no pleural effusion or pneumothorax.",
    "No acute bony abnormality is seen.",
)
"""The same for every film."""


def nearest(service: RadiographService, drafted: Sequence[Drafted], tenant: str) -> list[Texts]:
    """The whole report of the case most like each film; nothing for a film that was turned away."""
    return [_report(service, d.draft, tenant) for d in drafted]


def drawn(found: Sequence[Study], seed: int) -> list[Texts]:
    """For each study the report of another patient of the same folder, drawn by seed; nothing where there is no other."""
    rng = np.random.default_rng(seed)
    every = [(s.patient, s.sentences) for s in found]
    others = [[text for patient, text in every if patient != s.patient] for s in found]
    return [texts[int(rng.integers(len(texts)))] if texts else () for texts in others]


def heads(reader: Reader, found: Sequence[Study]) -> Bools:
    """(n, 14) findings whose calibrated probability on the frontal alone reaches the flag of its best F1; no word is written."""
    p = reader.calibration.probabilities(readings.read([s.frontal for s in found], reader.encoder).scores)
    flags = np.array([reader.calibration.findings[f].flag for f in FINDINGS])
    return with_normal(p >= flags)


def _report(service: RadiographService, draft: Draft, tenant: str) -> Texts:
    if not draft.similar_cases:
        return ()
    return tuple(s.text for s in service.case(UUID(draft.similar_cases[0].id), tenant).sentences)
