"""python -m eval anatomy: painted films whose masks are known, read by a segmenter that reads paint; then the command once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from eval import __main__ as cli
from eval.anatomy import looks, outlines, ratio, run, tokens
from eval.anatomy.looks import Labelled, Looks
from knowledge_base.findings import FINDINGS
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow, Split, split_of
from rag_service.datasets.outlines import LUNG_BOXES, OBJECTS
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmEncoder
from rag_service.models.segmenter import SegmenterNetwork, SegmenterRecord, SegmenterShape
from rag_service.models.structures import StructureMasks
from rag_service.report.cardiothoracic import RatioLimits
from rag_service.training.segmenter import save_segmenter

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

PAINT = {"right lung": 60, "left lung": 120, "heart": 180}
RECORD = SegmenterRecord("paint", "1", "cd" * 32, "p@1", "none", "none", {})
EMPTY = np.eye(100, dtype=np.uint8) * 9
"""A film on which nothing is painted."""
LIMITS = RatioLimits(RECORD.id, 0.45, 0.60, "made by hand")


class PaintReader:
    """Finds each structure by its grey."""

    record = RECORD

    def read(self, film: Film) -> StructureMasks:
        grey = np.rint(film.pixels * 255)
        return StructureMasks(np.stack([np.abs(grey - level) < 3 for level in PAINT.values()]).astype(np.float32))


def chest(heart: int = 30, shift: int = 0) -> NDArray[np.uint8]:
    """A film of 100 x 100 whose thorax is 80 wide, its lungs 70 high, its heart `heart` wide and 20 high below them."""
    grey = np.zeros((100, 100), np.uint8)
    grey[5:75, 10 + shift : 40 + shift] = PAINT["right lung"]
    grey[5:75, 60 + shift : 90 + shift] = PAINT["left lung"]
    left = 50 - heart // 2 + shift
    grey[75:95, left : left + heart] = PAINT["heart"]
    return grey


def bits(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return sum(((grey == level) * np.uint8(2**i) for i, level in enumerate(PAINT.values())), np.zeros_like(grey))


def save(path: Path, grey: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)


def named(split: Split, count: int) -> list[str]:
    names = (f"JPCLN{i:03d}" for i in range(1000))
    return [n for n in names if split_of("jsrt", n) is split][:count]


def add_jsrt(folder: Path) -> None:
    """Two training films as drawn, and two test films: one as drawn, one painted a tenth of its width beside its outlines."""
    for name, painted in (
        *((n, chest()) for n in (*named(Split.TRAIN, 2), named(Split.TEST, 2)[0])),
        (named(Split.TEST, 2)[1], chest(shift=6)),
    ):
        save(folder / "images" / f"{name}.png", painted)
        save(folder / "masks" / f"{name}.png", bits(chest()))


def models(encoder: FilmEncoder) -> run.Models:
    return run.Models(PaintReader(), LIMITS, encoder)  # type: ignore[arg-type]


def test_masks_are_compared_structure_by_structure(tmp_path: Path, encoder: FilmEncoder) -> None:
    add_jsrt(tmp_path)
    found = run.measure(tmp_path, models(encoder), Split.TEST, None, 7)
    masks = found["masks"]
    assert masks["films"] == 2
    beside = {"right lung": 24 / 36, "left lung": 24 / 36, "heart": 24 / 36}
    for structure, iou in beside.items():
        assert masks["ours"]["structures"][structure]["iou"] == pytest.approx((1 + iou) / 2, abs=1e-6)
        assert masks["ours"]["structures"][structure]["dice"] == pytest.approx((1 + 0.8) / 2, abs=1e-6)
        assert masks["mean_mask"]["structures"][structure]["iou"] == 1.0
    assert found["miou"] == masks["ours"]["miou"] == pytest.approx((1 + 24 / 36) / 2)
    assert masks["ours"]["miou_ci"] == pytest.approx((24 / 36, 1.0))
    assert masks["place_maps"]["miou"] < 0.5
    assert masks["ratio"] == {
        "films": 2,
        "measured": 2,
        "mean_absolute_error": pytest.approx(0.0),
        "ci": pytest.approx((0.0, 0.0)),
        "bias": pytest.approx(0.0),
    }
    assert found["boxes"] is found["ratio"] is found["tokens"] is None
    assert "outlines, 2 films" in run.table(found)


def test_a_ratio_that_was_refused_is_left_out_of_the_error(tmp_path: Path, encoder: FilmEncoder) -> None:
    add_jsrt(tmp_path)
    for name in named(Split.TEST, 2):
        save(tmp_path / "images" / f"{name}.png", EMPTY)
    found = run.measure(tmp_path, models(encoder), Split.TEST, None, 7)
    assert found["masks"]["ratio"] == {
        "films": 2, "measured": 0, "mean_absolute_error": None, "ci": None, "bias": None,
    }  # fmt: skip
    assert "measured on 0 of 2" in run.table(found)


def test_without_training_films_there_is_no_mean_mask(tmp_path: Path, encoder: FilmEncoder) -> None:
    add_jsrt(tmp_path / "jsrt")
    for name in named(Split.TRAIN, 2):
        (tmp_path / "jsrt" / "images" / f"{name}.png").unlink()
    found = run.measure(tmp_path, models(encoder), None, None, 7)
    assert found["masks"]["films"] == 2
    assert "mean_mask" not in found["masks"]


def add_rectangles(folder: Path) -> None:
    """Films of two patients: one with a radiologist's objects, one with lung boxes in Cohen's own file."""
    save(folder / "anatomy_devices" / "images" / "a.png", chest())
    head = "Class,Filename,Resolution,Top,Left,Width,Height"
    rows = [
        "COVID-19 Right Lung,a.jpeg,1000x1000,50,100,300,350",
        "COVID-19 Cardiomediastinum,a.jpeg,1000x1000,50,350,200,900",
    ]
    (folder / "anatomy_devices" / OBJECTS).write_text("\n".join([head, *rows]))
    for name in ("a.png", "b.png"):
        save(folder / "cohen" / "images" / name, chest() if name == "a.png" else EMPTY)
    table = ["file,patientid,finding,view", "images/a.png,1,COVID-19,PA", "images/b.png,2,COVID-19,PA"]
    (folder / "cohen" / "metadata.csv").write_text("\n".join(table))
    content = {
        "categories": [{"id": 2, "name": "Left Lung"}],
        "images": [{"id": i, "file_name": f"{n}.jpeg", "width": 100, "height": 100} for i, n in enumerate("abz")],
        "annotations": [{"image_id": i, "category_id": 2, "bbox": [60, 5, 30, 70]} for i in range(3)],
    }
    (folder / "cohen" / LUNG_BOXES).write_text(json.dumps(content))


def test_hulls_are_compared_with_rectangles(tmp_path: Path, encoder: FilmEncoder) -> None:
    add_rectangles(tmp_path)
    found = run.measure(tmp_path, models(encoder), None, None, 7)["boxes"]
    assert {k: v["boxes"] for k, v in found.items()} == {"right lung": 1, "cardiomediastinum": 1, "left lung": 1}
    assert found["right lung"]["iou"] == pytest.approx(0.5)  # half as high as the lung
    assert found["cardiomediastinum"]["iou"] == pytest.approx(20 / 30)  # as wide as the heart's right two thirds
    assert found["left lung"]["iou"] == 0.0  # nothing is seen on the second film
    assert found["left lung"]["mean_mask"] is None


def test_a_split_of_rectangles_goes_by_cohens_patients(tmp_path: Path) -> None:
    add_rectangles(tmp_path)
    by_split = {s: {d.path.stem for d in outlines.drawn(tmp_path, s)} for s in Split}
    assert by_split[split_of("cohen", "1")] >= {"a"}
    assert by_split[split_of("cohen", "2")] >= {"b"}
    assert sum(map(len, by_split.values())) == 2


def labelled(enlarged: list[bool], ratios: list[float], splits: list[Split] | None = None) -> Labelled:
    """Films told apart by their ratio; the network's score is the other way round for the first two."""
    count = len(enlarged)
    wanted = splits or [Split.TEST] * count
    numbers = iter(range(100000))
    patients = [next(str(n) for n in numbers if split_of("openi", str(n)) is s) for s in wanted]
    rows = tuple(
        FilmRow("openi", Path(f"{p}.png"), p, p, {"Cardiomegaly": e}) for p, e in zip(patients, enlarged, strict=True)
    )
    found = np.zeros((count, 14))
    column = FINDINGS.index("Cardiomegaly")
    found[:, column] = enlarged
    found[:2, column] = 1 - found[:2, column]
    labels = np.full((count, 14), np.nan)
    labels[:, column] = enlarged
    shown = np.array(enlarged, float)[:, None] * np.ones((1, 6))
    noise = np.random.default_rng(3).normal(size=(count, 6))
    ap = np.zeros(count)
    return Labelled(rows, labels, Looks(found, noise, ap, np.array(ratios), shown, np.zeros((count, 6))))


