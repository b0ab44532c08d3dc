"""What the training program is told beside labels: places, rarity, strangers, and films with holes to fill."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import FilmRow
from rag_service.models.network import Architecture
from rag_service.training import corpus, losses, pretrain
from rag_service.training.corpus import DOMAINS, Corpus, PlaceTargets
from rag_service.training.loop import _place_targets, macro_auroc
from rag_service.training.pretrain import Pretrainer, PretrainPlan, hide, patch_loss
from rag_service.training.runs import load_checkpoint, save_checkpoint

STILL = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_the_radius_of_a_stranger_is_asked_to_be_three_times_a_films() -> None:
    films, near, far = torch.full((4, 2), 0.5), torch.full((1, 2), 0.5), torch.full((2, 2), 1.5)
    assert losses.exposure(films, near).item() == pytest.approx(math.log(3))
    assert losses.exposure(films, far).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.exposure(films, torch.zeros(0, 2)).item() == 0.0


def test_a_weighted_column_counts_for_more() -> None:
    logits, targets = torch.zeros(1, 2), torch.tensor([[1, 0]])
    weighed = losses.masked_bce(logits, targets, torch.tensor([3.0, 1.0]))
    assert weighed.item() == pytest.approx(2 * math.log(2))


def test_places_move_with_their_film() -> None:
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 1
    by_a_quarter = torch.tensor(
        [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]
    )  # the film moves to the left by a quarter of its width
    targets = _place_targets([PlaceTargets({3: left})] * 2, torch.stack([STILL, by_a_quarter]))
    assert tuple(targets.shape) == (2, 17, 64, 64)
    assert (targets[:, [0, 1, 2, 16]] == -1).all()
    assert targets[0, 3].mean(0).tolist() == pytest.approx([1.0] * 32 + [0.0] * 32, abs=1e-4)
    assert targets[1, 3].mean(0).tolist() == pytest.approx([1.0] * 16 + [0.0] * 48, abs=1e-4)


def test_macro_auroc_leaves_out_findings_with_one_class() -> None:
    labels = np.full((4, 14), -1, np.int8)
    labels[:, 0], labels[:, 1], labels[:, 2] = [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, -1, -1]
    scores = np.tile(np.array([[0.9], [0.2], [0.5], [0.1]]), (1, 14))
    assert macro_auroc(scores, labels) == pytest.approx((0.75 + 1.0) / 2)
    assert macro_auroc(scores, np.full((4, 14), -1, np.int8)) is None


def test_boxes_and_outlines_become_maps(tmp_path: Path) -> None:
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih" / "boxes_1024.csv").write_text("image,finding,x,y,w,h\na.png,Effusion,256,512,256,128\n")
    (tmp_path / "jsrt" / "masks").mkdir(parents=True)
    bits = np.zeros((8, 8), np.uint8)
    bits[:, :4], bits[:, 4:], bits[4:, 4:] = 1, 2, 6
    Image.fromarray(bits).save(tmp_path / "jsrt" / "masks" / "j.png")
    rows = [FilmRow(s, Path(f"{n}.png"), n, n) for s, n in (("nih", "a"), ("nih", "b"), ("jsrt", "j"), ("jsrt", "k"))]
    places = corpus._places(rows, tmp_path)
    assert set(places) == {0, 2}
    (box,) = places[0].maps.values()
    assert list(places[0].maps) == [FINDINGS.index("Pleural Effusion")]
    assert np.argwhere(box).min(0).tolist() == [32, 16]
    assert np.argwhere(box).max(0).tolist() == [39, 31]
    assert {c: int(m.sum()) for c, m in places[2].maps.items()} == {14: 2048, 15: 2048, 16: 1024}


def test_hidden_patches_are_empty_and_equally_many() -> None:
    films = torch.ones(3, 1, 64, 64)
    seen, hidden = hide(films, 0.6, torch.Generator().manual_seed(1))
    assert hidden.sum((1, 2)).tolist() == [10, 10, 10]  # of 16
    assert seen.sum().item() == 3 * 6 * 256
    assert (films == 1).all()


def test_a_patch_drawn_right_costs_nothing() -> None:
    films = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    patches = torch.nn.functional.unfold(films, 16, stride=16).view(2, 256, 2, 2)
    right = (patches - patches.mean(1, keepdim=True)) / (patches.std(1, keepdim=True) + 0.02)
    hidden = torch.zeros(2, 2, 2, dtype=torch.bool)
    hidden[0, 1, 1] = True
    assert patch_loss(right, films, hidden).item() == pytest.approx(0.0, abs=1e-10)
    wrong = right.clone()
    wrong[0, :, 0, 0] += 5.0  # seen: not asked for
    assert patch_loss(wrong, films, hidden).item() == pytest.approx(0.0, abs=1e-10)
    wrong[0, :, 1, 1] += 2.0
    assert patch_loss(wrong, films, hidden).item() == pytest.approx(4.0, abs=1e-4)


def tiny_corpus() -> Corpus:
    films = np.random.default_rng(1).integers(0, 256, (6, 256, 256), np.uint8)
    columns = np.full((6, 14), -1, np.int8)
    names = np.array(
        [corpus.SOURCES.index(s) for s in ("openi", "nih", "rocov2", "jsrt", "paediatric", "not_chest")], np.int8
    )
    return Corpus(
        films, columns, columns, (), columns[:, 0], columns[:, 0], names, names, np.array(["train"] * 6), ("",) * 6,
        tuple("abcdef"), {},
    )  # fmt: skip


PLAN = PretrainPlan(steps=4, batch=4, side=64)
SMALL = Architecture("test_resnet", 64, 4, joint_width=8, place_width=8, tags=("lung",), domains=DOMAINS)


def pretrainer(folder: Path, plan: PretrainPlan = PLAN) -> Pretrainer:
    folder.mkdir(exist_ok=True)
    return Pretrainer(tiny_corpus(), plan, SMALL, folder)


def test_pretraining_moves_the_trunk_goes_on_and_is_the_same_every_time(tmp_path: Path) -> None:
    before = pretrainer(tmp_path / "one").network.trunk.state_dict()
    start = {k: v.clone() for k, v in before.items()}
    runs = [pretrainer(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        run.run()
    ends = [r.network.trunk.state_dict() for r in runs]
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in start)
    assert any(not torch.equal(start[k], v) for k, v in ends[0].items())
    again = pretrainer(tmp_path / "one")
    again.run()
    assert again.step == 4
    assert all(torch.equal(ends[0][k], v) for k, v in again.network.trunk.state_dict().items())
    assert 5 not in again.rows.tolist()  # the picture of no chest


def test_pretraining_is_logged_and_learns_to_draw(tmp_path: Path) -> None:
    run = pretrainer(tmp_path, PretrainPlan(steps=30, batch=4, side=64, strength=pretrain.augment.Strength(noise=0.0)))
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "pretrain.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_a_plan_of_pretraining_warms_up_and_ends_at_nothing() -> None:
    plan = PretrainPlan(steps=100, learning_rate=1.0)
    assert [plan.rate(s) for s in (0, 4)] == pytest.approx([0.2, 1.0])
    assert plan.rate(100) == pytest.approx(0.0, abs=1e-9)


def test_a_checkpoint_belongs_to_one_plan(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    assert load_checkpoint(path, "a") is None
    save_checkpoint(path, {"step": 3}, "a")
    state = load_checkpoint(path, "a")
    assert state is not None
    assert state["step"] == 3
    with pytest.raises(ValueError, match=r"c\.pt belongs to another plan"):
        load_checkpoint(path, "b")
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
