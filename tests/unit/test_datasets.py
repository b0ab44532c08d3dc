"""Readers of film collections: what each layout yields, and what is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rag_service.datasets import nih, openi, others
from rag_service.datasets.films import DatasetError, FilmRow, Split, read_table, split_of
from rag_service.datasets.nih import ReaderBox

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <uId id="{study}"/>
  <AbstractText Label="COMPARISON">None.</AbstractText>
  <AbstractText Label="INDICATION">Cough,
     three days</AbstractText>
  <AbstractText Label="FINDINGS">{findings}</AbstractText>
  <AbstractText Label="IMPRESSION">{impression}</AbstractText>
  <MeSH>{tags}</MeSH>
  <parentImage id="{study}_IM-1"/>
  <parentImage id="{study}_IM-2"/>
</eCitation>
"""
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    b'<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">&b;</AbstractText></eCitation>'
)


def a_report(study: str, findings: str = "", impression: str = "", tags: tuple[str, ...] = ()) -> bytes:
    majors = "".join(f"<major>{t}</major>" for t in tags)
    return REPORT.format(study=study, findings=findings, impression=impression, tags=majors).encode()


def an_archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def a_film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


def openi_folder(folder: Path) -> Path:
    an_archive(
        folder / "NLMCXR_reports.tgz",
        {
            "ecgen-radiology/2.xml": a_report("CXR2", "Large heart.", "Cardiomegaly.", ("Cardiomegaly/mild",)),
            "ecgen-radiology/1.xml": a_report("CXR1", "", "Normal chest.", ("normal",)),
            "ecgen-radiology/3.xml": a_report("CXR3", "Lungs are clear.", "", ("No Indexing",)),
            "ecgen-radiology/readme.txt": b"not a report",
        },
    )
    return folder


# --- splits and tables


@pytest.mark.parametrize(
    ("source", "patient", "split"),
    [
        ("openi", "CXR1", Split.TEST),
        ("openi", "CXR2", Split.TRAIN),
        ("openi", "CXR8", Split.CALIBRATION),
        ("nih", "1", Split.CALIBRATION),
        ("nih", "CXR1", Split.TRAIN),
    ],
)
def test_the_split_of_a_patient_is_fixed(source: str, patient: str, split: Split) -> None:
    assert split_of(source, patient) is split
    assert FilmRow(source, Path("a.png"), "any study", patient).split is split


def test_splits_are_about_74_13_13() -> None:
    found = [split_of("openi", f"CXR{i}") for i in range(1, 2001)]
    assert {s: found.count(s) for s in Split} == {Split.TRAIN: 1499, Split.CALIBRATION: 237, Split.TEST: 264}


