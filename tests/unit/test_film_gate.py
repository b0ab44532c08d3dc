"""The gate in front of the reader: which films are turned away, and for what reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from knowledge_base.records import BoxLatent
from rag_service.errors import BadWeights
from rag_service.gate import (
    RECORD_FILE,
    REFERENCE_FILE,
    Gate,
    GateThresholds,
    OutOfDistribution,
    distances,
    is_blank,
    load_gate,
)
from rag_service.imaging.film import Film, Frame, View
from rag_service.models.encoder import FilmReading
from rag_service.training.gate_reference import reference

LIMITS = {"lateral": 0.6, "rotated": 0.6, "inverted": 0.6, "not_chest": 0.6}
THRESHOLDS = GateThresholds("tiny@1", LIMITS, 1.5, "ab" * 32, 0.005)
GATE = Gate(THRESHOLDS, np.zeros(2, np.float32), np.eye(2, dtype=np.float32))


def film(pixels: NDArray[np.float32], view: View = View.UNKNOWN) -> Film:
    return Film(pixels.astype(np.float32), Frame(*pixels.shape), "00" * 32, "image/png", view)


def noise(low: float = 0.0, high: float = 1.0) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(low, high, (64, 64)).astype(np.float32)


def reading(
    frontal: float = 1.0, *, lateral: float = 0.0, rotated: float = 0.0, inverted: float = 0.0,
    not_chest: float = 0.0, pooled: tuple[float, float] = (0.0, 0.0),
) -> FilmReading:  # fmt: skip
    shares = np.array([frontal, lateral, rotated, inverted, not_chest])
    one = np.ones(1, np.float32)
    return FilmReading(
        box=BoxLatent(one, one),
        probabilities=np.zeros(14),
        spread=np.zeros(14),
        presentation=shares,
        pooled=np.array(pooled, np.float32),
        maps=torch.zeros(1, 1, 1),
    )


def test_a_frontal_film_like_the_others_passes() -> None:
    verdict = GATE.judge(film(noise()), reading(pooled=(1.0, -1.0)))
    assert verdict.reasons == ()
    assert verdict.out_of_distribution == OutOfDistribution(1.0, 1.5)


@pytest.mark.parametrize("name", ["lateral", "rotated", "inverted", "not_chest"])
def test_a_presentation_from_its_threshold_is_a_reason(name: str) -> None:
    assert GATE.judge(film(noise()), reading(0.4, **{name: 0.6})).reasons == (name,)
    assert GATE.judge(film(noise()), reading(0.41, **{name: 0.59})).reasons == ()


def test_a_presentation_without_a_threshold_is_no_reason() -> None:
    gate = Gate(
        GateThresholds("tiny@1", {}, 1.5, "ab" * 32, 0.005), np.zeros(2, np.float32), np.eye(2, dtype=np.float32)
    )
    assert gate.judge(film(noise()), reading(0.0, not_chest=1.0)).reasons == ()


def test_a_film_far_from_the_others_is_out_of_distribution() -> None:
    far = GATE.judge(film(noise()), reading(pooled=(3.0, 0.0)))
    assert far.reasons == ("out_of_distribution",)
    assert far.out_of_distribution.score == pytest.approx(3 / 2**0.5)
    assert GATE.judge(film(noise()), reading(pooled=(1.5, 1.5))).reasons == ()


def test_a_file_that_says_lateral_is_believed_once() -> None:
    assert GATE.judge(film(noise(), View.LATERAL), reading()).reasons == ("lateral",)
    assert GATE.judge(film(noise(), View.LATERAL), reading(0.1, lateral=0.9)).reasons == ("lateral",)
    assert GATE.judge(film(noise(), View.PA), reading()).reasons == ()


def test_reasons_in_their_order() -> None:
    blank = film(np.full((64, 64), 0.5, np.float32), View.LATERAL)
    verdict = GATE.judge(blank, reading(0.0, not_chest=1.0, pooled=(9.0, 9.0)))
    assert verdict.reasons == ("blank", "not_chest", "lateral", "out_of_distribution")


def half(low: float, high: float) -> NDArray[np.float32]:
    pixels = np.full((64, 64), low, np.float32)
    pixels[:, 32:] = high
    return pixels


@pytest.mark.parametrize(
    ("pixels", "blank"),
    [
        (np.zeros((64, 64)), True),
        (np.ones((64, 64)), True),
        (noise(), False),
        (half(0.2, 0.8), False),
        (noise(0.50, 0.51), True),
        (noise(0.30, 0.50), False),
    ],
)
def test_blank_films(pixels: NDArray[np.float32], blank: bool) -> None:
    assert is_blank(film(pixels)) is blank


def test_a_small_mark_on_nothing_is_blank_still() -> None:
    pixels = np.zeros((256, 256), np.float32)
    pixels[:30, :30] = 1.0
    assert is_blank(film(pixels))
    pixels[:60, :60] = noise()[:60, :60]
    assert not is_blank(film(pixels))


def test_the_films_of_the_reference_lie_at_a_distance_of_about_one() -> None:
    rng = np.random.default_rng(0)
    pooled = (rng.normal(size=(3000, 8)) @ rng.normal(size=(8, 8)) + 3.0).astype(np.float32)
    mean, whitening = reference(pooled)
    found = distances(pooled, mean.astype(np.float32), whitening.astype(np.float32))
    assert found.shape == (3000,)
    assert found.mean() == pytest.approx(0.9, abs=0.15)
    assert distances(pooled[:1] + 100.0, mean.astype(np.float32), whitening.astype(np.float32))[0] > 5.0


def test_the_reference_whitens() -> None:
    rng = np.random.default_rng(1)
    pooled = (rng.normal(size=(4000, 3)) * (1.0, 2.0, 0.5) + (5.0, 0.0, -5.0)).astype(np.float32)
    mean, whitening = reference(pooled)
    assert mean.tolist() == pytest.approx([5.0, 0.0, -5.0], abs=0.1)
    assert np.allclose(whitening, whitening.T)
    # Variances 1, 4, 0.25 have mean 1.75: shrunk by a tenth they are 1.075, 3.775, 0.4.
    assert (np.diag(whitening) ** -2).tolist() == pytest.approx([1.075, 3.775, 0.4], rel=0.06)


def test_the_distance_by_hand() -> None:
    whitening = np.diag([1.0, 0.5]).astype(np.float32)
    pooled = np.array([[4.0, 2.0], [1.0, 2.0]], np.float32)
    found = distances(pooled, np.array([1.0, 2.0], np.float32), whitening)
    assert found.tolist() == pytest.approx([(9 / 2) ** 0.5, 0.0])


def bound(content: bytes) -> GateThresholds:
    return GateThresholds("tiny@1", LIMITS, 1.5, hashlib.sha256(content).hexdigest(), 0.005)


def test_a_gate_is_loaded_with_its_reference(tmp_path: Path) -> None:
    arrays = {"mean": np.array([1.0, 0.0], np.float32), "whitening": np.eye(2, dtype=np.float16) * 2}
    save_file(arrays, tmp_path / REFERENCE_FILE)
    bound((tmp_path / REFERENCE_FILE).read_bytes()).save(tmp_path)
    verdict = load_gate(tmp_path, "tiny@1").judge(film(noise()), reading(pooled=(1.0, 1.0)))
    assert verdict.out_of_distribution.score == pytest.approx(2**0.5)


@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_a_reference_with_another_digest_is_bad_weights(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / REFERENCE_FILE).write_bytes(content)
    THRESHOLDS.save(tmp_path)
    with pytest.raises(BadWeights, match=rf"gate\.safetensors: expected sha256 {THRESHOLDS.reference}"):
        load_gate(tmp_path, "tiny@1")


def test_a_reference_that_is_no_safetensors_is_bad_weights(tmp_path: Path) -> None:
    (tmp_path / REFERENCE_FILE).write_bytes(b"other")
    bound(b"other").save(tmp_path)
    with pytest.raises(BadWeights, match="is malformed"):
        load_gate(tmp_path, "tiny@1")


def test_a_gate_of_another_model_is_bad_weights(tmp_path: Path) -> None:
    THRESHOLDS.save(tmp_path)
    with pytest.raises(BadWeights, match=r"gate\.json belongs to tiny@1, the model is tiny@2"):
        load_gate(tmp_path, "tiny@2")


def test_an_altered_gate_record_is_bad_weights(tmp_path: Path) -> None:
    THRESHOLDS.save(tmp_path)
    path = tmp_path / RECORD_FILE
    path.write_text(path.read_text().replace("1.5", "9.5"))
    with pytest.raises(BadWeights, match=rf"gate\.json: expected sha256 {THRESHOLDS.digest}, found [0-9a-f]{{64}}"):
        load_gate(tmp_path, "tiny@1")
