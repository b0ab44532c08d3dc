"""Scores and intervals: literal answers, agreement with scikit-learn, and None where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from eval import scores


def floats(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("labels", "p", "area"),
    [
        (floats(0, 0, 1, 1), floats(0.1, 0.4, 0.35, 0.8), 0.75),
        (floats(0, 1), floats(0.2, 0.9), 1.0),
        (floats(1, 0), floats(0.2, 0.9), 0.0),
        (floats(0, 1, 0, 1), floats(0.5, 0.5, 0.5, 0.5), 0.5),
        (floats(0, 1, 1), floats(0.5, 0.5, 0.9), 0.75),
        (floats(0, 0, 0), floats(0.1, 0.2, 0.3), None),
        (floats(1, 1), floats(0.1, 0.2), None),
        (floats(), floats(), None),
    ],
)
def test_auroc(labels: NDArray[np.float64], p: NDArray[np.float64], area: float | None) -> None:
    assert scores.auroc(labels, p) == area


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_scikit_learn_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(200) < 0.3).astype(np.float64)
    p = np.round(rng.random(200) * 0.6 + labels * 0.3, 1)
    assert scores.auroc(labels, p) == pytest.approx(roc_auc_score(labels, p), abs=1e-12)
    assert scores.f1(labels, (p >= 0.5).astype(float)) == pytest.approx(f1_score(labels, p >= 0.5), abs=1e-12)
    assert scores.brier(labels, p) == pytest.approx(brier_score_loss(labels, p), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "called", "value"),
    [
        (floats(1, 1, 0, 0), floats(1, 0, 1, 0), 0.5),
        (floats(1, 0), floats(1, 0), 1.0),
        (floats(1, 0), floats(0, 0), 0.0),
        (floats(0, 0), floats(0, 1), 0.0),
        (floats(0, 0), floats(0, 0), None),
    ],
)
def test_f1(labels: NDArray[np.float64], called: NDArray[np.float64], value: float | None) -> None:
    assert scores.f1(labels, called) == value


def test_brier() -> None:
    assert scores.brier(floats(1, 0), floats(0.5, 0.25)) == 0.15625
    assert scores.brier(floats(1, 0), floats(1, 0)) == 0.0


def test_the_calibration_error_weighs_bins_of_equal_mass() -> None:
    labels, p = floats(0, 1, 1, 1), floats(0.25, 0.25, 0.5, 1.0)
    assert scores.ece(labels, p, bins=1) == 0.25
    assert scores.ece(labels, p, bins=2) == 0.25
    assert scores.ece(labels, p, bins=4) == 0.375
    assert scores.ece(labels, p, bins=3) == 0.25 * 2 / 4 + 0.5 / 4
    assert scores.ece(labels, p) == 0.375, "more bins than films: every film is a bin"
    assert scores.ece(floats(0, 0, 1, 1), floats(0.5, 0.5, 0.5, 0.5), bins=1) == 0.0


def test_the_order_of_the_films_does_not_matter_to_the_calibration_error() -> None:
    rng = np.random.default_rng(1)
    labels, p = (rng.random(50) < 0.4).astype(float), rng.random(50)
    order = rng.permutation(50)
    assert scores.ece(labels[order], p[order]) == pytest.approx(scores.ece(labels, p))


def test_the_mean_of_what_is_known() -> None:
    assert scores.mean_known([0.25, None, 0.75]) == 0.5
    assert scores.mean_known([None, None]) is None
    assert scores.mean_known([]) is None
    assert scores.mean_known([0.0, None]) == 0.0


# --- intervals

VALUES = floats(0, 1, 2, 3, 4, 5, 6, 7)
APART = [f"p{i}" for i in range(8)]


def mean(rows: NDArray[np.int64]) -> float:
    return float(VALUES[rows].mean())


def test_an_interval_is_the_same_for_the_same_seed() -> None:
    first = scores.interval(APART, mean, seed=7)
    assert first == scores.interval(APART, mean, seed=7)
    assert first != scores.interval(APART, mean, seed=8)
    assert first is not None and 1.5 < first[0] < 2.5 and 4.5 < first[1] < 5.5


def test_an_interval_of_a_constant_has_no_width() -> None:
    assert scores.interval(APART, lambda rows: 0.5, seed=0) == (0.5, 0.5)
    assert scores.interval(["one"] * 8, mean, seed=0) == (3.5, 3.5)


def test_the_films_of_a_patient_are_drawn_together() -> None:
    patients = ["a", "b", "a", "c", "b", "a"]
    drawn: list[list[int]] = []

    def note(rows: NDArray[np.int64]) -> float:
        drawn.append(rows.tolist())
        return 0.0

    scores.interval(patients, note, seed=3, resamples=200)
    together = {"a": (0, 2, 5), "b": (1, 4), "c": (3,)}
    assert len(drawn) == 200
    for rows in drawn:
        times = {name: {rows.count(i) for i in members} for name, members in together.items()}
        assert all(len(counts) == 1 for counts in times.values())
        assert sum(counts.pop() for counts in times.values()) == 3
    assert any(len(set(rows)) == 6 for rows in drawn) and any(set(rows) == {3} for rows in drawn)


def test_draws_without_an_answer_are_left_out() -> None:
    def known_when_first_is_drawn(rows: NDArray[np.int64]) -> float | None:
        return 1.0 if 0 in rows else None

    assert scores.interval(APART, known_when_first_is_drawn, seed=0) == (1.0, 1.0)
    assert scores.interval(APART, lambda rows: None, seed=0) is None


def test_wide_data_has_a_wider_interval_when_patients_have_many_films() -> None:
    values = np.repeat(floats(0, 1, 2, 3, 4, 5, 6, 7), 10)
    apart = scores.interval([str(i) for i in range(80)], lambda rows: float(values[rows].mean()), seed=1)
    together = scores.interval([str(i // 10) for i in range(80)], lambda rows: float(values[rows].mean()), seed=1)
    assert apart is not None and together is not None
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_macro_scores_leave_out_what_is_unknown() -> None:
    nan = np.nan
    labels = np.array([[0, nan, 1], [1, 0, 1], [nan, 1, 1], [1, 1, nan]])
    p = np.array([[0.2, 0.9, 0.5], [0.6, 0.4, 0.9], [0.1, 0.3, 0.1], [0.1, 0.6, 0.2]])
    assert scores.macro_auroc(labels, p) == pytest.approx((0.5 + 0.5) / 2)
    assert scores.macro_auroc(labels[:, 2:], p[:, 2:]) is None
    assert scores.macro_f1(labels, p >= 0.5) == pytest.approx((2 / 3 + 2 / 3 + 4 / 5) / 3)


def test_each_draw_takes_all_films_of_a_patient() -> None:
    drawn = list(scores.draws(["b", "a", "b", "c"], seed=1, resamples=50))
    assert len(drawn) == 50
    assert all((rows == 0).sum() == (rows == 2).sum() for rows in drawn)
    assert scores.middle([None, None]) is None and scores.middle([1.0, None, 3.0]) == pytest.approx((1.05, 2.95))
