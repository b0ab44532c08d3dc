"""The gate in front of the reader: which films are turned away, for what reason, and by which scores."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from knowledge_base.records import BoxLatent
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.gate import (
    RECORD_FILE,
    REFERENCE_FILE,
    Gate,
    GateThresholds,
    is_blank,
    load_gate,
    load_reference,
    save_reference,
)
from rag_service.imaging.film import Film, Frame, View
from rag_service.models.encoder import FilmReading
from rag_service.ood import SCORES, Combination, Reference, scores_of
from rag_service.training.gate_reference import combine, operating_points, reference_of

LIMITS = {"lateral": 0.6, "rotated": 0.6, "inverted": 0.6, "not_chest": 0.6}
ZEROS, ONES = dict.fromkeys(SCORES, 0.0), dict.fromkeys(SCORES, 1.0)
FAR = Combination(ZEROS, ONES, {**ZEROS, "mahalanobis": 1.0}, 0.0)
REFERENCE = Reference(np.zeros(2), np.eye(2), np.ones(2), 1.0, np.zeros((5, 2)))
THRESHOLDS = GateThresholds("tiny@1", LIMITS, FAR, 1.5, "ab" * 32, 0.01)
GATE = Gate(THRESHOLDS, REFERENCE)


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
    assert (verdict.out_of_distribution.score, verdict.out_of_distribution.threshold) == (pytest.approx(1.0), 1.5)
    assert verdict.out_of_distribution.scores == {
        "radius": 0.0,
        "knn": pytest.approx(2**0.5 / 2),
        "mahalanobis": pytest.approx(1.0),
        "energy": 0.0,
        "presentation": pytest.approx(-13.8, abs=0.1),
    }


@pytest.mark.parametrize("name", ["lateral", "rotated", "inverted", "not_chest"])
def test_a_presentation_from_its_threshold_is_a_reason(name: str) -> None:
    assert GATE.judge(film(noise()), reading(0.4, **{name: 0.6})).reasons == (name,)
    assert GATE.judge(film(noise()), reading(0.41, **{name: 0.59})).reasons == ()


def test_a_presentation_without_a_threshold_is_no_reason() -> None:
    gate = Gate(replace(THRESHOLDS, presentation={}), REFERENCE)
    assert gate.judge(film(noise()), reading(0.0, not_chest=1.0)).reasons == ()


def test_a_film_far_from_the_others_is_out_of_distribution() -> None:
    far = GATE.judge(film(noise()), reading(pooled=(3.0, 0.0)))
    assert far.reasons == ("out_of_distribution",)
    assert far.out_of_distribution.score == pytest.approx(3 / 2**0.5)
    assert GATE.judge(film(noise()), reading(pooled=(1.4, 1.5))).reasons == ()


def test_a_film_from_the_very_threshold_on_is_turned_away() -> None:
    assert GATE.judge(film(noise()), reading(pooled=(1.5, 1.5))).reasons == ("out_of_distribution",)


def test_what_a_far_film_most_likely_is_says_why() -> None:
    far = GATE.judge(film(noise()), reading(0.4, rotated=0.5, pooled=(3.0, 0.0)))
    assert far.reasons == ("rotated", "out_of_distribution")
    assert GATE.judge(film(noise()), reading(0.5, rotated=0.4, pooled=(3.0, 0.0))).reasons == ("out_of_distribution",)


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
    pooled = rng.normal(size=(3000, 8)) @ rng.normal(size=(8, 8)) + 3.0
    found = reference_of(pooled, np.arange(100))
    assert found.mahalanobis(pooled).mean() == pytest.approx(0.9, abs=0.15)
    assert found.mahalanobis(pooled[:1] + 100.0)[0] > 5.0
    assert np.allclose(found.axes @ found.axes.T, np.eye(8))
    assert np.allclose(found.bank, (pooled[:100] - pooled.mean(0)) @ found.axes.T)


def test_the_spread_of_a_reference_is_shrunk_to_its_mean() -> None:
    rng = np.random.default_rng(1)
    pooled = rng.normal(size=(4000, 3)) * (1.0, 2.0, 0.5) + (5.0, 0.0, -5.0)
    found = reference_of(pooled, np.arange(5))
    assert found.mean.tolist() == pytest.approx([5.0, 0.0, -5.0], abs=0.1)
    # Variances 0.25, 1, 4 have mean 1.75: shrunk by a tenth they are 0.4, 1.075, 3.775.
    assert (found.spread**2).tolist() == pytest.approx([0.4, 1.075, 3.775], rel=0.06)
    assert found.rest**2 == pytest.approx(0.4, rel=0.06)


def test_directions_left_out_count_by_their_mean_spread() -> None:
    rng = np.random.default_rng(2)
    pooled = rng.normal(size=(12, 40))
    found = reference_of(pooled, np.arange(5))
    assert found.axes.shape == (11, 40)
    aside = np.linalg.svd(found.axes)[2][-1]  # no film of the twelve has any part along it
    assert found.mahalanobis((found.mean + 2.0 * aside)[None])[0] == pytest.approx(2.0 / found.rest / 40**0.5)


def test_the_distances_by_hand() -> None:
    bank = np.array([[0.0], [1.0], [2.0], [3.0], [9.0], [99.0]])
    one = Reference(np.array([1.0, 2.0]), np.array([[1.0, 0.0]]), np.array([2.0]), 0.5, bank)
    pooled = np.array([[5.0, 2.0], [1.0, 3.0]])
    assert one.mahalanobis(pooled).tolist() == pytest.approx([(4 / 2) ** 0.5, (4 / 2) ** 0.5])
    # Along the axis the films lie at 4 and 0; the fifth nearest of the bank at 9 (5 away) and at 9.
    assert one.knn(pooled).tolist() == pytest.approx([5 / 8**0.5, 9 / 8**0.5])


@pytest.mark.parametrize(
    "change",
    [
        {"mean": np.zeros(3)},
        {"spread": np.ones(1)},
        {"spread": np.array([1.0, 0.0])},
        {"rest": 0.0},
        {"bank": np.zeros((4, 2))},
        {"bank": np.zeros((5, 3))},
        {"spread": np.array([1.0, math.nan])},
        {"bank": np.full((5, 2), math.nan)},
    ],
)
def test_a_reference_that_does_not_fit_together_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a reference"):
        replace(REFERENCE, **change)


def test_the_scores_of_a_reading_by_hand() -> None:
    one = replace(
        reading(0.2, lateral=0.8, pooled=(3.0, 4.0)),
        box=BoxLatent(np.zeros(2, np.float32), np.array([1.0, math.e**2], np.float32)),
        probabilities=np.array([0.5] * 2 + [0.0] * 12),
    )
    assert scores_of([one], REFERENCE)[0].tolist() == pytest.approx(
        [1.0, 5 / 2, 5 / 2**0.5, -2 * math.log(2), math.log(4)], rel=1e-4
    )


def test_a_combination_by_hand() -> None:
    weights = {"radius": 1.0, "knn": 0.0, "mahalanobis": 2.0, "energy": 0.0, "presentation": 0.5}
    joined = Combination({**ZEROS, "radius": 1.0}, {**ONES, "mahalanobis": 4.0}, weights, -1.0)
    assert joined.of(np.array([[3.0, 7.0, 2.0, 7.0, 4.0]])).tolist() == pytest.approx([2.0 + 1.0 + 2.0 - 1.0])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weight": {**ZEROS, "knn": -0.1}}, "not negative"),
        ({"scale": {**ONES, "knn": 0.0}}, "scales are positive"),
        ({"centre": {"knn": 0.0}}, "covers radius, knn"),
        ({"offset": math.nan}, "finite"),
        ({"weight": {**ZEROS, "knn": math.nan}}, "finite"),
    ],
)
def test_a_combination_refuses_what_is_none(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(FAR, **change)


def test_scores_are_joined_by_what_tells_the_groups_apart() -> None:
    rng = np.random.default_rng(4)
    usual = rng.normal(size=(400, 5))
    shift = np.array([3.0, 0.0, 0.0, -3.0, 0.0])
    groups = [rng.normal(size=(n, 5)) + shift for n in (50, 200)]
    joined = combine(usual, groups)
    assert joined.weight["radius"] > 5 * joined.weight["knn"]
    assert joined.weight["energy"] == 0.0  # it points the wrong way, and no weight is negative
    assert min(joined.weight.values()) >= 0.0
    assert (joined.of(usual) < 0).mean() > 0.9
    assert joined == combine(usual, groups)


def frontals(
    count: int, combined: list[float], lateral: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    presentation = np.zeros((count, 5))
    presentation[: len(lateral), 1] = lateral
    presentation[:, 0] = 1.0 - presentation[:, 1]
    return presentation, np.array([*combined, *np.linspace(0.0, 1.0, count - len(combined))])


def test_limits_turn_away_the_share_that_was_asked_for() -> None:
    presentation, combined = frontals(200, [9.0, 8.0], [0.9, 0.8])
    limits, limit = operating_points(presentation, combined, 0.01)
    assert limits == {"lateral": pytest.approx(0.4), "rotated": 0.2, "inverted": 0.2, "not_chest": 0.2}
    assert limit == pytest.approx(4.5)  # the same two films pass both: half way to the third


def test_limits_that_different_films_pass_share_what_was_asked_for() -> None:
    presentation, combined = frontals(200, [9.0, 8.0], [0.0, 0.0, 0.9, 0.8])
    limits, limit = operating_points(presentation, combined, 0.01)
    assert limits["lateral"] == pytest.approx(0.85)
    assert limit == pytest.approx(8.5)


def test_few_films_are_all_let_through() -> None:
    presentation, combined = frontals(6, [9.0, 8.0], [0.9])
    limits, limit = operating_points(presentation, combined, 0.01)
    assert limits["lateral"] == pytest.approx(0.9)
    assert limits["lateral"] > 0.9
    assert limit == pytest.approx(9.0)
    assert limit > 9.0


def test_a_gate_is_loaded_with_its_reference(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :4].T  # a transposed array, as eigenvectors are
    reference = Reference(rng.normal(size=6), axes, np.array([2.0, 1.0, 0.5, 0.25]), 0.125, rng.normal(size=(7, 4)))
    Gate(THRESHOLDS, reference).save(tmp_path)
    loaded = load_gate(tmp_path, "tiny@1")
    assert loaded.thresholds == replace(THRESHOLDS, reference=loaded.thresholds.reference)
    pooled = rng.normal(size=(9, 6))
    assert np.allclose(loaded.reference.mahalanobis(pooled), reference.mahalanobis(pooled), rtol=1e-5)
    assert np.allclose(loaded.reference.knn(pooled), reference.knn(pooled), rtol=1e-2)


def test_a_gate_of_another_model_is_bad_weights(tmp_path: Path) -> None:
    GATE.save(tmp_path)
    with pytest.raises(BadWeights, match=r"gate\.json belongs to tiny@1, the model is tiny@2"):
        load_gate(tmp_path, "tiny@2")


def test_an_altered_gate_record_is_bad_weights(tmp_path: Path) -> None:
    THRESHOLDS.save(tmp_path)
    path = tmp_path / RECORD_FILE
    path.write_text(path.read_text().replace("1.5", "9.5"))
    with pytest.raises(BadWeights, match=rf"gate\.json: expected sha256 {THRESHOLDS.digest}, found [0-9a-f]{{64}}"):
        load_gate(tmp_path, "tiny@1")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("limit"),
        lambda raw: raw.pop("combination"),
        lambda raw: raw.update(combination=None),
        lambda raw: raw.update(combination={**raw["combination"], "offset": math.inf}),
        lambda raw: raw["combination"].update(weight={"knn": 1.0}),
        lambda raw: raw["combination"].pop("offset"),
        lambda raw: raw.update(more=1),
    ],
)
def test_a_malformed_gate_record_is_bad_weights(change: Callable[[Any], Any], tmp_path: Path) -> None:
    GATE.save(tmp_path)
    raw = sealed.read(tmp_path / RECORD_FILE)
    change(raw)
    sealed.write(tmp_path / RECORD_FILE, raw)
    with pytest.raises(BadWeights, match=r"gate\.json is absent or malformed"):
        load_gate(tmp_path, "tiny@1")


def cut(content: bytes) -> bytes:
    return content[:-9]


def altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [cut, altered, lambda _: b"", lambda _: b"\x80\x04pickled"])
def test_a_damaged_reference_is_bad_weights(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    GATE.save(tmp_path)
    path = tmp_path / REFERENCE_FILE
    expected = sealed.read(tmp_path / RECORD_FILE)["reference"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadWeights, match=rf"gate\.safetensors: expected sha256 {expected}, found"):
        load_gate(tmp_path, "tiny@1")


def test_an_absent_reference_is_bad_weights(tmp_path: Path) -> None:
    THRESHOLDS.save(tmp_path)
    with pytest.raises(BadWeights, match=rf"gate\.safetensors: expected sha256 {'ab' * 32}, found no file"):
        load_gate(tmp_path, "tiny@1")


@pytest.mark.parametrize("content", [b"other", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_reference_with_the_right_digest_that_is_none_is_bad_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / REFERENCE_FILE).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with pytest.raises(BadWeights, match=rf"is malformed \(expected sha256 {sha256}\)"):
        load_reference(tmp_path, sha256)


def test_a_reference_says_what_it_is_written_as(tmp_path: Path) -> None:
    sha256 = save_reference(tmp_path, REFERENCE)
    assert save_reference(tmp_path, REFERENCE) == sha256
    assert (tmp_path / REFERENCE_FILE).stat().st_size < 1000
    assert load_reference(tmp_path, sha256).spread.tolist() == [1.0, 1.0]
