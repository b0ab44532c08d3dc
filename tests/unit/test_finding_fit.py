"""Operating points by hand, and what a fit of findings answers for many films, few films and none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rag_service.calibration import FindingCalibration, Reliability
from rag_service.calibrators import Calibrator, Platt
from rag_service.finding_fit import fit
from rag_service.operating_points import RocPoint, Target, flags, most_accurate, roc

Floats = NDArray[np.float64]


def floats(*values: float) -> Floats:
    return np.array(values, np.float64)


def test_the_threshold_of_best_expected_f1_by_hand() -> None:
    # 2 * 0.9 / 2.8 = 0.64, 2 * 1.7 / 3.8 = 0.89, 2 * 1.8 / 4.8 = 0.75
    assert flags([floats(0.1, 0.9, 0.8)]) == [0.8]
    assert flags([floats(0.2, 0.2, 0.2)]) == [0.2]
    assert flags([floats()]) == [0.5]
    assert flags([]) == []


def test_a_rare_finding_is_not_called_at_the_price_of_the_others() -> None:
    common, rare = floats(0.9, 0.9, 0.9, 0.1), np.full(40, 0.02)
    assert flags([rare]) == [0.02]
    # Called, 40 films hit 0.8: macro-F1 gains 0.02, micro-F1 falls from 0.81 to 0.15.
    found = flags([common, rare])
    assert found[0] == 0.9 and 0.02 < found[1] < 0.0201


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5), min_size=1, max_size=3))
def test_no_single_flag_can_be_moved_for_the_better(rows: list[list[float]]) -> None:
    probabilities = [floats(*row) for row in rows]
    chosen = flags(probabilities)

    def worth(thresholds: list[float]) -> float:
        hits = [p[p >= t].sum() for p, t in zip(probabilities, thresholds, strict=True)]
        size = [(p >= t).sum() + p.sum() for p, t in zip(probabilities, thresholds, strict=True)]
        return float(np.mean([2 * h / s for h, s in zip(hits, size, strict=True)]) + 2 * sum(hits) / sum(size))

    for index, row in enumerate(rows):
        for other in [*row, 1.0]:
            moved = [other if i == index else t for i, t in enumerate(chosen)]
            assert worth(moved) <= worth(chosen) + 1e-9


@pytest.mark.parametrize(
    ("p", "outcomes", "threshold"),
    [
        (floats(0.2, 0.4, 0.6, 0.8), floats(0, 0, 1, 1), 0.5),
        # Half a film's error spared is not worth moving for.
        (floats(0.45, 0.9), floats(1, 1), 0.5),
        # Each film under one half gains 2 * (0.75 * 0.45 + 0.25) - 1 = 0.175; sixteen of them gain 2.8.
        (np.append(np.full(16, 0.45), 0.1), np.append(np.ones(16), 0.0), 0.45),
        # Each called film loses 2 * 0.75 * 0.6 - 1 = -0.1; thirty of them lose 3.
        (np.full(30, 0.6), np.zeros(30), float(np.nextafter(0.6, 1))),
    ],
)
def test_the_threshold_of_best_accuracy(p: Floats, outcomes: Floats, threshold: float) -> None:
    assert most_accurate(p, outcomes) == threshold


P = floats(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
OUTCOMES = floats(0, 0, 1, 0, 0, 1, 1, 1)


@pytest.mark.parametrize(
    ("target", "threshold"),
    [
        (Target(sensitivity=1.0), 0.3),
        (Target(sensitivity=0.75), 0.7),
        (Target(sensitivity=0.5), 0.8),
        (Target(sensitivity=0.01), 0.9),
        (Target(specificity=1.0), np.nextafter(0.6, 1)),
        (Target(specificity=0.75), np.nextafter(0.4, 1)),
        (Target(specificity=0.5), np.nextafter(0.2, 1)),
    ],
)
def test_a_wished_sensitivity_or_specificity_is_reached_and_no_more(target: Target, threshold: float) -> None:
    assert target.threshold(P, OUTCOMES) == threshold


@pytest.mark.parametrize(
    "wished", [{}, {"sensitivity": 0.9, "specificity": 0.9}, {"sensitivity": 0.0}, {"specificity": 1.1}]
)
def test_a_target_is_one_share(wished: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="one sensitivity or one specificity"):
        Target(**wished)


def test_the_roc_by_hand() -> None:
    points = roc(P, OUTCOMES)
    assert len(points) == 8
    assert points[0] == RocPoint(0.9, 0.25, 1.0)
    assert points[3] == RocPoint(0.6, 0.75, 0.75)
    assert points[-1] == RocPoint(0.1, 1.0, 0.0)


# --- whole findings


def drawn(positives: int, negatives: int, gap: float) -> tuple[Floats, NDArray[np.int8]]:
    """Scores whose logits differ by `gap` between the two groups."""
    rng = np.random.default_rng(3)
    labels = np.array([1] * positives + [0] * negatives, np.int8)
    return 1 / (1 + np.exp(-(rng.normal(0, 1, len(labels)) + gap * labels))), labels


def fitted(scores: Floats, labels: NDArray[np.int8], shipped: Calibrator | None = None) -> FindingCalibration:
    beside = {} if shipped is None else {"Edema": shipped}
    patients = [str(i) for i in range(len(scores))]
    return fit(scores[:, None], labels[:, None], patients, ("Edema",), beside)["Edema"]


def test_a_fit_is_ordered() -> None:
    entry = fitted(*drawn(40, 160, 2.5))
    assert entry.reliability is Reliability.RELIABLE
    assert entry.deny <= entry.flag <= entry.possible <= entry.state
    assert entry.state >= 0.5
    assert (entry.positives, entry.films) == (40, 200)
    assert list(entry.scores) == sorted(entry.scores)
    assert sum(entry.p(s) for s in entry.scores) == pytest.approx(40, abs=4)
    missed = sum(entry.p(s) < entry.deny for s, y in zip(entry.scores, entry.outcomes, strict=True) if y)
    assert missed <= 4


def test_a_network_that_is_wrong_is_not_turned_round() -> None:
    entry = fitted(*drawn(40, 160, -2.5))
    assert entry.p(0.9) >= entry.p(0.1)
    assert entry.reliability is Reliability.TOO_WEAK


def test_unknown_labels_do_not_count() -> None:
    scores, labels = drawn(20, 80, 2.0)
    more = np.concatenate([scores, [0.9, 0.1]])
    assert fitted(more, np.append(labels, np.array([-1, -1], np.int8))) == fitted(scores, labels)
    assert fitted(more, np.append(labels.astype(np.float64), [np.nan, np.nan])) == fitted(scores, labels)


@pytest.mark.parametrize(("positives", "auroc_known"), [(4, True), (0, False)])
def test_too_few_films_show_it(positives: int, auroc_known: bool) -> None:
    entry = fitted(*drawn(positives, 60, 3.0))
    assert (entry.reliability, entry.calibrator.kind) == (Reliability.TOO_FEW, "platt")
    assert (entry.auroc is not None) is auroc_known
    assert positives or entry.deny == 0.0


def test_what_every_film_shows_or_none_is_labelled_with_cannot_be_calibrated() -> None:
    entry = fitted(*drawn(30, 0, 0.0))
    assert (entry.reliability, entry.auroc) == (Reliability.TOO_FEW, None)
    unknown = fitted(floats(0.2, 0.4), np.array([-1, -1], np.int8))
    assert (unknown.films, unknown.flag, unknown.accurate, unknown.auroc) == (0, 0.5, 0.5, None)


def test_a_shipped_calibrator_that_is_as_good_is_kept() -> None:
    rng = np.random.default_rng(6)
    scores = rng.uniform(0.02, 0.98, 150)
    labels = (rng.random(150) < scores).astype(np.int8)
    assert fitted(scores, labels, Platt(1.0, 0.0)).calibrator == Platt(1.0, 0.0)
    assert fitted(scores, labels, Platt(1.0, 4.0)).calibrator != Platt(1.0, 4.0)
    assert fitted(*drawn(4, 60, 3.0), Platt(1.0, 4.0)).calibrator == Platt(1.0, 4.0), "too few films to choose another"
