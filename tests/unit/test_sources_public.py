"""Sources in the public layouts of their sets, on small made-up trees of the same shape."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from indexer import fields
from indexer.sources import NAMES, cohen, files, mimic_cxr, padchest_gr, read, rocov2
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError


def a_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def a_file(path: Path, text: str = "a film") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def split(found: Iterator[Study | Skipped]) -> tuple[list[Study], dict[str, str]]:
    """Studies, and the reason of every row that is none."""
    kept: list[Study] = []
    skipped: dict[str, str] = {}
    for item in found:
        if isinstance(item, Study):
            kept.append(item)
        else:
            skipped[item.study] = item.reason
    return kept, skipped


# --- Cohen


def cohen_row(name: str, **more: str) -> dict[str, str]:
    row = {
        "patientid": "7",
        "offset": "3",
        "sex": "F",
        "age": "95",
        "finding": "Pneumonia/Viral/COVID-19",
        "view": "PA",
        "modality": "X-ray",
        "folder": "images",
        "filename": f"{name}.jpg",
        "clinical_notes": "Bilateral opacities.",
    }
    return row | more


def test_cohen_has_a_study_for_each_frontal_film_in_the_order_of_days(tmp_path: Path) -> None:
    rows = [
        cohen_row("late", offset="12"),
        cohen_row("early", offset="-1"),
        cohen_row("undated", offset=""),
        cohen_row("side", view="L"),
        cohen_row("slice", modality="CT"),
        cohen_row("axial", view="Axial"),
        cohen_row("silent", clinical_notes=""),
        cohen_row("normal", clinical_notes="", finding="No Finding", patientid="8"),
        cohen_row("todo", clinical_notes="", finding="todo"),
        cohen_row("gone"),
        cohen_row("nobody", patientid=" "),
        cohen_row("up", filename="../../secret.jpg"),
        cohen_row("none", filename=""),
    ]
    a_table(tmp_path / "set" / cohen.TABLE, rows)
    for name in ("late", "early", "undated", "side", "slice", "axial", "silent", "normal", "todo", "nobody"):
        a_file(tmp_path / "set" / "images" / f"{name}.jpg")
    a_file(tmp_path / "secret.jpg")
    kept, skipped = split(cohen.studies(tmp_path / "set"))
    assert [s.study for s in kept] == ["early", "silent", "late", "undated", "normal"]
    first = kept[0]
    assert (first.patient, first.view, first.sex, first.age_years) == ("7", "PA", "F", 90)
    assert (first.text, first.labels) == ("Bilateral opacities.", ())
    assert (kept[1].text, kept[1].labels) == ("", ("Lung Opacity", "Pneumonia"))
    assert kept[4].labels == ("No Finding",)
    assert skipped == {
        "side": "no_frontal_film",
        "slice": "no_chest_film",
        "axial": "no_chest_film",
        "todo": "no_report",
        "gone": "file_missing",
        "nobody": "no_study_or_patient",
        "secret": "path_outside_folder",
        "row without a file": "no_study_or_patient",
    }


def test_cohen_reads_one_column_for_the_file_too(tmp_path: Path) -> None:
    row = {k: v for k, v in cohen_row("x").items() if k not in {"folder", "filename", "modality"}}
    a_table(tmp_path / cohen.TABLE, [row | {"file": "films/x.png"}])
    a_file(tmp_path / "films" / "x.png")
    kept, skipped = split(read("cohen", tmp_path, None))
    assert ([s.study for s in kept], skipped) == (["x"], {})
    with pytest.raises(DatasetError, match=r"metadata\.csv is missing"):
        list(cohen.studies(tmp_path / "films"))


# --- ROCOv2


def test_rocov2_takes_what_its_curators_call_a_plain_chest_film(tmp_path: Path) -> None:
    for part, ids in (("train", ("A1", "A2", "A3", "A4")), ("valid", ("V1",))):
        a_table(tmp_path / f"{part}_captions.csv", [{"ID": i, "Caption": f"Chest film of {i}."} for i in ids])
        concepts = [{"ID": i, "CUIs": "C0040405" if i == "A2" else "C1306645;C0817096;C0000001"} for i in ids]
        a_table(tmp_path / f"{part}_concepts_manual.csv", concepts)
    a_table(tmp_path / "test_captions.csv", [{"ID": "T1", "Caption": "Withheld."}])
    a_file(tmp_path / "train" / "A1.jpg")
    a_file(tmp_path / "train_images" / "A4.jpg")
    a_file(tmp_path / "valid" / "V1.jpg")
    kept, skipped = split(rocov2.studies(tmp_path))
    assert [(s.study, s.patient, s.text) for s in kept] == [
        ("A1", "A1", "Chest film of A1."),
        ("A4", "A4", "Chest film of A4."),
        ("V1", "V1", "Chest film of V1."),
    ]
    assert skipped == {"A2": "no_chest_film", "A3": "file_missing"}


def test_rocov2_of_chest_films_alone(tmp_path: Path) -> None:
    rows = [("films/r1.jpg", "Effusion."), ("films/r2.jpg", " "), ("", "Words."), ("../up.jpg", "Out.")]
    a_table(tmp_path / "set" / "captions.csv", [{"file": f, "caption": c} for f, c in rows])
    for name in ("set/films/r1.jpg", "set/films/r2.jpg", "up.jpg"):
        a_file(tmp_path / name)
    kept, skipped = split(rocov2.studies(tmp_path / "set"))
    assert [(s.study, s.text) for s in kept] == [("r1", "Effusion.")]
    assert skipped == {"r2": "no_report", "row without a file": "no_study_or_patient", "up": "path_outside_folder"}
    with pytest.raises(DatasetError, match=r"train_concepts_manual\.csv is missing"):
        list(rocov2.studies(tmp_path))


# --- PadChest-GR


def padchest(folder: Path, reports: object, rows: Sequence[dict[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / padchest_gr.REPORTS).write_text(json.dumps(reports))
    a_table(folder / padchest_gr.TABLE, rows)
    return folder


def padchest_row(study: str, patient: str = "P1", split: str = "train") -> dict[str, str]:
    return {
        "StudyID": study,
        "PatientID": patient,
        "split": split,
        "PatientSex_DICOM": "M",
        "PatientAge": "61.0",
        "StudyDate_DICOM": "20140305.0",
        "StudyDate": "",
    }


def test_padchest_gr_gives_its_english_sentences_and_its_patients_prior(tmp_path: Path) -> None:
    positive = {
        "sentence_en": "Small left effusion.",
        "sentence_es": "Derrame.",
        "abnormal": True,
        "boxes": [[0.1, 0.5, 0.4, 0.9]],
        "labels": ["pleural effusion"],
        "locations": ["left"],
        "progression": None,
    }
    reports = [
        {
            "StudyID": "S1",
            "ImageID": "I1.png",
            "PreviousStudyID": "S0",
            "findings": [positive, {"sentence_en": "Normal heart.", "abnormal": False}],
        },
        {
            "StudyID": "S0",
            "ImageID": "I0.png",
            "PreviousStudyID": None,
            "findings": [{"sentence_en": "", "abnormal": True, "labels": ["Pleural effusion", "strange"]}],
        },
        {"StudyID": "S2", "ImageID": "I2.png", "findings": None},
        {"StudyID": "S3", "ImageID": "I3.png", "findings": [positive]},
        {"StudyID": "S4", "ImageID": "none.png", "findings": [positive]},
        {"StudyID": "S5", "ImageID": "I1.png", "findings": [positive]},
        "no object",
    ]
    rows = [padchest_row("S1"), padchest_row("S2", "P2"), padchest_row("S3", "P3", "test"), padchest_row("S4", "P4")]
    folder = padchest(tmp_path, reports, rows)
    for name in ("I0", "I1", "I2", "I3"):
        a_file(folder / "Padchest_GR_files" / f"{name}.png")
    kept, skipped = split(padchest_gr.studies(folder))
    assert [(s.study, s.patient, s.text, s.labels) for s in kept] == [
        ("S1", "P1", "FINDINGS: Small left effusion. Normal heart.", ()),
        ("S0", "P1", "", ("Pleural Effusion",)),
    ]
    assert (kept[0].sex, kept[0].age_years, kept[0].date, kept[0].view) == ("M", 61, "2014-03-05", "frontal")
    assert skipped == {
        "S2": "no_report",
        "S3": "kept_for_test",
        "S4": "file_missing",
        "S5": "no_study_or_patient",
        "report 6": "no_study_or_patient",
    }


def test_padchest_gr_of_another_form_is_refused(tmp_path: Path) -> None:
    folder = padchest(tmp_path, {"no": "list"}, [padchest_row("S1")])
    with pytest.raises(DatasetError, match="is no list of studies"):
        list(padchest_gr.studies(folder))
    (folder / padchest_gr.REPORTS).write_text("{")
    with pytest.raises(DatasetError, match="is no JSON"):
        list(padchest_gr.studies(folder))


# --- MIMIC-CXR


REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with cough // pneumonia?

 FINDINGS:

 There is a small left
 pleural effusion.

 IMPRESSION:

 Small effusion, seen by ___.
"""