def test_the_ratio_is_scored_where_it_was_measured() -> None:
    films = labelled([True, False, True, False, False], [0.62, 0.44, 0.58, 0.61, np.nan])
    found = ratio.measure(films, LIMITS, 7)
    assert (found["films"], found["refused"], found["labelled"], found["positives"]) == (5, 1, 4, 2)
    assert found["auroc"] == 0.75
    assert found["network_auroc"] == 0.5
    assert found["ratio_less_network"]["difference"] == 0.25
    assert found["limits"] == {
        "normal_below": 0.45,
        "enlarged_from": 0.60,
        "positive_on_enlarged": {"contradicted": 0, "films": 2},
        "negative_on_enlarged": {"contradicted": 1, "films": 2},
        "positive_on_not_enlarged": {"contradicted": 1, "films": 2},
        "negative_on_not_enlarged": {"contradicted": 1, "films": 2},
    }
    assert ratio.measure(films, None, 7)["limits"] is None


def test_tokens_that_show_the_finding_are_worth_something_and_the_same_ones_nothing() -> None:
    enlarged = [i % 2 == 0 for i in range(120)]
    splits = [(Split.TRAIN, Split.CALIBRATION, Split.TEST)[i // 40] for i in range(120)]
    found = tokens.measure(labelled(enlarged, [0.5] * 120, splits), Split.TEST, 7)
    assert found is not None
    assert found["films"] == {"train": 40, "calibration": 40, "test": 40}
    assert found["with"]["auroc"] == 1.0
    assert found["with"]["f1"] > 0.9
    assert found["without"]["auroc"] < 0.8
    assert found["fixed_masks"]["auroc"] == found["without"]["auroc"]
    gap = found["with_less_without"]["auroc"]
    assert gap["difference"] == pytest.approx(1.0 - found["without"]["auroc"])
    assert gap["interval"][0] > 0
    assert gap["p_value"] < 0.01


def test_a_finding_that_calibration_films_never_show_is_never_called() -> None:
    enlarged = [i % 2 == 0 and not 40 <= i < 80 for i in range(120)]
    splits = [(Split.TRAIN, Split.CALIBRATION, Split.TEST)[i // 40] for i in range(120)]
    found = tokens.measure(labelled(enlarged, [0.5] * 120, splits), Split.TEST, 7)
    assert found is not None
    assert found["with"]["f1"] == 0.0


def test_without_films_to_train_on_there_is_no_probe() -> None:
    assert tokens.measure(labelled([True, False], [0.5, 0.4]), Split.TEST, 7) is None


def add_openi(maker: Maker, count: int) -> None:
    enlarged = {f"CXR{i}": i % 2 == 0 for i in range(count)}
    inner = replace(maker, folder=maker.folder / "openi")
    inner.folder.mkdir()
    tags = {s: ("Cardiomegaly",) if e else ("normal",) for s, e in enlarged.items()}
    inner.openi({s: ("Heart.", "", t) for s, t in tags.items()})
    for study, large in enlarged.items():
        save(inner.folder / "films" / f"{study}.png", chest(50 if large else 30))


class NeverRead(PaintReader):
    """A segmenter that must not be asked."""

    def read(self, film: Film) -> StructureMasks:
        raise AssertionError("read again")


def test_labelled_films_are_read_once(maker: Maker, encoder: FilmEncoder, tmp_path: Path) -> None:
    add_openi(maker, 6)
    rows = openi.films(maker.folder / "openi")
    fixed = looks.mean_of(PaintReader(), rows, 2)  # type: ignore[arg-type]
    found = looks.read(rows, encoder, PaintReader(), fixed, tmp_path / "kept")  # type: ignore[arg-type]
    assert found.looks.ratio.tolist() == pytest.approx([50 / 80, 30 / 80] * 3)
    assert found.looks.own.shape == found.looks.fixed.shape
    assert found.looks.own[1].tolist() != found.looks.fixed[1].tolist()
    again = looks.read(rows, encoder, NeverRead(), fixed, tmp_path / "kept")  # type: ignore[arg-type]
    assert np.array_equal(again.looks.own, found.looks.own)
    with pytest.raises(AssertionError, match="read again"):
        looks.read(rows, encoder, NeverRead(), fixed, None)  # type: ignore[arg-type]


def test_everything_a_folder_holds_is_measured(
    maker: Maker, encoder: FilmEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    add_openi(maker, 40)
    add_jsrt(maker.folder / "jsrt")
    add_rectangles(maker.folder)
    found = run.measure(maker.folder, models(encoder), None, 12, 7)
    assert found["ratio"]["auroc"] == 1.0
    assert found["ratio"]["films"] == found["tokens"]["films"]["train"] + sum(
        v for k, v in found["tokens"]["films"].items() if k != "train"
    )
    assert max(found["tokens"]["films"].values()) == 12
    said = run.table(found)
    for part in (
        "outlines, 4 films",
        "rectangle of right lung",
        "width of cardiomediastinum",
        "AUROC 1.000",
        "macro-F1",
    ):
        assert part in said


def test_a_folder_with_none_of_it_is_an_error(tmp_path: Path, encoder: FilmEncoder) -> None:
    with pytest.raises(DatasetError, match="no film with outlines, rectangles or labels"):
        run.measure(tmp_path, models(encoder), None, None, 7)


def test_anatomy_by_command(
    whole_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_jsrt(tmp_path / "jsrt")
    folder = tmp_path / "model"
    shutil.copytree(whole_model, folder)
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(folder))
    arguments = [
        "anatomy",
        str(tmp_path / "jsrt"),
        "--split",
        "test",
        "--limit",
        "1",
        "--json",
        str(tmp_path / "out.json"),
    ]
    assert cli.main(arguments) == 3
    assert "no segmenter.json" in capsys.readouterr().err
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_segmenter(SegmenterNetwork(SegmenterShape(32, (4, 8))), "none", "1", folder)
    assert cli.main(arguments) == 0
    result: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert result["masks"]["films"] == 1
    assert result["signature"]["segmenter"].startswith("thorax-unet@1-")
    assert "outlines, 1 films" in capsys.readouterr().out
