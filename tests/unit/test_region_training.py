"""What region queries learn from: concepts in words, targets by hand, matching, a planted film set learnt and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import Split
from rag_service.models.box_fusion import BoxChoice
from rag_service.models.region_network import QUERIES
from rag_service.models.region_queries import load_region_queries
from rag_service.training import region_losses
from rag_service.training.region_bank import CONCEPTS, HINT, USUAL, Bank, lungs_of, moved, outlined, shown
from rag_service.training.region_fit import Material, Outcome, choose, finish, make_region_queries, temperature, words
from rag_service.training.region_prompts import Concept, is_structure
from rag_service.training.region_queries import QueryPlan, QueryTrainer
from rag_service.training.region_targets import (
    FilmTargets,
    hull_of,
    level_of,
    side_of,
    structure_boxes,
)

LUNGS = (0.1, 0.1, 0.9, 0.7)
EFFUSION = FINDINGS.index("Pleural Effusion")


def targets(label: int, *places: int, drawn: Any = None) -> FilmTargets:
    """A film with a label for effusion, marked at some of (present, left, right, upper, middle, lower)."""
    labels = np.full(14, -1, np.int8)
    labels[EFFUSION] = label
    where = np.zeros((14, 6))
    where[EFFUSION, list(places)] = 1
    return FilmTargets(labels, where, drawn or {}, LUNGS)


# --- words


def test_concepts_begin_with_the_queries_and_are_asked_in_several_ways() -> None:
    assert [c.name for c in CONCEPTS[:20]] == list(QUERIES) and len(CONCEPTS) == len(set(CONCEPTS)) == 114
    assert list(Concept("Pneumothorax", "left").wordings()) == ["left pneumothorax", "pneumothorax in the left lung"]
    assert "left lower lobe consolidation" in set(Concept("Consolidation", "left", "lower").wordings())
    assert "right apex" in set(Concept("lung", "right", "upper").wordings())
    assert list(Concept("Pneumothorax").denials()) == [
        "no pneumothorax", "no evidence of pneumothorax", "without pneumothorax", "there is no pneumothorax"
    ]  # fmt: skip
    assert not list(Concept("spine").denials()) and not list(Concept("No Finding").denials())
    assert is_structure(Concept("lung", "left", "upper")) and not is_structure(Concept("Edema"))


# --- targets


@pytest.mark.parametrize(
    ("film", "concept", "expected"),
    [
        (targets(1), Concept("Pleural Effusion"), 1),
        (targets(0), Concept("Pleural Effusion", "left"), 0),
        (targets(-1), Concept("Pleural Effusion", "left"), -1),
        (targets(1), Concept("Pleural Effusion", "left"), -1),
        (targets(1, 0, 1), Concept("Pleural Effusion", "left"), 1),
        (targets(1, 0, 2), Concept("Pleural Effusion", "left"), 0),
        (targets(1, 0, 1), Concept("Pleural Effusion", "left", "lower"), -1),
        (targets(1, 0, 1, 3), Concept("Pleural Effusion", "left", "lower"), 0),
        (targets(1, 0, 1, 5), Concept("Pleural Effusion", "left", "lower"), 1),
        (targets(0), Concept("left lung"), 1),
    ],
)
def test_presence_of_a_concept(film: FilmTargets, concept: Concept, expected: int) -> None:
    assert film.presence(concept) == expected


def test_boxes_of_a_side_and_a_height_are_those_drawn_there() -> None:
    boxes = np.array([[0.75, 0.6, 0.2, 0.2], [0.25, 0.2, 0.2, 0.2]], np.float32)
    film = targets(1, drawn={Concept("Pleural Effusion"): boxes, Concept("cardiac"): boxes[:1]})
    assert side_of(0.75) == "left" and [level_of(y, LUNGS) for y in (0.0, 0.4, 0.95)] == ["upper", "middle", "lower"]
    left = film.boxes(Concept("Pleural Effusion", "left"))
    assert left is not None and left.tolist() == boxes[:1].tolist()
    nothing = film.boxes(Concept("Pleural Effusion", "left", "upper"))
    assert nothing is not None and len(nothing) == 0
    assert film.boxes(Concept("Edema")) is None and film.boxes(Concept("left lung")) is None
    assert film.boxes(Concept("cardiac")) is film.drawn[Concept("cardiac")]


def test_structures_follow_from_lungs_and_heart() -> None:
    found = structure_boxes((0.1, 0.1, 0.4, 0.7), (0.6, 0.1, 0.9, 0.7), (0.35, 0.4, 0.7, 0.7))
    assert found[Concept("left lung")][0].tolist() == pytest.approx([0.75, 0.4, 0.3, 0.6])
    assert found[Concept("lung", "right", "lower")][0].tolist() == pytest.approx([0.25, 0.6, 0.3, 0.2])
    assert found[Concept("diaphragm")][0].tolist() == pytest.approx([0.5, 0.65, 0.8, 0.1])
    assert found[Concept("spine")][0].tolist() == pytest.approx([0.5, 0.55, 0.12, 0.9])
    assert found[Concept("mediastinum")][0].tolist() == pytest.approx([0.525, 0.4, 0.35, 0.6])
    one = structure_boxes(None, (0.6, 0.1, 0.9, 0.7), None)
    assert {c.name for c in one} == {"left lung", "lung"} and structure_boxes(None, None, None) == {}
    assert hull_of(np.zeros((4, 4), np.bool_)) is None


def test_the_lungs_as_the_network_sees_them() -> None:
    places = np.full((17, 10, 10), -4.0, np.float32)
    assert outlined(places) == {} and lungs_of({}) == USUAL
    places[14, 2:6, 1:4] = 4.0
    hull = outlined(places)["right lung"]
    assert (
        hull == pytest.approx((0.1, 0.2, 0.4, 0.6), abs=0.04) and lungs_of({"right lung": hull, "heart": LUNGS}) == hull
    )


def test_boxes_move_as_the_film_is_resampled() -> None:
    theta = np.array([[0.5, 0.0, 0.2], [0.0, 0.5, 0.0]], np.float32)  # shows the middle half, a tenth to the right
    found = moved(np.array([[0.6, 0.5, 0.1, 0.2], [0.05, 0.5, 0.05, 0.1]], np.float32), theta)
    assert found.tolist() == [pytest.approx([0.5, 0.5, 0.2, 0.4])]  # the second box has left the film


def test_what_a_film_is_to_answer() -> None:
    boxes = np.array([[0.75, 0.6, 0.2, 0.2]], np.float32)
    places = np.full((17, 10, 10), -4.0, np.float32)
    places[14, 2:6, 1:4] = places[15, 2:6, 6:9] = 4.0
    film = targets(1, 0, 1, drawn={Concept("Pleural Effusion"): boxes})
    still = shown(film, places)
    held = {CONCEPTS[p.concept]: p for p in still.placed}
    assert held[Concept("Pleural Effusion", "left")].weight == 1.0 and Concept("Pleural Effusion", "right") not in held
    assert held[Concept("right lung")].weight == HINT and Concept("cardiac") not in held
    theta = np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.0]], np.float32)
    shifted = {CONCEPTS[p.concept]: p for p in shown(film, places, theta).placed}
    assert shifted[Concept("Pleural Effusion")].boxes[0].tolist() == pytest.approx([0.65, 0.6, 0.2, 0.2])


# --- losses


def test_each_box_goes_to_one_region_and_a_spare_region_to_the_nearest() -> None:
    cost = np.array([[1.0, 9.0], [0.5, 9.0], [9.0, 2.0]], np.float32)
    box, own = region_losses.match(cost)
    assert box.tolist() == [0, 0, 1] and own.tolist() == [False, True, True]


def test_distances_and_hinges() -> None:
    same = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    assert float(region_losses.distance(same, same)) == pytest.approx(0.0, abs=1e-5)
    beside = torch.tensor([[0.7, 0.5, 0.2, 0.2]])  # touching: IoU 0, no gap between
    assert float(region_losses.distance(same, beside)) == pytest.approx(5 * 0.2 + 2.0, abs=1e-4)
    values = torch.tensor([0.2, 0.5, 0.9])
    assert region_losses.outside(values, torch.tensor(0.3), torch.tensor(0.6)).tolist() == pytest.approx(
        [0.1, 0.0, 0.3]
    )
    sure, unsure = region_losses.focal(torch.tensor([4.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert float(unsure) == pytest.approx(0.25 * np.log(2)) and float(sure) < 1e-4
    one = region_losses.named(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert float(one) == pytest.approx(np.log1p(np.exp(-10.0)), abs=1e-5)


# --- learning


class Text:
    """Words as bags of their letters."""

    def encode(self, texts: list[str]) -> np.ndarray:
        found = np.array([[t.count(c) for c in "abcdefghijklmnopqrstuvwxyz "] for t in texts], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def planted(count: int = 24) -> Material:
    """Films whose maps are bright where an effusion lies, on the left or the right, and dark where there is none."""
    rng = np.random.default_rng(5)
    early = rng.normal(0, 0.1, (count, 4, 10, 10))
    pooled = rng.normal(0, 0.1, (count, 6))
    places = np.full((count, 17, 10, 10), -4.0)
    places[:, 14, 2:8, 1:4] = places[:, 15, 2:8, 6:9] = 4.0
    answers, drawn = [], {}
    for i in range(count):
        side = i % 3  # none, left, right
        film = targets(0)
        if side:
            across = slice(6, 9) if side == 1 else slice(1, 4)
            early[i, 0, 5:8, across] += 4.0
            places[i, EFFUSION, 5:8, across] = 4.0
            pooled[i, 0] += 2.0
            drawn[i] = {
                Concept("Pleural Effusion"): np.array([[0.75 if side == 1 else 0.25, 0.65, 0.3, 0.3]], np.float32)
            }
            film = targets(1, 0, side, 5, drawn=drawn[i])
        answers.append(shown(film, places[i].astype(np.float32)))
    half = [a.astype(np.float16) for a in (early, rng.normal(0, 0.1, (count, 3, 5, 5)), places, pooled)]
    labels = np.full((count, 14), -1, np.int8)
    labels[:, EFFUSION] = [int(i % 3 > 0) for i in range(count)]
    corpus = SimpleNamespace(
        labels=labels, source=np.zeros(count, np.int8), split=np.array([Split.CALIBRATION.value] * count)
    )
    pools = {"drawn": np.array(sorted(drawn)), "others": np.arange(count)}
    return Material(Bank(*half, answers), corpus, drawn, np.arange(count), count, pools)  # type: ignore[arg-type]


PLAN = QueryPlan(steps=60, drawn=4, others=4, extra=4, learning_rate=3e-3, width=16, kept=0.9)


def test_a_planted_effusion_is_found_and_files_are_written(tmp_path: Path) -> None:
    made = planted()
    encoder: Any = SimpleNamespace(record=SimpleNamespace(id="film@1"))
    said = make_region_queries(made, encoder, Text(), tmp_path, PLAN)
    assert said[0].startswith("trained on 16 drawn, 24 others; calibrated on 24 films: temperature ")
    queries = load_region_queries(tmp_path, "film@1")
    assert queries is not None and queries.temperature > 0
    with torch.inference_mode():
        seen = queries.network.look(made.bank.maps(np.arange(3)))
        located = queries.network.locate(seen, queries.network.known)
        logits = queries.network.present(
            seen, queries.network.gated(seen, located.features), located.features, queries.network.known
        )
    none, left, right = logits[:, EFFUSION].tolist()
    assert left > none and right > none
    across = located.boxes[:, EFFUSION, :, 0].mean(1)
    assert float(across[1]) > float(across[2])


def test_training_lowers_its_losses_and_starts_from_the_words() -> None:
    made = planted()
    vectors = words(Text())
    trainer = QueryTrainer(made.bank, vectors, made.pools, PLAN)
    name = vectors.vectors[list(vectors.asking[EFFUSION])].mean(0)
    assert torch.allclose(trainer.network.known[EFFUSION].detach(), name)
    first = trainer.step(0.0)
    assert set(first) == {"presence", "extra", "local", "boxes", "weights", "sides", "named"}
    for _ in range(40):
        last = trainer.step(0.9)
    assert last["boxes"] < first["boxes"] and last["presence"] < first["presence"]


def test_films_without_a_box_teach_presence_alone() -> None:
    made = planted(6)
    bare = replace(made.bank, shown=[replace(a, placed=()) for a in made.bank.shown])
    trainer = QueryTrainer(bare, words(Text()), {"others": np.arange(6)}, PLAN)
    terms = trainer.step(0.0)
    assert (terms["boxes"], terms["named"]) == (0.0, 0.0) and terms["presence"] > 0


def test_words_that_deny_want_the_opposite() -> None:
    made = planted()
    trainer = QueryTrainer(made.bank, words(Text()), made.pools, PLAN)
    rows = np.array([0, 1])  # without and with an effusion
    asked = trainer.ask(rows)
    chosen = np.full_like(asked.concepts, EFFUSION)
    denied = np.zeros_like(asked.denied)
    denied[:, 1] = True
    wanted = trainer._wanted(rows, type(asked)(chosen, denied, asked.vectors))
    assert wanted[:, 20].tolist() == [0, 1] and wanted[:, 21].tolist() == [1, 0]


def test_the_temperature_that_makes_labels_likeliest() -> None:
    labels = np.array([[1], [1], [1], [0]] * 8, np.int8)
    found = temperature(np.full((32, 1), 2 * np.log(3), np.float32), labels)  # three in four are present
    assert found == pytest.approx(2.0, abs=0.01)
    assert temperature(np.zeros((2, 1), np.float32), np.full((2, 1), -1, np.int8)) == 1.0


def test_boxes_are_joined_as_overlaps_readers_most() -> None:
    made = planted(3)
    boxes = np.full((3, 20, 3, 4), 0.1, np.float32)
    boxes[1, EFFUSION] = [0.75, 0.65, 0.3, 0.3]
    boxes[2, EFFUSION] = [0.25, 0.65, 0.3, 0.3]
    weights = np.full((3, 20, 3), 0.9, np.float32)
    rows = np.arange(3)
    choice, overlap = choose(made, Outcome(np.zeros((3, 20), np.float32), boxes, weights), rows)
    assert choice == BoxChoice(1.0, 1.0) and overlap == pytest.approx(1.0, abs=1e-5)
    assert choose(made, Outcome(np.zeros((3, 20), np.float32), boxes, weights), rows[:1]) == (BoxChoice(), 0.0)


def test_finishing_needs_no_training(tmp_path: Path) -> None:
    made = planted(6)
    network = QueryTrainer(made.bank, words(Text()), made.pools, PLAN).mean
    encoder: Any = SimpleNamespace(record=SimpleNamespace(id="film@1"))
    assert finish(made, encoder, network, tmp_path)[1].startswith("boxes: queries weigh ")