def mimic(folder: Path, gz: bool = True) -> Path:
    end = ".gz" if gz else ""
    films = [
        ("a", "50000001", "LATERAL"),
        ("b", "50000001", "AP"),
        ("c", "50000001", "PA"),
        ("d", "50000001", "PA"),
        ("e", "50000002", "LL"),
        ("f", "50000003", "AP"),
        ("g", "50000004", "PA"),
        ("h", "50000005", "PA"),
        ("i", "50000006", "PA"),
    ]
    rows = [
        {"dicom_id": d, "subject_id": "10000032", "study_id": s, "ViewPosition": v, "StudyDate": "21800506"}
        for d, s, v in films
    ]
    a_table(folder / f"mimic-cxr-2.0.0-metadata.csv{end}", rows)
    a_table(
        folder / f"mimic-cxr-2.0.0-split.csv{end}",
        [{"study_id": "50000003", "split": "test"}, {"study_id": "50000001", "split": "train"}],
    )
    labels = [
        {"study_id": "50000004", "Edema": "1.0", "Pneumonia": "-1.0"},
        {"study_id": "50000005", "Edema": "", "Pneumonia": "0.0"},
    ]
    a_table(folder / f"mimic-cxr-2.0.0-chexpert.csv{end}", labels)
    place = folder / "files" / "p10" / "p10000032"
    for name, study, _ in films:
        if name != "i":
            a_file(place / f"s{study}" / f"{name}.jpg")
    a_file(place / "s50000001.txt", REPORT)
    return folder


