"""The command that trains region queries, on a tiny model and a small collection, and the reader that then asks them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import Split, split_of
from rag_service.models.catalogue import load_record
from rag_service.models.encoder import FilmEncoder
from rag_service.models.region_network import QUERIES
from rag_service.models.region_queries import RegionQueries, load_region_queries
from rag_service.reader import Reader
from rag_service.training import __main__ as training
from rag_service.training.corpus import SOURCES, build
from rag_service.training.region_features import COPIES, features
from rag_service.training.region_prompts import Concept
from rag_service.training.region_targets import drawn_boxes, placed

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

WEIGHTS = Path(training.__file__).parents[1] / "weights"


def names(source: str, split: Split) -> Iterator[str]:
    return (n for n in map(str, range(1, 99)) if split_of(source, n) is split)


@pytest.fixture
def data(maker: Maker) -> Path:
    """Open-i reports with sides, NIH films with boxes of two splits, an outlined JSRT film, a Cohen film with rectangles."""
    folder = maker.openi({
        f"CXR{i}": ("Effusion.", "", ("Pleural Effusion/left",) if i % 2 else ("normal",)) for i in range(8)
    })  # fmt: skip
    data = folder.parent / "data"
    data.mkdir()
    folder.rename(data / "openi")
    _nih(replace(maker, folder=data / "nih"))
    jsrt = replace(maker, folder=data / "jsrt")
    jsrt.film("images/JPCLN001.png", 40)
    (jsrt.folder / "masks").mkdir()
    bits = np.zeros((64, 64), np.uint8)
    bits[10:50, 5:25], bits[10:50, 40:60], bits[30:50, 28:36] = 1, 2, 4
    Image.fromarray(bits).save(jsrt.folder / "masks" / "JPCLN001.png")
    cohen = replace(maker, folder=data / "cohen")
    cohen.film("images/case.png", 41)
    cohen.table("metadata.csv", "file,patientid,finding,view", "images/case.png,1,COVID-19,PA")
    objects = replace(maker, folder=data / "anatomy_devices")
    objects.folder.mkdir()
    header = "Class,Filename,Resolution,Top,Left,Width,Height"
    rows = [f"COVID-19 {n},case.png,100x100,{p}" for n, p in
            (("Right Lung", "10,5,40,60"), ("Left Lung", "10,55,40,60"), ("Cardiomediastinum", "10,40,20,60"))]  # fmt: skip
    objects.table("objects.csv", header, *rows)
    return data


def _nih(maker: Maker) -> None:
    split = {**dict.fromkeys("ab", Split.TRAIN), "c": Split.CALIBRATION}
    patients = {n: next(names("nih", s)) for n, s in split.items()}
    for number, name in enumerate(split):
        maker.film(f"{name}.png", 20 + number)
    rows = [f"{n}.png,{n}.png,{patients[n]},PA,50,M,Effusion" for n in split]
    maker.table("images.csv", "file,image,patient_id,view,age,sex,labels", *rows)
    maker.table("boxes_1024.csv", "image,finding,x,y,w,h", *(f"{n}.png,Effusion,640,512,256,256" for n in split))


def test_boxes_are_gathered_from_every_source(data: Path, tmp_path: Path) -> None:
    corpus = build(data, tmp_path / "cache")
    by_study = {(SOURCES[s], t): i for i, (s, t) in enumerate(zip(corpus.source, corpus.studies, strict=True))}
    drawn = drawn_boxes(data, corpus)
    effusion = drawn[by_study["nih", "a"]][Concept("Pleural Effusion")]
    assert effusion.tolist() == [pytest.approx([0.75, 0.625, 0.25, 0.25])]
    outlined = drawn[by_study["jsrt", "JPCLN001"]]
    assert {c.name for c in outlined} == {
        "left lung",
        "right lung",
        "lung",
        "cardiac",
        "mediastinum",
        "diaphragm",
        "spine",
    }
    marked = drawn[by_study["cohen", "case"]]
    assert marked[Concept("mediastinum")].tolist() == [pytest.approx([0.5, 0.4, 0.2, 0.6])]
    lungs = [(0.1, 0.1, 0.9, 0.9)] * len(corpus.studies)
    where = placed(data, corpus, drawn, lungs)
    effusion_row = FINDINGS.index("Pleural Effusion")
    assert where[by_study["openi", "CXR1"], effusion_row].tolist() == [1, 1, 0, 0, 0, 0]
    assert where[by_study["nih", "a"], effusion_row].tolist() == [0, 1, 0, 0, 1, 0]


def test_without_some_sources_the_others_are_enough(data: Path, tmp_path: Path) -> None:
    for source in ("anatomy_devices", "nih", "openi"):
        shutil.rmtree(data / source)
    corpus = build(data, tmp_path / "cache")
    drawn = drawn_boxes(data, corpus)
    assert [SOURCES[corpus.source[row]] for row in drawn] == ["jsrt"]
    assert not placed(data, corpus, drawn, [(0.1, 0.1, 0.9, 0.9)] * 2).any()


def test_films_and_their_moved_copies_are_read_once(
    stored: NDArray[np.uint8], tiny_encoder: FilmEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, drawn = np.arange(3), np.array([1])
    found = features(tiny_encoder, stored, rows, drawn, tmp_path)
    assert found.film.tolist() == [0, 1, 2, *[1] * COPIES]
    assert np.isnan(found.theta[:3]).all() and np.isfinite(found.theta[3:]).all()
    alone = tiny_encoder.read_stored(stored[1:2])[0]
    assert np.allclose(found.early[1], alone.maps.numpy(), atol=0.02) and np.allclose(
        found.pooled[1], alone.pooled, atol=0.02
    )
    assert not np.allclose(found.early[1], found.early[3], atol=0.02)
    monkeypatch.setattr(tiny_encoder.network, "stages", None)  # nothing is read again
    assert np.array_equal(features(tiny_encoder, stored, rows, drawn, tmp_path).early, found.early)


def test_another_encoder_makes_no_maps(stored: NDArray[np.uint8], tmp_path: Path) -> None:
    class Other:
        network = None
        record = type("Record", (), {"id": "other@1"})

    with pytest.raises(ValueError, match="other@1 makes no maps"):
        features(Other(), stored, np.arange(1), np.arange(1), tmp_path)  # type: ignore[arg-type]


def test_one_command_trains_and_the_reader_asks(
    data: Path, tiny_model: Path, tiny_encoder: FilmEncoder, words: HashedWords, stored: NDArray[np.uint8],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(tiny_model, tmp_path / "model")
    monkeypatch.setattr(training, "load_text_encoder", lambda: words)
    arguments: list[Any] = ["region-queries", "--data", data, "--work", tmp_path / "work", "--out", tmp_path / "model"]
    assert training.main([*map(str, arguments), "--steps", "2", "--seed", "3"]) == 0
    assert "calibrated on" in capsys.readouterr().out
    model = tiny_encoder.record.id
    queries = load_region_queries(tmp_path / "model", model)
    assert queries is not None
    reading = tiny_encoder.read_stored(stored[:1])[0]
    assert tuple(queries.found(reading)) == QUERIES
    asked = Reader(tiny_encoder, None, None, queries=queries).boxes(reading, ["Cardiomegaly", "Edema"])  # type: ignore[arg-type]
    plain = Reader(tiny_encoder, None, None).boxes(reading, ["Cardiomegaly", "Edema"])  # type: ignore[arg-type]
    assert set(asked) == set(plain) == {"Cardiomegaly", "Edema"} and asked != plain
    assert Reader(tiny_encoder, None, None, queries=queries).boxes(reading, []) == {}  # type: ignore[arg-type]


def shipped() -> RegionQueries:
    found = load_region_queries(WEIGHTS, load_record(WEIGHTS).id)
    assert found is not None
    return found


def test_the_shipped_queries_are_small_and_belong_to_the_shipped_model() -> None:
    queries = shipped()
    assert (WEIGHTS / "region-queries.safetensors").stat().st_size < 3_500_000
    assert json.loads((WEIGHTS / "region-queries.json").read_text())["queries"] == list(QUERIES)
    assert queries.width == 128 and 0.25 < queries.temperature < 4.0
