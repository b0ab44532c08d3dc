"""What the segmenter is taught: outlines, rectangles of enlarged hearts, the film network's sketches; the limits of its ratio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import Split
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import PRESENTATIONS
from rag_service.models.segmenter import SegmenterShape, load_segmenter
from rag_service.report.cardiothoracic import FILE
from rag_service.training import hearts
from rag_service.training.__main__ import main
from rag_service.training.corpus import SOURCES, UNKNOWN, Corpus
from rag_service.training.runs import load_checkpoint
from rag_service.training.segmenter import SegmenterPlan, SegmenterTrainer
from rag_service.training.structure_targets import Marked, Targets, box_loss, marked, overlap_loss

TINY = SegmenterShape(32, (4, 8))
PLAN = SegmenterPlan(steps=4, outlined=2, boxed=1, sketched=1)


def thorax() -> NDArray[np.uint8]:
    """Right lung, left lung and heart on a film of 256 x 256, as JSRT's bits."""
    bits = np.zeros((256, 256), np.uint8)
    bits[40:200, 30:100] = 1
    bits[40:200, 156:226] = 2
    bits[120:200, 90:170] |= 4
    return bits


def film() -> NDArray[np.uint8]:
    return np.where(thorax() & 4, 250, np.where(thorax() & 3, 40, 180)).astype(np.uint8)


@pytest.fixture
def corpus() -> Corpus:
    sources = ["jsrt", "jsrt", "nih", "nih", "openi", "openi", "cohen"]
    count = len(sources)
    return Corpus(
        films=np.stack([film()] * count),
        labels=np.zeros((count, 14), np.int8),
        tags=np.zeros((count, 0), np.int8),
        tag_names=(),
        presentation=np.full(count, PRESENTATIONS.index("frontal"), np.int8),
        projection=np.full(count, UNKNOWN, np.int8),
        source=np.array([SOURCES.index(s) for s in sources], np.int8),
        domain=np.array([SOURCES.index(s) for s in sources], np.int8),
        split=np.array([Split.TRAIN.value] * (count - 2) + [Split.CALIBRATION.value, Split.TRAIN.value]),
        texts=("",) * count,
        studies=("JPCLN001", "JPCNN002", "00000001_000", "00000002_000", "CXR1", "CXR2", "case"),
        places={},
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "jsrt" / "masks").mkdir(parents=True)
    for name in ("JPCLN001", "JPCNN002"):
        Image.fromarray(thorax()).save(folder / "jsrt" / "masks" / f"{name}.png")
    (folder / "nih").mkdir()
    rows = [
        "00000001_000.png,Cardiomegaly,256,512,512,256",
        "00000001_000.png,Mass,0,0,64,64",
        "00000009_000.png,Cardiomegaly,256,512,512,256",
    ]
    (folder / "nih" / "boxes_1024.csv").write_text("\n".join(["image,finding,x,y,w,h", *rows]))
    return folder


def test_outlines_and_rectangles_of_training_films_are_gathered(
    data: Path, corpus: Corpus, encoder: FilmEncoder
) -> None:
    found = marked(data, corpus, encoder, 32)
    assert found.outlined.rows.tolist() == [0, 1]
    assert found.outlined.maps.shape == (2, 3, 32, 32)
    assert sorted(np.unique(found.outlined.maps)) == [0, 1]
    assert found.boxed.rows.tolist() == [2]
    assert (found.boxed.maps[0, :2] == UNKNOWN).all()
    assert found.boxed.maps[0, 2].sum() == 16 * 8
    assert found.boxed.maps[0, 2, 16:24, 8:24].all()
    assert found.sketched.rows.tolist() == [4, 2, 3, 6]
    assert found.sketched.maps.shape == (4, 3, 32, 32)
    assert found.sample == "training split: 2 films with outlines, 1 with rectangles, 4 sketched by the film network"


def test_without_rectangles_and_places_outlines_are_enough(data: Path, corpus: Corpus, encoder: FilmEncoder) -> None:
    (data / "nih" / "boxes_1024.csv").unlink()
    read = encoder.read_stored
    encoder.read_stored = lambda films: [replace(r, places=None) for r in read(films)]  # type: ignore[method-assign]
    found = marked(data, corpus, encoder, 32)
    assert (found.boxed.films, found.sketched.films, found.outlined.films) == (0, 0, 2)


