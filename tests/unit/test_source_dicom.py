"""The DICOM source: frontal films by study, reports beside or inside, and nobody's identity in what comes out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from indexer.deidentify_dicom import clean, identifiers
from indexer.pseudonyms import PseudonymKeyMissing, Pseudonyms
from indexer.sources import dicom, read
from indexer.studies import Skipped, Study
from knowledge_base.cases import to_payload
from knowledge_base.records import Case
from rag_service.imaging.limits import Limits

KEY = "a secret of the site, long enough"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def a_header(study: str, patient: str, **more: Any) -> Dataset:
    header = Dataset()
    header.SOPClassUID = DX
    header.SOPInstanceUID = generate_uid(entropy_srcs=[study, patient, json.dumps(more, default=str)])
    header.StudyInstanceUID = study
    header.PatientID = patient
    header.PatientName = "Rossi^Maria"
    header.PatientBirthDate = "19300102"
    header.PatientAge = "094Y"
    header.PatientSex = "F"
    header.ReferringPhysicianName = "Okonkwo^Ada"
    header.InstitutionName = "Hillside Infirmary"
    header.StudyDate = "20240229"
    header.Modality = "DX"
    header.BodyPartExamined = "CHEST"
    header.ViewPosition = "PA"
    header.Rows, header.Columns = 4, 4
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PixelData = np.arange(16, dtype=np.uint8).tobytes()
    for name, value in more.items():
        setattr(header, name, value)
    return header


def saved(header: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path, enforce_file_format=True)
    return path


def a_report(study: str, patient: str, *texts: tuple[str, str]) -> Dataset:
    report = a_header(study, patient, SOPClassUID=TEXT_SR, Modality="SR")
    del report.PixelData
    items = []
    for heading, words in texts:
        item, name = Dataset(), Dataset()
        name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "1", "99X", heading
        item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", words
        item.ConceptNameCodeSequence = [name]
        items.append(item)
    report.ContentSequence = items
    return report


def studies(folder: Path) -> tuple[list[Study], dict[str, str]]:
    found: Iterator[Study | Skipped] = read("dicom", folder, KEY)
    items = list(found)
    kept = [i for i in items if isinstance(i, Study)]
    return kept, {i.study: i.reason for i in items if isinstance(i, Skipped)}


def study_name(uid: str) -> str:
    return Pseudonyms.of(KEY).uid("StudyInstanceUID", uid)


def test_a_study_is_its_pa_film_with_its_structured_report(tmp_path: Path) -> None:
    saved(a_header("1.2.1", "MRN-778899", ViewPosition="AP"), tmp_path / "x" / "1.dcm")
    pa = saved(a_header("1.2.1", "MRN-778899"), tmp_path / "x" / "2.dcm")
    saved(a_header("1.2.1", "MRN-778899", ViewPosition="LL"), tmp_path / "x" / "3.dcm")
    words = (
        ("Findings", "Small effusion. Dr Okonkwo told MRN-778899 Maria."),
        ("Request", "pain"),
        ("Impression", "Effusion."),
    )
    saved(a_report("1.2.1", "MRN-778899", *words), tmp_path / "y" / "report.dcm")
    (tmp_path / "x" / "notes.md").write_text("no film")
    kept, skipped = studies(tmp_path)
    assert skipped == {}
    (study,) = kept
    assert (study.film, study.view, study.sex, study.age_years, study.date) == (pa, "PA", "F", 90, "2024-02-29")
    assert study.text.startswith("FINDINGS: Small effusion. ") and study.text.endswith("\nIMPRESSION: Effusion.")
    for word in ("Okonkwo", "778899", "Maria", "pain"):
        assert word not in study.text
    assert study.study == study_name("1.2.1")
    assert study.patient == Pseudonyms.of(KEY).name("PatientID", "MRN-778899")
    assert len(study.patient) == 32


def test_a_report_beside_the_film_is_read_too(tmp_path: Path) -> None:
    for number, (suffix, words) in enumerate({
        ".txt": "Clear lungs, Rossi.",
        ".json": json.dumps({"findings": "Clear.", "impression": "Normal.", "other": 1}),
    }.items()):  # fmt: skip
        film = saved(a_header(f"1.2.{number}", f"p{number}"), tmp_path / f"{number}.dcm")
        film.with_suffix(suffix).write_text(words)
    saved(a_header("1.2.9", "p9"), tmp_path / "9.dcm").with_suffix(".json").write_text("[]")
    kept, skipped = studies(tmp_path)
    assert [s.text for s in kept] == ["Clear lungs, XXXX.", "FINDINGS: Clear.\nIMPRESSION: Normal."]
    assert skipped == {study_name("1.2.9"): "report_not_json"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"Modality": "CT"}, "no_radiograph"),
        ({"BodyPartExamined": "HAND"}, "no_chest_film"),
        ({"BurnedInAnnotation": "YES"}, "burned_in_text"),
        ({"ViewPosition": "", "SeriesDescription": "CHEST"}, "view_unknown"),
        ({"ViewPosition": "LATERAL"}, "no_frontal_film"),
    ],
)
def test_what_is_no_frontal_chest_film_is_left_out_with_its_reason(
    tmp_path: Path, more: dict[str, str], reason: str
) -> None:
    saved(a_header("1.2.3", "p", **more), tmp_path / "a.dcm")
    assert studies(tmp_path) == ([], {study_name("1.2.3"): reason})


def test_the_view_may_stand_in_the_words_of_the_series(tmp_path: Path) -> None:
    saved(a_header("1.2.3", "p", ViewPosition="", SeriesDescription="CHEST AP PORTABLE"), tmp_path / "a.dcm")
    kept, _ = studies(tmp_path)
    assert [s.view for s in kept] == ["AP"]


def test_broken_and_foreign_files_are_named_by_number(tmp_path: Path) -> None:
    outside = saved(a_header("1.2.4", "p"), tmp_path / "outside" / "o.dcm")
    tree = tmp_path / "tree"
    whole = saved(a_header("1.2.5", "p"), tree / "a.dcm").read_bytes()
    (tree / "a.dcm").unlink()
    (tree / "b.dcm").write_bytes(b"no header at all")
    (tree / "c.dcm").write_bytes(whole[:200])
    (tree / "d.dcm").symlink_to(outside)
    saved(a_header("1.2.6", "p"), tree / "e.dcm", DeflatedExplicitVRLittleEndian)
    saved(a_header("1.2.7", ""), tree / "f.dcm")
    kept, skipped = studies(tree)
    assert kept == []
    assert skipped == {
        "file 1": "not_dicom",
        "file 2": skipped["file 2"],
        "file 3": "path_outside_folder",
        "file 4": "deflated",
        "file 5": "no_study_or_patient",
    }
    assert skipped["file 2"] in {"header_unreadable", "no_study_or_patient"}


def test_without_a_key_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(PseudonymKeyMissing, match="RAG_PSEUDONYM_KEY is not set"):
        read("dicom", tmp_path, None)
    assert KEY not in repr(Pseudonyms.of(KEY))


def test_no_canary_of_two_hundred_headers_and_reports_is_stored(tmp_path: Path) -> None:
    rng = random.Random(5)
    canaries: list[str] = []

    def canary(kind: str) -> str:
        canaries.append(f"{kind}{rng.randrange(10**9):09d}")
        return canaries[-1]

    for number in range(100):
        names = {
            n: f"Zq{canary('Name')}^Vx{canary('First')}"
            for n in ("PatientName", "ReferringPhysicianName", "OperatorsName")
        }
        ids = {"AccessionNumber": canary("AC"), "InstitutionName": canary("Inst"), "PatientAddress": canary("Street")}
        header = a_header(f"1.2.{number}", canary("MRN"), OtherPatientIDs=canary("OID"), **names, **ids)
        said = " ".join(
            [*(v.replace("^", " ") for v in names.values()), *ids.values(), header.PatientID, header.OtherPatientIDs]
        )
        saved(header, tmp_path / f"{number}.dcm").with_suffix(".txt").write_text(
            f"Small effusion. {said} seen. Heart is normal."
        )
    kept, skipped = studies(tmp_path)
    assert (len(kept), skipped, len(canaries)) == (100, {}, 1100)
    stored = json.dumps([to_payload(Case(s.source, s.study, s.patient, s.text, ())) for s in kept])
    assert [c for c in canaries if c in stored] == []
    assert stored.count("Small effusion.") == stored.count("Heart is normal.") == 100


def test_a_file_above_the_limit_or_not_to_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "Limits", lambda: Limits(max_bytes=300))
    saved(a_header("1.2.1", "p"), tmp_path / "1.dcm")
    assert list(read("dicom", tmp_path, KEY)) == [Skipped("file 1", "file_too_large")]

    def refused(path: Path) -> bool:
        raise PermissionError(path)

    monkeypatch.setattr(dicom, "_marked", refused)
    assert list(read("dicom", tmp_path, KEY)) == [Skipped("file 1", "header_unreadable")]


def test_a_report_too_long_or_nested_too_deep_gives_no_more_than_it_may(tmp_path: Path) -> None:
    deep = a_report("1.2.1", "p", ("Findings", "Near the top."))
    place = deep
    for depth in range(20):
        place.ContentSequence[0].ContentSequence = a_report("1.2.1", "p", ("", f"Level {depth}.")).ContentSequence
        place = place.ContentSequence[0]
    saved(deep, tmp_path / "deep.dcm")
    saved(a_header("1.2.1", "p"), tmp_path / "film.dcm")
    saved(a_report("1.2.2", "p", ("Findings", "long " * 20_000)), tmp_path / "long.dcm")
    (study,), skipped = studies(tmp_path)
    assert study.text.startswith("FINDINGS: Near the top. Level 0.") and study.text.endswith("Level 15.")
    assert skipped == {"file 3": "report_too_large"}


def test_the_recipe_keeps_what_it_lists_and_nothing_else(tmp_path: Path) -> None:
    header = a_header("1.2.1", "MRN-1", PatientComments="Rossi", OtherPatientIDs=["a1b2", "c3d4"])
    header.add_new(0x00091001, "LO", "private Rossi")
    header.RequestAttributesSequence = [a_header("1.2.1", "MRN-1")]
    read_back = dcmread(saved(header, tmp_path / "1.dcm"), stop_before_pixels=True)
    assert {"Maria", "Rossi", "RossiMaria", "a1b2", "c3d4", "MRN-1", "Hillside Infirmary"} <= set(
        identifiers(read_back)
    )
    cleaned = clean(read_back, Pseudonyms.of(KEY))
    assert sorted(e.keyword for e in cleaned) == [
        "BodyPartExamined", "Columns", "Modality", "PatientAge", "PatientID", "PatientSex", "PhotometricInterpretation", "Rows",
        "SOPClassUID", "StudyInstanceUID", "ViewPosition",
    ]  # fmt: skip
    assert (cleaned.PatientAge, cleaned.StudyInstanceUID.is_valid) == ("090Y", True)
    assert "Rossi" not in str(cleaned) and "MRN" not in str(cleaned)


def test_the_library_says_nothing_and_remembers_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved(a_header("1.2.1", "p", PatientAge=""), tmp_path / "1.dcm")
    (study,), _ = studies(tmp_path)
    from deid.dicom.fields import _get_fields_inner
    from deid.logger import bot

    assert study.age_years is None
    assert capfd.readouterr() == ("", "")
    assert (bot.history, _get_fields_inner.cache_info().currsize) == ([], 0)
