"""MIMIC-CXR-JPG beside the reports of MIMIC-CXR: one frontal film per study, findings and impression of its report.

`files/p10/p10000032/s50414267/<dicom_id>.jpg`, reports `files/p10/p10000032/s50414267.txt`, tables
`mimic-cxr-2.0.0-metadata.csv` (dicom_id, subject_id, study_id, ViewPosition, StudyDate) and, where they are there,
`-split.csv` (its test part is left out) and `-chexpert.csv` (labels of studies without a report), plain or gzipped.
Johnson et al., Sci Data 2019;6:317. Names and dates are already `___`, dates shifted per patient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from indexer import fields
from indexer.sources import files
from indexer.studies import Skipped, Study
from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import DatasetError

SOURCE: Final = "mimic-cxr"
TABLE: Final = "mimic-cxr-2.0.0-{}.csv"
PREFERENCE: Final = ("PA", "AP")
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "FINDINGS": ("FINDINGS", "FINDING", "CHEST", "REPORT"),
    "IMPRESSION": (
        "IMPRESSION",
        "IMPRESSIONS",
        "CONCLUSION",
        "CONCLUSIONS",
        "SUMMARY",
        "IMPRESSION AND RECOMMENDATION",
    ),
}
"""Section of a case -> headings under which reports write it, in the order they are believed."""
_HEADING: Final = re.compile(r"(?m)^[ \t]{0,8}([A-Z][A-Z ()/,&-]{2,60}):(?=\s|$)")
_ID: Final = re.compile(r"[0-9]{1,12}")
_DICOM_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True)
class _Chosen:
    """The film that stands for a study; `film` is None while only laterals were met."""

    subject: str
    film: str | None
    view: str | None
    date: str | None


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per study id, in the order of the metadata. DatasetError when that table is missing or another."""
    withheld, labels = _test_part(folder), _labels(folder)
    for study, chosen in _chosen(folder).items():
        if study in withheld:
            yield Skipped(f"s{study}", "kept_for_test")
        elif chosen.film is None:
            yield Skipped(f"s{study}", "no_frontal_film")
        else:
            yield _study(folder, study, chosen, labels.get(study, ()))


def sections(text: str) -> dict[str, str]:
    """FINDINGS and IMPRESSION of a report, spaces squeezed; of a report without either, its last paragraph as FINDINGS."""
    parts = _HEADING.split(text)
    written: dict[str, str] = {}
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        if squeezed := " ".join(body.split()):
            written.setdefault(heading.strip(), squeezed)
    found = {name: next((written[h] for h in known if h in written), "") for name, known in SECTIONS.items()}
    if not any(found.values()):
        found["FINDINGS"] = _last_paragraph(parts[-1])
    return {name: body for name, body in found.items() if body}


def _study(folder: Path, study: str, chosen: _Chosen, labels: tuple[str, ...]) -> Study | Skipped:
    place = f"files/p{chosen.subject[:2]}/p{chosen.subject}/s{study}"
    try:
        film = files.inside(folder, f"{place}/{chosen.film}.jpg")
        text = _report(folder, f"{place}.txt")
    except DatasetError as error:
        return Skipped(f"s{study}", str(error))
    if not text and not labels:
        return Skipped(f"s{study}", "no_report")
    return Study(
        SOURCE, f"s{study}", f"p{chosen.subject}", film, text, () if text else labels, chosen.view, date=chosen.date
    )


def _report(folder: Path, name: str) -> str:
    if not (folder / name).exists():
        return ""
    return "\n".join(f"{section}: {body}" for section, body in sections(files.report(folder, name)).items())


def _chosen(folder: Path) -> dict[str, _Chosen]:
    """Study id -> its film: PA before AP, the first of either as the table has them."""
    chosen: dict[str, _Chosen] = {}
    required = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    for row in files.rows(files.needed(folder, TABLE.format("metadata")), required):
        subject, study, film = row["subject_id"], row["study_id"], row["dicom_id"]
        if not (_ID.fullmatch(subject) and _ID.fullmatch(study) and _DICOM_ID.fullmatch(film)):
            raise DatasetError(f"{TABLE.format('metadata')} names a film that can be none of MIMIC-CXR's")
        view = row["ViewPosition"] if row["ViewPosition"] in PREFERENCE else None
        before = chosen.get(study)
        if before is None or _rank(view) < _rank(before.view):
            date = fields.day(row.get("StudyDate", ""))
            chosen[study] = _Chosen(subject, film if view else None, view, date)
    return chosen


def _rank(view: str | None) -> int:
    return PREFERENCE.index(view) if view in PREFERENCE else len(PREFERENCE)


def _test_part(folder: Path) -> frozenset[str]:
    table = files.table(folder, TABLE.format("split"))
    rows = files.rows(table, ("study_id", "split")) if table else ()
    return frozenset(r["study_id"] for r in rows if r["split"] == "test")


def _labels(folder: Path) -> dict[str, tuple[str, ...]]:
    """Study id -> observations that the CheXpert labeler found present."""
    table = files.table(folder, TABLE.format("chexpert"))
    rows = files.rows(table, ("study_id",)) if table else ()
    return {r["study_id"]: tuple(f for f in FINDINGS if r.get(f) in {"1.0", "1"}) for r in rows}


def _last_paragraph(text: str) -> str:
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n[ \t]{0,8}\n", text)]
    return next((p for p in reversed(paragraphs) if p), "")
