"""The impression: what was stated or called possible, in the order of its weight, or that nothing was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from knowledge_base.findings import Polarity
from rag_service.report.draft import Finding

URGENCY: Final = (
    "Pneumothorax", "Pneumonia", "Consolidation", "Edema", "Pleural Effusion", "Lung Lesion", "Enlarged Cardiomediastinum",
    "Fracture", "Atelectasis", "Lung Opacity", "Cardiomegaly", "Pleural Other", "Support Devices",
)  # fmt: skip
"""Which finding a reader should meet first."""
NOTHING_FOUND: Final = "No finding reached its threshold."


def impression(findings: Sequence[Finding], silent: Sequence[str]) -> str:
    """Stated findings first, possible ones after, each once in the words of its sentence; consistent with them by construction."""
    told = [f for f in findings if f.polarity is not Polarity.NEGATIVE]
    told.sort(key=lambda f: (f.polarity is Polarity.UNCERTAIN, URGENCY.index(f.label)))
    lines = list(dict.fromkeys(f.sentence for f in told)) or [NOTHING_FOUND]
    if silent:
        lines.append(f"Not assessed: {', '.join(silent)}.")
    return " ".join(lines)
