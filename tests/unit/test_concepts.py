"""Sparse concepts: the autoencoder by hand, its training on a planted dictionary, names on made-up labels, its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from knowledge_base.records import BoxLatent
from rag_service import sealed
from rag_service.datasets.films import FilmRow
from rag_service.datasets.terms import findings_of, presence, terms, vocabulary
from rag_service.errors import BadWeights
from rag_service.models.concepts import (
    LISTING_FILE,
    WEIGHTS_FILE,
    Concept,
    Naming,
    SparseConcepts,
    effect,
    load_concepts,
    save_concepts,
    steer,
)
from rag_service.models.encoder import FilmEncoder
from rag_service.models.sparse_autoencoder import SparseAutoencoder
from rag_service.training.concepts import average_precisions, namings
from rag_service.training.sparse_autoencoder import (
    Autoencoder,
    Recipe,
    batch_top_k,
    fit,
    nested_loss,
    revival_loss,
)

EYE = np.eye(3, 4)
CODER = SparseAutoencoder(
    mean=np.array([1.0, 0.0, 0.0, 0.0]),
    deviation=np.array([2.0, 1.0, 1.0, 1.0]),
    encoder=EYE,
    encoder_bias=np.array([0.0, 0.5, 0.0]),
    decoder=EYE,
    decoder_bias=np.array([0.0, 0.0, 0.25, 0.0]),
    threshold=0.75,
    prefixes=(1, 3),
)
"""Three concepts of four axes: each is an axis of its own; the first axis is standardised from mean 1 and deviation 2."""


def a_naming(name: str, *findings: str, scale: float = 2.0, named: bool = True) -> Naming:
    return Naming(name, named, name, findings, 0.5, 0.125, 80, scale)


NAMES = (
    a_naming("Edema", "Edema"),
    a_naming("scoliosis"),
    a_naming("unnamed (best: normal, AP 0.10)", named=False),
)
CONCEPTS = SparseConcepts("tiny@1", CODER, NAMES, "d")


# --- the autoencoder as it serves


def test_activations_up_to_the_threshold_are_nothing() -> None:
    assert CODER.activations(np.array([3.0, 0.25, 1.25, 9.0])).tolist() == [1.0, 0.0, 1.0]
    # 0.25 + 0.5 is the threshold itself, which does not count; a hair more does.
    assert CODER.activations(np.array([1.0, 0.26, 0.0, 0.0])).tolist() == [0.0, 0.76, 0.0]
    both = CODER.activations(np.array([[3.0, 0.0, 0.0, 0.0], [-9.0, 0.5, 0.0, 0.0]]))
    assert both.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def test_a_prefix_rebuilds_with_its_own_concepts_alone() -> None:
    active = np.array([1.0, 2.0, 3.0])
    assert CODER.rebuilt(active, 1).tolist() == [1.0, 0.0, 0.25, 0.0]
    assert CODER.rebuilt(active, 3).tolist() == [1.0, 2.0, 3.25, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": np.zeros(3)},
        {"decoder": np.eye(4)},
        {"encoder": np.zeros(4)},
        {"encoder_bias": np.array([0.0, np.nan, 0.0])},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"prefixes": ()},
        {"prefixes": (0, 3)},
        {"prefixes": (2, 1, 3)},
        {"prefixes": (1, 2)},
        {"prefixes": (3, 3)},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"autoencoder|arrays|prefixes"):
        replace(CODER, **wrong)


# --- training


def test_batch_top_k_keeps_the_largest_of_the_batch_wherever_they_lie() -> None:
    activations = torch.tensor([[5.0, 4.0, 3.0], [1.0, 0.5, 2.0]])
    assert batch_top_k(activations, 2).tolist() == [[5.0, 4.0, 3.0], [0.0, 0.0, 2.0]]
    every = torch.rand(16, 8, generator=torch.Generator().manual_seed(1)) + 1.0
    assert int((batch_top_k(every, 3) > 0).sum()) == 3 * 16


def by_hand() -> Autoencoder:
    """Two axes, three concepts, no bias: x, y, and the diagonal."""
    model = Autoencoder(2, 3)
    with torch.no_grad():
        model.decoder.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
    return model


def test_the_loss_sums_what_each_prefix_fails_to_rebuild() -> None:
    centres, active = torch.tensor([[2.0, 2.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    # (0 + 4)/2 with the first concept alone, (0 + 1)/2 with two, the same with three.
    assert nested_loss(by_hand(), centres, active, (1,)).item() == 2.0
    assert nested_loss(by_hand(), centres, active, (1, 2, 3)).item() == 3.0


def test_dead_concepts_are_taught_what_is_left() -> None:
    residual, every = torch.tensor([[0.6, 0.8]]), torch.tensor([[9.0, 0.5, 1.0]])
    loss = revival_loss(by_hand(), residual, every, torch.tensor([False, True, True]), 1)
    assert loss.item() == pytest.approx(0.0, abs=1e-12)  # the third explains all of it
    both = revival_loss(by_hand(), residual, every, torch.tensor([False, True, True]), 5)
    assert both.item() == pytest.approx(0.5**2 / 2)
    assert revival_loss(by_hand(), residual, every, torch.zeros(3, dtype=torch.bool), 5).item() == 0.0


def planted() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """600 boxes whose centres are one of six planted directions, or two at once; hardly any radius; the directions (6, 8)."""
    rng = np.random.default_rng(3)
    directions, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    active = np.zeros((600, 6))
    for row in active:
        row[rng.choice(6, rng.integers(1, 3), replace=False)] = rng.uniform(2.0, 4.0)
    return (active @ directions[:6]).astype(np.float32), np.full((600, 8), 1e-4, np.float32), directions[:6]


RECIPE = Recipe(prefixes=(6, 12), active=2, steps=600, batch=128, learning_rate=1e-2, dead_after=20, revived=4, seed=1)


def test_planted_directions_are_found() -> None:
    centre, radius, directions = planted()
    state = torch.get_rng_state()
    coder = fit(centre, radius, RECIPE)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.linalg.norm(coder.decoder, axis=1).tolist() == pytest.approx([1.0] * 12, abs=2e-3)
    wanted = directions / coder.deviation
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert (wanted @ coder.decoder.T).max(1).min() > 0.9  # each by a concept of its own direction and sign
    active = coder.activations(centre)
    assert 1.5 < (active > 0).sum(1).mean() < 2.5
    centres = coder.standardised(centre)
    left = [((centres - coder.rebuilt(active, m)) ** 2).sum() / (centres**2).sum() for m in (6, 12)]
    assert max(left) < 0.05  # the first prefix is enough


def test_the_same_boxes_give_the_same_autoencoder() -> None:
    centre, radius, _ = planted()
    short = replace(RECIPE, steps=20)
    one, same, other = (fit(centre, radius, replace(short, seed=s)) for s in (1, 1, 2))
    assert (one.threshold, one.decoder.tolist()) == (same.threshold, same.decoder.tolist())
    assert one.decoder.tolist() != other.decoder.tolist()
    assert one.decoder.tolist() == one.decoder.astype(np.float16).astype(float).tolist()


# --- names


def a_film(number: int, *tags: str, **labels: bool) -> FilmRow:
    return FilmRow("openi", Path(f"{number}.png"), str(number), str(number), labels, tags or None)


def test_the_terms_of_a_film() -> None:
    film = a_film(
        1, "Pleural Effusion/left/small", "Scoliosis/mild", "Fractures, Bone/ribs", Cardiomegaly=True, Edema=False
    )
    assert terms(film) == {
        "Cardiomegaly", "pleural effusion, left", "scoliosis", "fractures, bone", "fractures, bone, ribs",
    }  # fmt: skip
    assert terms(a_film(2)) == frozenset()


def test_the_vocabulary_has_findings_first_and_only_what_is_frequent() -> None:
    rows = [a_film(i, "Scoliosis", Edema=i < 3) for i in range(4)] + [a_film(9, "Cicatrix", Fracture=True)]
    assert vocabulary(rows, 3) == ("Edema", "scoliosis")
    assert vocabulary(rows, 1) == ("Edema", "Fracture", "scoliosis", "cicatrix")


def test_what_a_source_does_not_say_is_unknown() -> None:
    untagged = replace(a_film(1), labels={"Edema": False})
    known = presence([untagged, a_film(2, "Scoliosis")], ("Edema", "scoliosis", "cicatrix"))
    assert np.array_equal(known, [[0.0, np.nan, np.nan], [np.nan, 1.0, 0.0]], equal_nan=True)


@pytest.mark.parametrize(
    ("term", "means"),
    [
        ("Edema", ("Edema",)),
        ("pneumonia", ("Lung Opacity", "Pneumonia")),
        ("pleural effusion, left", ("Pleural Effusion",)),
        ("fractures, bone", ("Fracture",)),
        ("fractures, bone, ribs", ("Fracture",)),
        ("cardiac shadow, enlarged", ("Cardiomegaly",)),
        ("aorta, thoracic, tortuous", ()),
        ("normal", ()),
    ],
)
def test_the_findings_that_a_term_means(term: str, means: tuple[str, ...]) -> None:
    assert findings_of(term) == means


def test_average_precision_where_films_at_nothing_share_a_rank() -> None:
    active = np.array([3.0, 2.0, 0.0, 0.0])
    known = np.array([[1.0, 0.0, np.nan], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    # Hits at ranks 1 and, with the silent films, 4 of 4 at precision 2/4; then one at rank 2; then one of known rank 1.
    assert average_precisions(active, known).tolist() == [(1.0 + 0.5) / 2, 0.5, 1.0]


def test_a_concept_is_called_after_what_it_tells_apart() -> None:
    rows = [a_film(i, "Scoliosis" if i < 4 else "Cicatrix/left", Edema=i % 2 == 0) for i in range(12)]
    bent = np.array([float(5 - i) if i < 4 else 0.0 for i in range(12)])
    vague = np.array([{0: 1.0, 5: 2.0}.get(i, 0.0) for i in range(12)])
    first, second, third = namings(np.stack([bent, vague, np.zeros(12)], axis=1), rows, minimum=4)
    assert first == Naming("scoliosis", True, "scoliosis", (), 1.0, 0.333333, 12, 3.5)
    assert (second.named, second.name, second.scale) == (False, "unnamed (best: cicatrix, AP 0.71)", 1.5)
    assert (third.named, third.scale) == (False, 0.0)


# --- concepts of a film


def test_the_concepts_of_a_film_strongest_first() -> None:
    centre = np.array([3.0, 1.0, 1.25, 0.0])
    assert CONCEPTS.top(centre, 2) == (Concept("scoliosis", 1.5, 1), Concept("Edema", 1.0, 0))
    assert [c.index for c in CONCEPTS.top(centre, 9)] == [1, 0, 2]
    assert CONCEPTS.top(np.array([1.0, 0.0, 0.0, 0.0]), 5) == ()
    assert CONCEPTS.at(centre, 2) == Concept("unnamed (best: normal, AP 0.10)", 1.0, 2)


def test_those_that_raise_a_finding() -> None:
    centre = np.array([3.0, 1.0, 1.25, 0.0])
    # Contributions: 1.0 * 2 * 0.5 = 1, 1.5 * 1 * 2 = 3, 1.0 * 1 * -1 < 0.
    assert [c.index for c in CONCEPTS.raising(centre, np.array([0.5, 2.0, -1.0, 7.0]), 3)] == [1, 0]
    assert CONCEPTS.raising(centre, np.array([-0.5, -2.0, -1.0, 7.0]), 3) == ()


def test_named_concepts_shared_by_two_films() -> None:
    one, other = np.array([3.0, 1.0, 1.25, 0.0]), np.array([9.0, 0.0, 1.25, 0.0])
    assert CONCEPTS.shared(one, other, 3) == ("Edema",)
    assert CONCEPTS.shared(one, one, 1) == ("scoliosis",)


def test_moving_adds_as_much_as_films_carry() -> None:
    assert CONCEPTS.moved(np.zeros(4), 0, 0.5).tolist() == [2.0, 0.0, 0.0, 0.0]
    assert CONCEPTS.moved(np.ones((1, 4)), 1, -1.0).tolist() == [[1.0, -1.0, 1.0, 1.0]]


def test_steering_changes_findings_as_the_head_says(encoder: FilmEncoder) -> None:
    box = BoxLatent(np.array([0.5, -0.5, 0.25, 0.0], np.float32), np.full(4, 0.25, np.float32))
    still = steer(encoder, CONCEPTS, box, 0, 0.0)
    assert still.before.tolist() == still.after.tolist()
    moved = steer(encoder, CONCEPTS, box, 0, 1.0)
    assert moved.before.tolist() == still.before.tolist()
    rises = encoder.finding_weights[:, 0] > 0
    assert ((moved.after > moved.before) == rises).all()


def test_on_and_off_target() -> None:
    change = np.zeros(14)
    change[[0, 5, 8]] = (-0.24, 0.5, 0.25)  # No Finding, Edema, Atelectasis
    assert effect(change, ("Edema",)) == (0.5, pytest.approx((0.24 + 0.25) / 13))
    assert effect(change, ("Edema", "Atelectasis")) == (0.375, pytest.approx(0.02))
    assert effect(change, ()) == (None, pytest.approx(0.99 / 14))


# --- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_concepts(tmp_path, "tiny@1", CODER, NAMES, "made by hand")
    return tmp_path


def test_what_is_saved_is_loaded(folder: Path) -> None:
    loaded = load_concepts(folder, "tiny@1")
    assert loaded is not None
    assert (loaded.model, loaded.names) == ("tiny@1", NAMES)
    assert (loaded.autoencoder.threshold, loaded.autoencoder.prefixes) == (0.75, (1, 3))
    for name, array in CODER.arrays.items():
        assert loaded.autoencoder.arrays[name].tolist() == array.tolist()
    again = load_concepts(folder, "tiny@1")
    assert again is not None
    assert loaded.digest == again.digest
    assert len(loaded.digest) == 64
    assert load_concepts(folder / "elsewhere", "tiny@1") is None


REMEDY = r"run `python -m rag_service\.training concepts --data DIR`"


def test_concepts_of_another_model_are_refused(folder: Path) -> None:
    with pytest.raises(BadWeights, match=rf"made for tiny@1, the model is tiny@2; {REMEDY}"):
        load_concepts(folder, "tiny@2")


@pytest.mark.parametrize("content", [None, b"", b"altered"])
def test_altered_or_absent_arrays_are_refused(content: bytes | None, folder: Path) -> None:
    expected = json.loads((folder / LISTING_FILE).read_text())["weights"]
    (folder / WEIGHTS_FILE).unlink()
    if content is not None:
        (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(BadWeights, match=rf"concepts\.safetensors: expected sha256 {expected}, found .*; {REMEDY}"):
        load_concepts(folder, "tiny@1")


@pytest.mark.parametrize("change", [("Edema", "Enema"), ("0.75", "0.5"), ("{", "[")])
def test_an_altered_listing_is_refused(change: tuple[str, str], folder: Path) -> None:
    path = folder / LISTING_FILE
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(BadWeights, match=rf"concepts\.json is altered or malformed; {REMEDY}"):
        load_concepts(folder, "tiny@1")


@pytest.mark.parametrize(
    "change",
    [
        {"concepts": []},
        {"concepts": [{"name": "Edema"}] * 3},
        {"prefixes": [1]},
        {"threshold": "much"},
        {"prefixes": 3},
    ],
    ids=str,
)
def test_a_listing_that_does_not_fit_the_arrays_is_refused(change: dict[str, Any], folder: Path) -> None:
    sealed.write(folder / LISTING_FILE, {**sealed.read(folder / LISTING_FILE), **change})
    with pytest.raises(BadWeights, match=rf"do not fit each other; {REMEDY}"):
        load_concepts(folder, "tiny@1")
