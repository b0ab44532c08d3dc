"""A tree of DICOM files: one frontal CR or DX film per study, with its structured report or the report file beside it.

Studies are told apart by StudyInstanceUID wherever their files lie. Patients and studies are pseudonyms under the site's key;
of the header no more is read than what `recipes/chest.recipe` leaves, and what it removes is blanked in the report. A study of
the tree costs about a kilobyte of memory. Files without DICOM's mark are passed over; a file above 100 MiB, a link that leads
out of the folder and a deflated file (which would have to be inflated to be looked at) are not opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from indexer import fields
from indexer.deidentify_dicom import burned_in, clean, identifiers
from indexer.pseudonyms import Pseudonyms
from indexer.sources import files, structured_report
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError
from rag_service.imaging.dicom_header import quiet_pydicom, text_of
from rag_service.imaging.limits import Limits

SOURCE: Final = "dicom"
MODALITIES: Final = frozenset({"CR", "DX"})
CHEST: Final = frozenset({"", "CHEST", "THORAX", "LUNG", "TORAX", "PORT CHEST"})
"""Body parts of a chest film; a film that names none is believed to be one."""
FRONTAL: Final = ("PA", "AP")
LATERAL: Final = frozenset({"LL", "RL", "LLD", "RLD", "LAT", "LATERAL", "LLO", "RLO", "OBL"})
_DESCRIPTIONS: Final = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")


@dataclass(frozen=True)
class _File:
    """One file of a study: a film that can stand for it, a report of it, or the reason that it is neither."""

    study: str
    patient: str
    known: tuple[str, ...]
    date: str | None
    film: Path | None = None
    view: str | None = None
    sex: str | None = None
    age_years: int | None = None
    text: str = ""
    reason: str = ""


def studies(folder: Path, pseudonyms: Pseudonyms) -> Iterator[Study | Skipped]:
    """One study per StudyInstanceUID in the order of the tree's first files; unreadable files are named by their number."""
    gathered: dict[str, list[_File]] = {}
    for number, path in enumerate(files.walk(folder), 1):
        found = _read(folder, path, pseudonyms)
        if isinstance(found, str):
            yield Skipped(f"file {number}", found)
        elif found is not None:
            gathered.setdefault(found.study, []).append(found)
    for study in gathered.values():
        yield _study(folder, study)


def _study(folder: Path, parts: list[_File]) -> Study | Skipped:
    """The PA film before the AP one, the structured report before the file beside the film."""
    usable = [p for p in parts if p.film is not None]
    if not usable:
        return Skipped(parts[0].study, next((p.reason for p in parts if p.reason), "no_chest_film"))
    best = min(usable, key=lambda p: FRONTAL.index(p.view or FRONTAL[-1]))
    text = next((p.text for p in parts if p.text), "")
    try:
        if best.film is not None and not text:
            text = structured_report.beside(folder, best.film)
    except DatasetError as error:
        return Skipped(best.study, str(error))
    known = tuple(dict.fromkeys(k for p in parts for k in p.known))
    return Study(
        SOURCE, best.study, best.patient, best.film, text, (), best.view, best.sex, best.age_years, best.date, known
    )


def _read(folder: Path, path: Path, pseudonyms: Pseudonyms) -> _File | str | None:
    """What a file is; a reason when it cannot be read, None when it is no DICOM file."""
    try:
        files.inside(folder, str(path.relative_to(folder)))
        if not _marked(path):
            return "not_dicom" if path.suffix.lower() == ".dcm" else None
        if path.stat().st_size > Limits().max_bytes:
            return "file_too_large"
        with quiet_pydicom():
            if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return "deflated"
            return _told(path, dcmread(path, stop_before_pixels=True), pseudonyms)
    except DatasetError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - pydicom and deid raise anything on a damaged header, and may quote it
        return "header_unreadable"


def _marked(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _told(path: Path, header: FileDataset, pseudonyms: Pseudonyms) -> _File | str:
    """Everything of use is taken before the header is cleaned: the names to blank, the report's words, the day."""
    known, day = identifiers(header), fields.day(str(header.get("StudyDate") or ""))
    is_report = str(header.get("SOPClassUID")) in structured_report.CLASSES
    text = structured_report.words(header) if is_report else ""
    view = _view(header)
    cleaned = clean(header, pseudonyms)
    study, patient = str(cleaned.get("StudyInstanceUID") or ""), str(cleaned.get("PatientID") or "")
    if not study or not patient:
        return "no_study_or_patient"
    if is_report:
        return _File(study, patient, known, day, text=text)
    if reason := _judged(cleaned, view):
        return _File(study, patient, known, day, reason=reason)
    return _File(
        study, patient, known, day, path, view, fields.sex(text_of(cleaned, "PatientSex")),
        fields.age(str(cleaned.get("PatientAge") or "")),
    )  # fmt: skip


def _judged(header: FileDataset, view: str | None) -> str:
    """Why a film is not one of this knowledge base; '' when it is."""
    if text_of(header, "Modality") not in MODALITIES or "Rows" not in header:
        return "no_radiograph"
    if text_of(header, "BodyPartExamined") not in CHEST:
        return "no_chest_film"
    if burned_in(header):
        return "burned_in_text"
    if view is None:
        return "view_unknown"
    return "" if view in FRONTAL else "no_frontal_film"


def _view(header: FileDataset) -> str | None:
    """PA, AP or "lateral" by ViewPosition or, where that is empty, by the words of the series; None when neither says."""
    stated = text_of(header, "ViewPosition") or " ".join(text_of(header, d) for d in _DESCRIPTIONS)
    said = re.findall(r"[A-Z]{2,20}", stated)
    if not LATERAL.isdisjoint(said):
        return "lateral"
    return next((v for v in FRONTAL if v in said), None)