def test_a_table_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + b'file,note\n1.png,"a, b"\n')
        assert read_table(path, ("file",)) == [{"file": "1.png", "note": "a, b"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "t.csv is missing from "),
        (b"", "t.csv lacks the columns file, view"),
        (b"file,other\n1.png,x\n", "t.csv lacks the columns view"),
        (b"file,view\n\xff\xfe.png,PA\n", "t.csv is no table in UTF-8"),
        (b"file,view\n" + b"x" * 200_000 + b",PA\n", "t.csv is no table in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_table(tmp_path / "t.csv", ("file", "view"))


# --- Open-i


def test_a_report_keeps_its_sections_tags_and_images() -> None:
    report = openi.parse_report(a_report("CXR7", "Right  base\n opacity.", "Pneumonia.", ("Opacity/lung", "Pneumonia")))
    assert report == openi.Report(
        study="CXR7",
        comparison="None.",
        indication="Cough, three days",
        findings="Right base opacity.",
        impression="Pneumonia.",
        tags=("Opacity/lung", "Pneumonia"),
        images=("CXR7_IM-1", "CXR7_IM-2"),
    )
    assert [f for f, present in report.labels.items() if present] == ["Lung Opacity", "Pneumonia"]


@pytest.mark.parametrize(
    ("findings", "impression", "text"),
    [
        ("Clear lungs.", "Normal.", "FINDINGS: Clear lungs.\nIMPRESSION: Normal."),
        ("", "Normal.", "IMPRESSION: Normal."),
        ("Clear lungs.", "", "FINDINGS: Clear lungs."),
        ("", "", ""),
    ],
)
def test_the_text_of_a_report_leaves_absent_sections_out(findings: str, impression: str, text: str) -> None:
    assert openi.parse_report(a_report("CXR1", findings, impression)).text == text


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"<eCitation><uId", "not well-formed"),
        (b"", "not well-formed"),
        (b"<eCitation/>", "names no study"),
        (b'<eCitation><uId id=""/></eCitation>', "names no study"),
        (BOMB, "declares entities"),
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><eCitation>&e;</eCitation>', "declares entities"),
    ],
)
def test_a_document_that_is_no_report_is_refused(xml: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        openi.parse_report(xml)


def test_reports_come_from_an_archive_or_a_folder_in_order_of_study(tmp_path: Path) -> None:
    openi_folder(tmp_path)
    unpacked = tmp_path / "ecgen-radiology"
    unpacked.mkdir()
    with tarfile.open(tmp_path / openi.ARCHIVE) as tar:
        for number in (1, 2, 3):
            member = tar.extractfile(f"ecgen-radiology/{number}.xml")
            assert member is not None
            (unpacked / f"{number}.xml").write_bytes(member.read())
    from_archive = openi.reports(tmp_path / openi.ARCHIVE)
    assert list(from_archive) == ["CXR1", "CXR2", "CXR3"]
    assert from_archive["CXR2"].text == "FINDINGS: Large heart.\nIMPRESSION: Cardiomegaly."
    assert openi.reports(unpacked) == from_archive


def test_a_member_over_a_mebibyte_and_links_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    padding = b"<!--" + b"x" * (1 << 20) + b"-->"
    an_archive(path, {"1.xml": a_report("CXR1"), "2.xml": a_report("CXR2") + padding})
    assert list(openi.reports(path)) == ["CXR1"]
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("3.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert openi.reports(path) == {}


def test_an_archive_that_is_none_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    rng = np.random.default_rng(0)
    noise = "".join(chr(97 + int(n)) for n in rng.integers(0, 26, 60_000))
    an_archive(path, {f"{i}.xml": a_report(f"CXR{i}", noise) for i in range(3)})
    whole = path.read_bytes()
    for content in (b"", b"not a tar", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"a\.tgz is no archive or is cut short"):
            openi.reports(path)


def test_the_shared_layout_of_openi(tmp_path: Path) -> None:
    openi_folder(tmp_path)
    for name in ("films/1.png", "films/2.png", "films/2l.png", "films/3.png"):
        a_film(tmp_path / name)
    (tmp_path / "images.csv").write_text(
        "file,image_id,study_id,projection\n"
        "films/1.png,CXR1_IM-1,CXR1,Frontal\n"
        "films/2.png,CXR2_IM-1,CXR2,Frontal\n"
        "films/2l.png,CXR2_IM-2,CXR2,Lateral\n"
        "films/3.png,CXR3_IM-1,CXR3,\n"
        "films/absent.png,CXR1_IM-2,CXR1,Lateral\n"
    )
    one, two, side, three = openi.films(tmp_path)
    assert (one.source, one.path, one.study, one.patient) == ("openi", tmp_path / "films/1.png", "CXR1", "CXR1")
    assert [r.presentation for r in (one, two, side, three)] == ["frontal", "frontal", "lateral", None]
    assert one.text == "IMPRESSION: Normal chest."
    assert [f for f, present in one.labels.items() if present] == ["No Finding"]
    assert two.labels["Cardiomegaly"] is True and two.tags == ("Cardiomegaly/mild",)
    assert dict(three.labels) == {} and three.tags is None and three.text == "FINDINGS: Lungs are clear."


def test_the_public_layout_of_openi(tmp_path: Path) -> None:
    openi_folder(tmp_path)
    for name in ("CXR2_1_IM-0652-1001.png", "CXR1_1_IM-0001-4001.png", "CXR99_IM-1.png", "other.png"):
        a_film(tmp_path / "png" / name)
    rows = openi.films(tmp_path)
    assert [(r.path.name, r.study, r.presentation) for r in rows] == [
        ("CXR1_1_IM-0001-4001.png", "CXR1", None),
        ("CXR2_1_IM-0652-1001.png", "CXR2", None),
        ("CXR99_IM-1.png", "CXR99", None),
    ]
    assert [r.text for r in rows] == [
        "IMPRESSION: Normal chest.",
        "FINDINGS: Large heart.\nIMPRESSION: Cardiomegaly.",
        "",
    ]
    assert dict(rows[2].labels) == {}


def test_a_folder_that_is_not_openi_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds neither NLMCXR_reports\.tgz nor ecgen-radiology/"):
        openi.films(tmp_path)
    openi_folder(tmp_path)
    with pytest.raises(DatasetError, match=r"holds neither images\.csv nor CXR\*\.png"):
        openi.films(tmp_path)
    a_film(tmp_path / "CXR_odd.png")
    assert [r.study for r in openi.films(tmp_path)] == ["CXR_odd"]


def test_the_bundled_archive_is_found_without_importing_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openi.bundled_archive().name == "NLMCXR_reports.tgz" and openi.bundled_archive().is_file()
    monkeypatch.setattr(openi, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="torchxrayvision"):
        openi.bundled_archive()


# --- NIH ChestX-ray14


def test_nih_labels_become_observations_and_leave_unlabelled_ones_out() -> None:
    found = nih.labels("Pneumonia| Pleural_Thickening |Hernia")
    assert {f for f in found if found[f]} == {"Lung Opacity", "Pneumonia", "Pleural Other"}
    assert not {"Fracture", "Support Devices", "Enlarged Cardiomediastinum"} & set(found) and len(found) == 11
    assert {f for f, present in nih.labels("Emphysema").items() if present} == set()
    with pytest.raises(DatasetError, match="unknown NIH labels: Cough, Fever"):
        nih.labels("Cough|Edema|Fever")


@pytest.mark.parametrize(
    ("names", "rsna", "opacity", "no_finding"),
    [
        ("No Finding", "", False, True),
        ("No Finding", "0", False, True),
        ("No Finding", "1", True, False),
        ("Infiltration", "0", False, False),
        ("Infiltration", "1", True, False),
        ("Infiltration", "unread", True, False),
    ],
)
def test_a_radiologists_reading_overrules_the_mined_opacity(
    names: str, rsna: str, opacity: bool, no_finding: bool
) -> None:
    found = nih.labels(names, rsna)
    assert (found["Lung Opacity"], found["No Finding"]) == (opacity, no_finding)


def test_the_shared_layout_of_nih(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        a_film(tmp_path / name)
    (tmp_path / "images.csv").write_text(
        "file,image,patient_id,view,age,sex,labels,rsna_opacity\n"
        "a.png,00000001_000.png,1,PA,57,M,Cardiomegaly|Effusion,\n"
        "b.png,00000002_000.png,2,,413,,No Finding,1\n"
        "absent.png,00000003_000.png,3,PA,30,F,No Finding,\n"
    )
    one, two = nih.films(tmp_path)
    assert (one.source, one.path, one.study, one.patient) == ("nih", tmp_path / "a.png", "00000001_000", "1")
    assert (one.view, one.sex, one.age_years, one.presentation) == ("PA", "M", 57, "frontal")
    assert {f for f, present in one.labels.items() if present} == {"Cardiomegaly", "Pleural Effusion"}
    assert (two.view, two.sex, two.age_years) == (None, None, None)
    assert {f for f, present in two.labels.items() if present} == {"Lung Opacity"}


def test_the_public_layout_of_nih(tmp_path: Path) -> None:
    a_film(tmp_path / "images_001" / "images" / "00000001_000.png")
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
        "00000001_000.png,Mass|Nodule,0,1,058Y,F,AP\n"
        "00000009_000.png,No Finding,0,9,60,M,PA\n"
    )
    (row,) = nih.films(tmp_path)
    assert (row.study, row.patient, row.view, row.sex, row.age_years) == ("00000001_000", "1", "AP", "F", 58)
    assert {f for f, present in row.labels.items() if present} == {"Lung Lesion"}


@pytest.mark.parametrize(
    ("written", "years"),
    [("58", 58), ("058Y", 58), ("013M", 1), ("040W", 0), ("005D", 0), ("", None), ("old", None), ("121", None),
     ("²", None), ("9" * 5000, None)],
)  # fmt: skip
def test_ages(tmp_path: Path, written: str, years: int | None) -> None:
    a_film(tmp_path / "a.png")
    header = "file,image,patient_id,view,age,sex,labels\n"
    (tmp_path / "images.csv").write_text(f"{header}a.png,a.png,1,PA,{written},M,Edema\n", "utf-8")
    assert [r.age_years for r in nih.films(tmp_path)] == [years]


def test_a_folder_that_is_not_nih_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds neither images\.csv nor Data_Entry_2017\*\.csv"):
        nih.films(tmp_path)


def test_reader_boxes_are_fractions_clipped_to_the_film(tmp_path: Path) -> None:
    assert nih.boxes(tmp_path) == []
    (tmp_path / "boxes_1024.csv").write_text(
        "image,finding,x,y,w,h\n"
        "a.png,Effusion,256,512,128,256\n"
        "a.png,Infiltrate,-64,-32,128,96\n"
        "b.png,Nodule,896,960,256,512\n"
        "b.png,Unheard Of,0,0,10,10\n"
    )
    assert nih.boxes(tmp_path) == [
        ReaderBox("a.png", "Pleural Effusion", 0.25, 0.5, 0.375, 0.75),
        ReaderBox("a.png", "Lung Opacity", 0.0, 0.0, 0.0625, 0.0625),
        ReaderBox("b.png", "Lung Lesion", 0.875, 0.9375, 1.0, 1.0),
    ]


def test_reader_boxes_of_the_public_layout(tmp_path: Path) -> None:
    path = tmp_path / "BBox_List_2017.csv"
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    path.write_text(f"{header}a.png,Atelectasis,256.0,512.0,128.0,256.0,,,\n")
    assert nih.boxes(tmp_path) == [ReaderBox("a.png", "Atelectasis", 0.25, 0.5, 0.375, 0.75)]
    for place, message in (
        ("256,512,128,", "not four numbers"),
        ("256,512,wide,256", "not four numbers"),
        ("1024,0,64,64", "no part on its film"),
        ("0,-64,64,64", "no part on its film"),
        ("0,0,nan,64", "no part on its film"),
    ):
        path.write_text(f"{header}a.png,Atelectasis,{place},,,\n")
        with pytest.raises(DatasetError, match=f"a reader box of a.png .*{message}"):
            nih.boxes(tmp_path)


# --- the others


def test_rocov2_and_pictures_that_are_no_chest_films(tmp_path: Path) -> None:
    a_film(tmp_path / "1.png")
    (tmp_path / "captions.csv").write_text("file,caption\n1.png,Chest film with a pacer.\nabsent.png,Nothing.\n")
    (figure,) = others.rocov2(tmp_path)
    assert figure == FilmRow("rocov2", tmp_path / "1.png", "1.png", "1.png", text="Chest film with a pacer.")
    (other,) = others.not_chest(tmp_path)
    assert other == FilmRow("not_chest", tmp_path / "1.png", "1.png", "1.png", presentation="not_chest")


@pytest.mark.parametrize(
    ("finding", "view", "labels", "presentation"),
    [
        ("Pneumonia/Viral/COVID-19", "PA", {"Lung Opacity": True, "No Finding": False, "Pneumonia": True}, "frontal"),
        ("Klebsiella", "AP Supine", {"Lung Opacity": True, "No Finding": False, "Pneumonia": True}, "frontal"),
        ("No Finding", "AP", {"Lung Opacity": False, "Pneumonia": False, "Pneumothorax": False}, "frontal"),
        ("Tuberculosis", "L", {}, "lateral"),
        ("todo", "", {}, None),
    ],
)
def test_cohen(tmp_path: Path, finding: str, view: str, labels: dict[str, bool], presentation: str | None) -> None:
    a_film(tmp_path / "films" / "p1.png")
    (tmp_path / "metadata.csv").write_text(
        f"file,patientid,finding,view,sex\nfilms/p1.png,11,{finding},{view},F\nfilms/absent.png,12,todo,PA,\n"
    )
    (row,) = others.cohen(tmp_path)
    assert (row.study, row.patient, row.sex, row.view) == ("p1", "11", "F", view or None)
    assert (dict(row.labels), row.presentation) == (labels, presentation)


def test_jsrt_films_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("JPCLN001.png", "JPCNN002.png", "JPXXX003.png"):
        a_film(tmp_path / "images" / name)
    nodule, clear = others.jsrt(tmp_path)
    assert nodule == FilmRow(
        "jsrt",
        tmp_path / "images" / "JPCLN001.png",
        "JPCLN001",
        "JPCLN001",
        labels={"Lung Lesion": True, "No Finding": False},
        presentation="frontal",
    )
    assert (clear.study, clear.labels) == ("JPCNN002", {"Lung Lesion": False, "No Finding": True})


def test_films_of_one_child_share_its_patient(tmp_path: Path) -> None:
    names = (
        "normal_IM-0133-0001.jpg",
        "normal_IM-0133-0002.jpg",
        "normal_NORMAL2-IM-0133-0001.jpg",
        "pneumonia_person9_bacteria_38.jpg",
        "pneumonia_person9_virus_2.jpg",
        "readme.jpg",
    )
    for name in names:
        a_film(tmp_path / "images" / name)
    rows = others.paediatric(tmp_path)
    assert [r.patient for r in rows] == ["IM-0133", "IM-0133", "NORMAL2-IM-0133", "person9", "person9"]
    assert rows[0].labels == {"Lung Opacity": False, "Pneumonia": False, "No Finding": True}
    assert rows[3].labels == {"Lung Opacity": True, "No Finding": False, "Pneumonia": True}
    assert {(r.source, r.presentation) for r in rows} == {("paediatric", "frontal")}


@pytest.mark.parametrize("read", [others.jsrt, others.paediatric])
def test_a_folder_without_such_films_is_refused(read: Callable[[Path], list[FilmRow]], tmp_path: Path) -> None:
    a_film(tmp_path / "images" / "film.png")
    with pytest.raises(DatasetError, match="images holds no"):
        read(tmp_path)
