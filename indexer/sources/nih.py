"""NIH ChestX-ray14: every film with its labels. There are no reports: such cases are found by film, never quoted in a draft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexer.studies import Skipped, Study
from rag_service.datasets import nih


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per film, in the order of the table."""
    for row in nih.films(folder):
        found = tuple(f for f, present in row.labels.items() if present)
        yield Study(nih.SOURCE, row.study, row.patient, row.path, "", found, row.view, row.sex, row.age_years)
