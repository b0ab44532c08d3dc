"""Conformal sets: cut-offs by hand, and coverage that holds whatever the scores are worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.conformal import ConformalCutoffs, Presence, cutoffs, expected_coverage

PRESENT, ABSENT = Presence.PRESENT, Presence.ABSENT


def test_cut_offs_by_hand() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    every = np.concatenate([scores, scores + 0.05])
    outcomes = np.array([0] * 9 + [1] * 9)
    # Nine films a class: one tenth of ten is one film, two tenths are two.
    assert cutoffs(every, outcomes, 0.1) == ConformalCutoffs(present=0.15000000000000002, absent=0.9)
    assert cutoffs(every, outcomes, 0.2) == ConformalCutoffs(present=0.25, absent=0.8)
    assert cutoffs(every, outcomes, 0.05) == ConformalCutoffs(present=-math.inf, absent=math.inf)


@pytest.mark.parametrize(
    ("score", "held"),
    [(0.2, (ABSENT,)), (0.3, (PRESENT, ABSENT)), (0.6, (PRESENT, ABSENT)), (0.61, (PRESENT,))],
)
def test_a_set_by_hand(score: float, held: tuple[Presence, ...]) -> None:
    limits = ConformalCutoffs(present=0.3, absent=0.6)
    assert limits.of(score) == held
    present, absent = limits.holds(np.array([score]))
    assert (PRESENT,) * int(present[0]) + (ABSENT,) * int(absent[0]) == held


def test_between_two_classes_that_lie_apart_a_set_is_empty() -> None:
    assert ConformalCutoffs(present=0.6, absent=0.3).of(0.45) == ()


def test_a_class_without_films_is_never_left_out() -> None:
    assert cutoffs(np.array([0.5]), np.array([0]), 0.1) == ConformalCutoffs(-math.inf, math.inf)


@pytest.mark.parametrize(
    ("films", "alpha", "share"), [(0, 0.1, 1.0), (8, 0.1, 1.0), (9, 0.1, 0.9), (16, 0.1, 16 / 17), (19, 0.05, 0.95)]
)
def test_expected_coverage(films: int, alpha: float, share: float) -> None:
    assert expected_coverage(films, alpha) == pytest.approx(share)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), max_size=40), st.floats(0, 1))
def test_a_wider_level_never_holds_less(sample: list[tuple[float, int]], score: float) -> None:
    scores, outcomes = np.array([s for s, _ in sample]), np.array([y for _, y in sample])
    narrow, wide = (set(cutoffs(scores, outcomes, alpha).of(score)) for alpha in (0.3, 0.1))
    assert narrow <= wide


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_coverage_of_exchangeable_films_is_what_theory_says(alpha: float) -> None:
    rng = np.random.default_rng(8)
    outcomes = np.array([1] * 30 + [0] * 200)
    held = {1: [], 0: []}  # type: dict[int, list[float]]
    for _ in range(400):
        scores, fresh = (rng.beta(2, 2 + 3 * (1 - outcomes)) for _ in range(2))
        present, absent = cutoffs(scores, outcomes, alpha).holds(fresh)
        held[1].append(present[outcomes == 1].mean())
        held[0].append(absent[outcomes == 0].mean())
    assert np.mean(held[1]) == pytest.approx(expected_coverage(30, alpha), abs=0.012)
    assert np.mean(held[0]) == pytest.approx(expected_coverage(200, alpha), abs=0.006)
