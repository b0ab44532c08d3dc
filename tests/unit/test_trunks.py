"""Short runs side by side: each variant is trained by the program, scored by study, and paired with the base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eval import significance, trunks
from eval.trunks import BASE, Variant
from rag_service.datasets.films import Split
from rag_service.models.network import Architecture
from rag_service.training import loop
from rag_service.training.corpus import DOMAINS, UNKNOWN, Corpus
from rag_service.training.loop import Plan
from rag_service.training.pretrain import Pretrainer, PretrainPlan

TINY = Architecture("test_resnet", 64, 4, joint_width=8, place_width=8, tags=("lung",), domains=DOMAINS)


class Words:
    """In place of the text encoder: nothing is encoded here."""

    encode = None


def corpus_of(count: int = 24) -> Corpus:
    """Open-i frontals, half for training and half for testing; every third has a heart that is white."""
    rng = np.random.default_rng(5)
    heart = np.arange(count) % 3 == 0
    films = rng.integers(0, 90, (count, 256, 256)).astype(np.uint8)
    films[heart, 100:200, 100:200] += 150
    labels = np.full((count, 14), UNKNOWN, np.int8)
    labels[:, 0], labels[:, 2] = ~heart, heart
    zeros = np.zeros(count, np.int8)
    unknown = np.full(count, UNKNOWN, np.int8)
    splits = np.array([Split.TRAIN.value] * (count // 2) + [Split.TEST.value] * (count // 2))
    return Corpus(
        films, labels, np.zeros((count, 1), np.int8), ("lung",), zeros, unknown, zeros, zeros, splits, ("",) * count,
        tuple(f"s{i // 2}" for i in range(count)), {},
    )  # fmt: skip


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny trunk pretrained for one step, and everything `trunks` uses made as small."""

    def vectors(texts: tuple[str, ...], *_: object) -> NDArray[np.float32]:
        return np.zeros((len(texts), 384), np.float32)

    monkeypatch.setattr(Plan, "architecture", lambda *_: TINY)
    monkeypatch.setattr(trunks, "build", lambda folder, cache: corpus_of())
    monkeypatch.setattr(trunks, "load_text_encoder", Words)
    monkeypatch.setattr(trunks, "text_vectors", vectors)
    monkeypatch.setattr(trunks, "VARIANTS", {BASE: Variant(), "no_pretraining": Variant(pretrained=False)})
    monkeypatch.setattr(significance, "PERMUTATIONS", 20)
    monkeypatch.setattr(trunks, "TIMED_SIDE", 64)
    short = replace(loop.PLANS["short"], batch=8, shifted=2, strangers=1, stages=((1.0, 64),))
    monkeypatch.setitem(loop.PLANS, "short", short)
    state = torch.get_rng_state()
    Pretrainer(corpus_of(), PretrainPlan(steps=1, batch=4, side=64), TINY, tmp_path).run()
    torch.set_rng_state(state)
    return tmp_path / "pretrained.pt"


def test_variants_are_trained_scored_and_paired(pretrained: Path) -> None:
    result = trunks.measure(Path("data"), pretrained, (3, 4), steps=2)
    assert set(result["variants"]) == {BASE, "no_pretraining"}
    assert (result["studies"], result["seeds"]) == (6, [3, 4])
    for found in result["variants"].values():
        assert len(found["per_seed"]) == 2
        assert found["macro_auroc"] == pytest.approx(np.mean(found["per_seed"]))
        assert found["ms_per_film"] > 0
    gap = result["paired"]["no_pretraining"]
    assert set(result["paired"]) == {"no_pretraining"}
    assert 0.0 <= gap["p_value"] <= 1.0
    lines = trunks.table(result).splitlines()
    assert lines[0] == "2 steps at 64 px, seeds [3, 4], 6 test studies"
    assert lines[2].startswith(f"{BASE} ")
    assert " p " in lines[3] and " p " not in lines[2]


def test_the_same_seed_gives_the_same_figures(pretrained: Path) -> None:
    once, again = (trunks.measure(Path("data"), pretrained, (3,), steps=1) for _ in range(2))
    for name in once["variants"]:
        assert once["variants"][name]["per_seed"] == again["variants"][name]["per_seed"]
        assert once["variants"][name]["sd"] is None
