"""PadChest-GR: films with single-finding sentences, their labels and their patient's earlier study.

`grounded_reports_20240819.json` beside `master_table.csv` (or `.csv.gz`), the films anywhere below. The English sentences are
the text; a study whose sentences are all empty has its labels. A study and the earlier one it names are one patient's. The part
that the publisher keeps for tests is left out. Castro et al., NEJM AI 2025 (arXiv:2411.05085).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from indexer import fields
from indexer.sources import files
from indexer.sources.padchest_labels import CHEXPERT
from indexer.studies import Skipped, Study
from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import DatasetError

SOURCE: Final = "padchest-gr"
REPORTS: Final = "grounded_reports_20240819.json"
TABLE: Final = "master_table.csv"


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per report, in the order of the file. DatasetError when a file is missing or of another form."""
    reports = files.read_json(files.inside(folder, REPORTS))
    if not isinstance(reports, list):
        raise DatasetError(f"{REPORTS} is no list of studies")
    table = _by_study(folder)
    patients, films = _patients(reports, table), _films(folder)
    for number, report in enumerate(reports):
        study = _text(report, "StudyID")
        yield (
            _study(report, table.get(study, {}), patients.get(study), films)
            if study
            else Skipped(f"report {number}", "no_study_or_patient")
        )


def _study(report: Any, row: Mapping[str, str], patient: str | None, films: Mapping[str, Path]) -> Study | Skipped:
    study = _text(report, "StudyID")
    if not patient:
        return Skipped(study, "no_study_or_patient")
    if row.get("split") == "test":
        return Skipped(study, "kept_for_test")
    film = films.get(_text(report, "ImageID"))
    if film is None:
        return Skipped(study, "file_missing")
    sentences = _sentences(report)
    text = " ".join(s for f in sentences if (s := _text(f, "sentence_en")))
    labels = _labels(sentences)
    if not text and not labels:
        return Skipped(study, "no_report")
    return Study(
        SOURCE, study, patient, film, f"FINDINGS: {text}" if text else "", () if text else labels, "frontal",
        fields.sex(row.get("PatientSex_DICOM", "")), fields.age(row.get("PatientAge", "")),
        fields.day(row.get("StudyDate_DICOM", "")) or fields.day(row.get("StudyDate", "")),
    )  # fmt: skip


def _by_study(folder: Path) -> dict[str, dict[str, str]]:
    """Study -> its first row; every row of a study says the same of the patient."""
    found: dict[str, dict[str, str]] = {}
    for row in files.rows(files.needed(folder, TABLE), ("StudyID", "PatientID")):
        found.setdefault(row["StudyID"], row)
    return found


def _patients(reports: Sequence[Any], table: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Study -> patient, as the table says it, or as the table says it of the later study that names this one as its prior."""
    known = {s: r["PatientID"] for s, r in table.items() if r["PatientID"]}
    named = {_text(r, "PreviousStudyID"): known.get(_text(r, "StudyID"), "") for r in reports}
    return {prior: patient for prior, patient in named.items() if prior and patient} | known


def _films(folder: Path) -> dict[str, Path]:
    """File name -> film; one that a link puts outside the folder is not there."""
    root = folder.resolve()
    pictures = (p for p in files.walk(folder) if p.suffix.lower() == ".png")
    return {p.name: p for p in pictures if p.resolve().is_relative_to(root)}


def _sentences(report: Any) -> list[Any]:
    found = report.get("findings")
    return found if isinstance(found, list) else []


def _labels(sentences: Sequence[Any]) -> tuple[str, ...]:
    """CheXpert observations of the abnormal sentences; negative sentences often carry no labels at all."""
    stated = {CHEXPERT.get(str(label).lower()) for f in sentences if isinstance(f, dict) and f.get("abnormal")
              for label in (f.get("labels") or ())}  # fmt: skip
    return tuple(f for f in FINDINGS if f in stated)


def _text(record: Any, key: str) -> str:
    """A text of a JSON object; '' when it is no object, or the key is absent, null or no text."""
    value = record.get(key) if isinstance(record, dict) else None
    return value.strip() if isinstance(value, str) else ""
