"""A folder of one's own: `cases.csv` beside the films it names.

Header: film,report,patient,study,date,view,sex,age. `film` is a path inside the folder (PNG, JPEG or DICOM) or empty;
`report` is the text itself, or the path of a .txt file inside the folder; `patient` and `study` are required pseudonyms;
`date`, `view`, `sex` and `age` may be empty or left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from indexer import fields
from indexer.sources import files
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError

SOURCE: Final = "folder"
TABLE: Final = "cases.csv"
REQUIRED: Final = ("film", "report", "patient", "study")


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per row, in the order of the table; a study named twice counts once, in its first row that can be read.

    DatasetError when the table is missing or lacks a required column.
    """
    seen: set[str] = set()
    for number, row in enumerate(files.rows(files.needed(folder, TABLE), REQUIRED), 2):
        found = _study(folder, row, f"line {number}")
        if isinstance(found, Study):
            if found.study in seen:
                found = Skipped(found.study, "study_repeated")
            seen.add(found.study)
        yield found


def _study(folder: Path, row: dict[str, str], line: str) -> Study | Skipped:
    study, patient = row["study"].strip(), row["patient"].strip()
    if not study or not patient:
        return Skipped(line, "no_study_or_patient")
    try:
        film = files.inside(folder, row["film"]) if row["film"].strip() else None
        text = _report(folder, row["report"])
    except DatasetError as error:
        return Skipped(study, str(error))
    if film is None and not text:
        return Skipped(study, "neither_film_nor_report")
    return Study(
        SOURCE, study, patient, film, text, view=row.get("view"), sex=fields.sex(row.get("sex", "")),
        age_years=fields.age(row.get("age", "")), date=fields.day(row.get("date", "")),
    )  # fmt: skip


def _report(folder: Path, text: str) -> str:
    return files.report(folder, text) if text.strip().lower().endswith(".txt") else text.strip()
