"""Cohen's collection of published COVID-19 and other pneumonia films: several films a patient, with clinical notes.

`metadata.csv` beside the films it names: the public repository's columns `folder` and `filename`, or one column `file`; further
`patientid`, `offset` (days since the first film or symptom), `finding`, `view`, `sex`, `age`, `clinical_notes` and, in later
versions, `modality`. Cohen et al., arXiv:2003.11597 (github.com/ieee8023/covid-chestxray-dataset).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from indexer import fields
from indexer.sources import files
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError
from rag_service.datasets.others import INFECTIONS

SOURCE: Final = "cohen"
TABLE: Final = "metadata.csv"
REQUIRED: Final = ("patientid", "offset", "finding", "view", "clinical_notes")
LATERAL: Final = "L"
PROJECTIONS: Final = frozenset({"PA", "AP", "AP Supine", "AP Erect", "AP semi erect", "L", "", "?"})
"""Views of a film; the rest (Axial, Coronal ...) are slices of a CT."""


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per frontal film, a patient's films in the order of their days; DatasetError for no or another table.

    The text is the clinical notes; a film without notes has its finding as labels, and one with neither is skipped.
    """
    rows = [r | {"file": _file(r)} for r in files.rows(files.needed(folder, TABLE), REQUIRED)]
    for row in sorted(rows, key=lambda r: (r["patientid"], _day(r["offset"]), r["file"])):
        yield _study(folder, row)


def _study(folder: Path, row: Mapping[str, str]) -> Study | Skipped:
    study = PurePosixPath(row["file"]).stem
    if not study or not row["patientid"].strip():
        return Skipped(study or "row without a file", "no_study_or_patient")
    if row.get("modality", "X-ray") != "X-ray" or row["view"] not in PROJECTIONS:
        return Skipped(study, "no_chest_film")
    if row["view"] == LATERAL:
        return Skipped(study, "no_frontal_film")
    text, labels = row["clinical_notes"].strip(), _labels(row["finding"])
    if not text and not labels:
        return Skipped(study, "no_report")
    try:
        film = files.inside(folder, row["file"])
    except DatasetError as error:
        return Skipped(study, str(error))
    return Study(
        SOURCE, study, row["patientid"].strip(), film, text, () if text else labels, row["view"],
        fields.sex(row.get("sex", "")), fields.age(row.get("age", "")),
    )  # fmt: skip


def _file(row: Mapping[str, str]) -> str:
    if "file" in row:
        return row["file"]
    return f"{row.get('folder', 'images')}/{row['filename']}" if row.get("filename") else ""


def _day(offset: str) -> float:
    """Days, those unknown last."""
    try:
        days = float(offset)
    except ValueError:
        return math.inf
    return days if math.isfinite(days) else math.inf


def _labels(finding: str) -> tuple[str, ...]:
    """CheXpert observations that a finding asserts; none for 'todo', 'Unknown' and diseases outside the chest's fourteen."""
    if finding.strip() == "No Finding":
        return ("No Finding",)
    return ("Lung Opacity", "Pneumonia") if any(w in finding.lower() for w in INFECTIONS) else ()
