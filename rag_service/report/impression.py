"""The impression: what was stated or called possible, in the order of its weight, or that nothing was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from knowledge_base.findings import Polarity
from rag_service.report.draft import Finding, NotAssessed

URGENCY: Final = (
    "Pneumothorax", "Pneumonia", "Consolidation", "Edema", "Pleural Effusion", "Lung Lesion", "Enlarged Cardiomediastinum",
    "Fracture", "Atelectasis", "Lung Opacity", "Cardiomegaly", "Pleural Other", "Support Devices",
)  # fmt: skip
"""Which finding a reader should meet first."""
NOTHING_FOUND: Final = "No finding reached its threshold."


def impression(findings: Sequence[Finding], silent: Sequence[NotAssessed]) -> str:
    """Stated findings first, possible ones after, each once in the words of its sentence; consistent with them by construction.

    A finding whose probability reached its flag is never passed over: without a sentence to quote it is named to look for.
    """
    wanted = [n.label for n in silent if n.possible]
    rest = [n.label for n in silent if not n.possible]
    lines = told_in(findings)
    if wanted:
        lines.append(f"Look for: {', '.join(wanted)}.")
    if not lines:
        lines.append(NOTHING_FOUND)
    if rest:
        lines.append(f"Not assessed: {', '.join(rest)}.")
    return " ".join(lines)


def told_in(findings: Sequence[Finding]) -> list[str]:
    """The sentences of an impression that speak of what was found, in order."""
    return list(dict.fromkeys(f.sentence for f in in_order(findings)))


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """What an impression speaks of: stated findings first, possible ones after, each by its urgency."""
    told = [f for f in findings if f.polarity is not Polarity.NEGATIVE]
    return sorted(told, key=lambda f: (f.polarity is Polarity.UNCERTAIN, URGENCY.index(f.label)))
