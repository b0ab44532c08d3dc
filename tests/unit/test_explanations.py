"""Superpixels, occlusion, Shapley values, LIME and how explanations agree: by hand, and on additive scores with known answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from rag_service.errors import BadRequest
from rag_service.explain import occlusion
from rag_service.explain.explanation import (
    Explanation,
    agreement,
    fidelity,
    from_map,
    from_values,
    highest,
    overlap,
    rank_correlation,
)
from rag_service.explain.lime import draws, lime, nearness
from rag_service.explain.occluded_films import DRAWS, TRIALS, Draw, occluded_readings
from rag_service.explain.occlusion import OccludedFilm
from rag_service.explain.shapley import along, antithetic_orders, shapley
from rag_service.explain.superpixels import Superpixels, superpixels
from rag_service.explain_request import EXPLAINED, ExplainRequest, Method, read_methods
from rag_service.imaging.film import Box

QUARTERS = Superpixels(np.kron(np.array([[0, 1], [2, 3]]), np.ones((32, 32), np.int64)))


def grey(films: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A score that is the mean grey of the upper left quarter less that of the lower right: additive over quarters."""
    return films[:, :128, :128].mean((1, 2)) / 8.0 - films[:, 128:, 128:].mean((1, 2)) / 16.0


def bright() -> NDArray[np.uint8]:
    """A dark film with a bright dot in the middle of each quarter."""
    film = np.full((256, 256), 20, np.uint8)
    for y in (64, 192):
        for x in (64, 192):
            film[y - 12 : y + 12, x - 12 : x + 12] = 220
    return film


def test_superpixels_cover_the_film_and_are_the_same_every_time(stored: NDArray[np.uint8]) -> None:
    cut = superpixels(stored[0])
    assert 16 <= cut.count <= 40
    assert cut.areas.sum() == pytest.approx(1.0)
    assert np.array_equal(cut.labels, superpixels(stored[0]).labels)
    assert superpixels(np.zeros((256, 256), np.uint8)).count == 36  # a blank film is cut into a grid


def test_superpixels_follow_an_edge() -> None:
    film = np.zeros((256, 256), np.uint8)
    film[:, 104:] = 200
    cut = superpixels(film)
    mixed = [len(set((np.argwhere(cut.labels == i)[:, 1] >= 26).tolist())) for i in range(cut.count)]
    assert mixed == [1] * cut.count


def test_values_are_painted_and_maps_are_averaged() -> None:
    painted = QUARTERS.painted(np.array([0.5, 1.0, 2.0, -1.0]))
    assert (painted[0, 0], painted[0, 63], painted[63, 0], painted[63, 63]) == (0.5, 1.0, 2.0, -1.0)
    assert QUARTERS.means(painted).tolist() == [0.5, 1.0, 2.0, -1.0]
    assert QUARTERS.areas.tolist() == [0.25] * 4
    assert QUARTERS.boxes()[1] == Box(0.5, 0.0, 1.0, 0.5)


@pytest.mark.parametrize("labels", [np.zeros((8, 8), np.int64), np.full((64, 64), 1), np.eye(64, dtype=np.int64) * 2])
def test_superpixels_that_are_none(labels: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="superpixels"):
        Superpixels(labels)


def test_what_is_left_out_gives_way_to_the_blur_and_never_to_black() -> None:
    seen: list[NDArray[np.uint8]] = []

    def scores(films: NDArray[np.uint8]) -> NDArray[np.float64]:
        seen.append(films)
        return grey(films)

    film = OccludedFilm(bright(), QUARTERS, scores, blur=20.0)
    film.log_odds(np.array([[True] * 4, [False] * 4, [True, False, False, False]]))
    whole, blurred, first = seen[0].astype(int)
    assert np.array_equal(whole, bright())
    assert np.array_equal(first[:118, :118], whole[:118, :118])
    assert np.array_equal(first[138:, 138:], blurred[138:, 138:])
    assert blurred.min() >= 20
    assert blurred.max() < 120
    assert abs(blurred.mean() - whole.mean()) < 1.0


