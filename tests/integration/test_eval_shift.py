"""`python -m eval shift` and `fairness` over tiny collections and a tiny network made here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from eval import __main__ as cli
from eval.shift import drafts
from knowledge_base.findings import FINDINGS
from rag_service import wiring
from rag_service.datasets import nih as nih_source
from rag_service.datasets import openi
from rag_service.report.draft import Status
from rag_service.requests import DraftRequest

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

HEADER = "file,image,patient_id,view,age,sex,labels,source"
LABELS = ("No Finding", "Infiltration", "Effusion", "Nodule|Effusion")
Run = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture
def run(whole_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a task in a folder of its own: exit code, what was said, the JSON written."""
    shutil.copytree(whole_model, tmp_path / "model")
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)

    def task(*arguments: object) -> tuple[int, str, dict[str, Any]]:
        written = tmp_path / "result.json"
        written.unlink(missing_ok=True)
        code = cli.main([*map(str, arguments), "--json", str(written)])
        said = capsys.readouterr()
        found = json.loads(written.read_text(), parse_constant=pytest.fail) if written.is_file() else {}
        return code, said.out + said.err, found

    return task


def nih(maker: Maker, films: int, *boxes: str) -> Path:
    """Films of as many patients; men and women, PA and AP in turn, labels in turn, the second half with painted markers."""
    lines = []
    for i in range(films):
        maker.film(f"{i}.png", i)
        known = f"{'PA' if i % 4 < 2 else 'AP'},{25 + i},{'MF'[i % 2]},{LABELS[(i // 2) % 4]}"
        lines.append(f"{i}.png,{i}.png,{i},{known},{'original' if 2 * i < films else 'markers_blacked_out'}")
    maker.table("images.csv", HEADER, *lines)
    maker.table("boxes_1024.csv", "image,finding,x,y,w,h", *boxes)
    return maker.folder


def test_every_shift_at_every_strength_with_a_weak_model_beside(run: Run, maker: Maker, whole_model: Path) -> None:
    folder = nih(maker, 12)
    code, said, found = run("shift", folder, "--only", "acquisition", "--limit", 8, "--weak", whole_model)
    assert code == 0 and said.startswith("8 films of 8 patients, seed 7\n")
    shifts = found["acquisition"]["model"]["shifts"]
    assert list(shifts) == sorted({"gamma", "window", "noise", "blur", "resolution", "collimation", "markers",
                                   "compression", "device", "device_edge"})  # fmt: skip
    assert all(set(strengths) == {"0.5", "1", "1.5", "2"} for strengths in shifts.values())
    clean, twice = found["acquisition"]["model"]["macro_auroc"], shifts["device"]["2"]
    assert found["device_loss_at_2x"] == pytest.approx(clean - twice["macro_auroc"])
    low, high = found["device_loss_at_2x_ci"]
    assert low <= high
    assert found["flips"] == twice["flips"] and set(found["flips"]) == set(FINDINGS)
    assert all(v["stated"] + v["unstated"] == 8 for v in found["flips"].values())
    same = found["acquisition"]["difference"]["shifts"]["blur"]["1.5"]
    assert same == {"loss": 0.0, "loss_ci": [0.0, 0.0]}  # the model against itself
    assert found["acquisition"]["weak"]["shifts"] == shifts
    assert (found["manifestation"], found["population"], found["markers"], found["citations"]) == (None,) * 4
    assert found["signature"]["strength_1"]["log_gamma"] == 0.35 and found["signature"]["bootstrap"] == 500


def test_edits_inside_reader_boxes(run: Run, maker: Maker) -> None:
    boxes = ("2.png,Infiltrate,300,300,200,200", "6.png,Nodule,600,300,150,150", "2.png,Cardiomegaly,300,500,400,300",
             "3.png,Infiltrate,100,100,700,700")  # fmt: skip
    code, said, found = run("shift", nih(maker, 12, *boxes), "--only", "manifestation")
    edits = found["manifestation"]
    assert code == 0 and edits["edits"] == 2 + 2 * 6  # two boxes to fill; six films without an opacity or a lesion
    assert edits["kept_pixels_changed"] == 0 and 0 < edits["kept_pixels"] < edits["edits"] * 256**2
    assert edits["used"] + max(edits["refused"].values(), default=0) <= edits["edits"]
    kinds = edits["networks"]["model"]
    assert set(kinds) <= {"remove", "sham", "add"} and "add" in kinds
    assert sum(v["films"] for group in kinds.values() for v in group.values()) == edits["used"]
    opacity = kinds["add"]["Lung Opacity"]
    assert opacity["delta"] == pytest.approx(opacity["p_after"] - opacity["p_before"])
    assert 0 <= opacity["called_after"] <= opacity["films"]
    assert found["device_loss_at_2x"] is None and "acquisition: not measured" in said


