"""Sources of cases: which rows become studies, which are skipped and why, and what is blanked on the way."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.sources import NAMES, SOURCES, folder, nih, openi
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError

HEADER = "film,report,patient,study,date,view,sex,age\n"


def a_film(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    return path


def rows_of(path: Path, *lines: str) -> list[Study | Skipped]:
    (path / "cases.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines), "utf-8")
    return list(folder.studies(path))


def test_the_sources_by_name() -> None:
    assert NAMES == ("openi", "nih", "cohen", "rocov2", "padchest-gr", "mimic-cxr", "folder", "dicom")
    assert (SOURCES["openi"], SOURCES["nih"], SOURCES["folder"]) == (openi.studies, nih.studies, folder.studies)


# --- a folder of one's own


def test_a_row_becomes_a_study(tmp_path: Path) -> None:
    film = a_film(tmp_path / "films" / "1.png")
    assert rows_of(tmp_path, 'films/1.png,"Small effusion, left.",P1,S1,2021-05-06,PA,F,61') == [
        Study("folder", "S1", "P1", film, "Small effusion, left.", (), "PA", "F", 61, "2021-05-06")
    ]


def test_optional_columns_may_be_empty_or_left_out(tmp_path: Path) -> None:
    assert rows_of(tmp_path, ",Clear lungs.,P1,S1,,,,") == [Study("folder", "S1", "P1", None, "Clear lungs.")]
    (tmp_path / "cases.csv").write_text("study,patient,report,film\n S1 , P1 , Clear lungs. ,\n")
    assert list(folder.studies(tmp_path)) == [Study("folder", "S1", "P1", None, "Clear lungs.")]


def test_a_film_without_a_report_is_a_study(tmp_path: Path) -> None:
    film = a_film(tmp_path / "1.png")
    assert rows_of(tmp_path, "1.png,,P1,S1,,,,") == [Study("folder", "S1", "P1", film, "")]


def test_a_report_may_be_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "1.TXT").write_text("FINDINGS: Clear.\nIMPRESSION: Normal. Dr. Adams read it.\n", "utf-8")
    assert rows_of(tmp_path, ",reports/1.TXT,P1,S1,,,,") == [
        Study("folder", "S1", "P1", None, "FINDINGS: Clear.\nIMPRESSION: Normal. XXXX read it.")
    ]


@pytest.mark.parametrize(
    ("line", "skipped"),
    [
        ("1.png,Clear.,,S1,,,,", Skipped("line 2", "no_study_or_patient")),
        ("1.png,Clear.,P1,  ,,,,", Skipped("line 2", "no_study_or_patient")),
        ("1.png,Clear.", Skipped("line 2", "no_study_or_patient")),
        (",,P1,S1,,,,", Skipped("S1", "neither_film_nor_report")),
        (" ,  ,P1,S1,,,,", Skipped("S1", "neither_film_nor_report")),
        ("../outside.png,Clear.,P1,S1,,,,", Skipped("S1", "path_outside_folder")),
        ("sub/../../outside.png,Clear.,P1,S1,,,,", Skipped("S1", "path_outside_folder")),
        ("/etc/hostname,Clear.,P1,S1,,,,", Skipped("S1", "path_outside_folder")),
        ("link.png,Clear.,P1,S1,,,,", Skipped("S1", "path_outside_folder")),
        (",link.txt,P1,S1,,,,", Skipped("S1", "path_outside_folder")),
        (",../outside.txt,P1,S1,,,,", Skipped("S1", "path_outside_folder")),
        ("absent.png,Clear.,P1,S1,,,,", Skipped("S1", "file_missing")),
        ("sub,Clear.,P1,S1,,,,", Skipped("S1", "file_missing")),
        ("circle.png,Clear.,P1,S1,,,,", Skipped("S1", "file_missing")),
        ("nul\0.png,Clear.,P1,S1,,,,", Skipped("S1", "file_missing")),
        (f"{'x' * 300}.png,Clear.,P1,S1,,,,", Skipped("S1", "file_missing")),
        (",absent.txt,P1,S1,,,,", Skipped("S1", "file_missing")),
        (f",Clear lungs. {'No effusion. ' * 30} See notes.txt,P1,S1,,,,", Skipped("S1", "file_missing")),
        (",latin.txt,P1,S1,,,,", Skipped("S1", "report_not_utf8")),
        (",long.txt,P1,S1,,,,", Skipped("S1", "report_too_large")),
        (",empty.txt,P1,S1,,,,", Skipped("S1", "neither_film_nor_report")),
    ],
)
def test_a_row_that_is_no_study_says_why(tmp_path: Path, line: str, skipped: Skipped) -> None:
    inside = tmp_path / "inside"
    a_film(inside / "1.png")
    (inside / "sub").mkdir()
    (inside / "link.png").symlink_to(a_film(tmp_path / "outside.png"))
    (tmp_path / "outside.txt").write_text("Clear.")
    (inside / "link.txt").symlink_to(tmp_path / "outside.txt")
    (inside / "circle.png").symlink_to(inside / "circle.png")
    (inside / "latin.txt").write_bytes("Lésion.".encode("latin-1"))
    (inside / "long.txt").write_text("x" * (64 * 1024 + 1))
    (inside / "empty.txt").write_text(" \n")
    assert rows_of(inside, line) == [skipped]


def test_a_report_of_just_64_kib_is_read(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * (64 * 1024))
    (study,) = rows_of(tmp_path, ",long.txt,P1,S1,,,,")
    assert isinstance(study, Study) and len(study.text) == 65_536


@pytest.mark.parametrize(
    ("written", "years"),
    [("0", 0), ("61", 61), (" 7 ", 7), ("89", 89), ("90", 90), ("120", 90),
     ("121", None), ("-3", None), ("61.5", None), ("61Y", 61), ("061Y", 61), ("018M", 1), ("200D", 0),
     ("unknown", None), ("²", None), ("٦١", None), ("9" * 5000, None)],
)  # fmt: skip
def test_ages(tmp_path: Path, written: str, years: int | None) -> None:
    (study,) = rows_of(tmp_path, f",Clear.,P1,S1,,,,{written}")
    assert isinstance(study, Study) and study.age_years == years


def test_a_study_named_twice_counts_once_in_its_first_readable_row(tmp_path: Path) -> None:
    lines = ("absent.png,Clear.,P1,S1,,,,", ",Clear.,P1,S1,,,,", ",Effusion.,P1,S1,,,,", ",Edema.,P1,S2,,,,")
    assert rows_of(tmp_path, *lines) == [
        Skipped("S1", "file_missing"),
        Study("folder", "S1", "P1", None, "Clear."),
        Skipped("S1", "study_repeated"),
        Study("folder", "S2", "P1", None, "Edema."),
    ]


def test_a_folder_without_a_usable_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cases\.csv is missing"):
        list(folder.studies(tmp_path))
    (tmp_path / "cases.csv").write_text("film,report,patient\n")
    with pytest.raises(DatasetError, match="lacks the columns study"):
        list(folder.studies(tmp_path))


# --- Open-i and NIH


def openi_folder(path: Path, table: str) -> Path:
    reports = {
        "CXR1": "<AbstractText Label='FINDINGS'>Clear lungs.</AbstractText>",
        "CXR2": "<AbstractText Label='IMPRESSION'>Effusion.</AbstractText>",
        "CXR3": "",
    }
    with tarfile.open(path / "NLMCXR_reports.tgz", "w:gz") as tar:
        for study, body in reports.items():
            xml = f"<eCitation><uId id='{study}'/>{body}</eCitation>".encode()
            member = tarfile.TarInfo(f"{study}.xml")
            member.size = len(xml)
            tar.addfile(member, io.BytesIO(xml))
    (path / "images.csv").write_text("file,image_id,study_id,projection\n" + table)
    for line in table.splitlines():
        a_film(path / line.split(",")[0])
    return path


def test_openi_gives_the_first_frontal_film_of_each_study(tmp_path: Path) -> None:
    openi_folder(
        tmp_path,
        "z.png,i4,CXR2,Frontal\nb.png,i2,CXR1,Frontal\na.png,i1,CXR1,Lateral\nc.png,i3,CXR1,Frontal\n"
        "d.png,i5,CXR2,Lateral\n",
    )
    assert list(openi.studies(tmp_path)) == [
        Study("openi", "CXR1", "CXR1", tmp_path / "b.png", "FINDINGS: Clear lungs.", view="frontal"),
        Study("openi", "CXR2", "CXR2", tmp_path / "z.png", "IMPRESSION: Effusion.", view="frontal"),
    ]


def test_openi_studies_without_a_report_or_a_frontal_film_are_skipped(tmp_path: Path) -> None:
    openi_folder(
        tmp_path,
        "a.png,i1,CXR1,Lateral\nb.png,i2,CXR1,Lateral\nc.png,i3,CXR3,Frontal\nd.png,i4,CXR4,Frontal\n",
    )
    assert list(openi.studies(tmp_path)) == [
        Skipped("CXR1", "no_frontal_film"),
        Skipped("CXR3", "no_report"),
        Skipped("CXR4", "no_report"),
    ]


def test_nih_gives_labels_in_place_of_a_report(tmp_path: Path) -> None:
    film = a_film(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text(
        "file,image,patient_id,view,age,sex,labels\na.png,00000001_000.png,1,PA,57,M,Pneumonia|Effusion\n"
    )
    (study,) = nih.studies(tmp_path)
    labels = ("Lung Opacity", "Pleural Effusion", "Pneumonia")
    assert study == Study("nih", "00000001_000", "1", film, "", labels, "PA", "M", 57)
