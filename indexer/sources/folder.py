"""A folder of one's own: `cases.csv` beside the films it names.

Header: film,report,patient,study,date,view,sex,age. `film` is a path inside the folder (PNG, JPEG or DICOM) or empty;
`report` is the text itself, or the path of a .txt file inside the folder; `patient` and `study` are required pseudonyms;
`date`, `view`, `sex` and `age` may be empty or left out. Reports must be de-identified; what still looks like a name, a date
or a number of a person is blanked before anything is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from indexer.deidentify import blank
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError, read_table

SOURCE: Final = "folder"
TABLE: Final = "cases.csv"
REQUIRED: Final = ("film", "report", "patient", "study")
MAX_REPORT: Final = 64 << 10
"""Bytes of a report file."""


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per row, in the order of the table; a study named twice counts once, in its first row that can be read.

    DatasetError when the table is missing or lacks a required column.
    """
    seen: set[str] = set()
    for number, row in enumerate(read_table(folder / TABLE, REQUIRED), 2):
        found = _study(folder, row, f"line {number}")
        if isinstance(found, Study):
            if found.study in seen:
                found = Skipped(found.study, "study_repeated")
            seen.add(found.study)
        yield found


def _study(folder: Path, row: dict[str, str], line: str) -> Study | Skipped:
    study, patient = (row["study"] or "").strip(), (row["patient"] or "").strip()
    if not study or not patient:
        return Skipped(line, "no_study_or_patient")
    try:
        film = _inside(folder, row["film"])
        text = _report(folder, row["report"] or "")
    except DatasetError as error:
        return Skipped(study, str(error))
    if film is None and not text:
        return Skipped(study, "neither_film_nor_report")
    age = (row.get("age") or "").strip()
    return Study(
        SOURCE, study, patient, film, blank(text), view=row.get("view") or None, sex=row.get("sex") or None,
        age_years=int(age) if re.fullmatch(r"[0-9]{1,3}", age) and int(age) <= 120 else None,
    )  # fmt: skip


def _inside(folder: Path, name: str | None) -> Path | None:
    """The file of that name, which must exist and lie inside the folder once links are followed."""
    if not (name or "").strip():
        return None
    try:
        path = (folder / str(name).strip()).resolve()
        present = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a null character
        raise DatasetError("file_missing") from error
    if not path.is_relative_to(folder.resolve()):
        raise DatasetError("path_outside_folder")
    if not present:
        raise DatasetError("file_missing")
    return path


def _report(folder: Path, text: str) -> str:
    if not text.strip().lower().endswith(".txt"):
        return text.strip()
    path = _inside(folder, text)
    if path is None or path.stat().st_size > MAX_REPORT:
        raise DatasetError("report_too_large")
    try:
        return path.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DatasetError("report_not_utf8") from error