def test_films_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def scores(films: NDArray[np.uint8]) -> NDArray[np.float64]:
        sizes.append(len(films))
        return grey(films)

    monkeypatch.setattr(occlusion, "_TOGETHER", 3)
    assert OccludedFilm(bright(), QUARTERS, scores).log_odds(np.ones((7, 4), bool)).shape == (7,)
    assert sizes == [3, 3, 1]
    assert OccludedFilm(bright(), QUARTERS, scores).log_odds(np.ones((0, 4), bool)).shape == (0,)


def test_orders_come_with_their_reverse() -> None:
    orders = antithetic_orders(5, 2, np.random.default_rng(3))
    assert orders.shape == (4, 5)
    assert orders[1].tolist() == orders[0][::-1].tolist()
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders.tolist())
    steps = along(np.array([[2, 0, 1]]))
    assert steps.tolist() == [[False, False, True], [True, False, True]]


GAME = {(): 0.0, (0,): 1.0, (1,): 2.0, (2,): 0.0, (0, 1): 5.0, (0, 2): 1.0, (1, 2): 3.0, (0, 1, 2): 8.0}
"""A game of three players with synergies. Shapley values by hand: 2.5, 4.0, 1.5 - see the sums over six orders."""


def played(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([GAME[tuple(np.flatnonzero(row).tolist())] for row in kept])


def test_shapley_values_over_all_orders_are_exact() -> None:
    orders = np.array(list(permutations(range(3))))
    values = shapley(orders, played(along(orders)), 0.0, 8.0)
    # player 0: 1, 1, 3, 5, 1, 5 over the six orders; player 1: 4, 7, 2, 2, 7, 3; player 2: 3, 0, 3, 1, 0, 0
    assert (values * 6).round(9).tolist() == [16.0, 25.0, 7.0]


@pytest.mark.parametrize("seed", range(5))
def test_shapley_values_add_up_to_the_difference_whatever_the_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    orders = antithetic_orders(12, 2, rng)
    assert shapley(orders, rng.normal(size=4 * 11), -1.25, 2.5).sum() == pytest.approx(3.75)


def test_lime_finds_the_coefficients_of_a_linear_score() -> None:
    kept = draws(6, 4000, np.random.default_rng(0))
    assert kept.sum(1).min() == 1
    assert kept.sum(1).max() == 5
    counts = np.bincount(kept.sum(1))[1:]
    assert counts.min() > 700  # as many films with one superpixel as with three
    weights = np.array([2.0, -1.0, 0.0, 0.5, 0.0, 0.0])
    assert np.allclose(lime(kept, kept @ weights + 3.0), weights, atol=0.02)


def test_films_nearer_the_whole_weigh_more() -> None:
    near = nearness(np.array([[True] * 4, [True, False, False, False]]))
    assert near[0] == 1.0
    assert near[1] == pytest.approx(np.exp(-(0.5**2) / 0.25**2 / 2))


def test_an_additive_score_is_explained_alike_by_shapley_and_lime() -> None:
    film = OccludedFilm(bright(), QUARTERS, grey)
    read = occluded_readings(film, 7)
    one = read.shapley()
    assert one.sum() == pytest.approx(read.film - read.blurred)
    assert one[0] > 0.0 > one[3]
    assert abs(one[1]) < 0.05 * one[0]
    assert np.corrcoef(one, read.lime())[0, 1] > 0.99
    assert fidelity(one, read.of.trials, read.tried) == pytest.approx(1.0, abs=0.01)
    again = occluded_readings(film, 7)
    assert (again.shapley().tobytes(), again.lime().tobytes()) == (one.tobytes(), read.lime().tobytes())
    assert (read.of.draws.shape, read.of.trials.shape) == ((DRAWS, 4), (TRIALS, 4))
    assert min(read.seconds) > 0.0
    assert not np.array_equal(Draw.of(4, 7).draws, Draw.of(4, 8).draws)


def test_fidelity_needs_something_that_varies() -> None:
    kept = np.array([[True, False], [False, True], [True, True]])
    assert fidelity(np.array([1.0, 0.0]), kept, np.array([2.0, 1.0, 2.0])) == pytest.approx(1.0)
    assert fidelity(np.array([-1.0, 0.0]), kept, np.array([2.0, 1.0, 2.0])) == pytest.approx(-1.0)
    assert fidelity(np.zeros(2), kept, np.array([2.0, 1.0, 2.0])) is None
    assert fidelity(np.array([1.0, 0.0]), kept, np.ones(3)) is None


def test_a_map_of_any_size_becomes_an_explanation() -> None:
    places = np.zeros((4, 4))
    places[2, 0] = 0.5
    made = from_map(Method.ATTENTION, "Pleural Effusion", places, QUARTERS)
    assert made.map.max() == 1.0
    assert made.map[40, 6] == 1.0
    assert made.map[:20].max() == 0.0
    assert np.argmax(made.values) == 2
    assert made.boxes is not None and made.boxes[0].x_max <= 0.3
    nothing = from_map(Method.GRAD_CAM, "Edema", np.zeros((64, 64)), QUARTERS)
    assert (nothing.map.max(), nothing.boxes) == (0.0, None)


def test_only_what_speaks_for_a_finding_is_drawn() -> None:
    made = from_values(Method.LIME, "Lung Opacity", np.array([0.5, -2.0, 0.25, 0.0]), QUARTERS)
    assert (made.map[0, 0], made.map[0, 63], made.map[63, 0]) == (1.0, 0.0, 0.5)
    assert made.values.tolist() == [0.5, -2.0, 0.25, 0.0]


@pytest.mark.parametrize(
    ("places", "values"),
    [(np.zeros((8, 8)), np.zeros(4)), (np.full((64, 64), 2.0), np.zeros(4))],
    ids=["size", "range"],
)
def test_an_explanation_refuses_a_map_that_is_none(places: NDArray[np.float32], values: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="a map has 64 x 64 cells"):
        Explanation(Method.LIME, "Edema", places, values, None, 0.0, None)
    good = from_values(Method.LIME, "Edema", np.ones(4), QUARTERS)
    with pytest.raises(ValueError, match="finite"):
        replace(good, values=np.array([np.nan] * 4))


def test_how_far_two_explanations_agree() -> None:
    one = from_values(Method.SHAPLEY, "Edema", np.array([4.0, 3.0, 2.0, 1.0]), QUARTERS)
    other = from_values(Method.LIME, "Edema", np.array([1.0, 2.0, 3.0, 4.0]), QUARTERS)
    same, against = agreement(one, one, QUARTERS), agreement(one, other, QUARTERS)
    assert (same.rank_correlation, same.top_iou) == (pytest.approx(1.0), 1.0)
    assert (against.rank_correlation, against.top_iou) == (pytest.approx(-1.0), 0.0)
    assert (against.one, against.other) == (Method.SHAPLEY, Method.LIME)
    assert rank_correlation(np.ones(3), np.arange(3.0)) is None
    assert highest(one.map).sum() == 410
    assert overlap(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0.0


def test_a_request_names_a_finding_that_has_a_place_and_each_method_once() -> None:
    assert len(EXPLAINED) == 13
    assert read_methods("shapley, grad_cam") == (Method.SHAPLEY, Method.GRAD_CAM)
    for text in ("", "shap", "lime,"):
        with pytest.raises(BadRequest, match="methods are named"):
            read_methods(text)
    with pytest.raises(BadRequest, match="once"):
        ExplainRequest(b"", "Edema", (Method.LIME, Method.LIME))
    with pytest.raises(BadRequest, match="finding must be one of"):
        ExplainRequest(b"", "No Finding")