@pytest.mark.parametrize("gz", [True, False])
def test_mimic_cxr_takes_the_pa_film_and_the_sections_of_its_report(tmp_path: Path, gz: bool) -> None:
    kept, skipped = split(mimic_cxr.studies(mimic(tmp_path, gz)))
    assert [(s.study, s.patient, s.film.name if s.film else None, s.view) for s in kept] == [
        ("s50000001", "p10000032", "c.jpg", "PA"),
        ("s50000004", "p10000032", "g.jpg", "PA"),
    ]
    assert (
        kept[0].text == "FINDINGS: There is a small left pleural effusion.\nIMPRESSION: Small effusion, seen by XXXX."
    )
    assert (kept[0].date, kept[1].text, kept[1].labels) == ("2180-05-06", "", ("Edema",))
    assert skipped == {
        "s50000002": "no_frontal_film",
        "s50000003": "kept_for_test",
        "s50000005": "no_report",
        "s50000006": "file_missing",
    }


def test_sections_of_reports_written_otherwise() -> None:
    assert mimic_cxr.sections("CHEST, TWO VIEWS:  Clear lungs.\n\nCONCLUSION: Normal.") == {"IMPRESSION": "Normal."}
    assert mimic_cxr.sections("FINAL REPORT\n\nWet read.\n\nHeart is  large.\n") == {"FINDINGS": "Heart is large."}
    assert mimic_cxr.sections("FINDINGS:\n\nIMPRESSION: \n") == {}
    assert mimic_cxr.sections("") == {}


