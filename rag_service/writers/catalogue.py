"""The writers that somebody else trained. Their files come from whoever holds a licence; nothing is fetched.

Each expects one folder as its publisher lays it out, and the record that `python -m rag_service.training record --writer` writes.
"""

from __future__ import annotations

from typing import Final

from rag_service.writers.record import WriterRecord

MAIRA_2: Final = "maira-2"
MEDGEMMA: Final = "medgemma"
_RECORDS: Final = (
    WriterRecord(
        name=MAIRA_2,
        version="1",
        terms="Microsoft Research License Agreement: research use, not for clinical use.",
        source="microsoft/maira-2 (arXiv 2406.04449): a Llava of transformers with DINOv2's feature maps and a deeper projector",
    ),
    WriterRecord(
        name=MEDGEMMA,
        version="1",
        terms="Health AI Developer Foundations terms of use.",
        source="google/medgemma-4b-it (arXiv 2507.05201): Gemma3ForConditionalGeneration as transformers saves it",
    ),
)
CATALOGUE: Final = {r.name: r for r in _RECORDS}
