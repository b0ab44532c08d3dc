"""Measurements of concepts: fidelity, names and steering, by hand and over a small folder; and the training task."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval import __main__ as cli
from eval import concepts as measured
from eval import readings
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.models.concepts import Naming, SparseConcepts, load_concepts, save_concepts
from rag_service.models.encoder import FilmEncoder
from rag_service.models.sparse_autoencoder import SparseAutoencoder
from rag_service.training import __main__ as program
from rag_service.training import concepts, corpus
from rag_service.training.concepts import chest_films

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

EYE = np.eye(4)
CODER = SparseAutoencoder(np.zeros(4), np.ones(4), EYE, np.zeros(4), EYE, np.zeros(4), 0.5, (1, 4))
NAMES = (
    Naming("Edema", True, "Edema", ("Edema",), 0.9, 0.5, 12, 1.0),
    Naming("scoliosis", True, "scoliosis", (), 0.9, 0.5, 12, 1.0),
    Naming("unnamed (best: normal, AP 0.50)", False, "normal", (), 0.5, 0.5, 12, 1.0),
    Naming("Fracture", True, "Fracture", ("Fracture",), 0.9, 0.5, 12, 2.0),
)
CONCEPTS = SparseConcepts("tiny", CODER, NAMES, "cd" * 32)


def rows(count: int = 12) -> list[FilmRow]:
    """Films with edema in the first half; every fourth has scoliosis; fracture is not labelled."""
    return [
        FilmRow(
            "openi", Path(f"{i}.png"), f"s{i}", f"p{i}", {"Edema": i < 6}, ("Scoliosis",) if i % 4 == 0 else ("Lung",)
        )
        for i in range(count)
    ]


def centres() -> np.ndarray:
    """(12, 4): the first axis tells edema but for one film; the second is at work in half of the films, whatever they show."""
    found = np.full((12, 4), 0.25)
    found[:6, 0], found[6, 0] = np.arange(1.0, 7.0), 1.5
    found[::2, 1] = 1.0
    return found


def read(encoder: FilmEncoder) -> readings.Readings:
    radius = np.full((12, 4), 0.1)
    mean, spread = encoder.over_box(centres(), radius, 8)
    return readings.Readings(mean, spread, centres(), radius, np.zeros((12, 3)), np.zeros((12, 5)), np.full(12, np.nan))


def test_the_variance_that_each_prefix_explains() -> None:
    active = CODER.activations(centres())
    found = measured.explained_variance(CONCEPTS, centres(), active)
    spread = ((centres() - centres().mean(0)) ** 2).sum()
    missed = 5 * 0.0625  # the first axis where it is below the threshold
    others = 12 * 2 * 0.0625
    assert found["4"] == pytest.approx(1 - (missed + 6 * 0.0625 + others) / spread)
    assert found["1"] == pytest.approx(1 - (missed + 6 * 0.0625 + others + 6 * 1.0) / spread)


def test_balanced_accuracy_of_saying_by_the_name_where_a_concept_works() -> None:
    active = np.array([[True, True, False]] * 5 + [[False, False, True]] * 5 + [[False, True, True]])
    labels = np.array([[1.0, np.nan, 1.0]] * 4 + [[0.0, 1.0, 1.0]] + [[1.0, 0.0, 0.0]] + [[0.0, 0.0, 0.0]] * 5)
    found = measured.balanced_accuracies(active, labels)
    # Four of five active films bear it, five of six others do not; then too few with a known label; then all wrong.
    assert found[0] == pytest.approx((4 / 5 + 5 / 6) / 2)
    assert np.isnan(found[1])
    assert found[2] == 0.0


def test_detection_beside_shuffled_names() -> None:
    found = measured.detection(rows(), CODER.activations(centres()), CONCEPTS, seed=3)
    assert (found["named"], found["measured"]) == (3, 2)
    edema, scoliosis = found["per_concept"]
    assert (edema["name"], edema["active"], edema["bearing"], edema["films"]) == ("Edema", 7, 6, 12)
    assert edema["balanced_accuracy"] == pytest.approx((6 / 7 + 1.0) / 2)
    assert edema["auroc"] == pytest.approx(35 / 36)
    assert scoliosis["balanced_accuracy"] == pytest.approx((3 / 6 + 6 / 6) / 2)
    assert found["median"] == pytest.approx((edema["balanced_accuracy"] + scoliosis["balanced_accuracy"]) / 2)
    assert found["share_good"] == 1.0
    assert found["shuffled"]["median"] < found["median"]
    low, high = found["median_ci"]
    assert 0.5 < low <= found["median"] <= high <= 1.0
    nothing = measured.detection(rows(), np.zeros((12, 4)), CONCEPTS, seed=3)
    assert (nothing["median"], nothing["share_good"], nothing["median_ci"], nothing["per_concept"]) == (
        None,
        None,
        None,
        [],
    )


def test_steering_moves_the_finding_more_than_chance_does(encoder: FilmEncoder) -> None:
    result = measured.steering(read(encoder), encoder, CONCEPTS, seed=3)
    assert result["films"] == 12
    for finding, found in result["per_finding"].items():
        index = measured.FINDINGS.index(finding)
        raised = np.array([1.0, 1.0, 1.0, 2.0]) * encoder.finding_weights[index]
        assert [c["index"] for c in found["concepts"]] == [i for i in np.argsort(-raised).tolist()[:3] if raised[i] > 0]
        assert 0 < found["alphas"]["0.5"]["on_target"] < found["alphas"]["2.0"]["on_target"]
    mean, chance = result["mean"], result["random"]
    assert mean["on_target"] > chance["on_target_size"] > abs(chance["on_target"])
    assert mean["off_target"] > 0
    assert result == measured.steering(read(encoder), encoder, CONCEPTS, seed=3)


@pytest.fixture
def collection(maker: Maker) -> Path:
    tags = [("Cardiomegaly",), ("normal",), ("Pleural Effusion/left",)]
    return maker.openi({f"CXR{i}": ("The heart is seen.", "", tags[i % 3]) for i in range(12)})


def test_the_task_writes_what_it_prints(
    whole_model: Path,
    collection: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    shutil.copytree(whole_model, model)
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(model))
    monkeypatch.chdir(tmp_path)
    asked = ["concepts", str(collection), "--json", str(tmp_path / "found.json")]
    assert cli.main(asked) == 3
    assert "no concepts; run `python -m rag_service.training concepts --data DIR`" in capsys.readouterr().err
    record = json.loads((model / "film-encoder.json").read_text())
    save_concepts(model, f"{record['name']}@{record['version']}-{record['sha256'][:8]}", CODER, NAMES, "made by hand")
    assert cli.main(asked) == 0
    result = json.loads((tmp_path / "found.json").read_text())
    assert {"explained_variance", "dead_share", "detection", "steering", "mean_active"} <= set(result)
    assert (result["n_films"], result["n_concepts"], result["seed"]) == (12, 4, 7)
    assert list(result["explained_variance"]) == ["1", "4"]
    assert 0.0 <= result["dead_share"] <= 1.0
    assert set(result["signature"]) == {"films", "model", "concepts", "bl_tta", "bootstrap"}
    told = capsys.readouterr().out
    assert told.startswith("12 films, 4 concepts, seed 7\n")
    assert "names shuffled" in told
    assert cli.main(asked) == 0
    assert json.loads((tmp_path / "found.json").read_text()) == result


def test_concepts_are_made_by_one_command(
    tiny_model: Path,
    collection: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, data = tmp_path / "model", tmp_path / "data"
    shutil.copytree(tiny_model, model)
    data.mkdir()
    collection.rename(data / "openi")
    common = ["--data", str(data), "--work", str(tmp_path / "work"), "--out", str(model), "--steps", "3", "--seed", "4"]
    with pytest.raises(DatasetError, match="as many as 25 training films"):
        program.main(["concepts", *common])
    monkeypatch.setattr(concepts, "MIN_TERM_FILMS", 2)
    assert program.main(["concepts", *common]) == 0
    assert capsys.readouterr().out.startswith("128 concepts, ")
    record = json.loads((model / "film-encoder.json").read_text())
    name = f"{record['name']}@{record['version']}-{record['sha256'][:8]}"
    first = load_concepts(model, name)
    assert first is not None
    assert len(first.names) == 128
    films = chest_films(corpus.read(data))
    assert (
        json.loads((model / "concepts.json").read_text())["sample"] == f"{len(films)} training films of openi; seed 4"
    )
    assert program.main(["concepts", *common]) == 0
    assert "reading films" not in capsys.readouterr().err
    again = load_concepts(model, name)
    assert again is not None
    assert again.digest == first.digest
