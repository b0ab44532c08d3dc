"""Open-i: the first frontal film of each study with its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexer.studies import Skipped, Study
from rag_service.datasets import openi


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per patient, in order of id; those without a frontal film or without a report are skipped."""
    films = sorted(openi.films(folder), key=lambda r: (r.study, r.path.name))
    by_study: dict[str, Study | Skipped] = {}
    for row in films:
        if not row.text:
            by_study[row.study] = Skipped(row.study, "no_report")
        elif row.presentation == "lateral":
            by_study.setdefault(row.study, Skipped(row.study, "no_frontal_film"))
        elif not isinstance(by_study.get(row.study), Study):
            by_study[row.study] = Study(openi.SOURCE, row.study, row.patient, row.path, row.text, view=row.view)
    yield from by_study.values()
