"""What each part of the box head is worth: variants and seeds on features made here, and the paired tests by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eval import ablations, program, significance
from eval.ablations import SHIFTS, VARIANTS, Studies, at_strength, chances
from rag_service.datasets.films import DatasetError, Split
from rag_service.models.box_head import BoxHead, HeadShape
from rag_service.models.encoders.record import EncoderRecord, Features
from rag_service.settings import Settings
from rag_service.training.augment import Strength
from rag_service.training.corpus import SOURCES, UNKNOWN, Corpus


class Brightness:
    """A `FeatureExtractor`: mean grey of the four quarters."""

    record = EncoderRecord(
        "four", "1", "none", "w.safetensors", "c.json", 8, (0.5,), (0.5,), 4, "none", "here", "ab" * 32
    )

    def features(self, films: NDArray[Any]) -> Features:
        quarters = torch.from_numpy(films.reshape(len(films), 2, 128, 2, 128).mean((2, 4)) / 255.0).float()
        return Features(quarters.flatten(1), quarters[:, None])


def corpus_of(count: int = 90) -> Corpus:
    """Frontal films of Open-i (three splits) and NIH (training); a bright first quarter is a large heart."""
    rng = np.random.default_rng(6)
    heart = rng.random(count) < 0.4
    films = rng.integers(0, 60, (count, 256, 256)).astype(np.uint8)
    films[heart, :128, :128] += 120
    labels = np.full((count, 14), UNKNOWN, np.int8)
    labels[:, 0], labels[:, 2], labels[:, 5] = ~heart, heart, rng.random(count) < 0.3
    splits = [Split.TRAIN, Split.CALIBRATION, Split.TEST]
    nih = np.arange(count) % 5 == 4
    return Corpus(
        films=films,
        labels=labels,
        tags=np.zeros((count, 0), np.int8),
        tag_names=(),
        presentation=np.zeros(count, np.int8),
        source=np.where(nih, SOURCES.index("nih"), SOURCES.index("openi")).astype(np.int8),
        split=np.array([Split.TRAIN.value if n else splits[i % 3].value for i, n in enumerate(nih)]),
        texts=("",) * count,
        studies=tuple(f"s{i // 2 if i < 4 else i}" for i in range(count)),
        projection=np.full(count, UNKNOWN, np.int8),
        domain=np.zeros(count, np.int8),
        places={},
    )


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "WORK", tmp_path)
    monkeypatch.setattr(ablations, "build", lambda folder, cache: corpus_of())
    monkeypatch.setattr(significance, "PERMUTATIONS", 30)
    monkeypatch.setattr(significance, "difference", lambda patients, one, other, seed: {
        "difference": one(np.arange(len(patients))) - other(np.arange(len(patients))), "ci": (-1.0, 1.0),
    })  # fmt: skip


@pytest.mark.usefixtures("_here")
def test_every_variant_by_seed_and_against_the_box() -> None:
    result = ablations.measure(Path("data"), Brightness(), seeds=2, seed=3, limit=None)
    assert result["films"] == {"train": 42, "calibration": 24, "test": 24}
    assert (result["seeds"], result["signature"]["model"]) == ([3, 4], "four@1-abababab")
    assert set(result["variants"]) == {
        "box", "point", "no_bl_tta", "single_source", "in_box_only", "pixel_only", "none", "box_and_pixel",
    }  # fmt: skip
    assert set(result["paired"]) == set(result["variants"]) - {"box"}
    for figures in result["variants"].values():
        assert {"macro_auroc", "element_accuracy", "label_f1_macro", "label_f1_micro", "brier", "ece"} < set(figures)
        assert {f"auroc_loss_{s:g}x" for s in SHIFTS} < set(figures)
        assert all(len(v["per_seed"]) == 2 and v["sd"] >= 0 for v in figures.values())
        assert figures["macro_auroc"]["mean"] == pytest.approx(np.mean(figures["macro_auroc"]["per_seed"]))
    area = {n: f["macro_auroc"]["mean"] for n, f in result["variants"].items()}
    assert area["box"] > 0.7
    test = result["paired"]["none"]
    assert {"difference", "interval", "p_value", "studies", "permutations", "by_seed"} == set(test)
    assert result["paired"]["no_bl_tta"]["by_seed"]["seeds"] == 2
    again = ablations.measure(Path("data"), Brightness(), seeds=2, seed=3, limit=None)
    assert again == result
    shown = ablations.table(result)
    assert "four@1-abababab: films 42 train, 24 calibration, 24 test;" in shown
    assert all(f"box less {n}" in shown for n in result["paired"])


@pytest.mark.usefixtures("_here")
def test_one_seed_of_few_films_has_no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "VARIANTS", {n: VARIANTS[n] for n in ("box", "no_bl_tta")})
    result = ablations.measure(Path("data"), Brightness(), seeds=1, seed=3, limit=8)
    assert result["films"] == {"train": 16, "calibration": 8, "test": 8}
    assert result["variants"]["box"]["macro_auroc"]["sd"] is None
    assert result["paired"]["no_bl_tta"]["by_seed"]["t_p_value"] is None
    assert "±" not in ablations.table(result)


@pytest.mark.usefixtures("_here")
def test_a_folder_without_test_films_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corpus_of()
    whole.split[whole.split == "test"] = "train"
    monkeypatch.setattr(ablations, "build", lambda folder, cache: whole)
    with pytest.raises(DatasetError, match="data/ holds no labelled frontal films of every split"):
        ablations.measure(Path("data"), Brightness(), seeds=1, seed=3, limit=None)


def test_the_command_measures_our_own_encoder_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path]] = []
    measured: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "rag_service.models.encoders.load.load_extractor", lambda name, folder: asked.append((name, folder))
    )
    monkeypatch.setattr(ablations, "measure", lambda *all_: measured.append(all_) or {})
    monkeypatch.setattr(ablations, "table", lambda result: "a table")
    options = program.parser().parse_args(["ablations", "data"])
    assert isinstance(options, argparse.Namespace)
    assert program.COMMANDS["ablations"].run(Settings(model_folder="ours"), options) == ({}, "a table")
    other = program.parser().parse_args(
        [
            "ablations",
            "data",
            "--encoder",
            "rad-dino",
            "--model",
            "theirs",
            "--seeds",
            "3",
            "--limit",
            "9",
            "--seed",
            "1",
        ]
    )
    program.COMMANDS["ablations"].run(Settings(model_folder="ours"), other)
    assert asked == [("box-latent", Path("ours")), ("rad-dino", Path("theirs"))]
    assert [m[2:] for m in measured] == [(5, 7, None), (3, 1, 9)]


def test_the_films_of_a_study_count_once() -> None:
    studies = Studies(np.array([1, 0, 1]), ("a", "b"), np.zeros((2, 2)))
    assert studies.mean(np.array([[0.2, 0.0], [0.5, 1.0], [0.6, 0.5]])).tolist() == [[0.5, 1.0], [0.4, 0.25]]


def test_the_centre_is_read_alone_where_asked() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head, features = BoxHead(HeadShape(3, 4)).eval(), torch.randn(5, 3)
    with torch.no_grad():
        expected = torch.sigmoid(head.logits(head(features).centre)).numpy()
    assert np.allclose(chances(head, features, at_centre=True), expected, atol=1e-6)
    assert not np.allclose(chances(head, features, at_centre=False), expected, atol=1e-6)


def test_a_shift_grows_with_its_factor() -> None:
    twice = at_strength(2.0)
    assert (twice.log_gamma, twice.window, twice.noise, twice.blur_share) == (0.7, 0.16, 0.08, 0.5)
    assert at_strength(1.0) == Strength()
    assert at_strength(8.0).blur_share == 1.0


LABELS = np.array([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]])
RIGHT = np.array([[0.9], [0.8], [0.7], [0.3], [0.2], [0.1]])
PATIENTS = tuple("abcdef")


def test_scores_do_not_differ_from_themselves() -> None:
    found = significance.over_studies(LABELS, RIGHT, RIGHT, PATIENTS, seed=1)
    assert (found["difference"], found["interval"], found["p_value"]) == (0.0, (0.0, 0.0), 1.0)
    assert (found["studies"], found["permutations"]) == (6, 1000)


def test_right_against_wrong_scores_is_seldom_chance() -> None:
    found = significance.over_studies(LABELS, RIGHT, 1 - RIGHT, PATIENTS, seed=1)
    assert found["difference"] == 1.0
    # All six swapped or none, of 64 ways: 1/32.
    assert found["p_value"] == pytest.approx(1 / 32, abs=0.02)
    assert significance.over_studies(LABELS, 1 - RIGHT, RIGHT, PATIENTS, seed=1)["difference"] == -1.0


def test_labels_of_one_kind_say_nothing() -> None:
    found = significance.over_studies(LABELS * 0, RIGHT, RIGHT, PATIENTS, seed=1)
    assert (found["difference"], found["interval"], found["p_value"]) == (None, None, None)


def test_seeds_are_compared_in_pairs() -> None:
    found = significance.over_seeds([0.8, 0.82, 0.81, 0.83], [0.7, 0.71, 0.72, 0.7])
    assert (found["seeds"], found["wins"], found["sign_p_value"]) == (4, 4, pytest.approx(2 / 16))
    assert found["t_p_value"] == pytest.approx(0.00104, abs=1e-4)
    even = significance.over_seeds([0.8, 0.8], [0.8, 0.8])
    assert even == {"seeds": 2, "wins": 0, "sign_p_value": None, "t_p_value": None}
    assert significance.over_seeds([0.9], [0.8])["t_p_value"] is None