def test_an_opacity_beside_a_kept_tube(run: Run, maker: Maker) -> None:
    maker.film("images/a.png", 1)
    maker.film("images/b.png", 2)
    maker.table(
        "objects.csv",
        "Class,Filename,Resolution,Left,Top,Width,Height",
        "COVID-19 Nosogastric Tube,a.png,100x100,30,0,4,100",
        "COVID-19 Left Lung,a.png,100x100,20,20,40,60",
        "COVID-19 Left Lung,b.png,100x100,20,20,40,60",
    )
    code, _, found = run("shift", maker.folder)
    edits = found["manifestation"]
    assert code == 0 and (edits["edits"], edits["kept_pixels_changed"], found["films"]) == (1, 0, 0)
    assert edits["used"] == edits["touching_a_device"] == 1
    assert "support_devices_delta" in edits["networks"]["model"]["add_keep_device"]["Lung Opacity"]
    assert (found["acquisition"], found["population"], found["markers"]) == (None, None, None)
    code, said, _ = run("shift", maker.folder, "--only", "markers")
    assert code == 2 and said.endswith("has objects, not labels: it shows manifestation alone\n")


def test_a_folder_without_boxes_has_nothing_to_edit(run: Run, maker: Maker) -> None:
    folder = nih(maker, 4)
    code, said, _ = run("shift", folder, "--only", "manifestation")
    assert code == 2 and said.endswith("holds neither reader boxes nor outlined objects to edit\n")
    code, said, found = run("shift", folder)
    assert code == 0 and found["manifestation"] is None and found["markers"] is not None
    assert "manifestation: not measured" in said and "citations: not measured" in said


def test_populations_and_another_source(run: Run, maker: Maker, tmp_path: Path) -> None:
    folder = nih(maker, 44)
    (tmp_path / "other").mkdir()
    other = type(maker)(tmp_path / "other").openi(
        {f"CXR{i}": ("Clear.", "", ("normal", "Pleural Effusion/left")[i % 2 :][:1]) for i in range(22)}
    )
    code, said, found = run("shift", folder, "--only", "population", "--other", other)
    population = found["population"]
    assert code == 0 and {g: v["films"] for g, v in population["sex"].items()} == {"F": 22, "M": 22, "missing": 22}
    assert population["sex"]["missing"]["networks"] is None
    women, men = (population["sex"][g]["networks"]["model"] for g in "FM")
    assert women["macro_auroc"] == men["others_macro_auroc"] and women["change"] == pytest.approx(-men["change"])
    assert {g: v["films"] for g, v in population["source"].items()} == {"nih": 44, "openi": 22}
    assert population["source"]["openi"]["findings"] == 2  # Pleural Effusion and No Finding vary in both
    assert {g: v["films"] for g, v in population["markers"].items()} == {
        "markers_blacked_out": 22, "original": 22, "missing": 22,
    }  # fmt: skip
    assert list(population["age"]) == ["20-39", "40-59", "60-79", "missing"]
    assert "not compared" in said


def test_a_black_square_in_every_corner(run: Run, maker: Maker) -> None:
    code, said, found = run("shift", nih(maker, 8), "--only", "markers")
    square = found["markers"]["model"]
    assert code == 0 and "black square, model: largest mean change" in said
    effusion = square["findings"]["Pleural Effusion"]
    assert (effusion["films"], effusion["positive"]["films"], effusion["negative"]["films"]) == (8, 4, 4)
    mean = (effusion["positive"]["delta"] + effusion["negative"]["delta"]) / 2
    assert effusion["delta"] == pytest.approx(mean)
    assert effusion["delta_ci"][0] <= effusion["delta"] <= effusion["delta_ci"][1]
    fracture = square["findings"]["Fracture"]
    assert fracture["positive"] == {"films": 0, "delta": None, "auroc_change": None}
    assert abs(square["largest"]["delta"]) == max(abs(v["delta"]) for v in square["findings"].values())


def a_draft(*cited: str) -> SimpleNamespace:
    """A draft with one finding for each group of cited case ids."""
    findings = [
        SimpleNamespace(citations=[SimpleNamespace(kind="case", id=name) for name in group.split()]) for group in cited
    ]
    return SimpleNamespace(status=Status.DRAFT, findings=findings)