def test_a_mimic_table_that_names_no_film_of_mimic_is_refused(tmp_path: Path) -> None:
    row = {"dicom_id": "../x", "subject_id": "1", "study_id": "2", "ViewPosition": "PA"}
    a_table(tmp_path / "mimic-cxr-2.0.0-metadata.csv", [row])
    with pytest.raises(DatasetError, match=r"can be none of MIMIC-CXR's"):
        list(mimic_cxr.studies(tmp_path))


# --- trees made by a stranger


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    outer = a_file(tmp_path / "outer.txt", "secret")
    a_file(inner / "fine.txt", "words")
    (inner / "link.txt").symlink_to(outer)
    (inner / "round").symlink_to(inner / "round")
    assert files.report(inner, " fine.txt ") == "words"
    for name, reason in {
        "../outer.txt": "path_outside_folder",
        "link.txt": "path_outside_folder",
        str(outer): "path_outside_folder",
        "none.txt": "file_missing",
        "round": "file_missing",
        "a\0b": "file_missing",
        "x" * 5000: "file_missing",
    }.items():
        with pytest.raises(DatasetError, match=reason):
            files.report(inner, name)
    assert [p.name for p in files.walk(inner)] == ["fine.txt", "link.txt", "round"]


def test_files_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_file(tmp_path / "long.txt", "x" * (files.MAX_REPORT + 1))
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    for name, reason in (("long.txt", "report_too_large"), ("latin.txt", "report_not_utf8")):
        with pytest.raises(DatasetError, match=reason):
            files.report(tmp_path, name)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 2000))
    assert len(list(files.rows(tmp_path / "bomb.csv.gz", ("a",)))) == 2000
    monkeypatch.setattr(files, "MAX_TABLE", 4000)
    with pytest.raises(DatasetError, match="longer than a table may be"):
        list(files.rows(tmp_path / "bomb.csv.gz", ("a",)))
    monkeypatch.setattr(files, "MAX_JSON", 3)
    with pytest.raises(DatasetError, match="more than 0 MiB"):
        files.read_json(a_file(tmp_path / "wide.json", "[1, 2]"))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\n" + b"x" * 200_000 + b"\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DatasetError, match="is no table in UTF-8"):
        list(files.rows(tmp_path / "t.csv", ()))
    (tmp_path / "u.csv.gz").write_bytes(gzip.compress(b"a\n1\n" * 50)[:-9])
    with pytest.raises(DatasetError, match="is no table in UTF-8"):
        list(files.rows(tmp_path / "u.csv.gz", ("a",)))
    with pytest.raises(DatasetError, match="lacks the columns b"):
        list(files.rows(a_file(tmp_path / "v.csv", "a\n1\n"), ("b",)))


def test_cells_are_read_as_what_they_mean() -> None:
    assert [fields.age(t) for t in ("61", "061Y", "61.0", "018M", "003W", "121", "old", "")] == [
        61,
        61,
        61,
        1,
        0,
        None,
        None,
        None,
    ]
    assert [fields.sex(t) for t in ("m", "Female", "O", "?")] == ["M", "F", "O", None]
    assert [fields.day(t) for t in ("2014-03-05", "20140305", "20140305.0", "20141305", "x")] == ["2014-03-05"] * 3 + [
        None
    ] * 2


def test_every_source_has_a_name() -> None:
    assert NAMES == ("openi", "nih", "cohen", "rocov2", "padchest-gr", "mimic-cxr", "folder", "dicom")
    assert os.sep not in "".join(NAMES)