def test_a_sketch_says_only_what_the_place_maps_are_sure_of(data: Path, corpus: Corpus, encoder: FilmEncoder) -> None:
    places = np.full((17, 2, 2), 0.3, np.float32)
    places[14], places[15, :, 0], places[15, :, 1] = 0.7, 0.02, 0.9
    read = encoder.read_stored
    encoder.read_stored = lambda films: [replace(r, places=places) for r in read(films)]  # type: ignore[method-assign]
    right, left, heart = marked(data, corpus, encoder, 32).sketched.maps[0]
    assert (right == 1).all()
    assert (heart == UNKNOWN).all()
    assert (left[:, :8] == 0).all()
    assert (left[:, 24:] == 1).all()
    assert (left[:, 12] == UNKNOWN).all()


def test_without_outlines_nothing_can_be_taught(data: Path, corpus: Corpus, encoder: FilmEncoder) -> None:
    with pytest.raises(ValueError, match="no film with outlines"):
        marked(data, replace(corpus, split=np.full(7, Split.TEST.value)), encoder, 32)


def square(top: int, bottom: int, left: int, right: int) -> Tensor:
    found = torch.zeros(1, 1, 16, 16)
    found[..., top:bottom, left:right] = 1.0
    return found


def sure(mask: Tensor) -> Tensor:
    return 40.0 * mask - 20.0


def test_the_overlap_loss_is_least_where_the_mask_is_right() -> None:
    truth = square(4, 12, 4, 12)
    assert overlap_loss(sure(truth), truth).item() == pytest.approx(0.0, abs=1e-4)
    assert overlap_loss(sure(square(4, 12, 6, 14)), truth).item() > 1.0


def test_what_is_unknown_costs_nothing() -> None:
    truth = square(4, 12, 4, 12)
    truth[..., 8:, :] = -1.0
    assert overlap_loss(sure(square(4, 8, 4, 12)), truth).item() == pytest.approx(0.0, abs=1e-4)
    assert overlap_loss(torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), -1.0)).item() == 0.0
    assert overlap_loss(torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16)).item() == 0.0


def test_a_heart_reaches_the_edges_of_its_rectangle_and_fills_it() -> None:
    box = square(4, 12, 4, 12)
    filling = box.clone()
    filling[..., 4:6, 4:6] = 0.0
    strip = torch.zeros_like(box)
    for step in range(4, 12):
        strip[..., step, step] = 1.0
    assert box_loss(sure(filling), box).item() == pytest.approx(0.0, abs=1e-4)
    assert box_loss(sure(strip), box).item() == pytest.approx(0.6 - 8 / 64, abs=1e-4)
    assert box_loss(sure(square(4, 12, 4, 16)), box).item() > 2.0
    assert box_loss(sure(square(4, 12, 4, 10)), box).item() > 0.1


def test_a_structure_without_a_rectangle_is_not_judged() -> None:
    assert box_loss(torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), -1.0)).item() == 0.0
    assert box_loss(torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16)).item() == 0.0


def test_a_run_goes_on_from_where_it_was_stopped(
    data: Path, corpus: Corpus, tmp_path: Path, encoder: FilmEncoder
) -> None:
    films = marked(data, corpus, encoder, 32)

    def trainer(folder: Path, plan: SegmenterPlan = PLAN) -> SegmenterTrainer:
        folder.mkdir(exist_ok=True)
        return SegmenterTrainer(corpus, films, plan, TINY, folder)

    whole = trainer(tmp_path / "whole").run()
    stopped = trainer(tmp_path / "stopped")
    for _ in range(3):
        stopped._advance()
    stopped._save()
    resumed = trainer(tmp_path / "stopped").run()
    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.allclose(one[k], other[k], atol=1e-5) for k in one)
    with pytest.raises(ValueError, match="another plan"):
        trainer(tmp_path / "stopped", replace(PLAN, seed=8)).run()