class Service:
    """Cites two cases on films as they are and one on shifted ones; the last film is turned away once shifted."""

    def __init__(self) -> None:
        self.films: list[bytes] = []
        self.closed = False

    def draft(self, request: DraftRequest) -> SimpleNamespace:
        self.films.append(request.film)
        if len(self.films) == 6:
            return SimpleNamespace(status=Status.ABSTAINED, findings=[])
        return a_draft("one two", "three") if len(self.films) % 2 else a_draft("two four", "")

    def close(self) -> None:
        self.closed = True


def test_citations_before_and_after(run: Run, maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setattr(wiring, "build_service", lambda settings: service)
    folder = nih(maker, 5)
    arguments = ("shift", folder, "--only", "markers", "--drafts", 3, "--store", tmp_path / "store")
    assert run(*arguments)[2]["citations"] is None and not service.films  # no store, nothing measured
    (tmp_path / "store").mkdir()
    code, said, found = run(*arguments)
    assert code == 0 and service.closed and len(set(service.films)) == 6
    assert found["citations"] == {
        "shift": "device at 2", "films": 3, "drafted_clean": 3, "drafted_both": 2,
        "cited_clean": {"findings": 4, "cited": 4, "share": 1.0},
        "cited_shifted": {"findings": 4, "cited": 2, "share": 0.5},
        "drop": 0.5,
        "same_cases": {"cases": 6, "kept": 2, "share": pytest.approx(1 / 3)},
    }  # fmt: skip
    assert "findings cited 4 of 4 clean, 2 of 4 shifted; cited cases kept 2 of 6" in said


def test_no_draft_leaves_no_share() -> None:
    assert drafts.table(None) == ["citations: not measured"]
    away = SimpleNamespace(draft=lambda request: SimpleNamespace(status=Status.ABSTAINED, findings=[]))
    found = drafts.measure(away, [], SimpleNamespace(), 7)  # type: ignore[arg-type]
    assert (found["drop"], found["cited_clean"]["share"], found["same_cases"]["share"]) == (None, None, None)


def test_fairness_by_command(run: Run, maker: Maker) -> None:
    code, said, found = run("fairness", nih(maker, 44))
    assert code == 0 and said.startswith("44 films of 44 patients, seed 7\n")
    sex = found["attributes"]["sex"]
    assert {g: (v["films"], v["compared"]) for g, v in sex["groups"].items()} == {"F": (22, True), "M": (22, True)}
    assert sorted(sex["findings"]) == ["Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion"]
    women, men = sex["groups"]["F"], sex["groups"]["M"]
    gap = sex["gaps"]["macro_auroc"]
    assert gap["gap"] == pytest.approx(abs(women["macro_auroc"] - men["macro_auroc"]))
    own = {f: abs(women["findings"][f]["auroc"] - men["findings"][f]["auroc"]) for f in sex["findings"]}
    assert gap["widest"]["gap"] == pytest.approx(max(own.values())) and gap["widest"]["finding"] in own
    low, high = gap["gap_ci"]
    assert 0 <= low <= high
    assert 0.0 <= sex["gaps"]["tpr"]["gap"] <= 1.0 and 0.0 <= women["fpr"] <= 1.0
    maker_row = found["attributes"]["manufacturer"]["groups"]["missing"]
    assert (maker_row["films"], maker_row["compared"], maker_row["macro_auroc"]) == (44, False, None)
    assert found["attributes"]["manufacturer"]["gaps"] == {}
    assert {"sex", "age_over_60", "age_years"} == set(found["probe"])
    assert found["probe"]["sex"]["patients"] == 44 and "box_centre" in found["probe"]["sex"]["features"]
    assert "what the latent tells of the patient" in said and "missing" in said
    assert run("fairness", maker.folder)[2] == found  # from the kept readings


def test_what_a_source_says_of_its_films(maker: Maker, tmp_path: Path) -> None:
    folder = maker.openi({"CXR1": ("Clear.", "", ("normal",)), "CXR2": ("Clear.", "", ("normal",))})
    maker.table(
        "images.csv",
        "file,image_id,study_id,projection,sex,manufacturer",
        "films/CXR1.png,CXR1_1,CXR1,Frontal,F,Agfa",
        "films/CXR2.png,CXR2_1,CXR2,Frontal,,",
    )
    assert [(r.sex, r.manufacturer, r.markers) for r in openi.films(folder)] == [
        ("F", "Agfa", None),
        (None, None, None),
    ]
    (tmp_path / "nih").mkdir()
    rows = nih_source.films(nih(type(maker)(tmp_path / "nih"), 2))
    assert [(r.sex, r.markers) for r in rows] == [("M", "original"), ("F", "markers_blacked_out")]
