"""Calibrators: by hand, and that none ever falls, is NaN, or reaches 0 or 1, whatever it was fitted to."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from rag_service import calibrators
from rag_service.calibrators import (
    FAMILIES,
    Beta,
    Calibrator,
    Isotonic,
    Platt,
    Temperature,
    choose,
    cross_fitted,
    folds,
)

Floats = NDArray[np.float64]


def floats(*values: float) -> Floats:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("calibrator", "score", "expected"),
    [
        (Temperature(1.0), 0.2, 0.2),
        (Temperature(2.0), 0.9, 0.75),  # logit ln 9, half of it ln 3
        (Platt(2.0, -1.0), 0.5, 1 / (1 + math.e)),
        (Platt(2.0, -1.0), 0.75, 9 / (9 + math.e)),  # logit ln 3, twice that is ln 9, less one
        (Beta(1.0, 1.0, 0.0), 0.3, 0.3),
        (Beta(2.0, 1.0, 0.0), 0.5, 1 / 3),  # odds 0.25 / 0.5
        (Beta(1.0, 2.0, math.log(3.0)), 0.5, 6 / 7),  # odds 3 * 0.5 / 0.25
        (Isotonic((0.2, 0.6), (0.1, 0.5)), 0.4, 0.3),
        (Isotonic((0.2, 0.6), (0.1, 0.5)), 0.0, 0.1),
        (Isotonic((0.2, 0.6), (0.1, 0.5)), 1.0, 0.5),
        (Platt(1.0, -1.0), 0.0, 1 / (1 + 999_999 * math.e)),
        (Platt(20.0, 20.0), 1.0, 1 - 1e-9),
        (Platt(20.0, -20.0), 0.0, 1e-9),
    ],
)
def test_by_hand(calibrator: Calibrator, score: float, expected: float) -> None:
    assert calibrator.p(floats(score)).tolist() == [pytest.approx(expected, rel=1e-9)]
    assert calibrator.p(np.full((2, 3), score)).shape == (2, 3)


SAMPLES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
CALIBRATORS = st.builds(
    lambda family, pairs: family.fit(floats(*(s for s, _ in pairs)), floats(*(y for _, y in pairs))),
    st.sampled_from(FAMILIES),
    SAMPLES,
)


@settings(deadline=None, max_examples=50)
@given(CALIBRATORS, st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_none_falls_and_none_is_certain(calibrator: Calibrator, asked: list[float]) -> None:
    p = calibrator.p(np.sort(floats(*asked, 0.0, 1.0)))
    assert (np.diff(p) >= -1e-12).all()
    assert (p > 0).all() and (p < 1).all()


@settings(deadline=None, max_examples=50)
@given(CALIBRATORS)
def test_one_comes_back_from_its_json(calibrator: Calibrator) -> None:
    raw = json.loads(json.dumps(calibrators.to_json(calibrator)))
    assert calibrators.from_json(raw) == calibrator
    assert raw["kind"] == calibrator.kind and calibrator.parameters >= 1


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "temperature", "temperature": 0.0},
        {"kind": "temperature", "temperature": float("nan")},
        {"kind": "platt", "slope": -1.0, "offset": 0.0},
        {"kind": "platt", "slope": 1.0, "offset": float("inf")},
        {"kind": "platt", "slope": 1.0},
        {"kind": "platt", "slope": 1.0, "offset": None},
        {"kind": "beta", "a": 1.0, "b": 0.0, "c": 0.0},
        {"kind": "isotonic", "knots": [], "values": []},
        {"kind": "isotonic", "knots": [0.1], "values": [0.1, 0.2]},
        {"kind": "isotonic", "knots": [0.2, 0.1], "values": [0.1, 0.2]},
        {"kind": "isotonic", "knots": [0.1, 0.2], "values": [0.2, 0.1]},
        {"kind": "isotonic", "knots": [0.1, 0.2], "values": [0.0, 0.1]},
        {"kind": "spline", "knots": [0.1]},
        {"temperature": 1.0},
    ],
)
def test_what_is_no_calibrator_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        calibrators.from_json(raw)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_that_is_no_number_is_refused(family: type[Platt]) -> None:
    fitted = family.fit(floats(0.1, 0.8), floats(0, 1))
    with pytest.raises(ValueError, match="a score is not finite"):
        fitted.p(floats(0.5, float("nan")))
    with pytest.raises(ValueError, match="a score is not finite"):
        family.fit(floats(0.5, float("inf")), floats(0, 1))


def drawn(films: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Scores of any height and outcomes drawn with that very probability."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, films)
    return scores, (rng.random(films) < scores).astype(np.float64)


def test_a_calibrated_score_is_left_nearly_alone() -> None:
    scores, outcomes = drawn(3000)
    asked = np.linspace(0.05, 0.95, 19)
    assert Temperature.fit(scores, outcomes).temperature == pytest.approx(1.0, abs=0.06)
    for family in FAMILIES:
        np.testing.assert_allclose(family.fit(scores, outcomes).p(asked), asked, atol=0.08)


def test_a_temperature_and_an_offset_are_found_again() -> None:
    scores, outcomes = drawn(3000, seed=1)
    logit = np.log(scores / (1 - scores))
    assert Temperature.fit(1 / (1 + np.exp(-3 * logit)), outcomes).temperature == pytest.approx(3.0, abs=0.2)
    moved = Platt.fit(1 / (1 + np.exp(-2 * logit - 1)), outcomes)
    assert (moved.slope, moved.offset) == (pytest.approx(0.5, abs=0.03), pytest.approx(-0.5, abs=0.1))


def test_the_isotonic_fit_is_that_of_scikit_learn_at_the_centres_of_its_steps() -> None:
    scores, outcomes = drawn(300, seed=2)
    targets = np.where(outcomes == 1, (outcomes.sum() + 1) / (outcomes.sum() + 2), 1 / (300 - outcomes.sum() + 2))
    steps = IsotonicRegression().fit(scores, targets).predict(scores)
    fitted = Isotonic.fit(scores, outcomes)
    heights = np.unique(steps.round(9))
    centres = floats(*(scores[steps.round(9) == h].mean() for h in heights))
    assert fitted.p(centres).tolist() == pytest.approx(heights.tolist(), abs=1e-9)
    assert set(np.round(fitted.values, 9)) == set(heights) and fitted.parameters == len(fitted.knots)


def test_few_films_promise_little() -> None:
    for family in FAMILIES:
        only = family.fit(floats(0.2, 0.3, 0.9), floats(0, 0, 0)).p(floats(0.9))
        assert 0.0 < only[0] < 0.95
    # No film shows it: Platt's targets are 1 / 5 for each of the three.
    assert Platt.fit(floats(0.5, 0.5, 0.5), floats(0, 0, 0)).p(floats(0.5))[0] == pytest.approx(0.2, abs=1e-3)
    assert Isotonic.fit(floats(0.1, 0.9), floats(0, 1)).values == pytest.approx((1 / 3, 2 / 3))


# --- the choice among them


def test_a_patient_lies_in_one_fold_and_findings_are_dealt_evenly() -> None:
    groups = [f"p{i // 2}" for i in range(40)]
    outcomes = floats(*(1.0 if i < 20 else 0.0 for i in range(40)))
    fold = folds(groups, outcomes)
    assert all(fold[2 * i] == fold[2 * i + 1] for i in range(20))
    assert np.bincount(fold, weights=outcomes).tolist() == [4.0] * 5
    assert fold.tolist() == folds(groups, outcomes).tolist() != folds(groups, outcomes, salt=1).tolist()


def test_a_film_is_judged_by_a_calibrator_that_never_saw_it() -> None:
    seen: list[list[float]] = []

    def fit(scores: Floats, outcomes: Floats) -> Calibrator:
        seen.append(scores.tolist())
        return Temperature(float(len(scores)))

    p = cross_fitted(fit, floats(0.1, 0.2, 0.3), floats(0, 0, 1), np.array([0, 1, 0]))
    assert seen == [[0.2], [0.1, 0.3]]
    assert p.tolist() == pytest.approx([0.1, 1 / 3, 0.3])  # the second at temperature 2: odds 1/4 become 1/2


def test_the_simplest_that_is_as_good_is_chosen() -> None:
    scores, outcomes = drawn(400, seed=5)
    patients = [str(i) for i in range(400)]
    assert choose(scores, outcomes, patients).kind == "temperature"
    assert choose(scores, outcomes, patients, Platt(1.0, 0.0)) == Platt(1.0, 0.0), "as good, and nothing to fit"
    assert choose(scores, outcomes, patients, Platt(1.0, 3.0)).kind == "temperature"
    low = 1 / (1 + np.exp(-np.log(scores / (1 - scores)) + 2))
    assert choose(low, outcomes, patients).kind == "platt", "a temperature moves no offset"


def test_steps_are_only_tried_where_many_films_show_it() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random(800)
    outcomes = (rng.random(800) < np.where(scores < 0.5, 0.05, np.where(scores < 0.55, 0.5, 0.55))).astype(np.float64)
    patients = [str(i) for i in range(800)]
    assert choose(scores, outcomes, patients).kind == "isotonic"
    few = np.concatenate([np.flatnonzero(outcomes == 1)[:20], np.flatnonzero(outcomes == 0)])
    assert choose(scores[few], outcomes[few], [patients[i] for i in few]).kind != "isotonic"


def test_log_loss() -> None:
    assert calibrators.log_loss(floats(0.25, 0.25), floats(1, 0)).tolist() == pytest.approx(
        [math.log(4), math.log(4 / 3)]
    )