def test_the_final_statistics_are_those_of_films_as_they_are(
    data: Path, corpus: Corpus, tmp_path: Path, encoder: FilmEncoder
) -> None:
    films = marked(data, corpus, encoder, 32)
    for sketched in (films.sketched, films.sketched._replace(rows=films.sketched.rows[:0])):
        trainer = SegmenterTrainer(corpus, replace(films, sketched=sketched), PLAN, TINY, tmp_path)
        stem = trainer._settled().stem
        seen = stem[0](trainer._grey(np.zeros(1, np.int64)).sub(0.5).div(0.25))
        assert torch.allclose(stem[1].running_mean, seen.mean((0, 2, 3)), atol=1e-4)
        assert torch.equal(trainer.averaged.stem[1].running_mean, torch.zeros(4))


def test_outlines_move_with_their_film(data: Path, corpus: Corpus, tmp_path: Path, encoder: FilmEncoder) -> None:
    trainer = SegmenterTrainer(corpus, marked(data, corpus, encoder, 32), PLAN, TINY, tmp_path)
    outlined = trainer.films.outlined
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        still = replace(PLAN.strength, square_share=0.0, border_share=0.0, noise=0.0, log_gamma=0.0, window=0.0)
        films, maps = trainer._shown(outlined, replace(still, blur_share=0.0), 0.0, generator)
        assert tuple(films.shape) == (2, 1, 32, 32)
        assert tuple(maps.shape) == (2, 3, 16, 16)
        bright = torch.nn.functional.avg_pool2d(films, 2)[:, 0]
        only_lung = (maps[:, 0] == 1) & (maps[:, 2] == 0)
        assert bright[maps[:, 2] == 1].mean() > bright[only_lung].mean() + 1.0
        columns = torch.arange(16.0)
        middles = [float((m.sum(1) * columns).sum() / m.sum()) for m in maps.transpose(0, 1)]
        assert middles[0] < middles[2] < middles[1]  # never mirrored


def test_limits_lie_where_few_of_either_kind_reach() -> None:
    ratios = np.concatenate([np.linspace(0.5, 0.7, 51), np.linspace(0.3, 0.6, 51), [np.nan, np.nan]])
    label = np.array([1] * 51 + [0] * 51 + [0, 1], np.int8)
    found = hearts.fit_limits(ratios, label, "s@1")
    assert found is not None
    assert (found.normal_below, found.enlarged_from) == (pytest.approx(0.51), pytest.approx(0.585))
    assert found.segmenter == "s@1"
    assert found.sample == "openi calibration frontals: 51 with and 51 without Cardiomegaly"
    assert hearts.fit_limits(ratios[:60], label[:60], "s@1") is None


def test_one_command_makes_the_segmenter_and_says_what_it_lacks(
    data: Path,
    corpus: Corpus,
    encoder: FilmEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("rag_service.training.__main__.build", lambda *_: corpus)
    monkeypatch.setattr(hearts, "load_encoder", lambda _: encoder)
    out = tmp_path / "out"
    arguments = ["segmenter", "--data", str(data), "--work", str(tmp_path / "work"), "--out", str(out), "--steps", "1"]
    assert main([*arguments, "--seed", "3"]) == 0
    found = load_segmenter(out)
    assert found is not None
    assert not (out / FILE).exists()
    said = capsys.readouterr().out
    assert found.record.id in said
    assert "too few calibration films" in said
    assert load_checkpoint(tmp_path / "work" / "segmenter-3" / "checkpoint.pt") is not None


def test_with_enough_calibration_films_the_limits_are_written(
    data: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.full(44, 5)
    films = replace(corpus, films=corpus.films[rows], labels=np.zeros((44, 14), np.int8))
    films.labels[:22, FINDINGS.index("Cardiomegaly")] = 1
    kind = {f: getattr(corpus, f)[rows] for f in ("presentation", "source", "split")}
    monkeypatch.setattr(hearts, "load_encoder", lambda _: None)
    monkeypatch.setattr(hearts, "marked", lambda *_: Marked(_none(), _none(), _none()))
    monkeypatch.setattr(hearts, "_ratios", lambda _, rows, __: np.linspace(0.4, 0.6, len(rows)))
    monkeypatch.setattr(hearts.SegmenterTrainer, "run", lambda self: self.averaged.eval())
    monkeypatch.setattr("rag_service.training.__main__.build", lambda *_: replace(films, **kind))
    assert main(["segmenter", "--data", str(data), "--work", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / FILE).is_file()
    assert "clearly normal below 0.4" in capsys.readouterr().out


def _none() -> Targets:
    return Targets(np.zeros(0, np.int64), np.zeros((0, 3, 160, 160), np.int8))
