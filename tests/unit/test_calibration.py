"""From scores to probabilities: by hand, against scikit-learn, and what a damaged file answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from knowledge_base.findings import FINDINGS, Polarity
from rag_service import sealed
from rag_service.calibration import (
    FILE,
    Calibration,
    Confidence,
    FindingCalibration,
    Reliability,
    Tier,
    Tiers,
    load_calibration,
)
from rag_service.errors import BadWeights
from rag_service.models.catalogue import load_record
from rag_service.training.calibrate import expected_f1_threshold, fit, platt

WEIGHTS = Path(__file__).parents[2] / "rag_service" / "weights"
ENTRY = FindingCalibration(
    slope=2.0,
    offset=-1.0,
    state=0.7,
    flag=0.4,
    deny=0.1,
    reliability=Reliability.RELIABLE,
    positives=2,
    films=4,
    auroc=1.0,
    scores=(0.1, 0.2, 0.6, 0.8),
    outcomes=(0, 0, 1, 1),
)
TIERS = Tiers(high=0.9, low=0.6, radius_high=0.5)
CALIBRATION = Calibration(
    model="tiny@1-abababab",
    findings={f: replace(ENTRY, auroc=None) if f == "Fracture" else ENTRY for f in FINDINGS},
    tiers=TIERS,
    axis_names=("Edema", "Fracture", "Edema", "none"),
    sample="four films",
)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.5, 1 / (1 + math.e)),
        (0.75, 9 / (9 + math.e)),  # logit ln 3, twice that is ln 9, less one
        (1.0, 1 / (1 + math.exp(1 - 2 * math.log(999_999)))),
        (0.0, 1 / (1 + math.exp(1 + 2 * math.log(999_999)))),
    ],
)
def test_platt_scaling_by_hand(score: float, expected: float) -> None:
    assert ENTRY.p(score) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("p", "polarity"),
    [
        (1.0, Polarity.POSITIVE),
        (0.7, Polarity.POSITIVE),
        (0.699, Polarity.UNCERTAIN),
        (0.4, Polarity.UNCERTAIN),
        (0.399, None),
        (0.101, None),
        (0.1, Polarity.NEGATIVE),
        (0.0, Polarity.NEGATIVE),
    ],
)
def test_what_may_be_said_at_a_probability(p: float, polarity: Polarity | None) -> None:
    assert ENTRY.polarity(p) is polarity


def test_the_venn_abers_bracket_by_hand() -> None:
    # Joined by (0.4, 0): outcomes 0 0 0 1 1, isotonic there 0. By (0.4, 1): 0 0 1 1 1, there 1.
    flat = replace(ENTRY, slope=1.0, offset=0.0)
    assert flat.interval(0.4) == (0.0, 1.0)
    # Below the two negatives a positive is pooled with them: (1 + 0 + 0) / 3; a negative stays 0.
    assert flat.interval(0.05) == pytest.approx((0.0, 1 / 3))
    # Above the two positives a negative is pooled with them: (1 + 1 + 0) / 3.
    assert flat.interval(0.9) == pytest.approx((2 / 3, 1.0))


def test_films_with_the_very_score_widen_the_bracket() -> None:
    tied = replace(ENTRY, slope=1.0, offset=0.0, scores=(0.5, 0.5), outcomes=(0, 1))
    assert tied.interval(0.5) == (0.0, 1.0)


def test_the_bracket_is_widened_to_hold_p() -> None:
    low, high = ENTRY.interval(0.05)
    assert (low, high) == pytest.approx((0.0, 1 / 3))
    assert replace(ENTRY, offset=20.0).interval(0.05) == (0.0, pytest.approx(1.0, abs=1e-4))
    assert replace(ENTRY, offset=-20.0).interval(0.9)[0] == pytest.approx(0.0, abs=1e-4)


SAMPLES = st.lists(st.integers(1, 999), min_size=2, max_size=30, unique=True).flatmap(
    lambda scores: st.tuples(
        st.just(tuple(sorted(scores))), st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores))
    )
)


def isotonic_at(scores: list[float], outcomes: list[int], score: float, outcome: int) -> float:
    joined = IsotonicRegression(y_min=0, y_max=1).fit([*scores, score], [*outcomes, outcome])
    return float(joined.predict([score])[0])


@given(SAMPLES, st.integers(0, 999))
def test_the_bracket_is_that_of_two_isotonic_regressions(sample: tuple[tuple[int, ...], list[int]], asked: int) -> None:
    scores, outcomes, score = [s / 1000 for s in sample[0]], sample[1], (asked + 0.5) / 1000
    entry = replace(ENTRY, slope=1.0, offset=0.0, scores=tuple(scores), outcomes=tuple(outcomes))
    p = entry.p(score)
    low, high = (isotonic_at(scores, outcomes, score, o) for o in (0, 1))
    assert entry.interval(score) == pytest.approx((min(low, p), max(high, p)), abs=1e-9)
    assert 0.0 <= entry.interval(score)[0] <= p <= entry.interval(score)[1] <= 1.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_never_has_a_lower_probability(one: float, other: float) -> None:
    assert (ENTRY.p(max(one, other)) - ENTRY.p(min(one, other))) >= 0


@pytest.mark.parametrize(
    ("p", "polarity", "radius", "tier"),
    [
        (0.95, Polarity.POSITIVE, 0.5, Tier.HIGH),
        (0.95, Polarity.POSITIVE, 0.51, Tier.MEDIUM),
        (0.7, Polarity.POSITIVE, 0.1, Tier.MEDIUM),
        (0.55, Polarity.POSITIVE, 0.1, Tier.LOW),
        (0.02, Polarity.NEGATIVE, 0.1, Tier.HIGH),
        (0.3, Polarity.NEGATIVE, 0.1, Tier.MEDIUM),
        (0.45, Polarity.NEGATIVE, 0.1, Tier.LOW),
        (0.99, Polarity.UNCERTAIN, 0.1, Tier.LOW),
        (0.99, None, 0.1, Tier.LOW),
    ],
)
def test_tiers(p: float, polarity: Polarity | None, radius: float, tier: Tier) -> None:
    assert TIERS.of(p, polarity, radius) is tier


def test_confidence_is_probability_bracket_and_tier() -> None:
    p = 9 / (9 + math.e)
    assert CALIBRATION.confidence("Edema", 0.75, 0.1) == Confidence(
        pytest.approx(p),
        (0.5, 1.0),
        Tier.MEDIUM,  # joined by a negative, the positive at 0.6 is pooled with it
    )


def test_many_scores_at_once_are_the_same_as_one_by_one() -> None:
    scores = np.linspace(0.01, 0.99, 28).reshape(2, 14)
    expected = [[ENTRY.p(s) for s in row] for row in scores.tolist()]
    assert CALIBRATION.probabilities(scores).tolist() == expected


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path)
    loaded = load_calibration(tmp_path, "tiny@1-abababab")
    assert loaded == CALIBRATION
    assert loaded.digest == CALIBRATION.digest
    assert loaded.digest != replace(CALIBRATION, sample="five films").digest


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.pop("model"),
        lambda raw: raw.pop("tiers"),
        lambda raw: raw["findings"].pop("Edema"),
        lambda raw: raw["findings"].update(Hiccups=raw["findings"]["Edema"]),
        lambda raw: raw["findings"]["Edema"].update(reliability="perhaps"),
        lambda raw: raw["findings"]["Edema"].pop("slope"),
        lambda raw: raw["findings"]["Edema"].update(more=1),
        lambda raw: raw["findings"]["Edema"].update(scores=None),
        lambda raw: raw.update(findings=[]),
        lambda raw: raw.update(findings=None),
    ],
)
def test_a_malformed_calibration_is_bad_weights(change: Any, tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path)
    raw = sealed.read(tmp_path / FILE)
    change(raw)
    sealed.write(tmp_path / FILE, raw)
    with pytest.raises(BadWeights, match=r"calibration\.json is absent or malformed"):
        load_calibration(tmp_path, CALIBRATION.model)


def test_an_altered_calibration_is_bad_weights(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace('"state":0.7', '"state":0.1'))
    with pytest.raises(
        BadWeights, match=rf"calibration\.json: expected sha256 {CALIBRATION.digest}, found [0-9a-f]{{64}}"
    ):
        load_calibration(tmp_path, CALIBRATION.model)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe"])
def test_a_file_that_is_no_calibration_is_bad_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_calibration(tmp_path, CALIBRATION.model)


def test_an_absent_calibration_is_bad_weights(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="absent or malformed"):
        load_calibration(tmp_path, CALIBRATION.model)


def test_the_calibration_of_another_model_is_bad_weights(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path)
    with pytest.raises(BadWeights, match="belongs to tiny@1-abababab, the model is tiny@2-abababab"):
        load_calibration(tmp_path, "tiny@2-abababab")


def test_what_is_shipped_fits_together() -> None:
    calibration = load_calibration(WEIGHTS, load_record(WEIGHTS).id)
    assert set(calibration.findings) == set(FINDINGS)
    assert len(calibration.axis_names) == load_record(WEIGHTS).architecture["axes"]
    for entry in calibration.findings.values():
        assert entry.slope > 0
        assert 0.0 <= entry.deny <= entry.flag <= entry.state <= 1.0
        assert list(entry.scores) == sorted(entry.scores)
        assert len(entry.scores) == len(entry.outcomes) == entry.films
        assert sum(entry.outcomes) == entry.positives


def drawn(positives: int, negatives: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logits differ by `gap` between the two groups."""
    rng = np.random.default_rng(3)
    labels = np.array([1] * positives + [0] * negatives, np.int8)
    return 1 / (1 + np.exp(-(rng.normal(0, 1, len(labels)) + gap * labels))), labels


def test_a_fit_is_monotone_and_ordered() -> None:
    scores, labels = drawn(40, 160, 2.5)
    entry = fit(scores, labels)
    assert entry.reliability is Reliability.RELIABLE
    assert entry.slope > 0
    assert entry.deny <= entry.flag <= entry.state
    assert entry.state >= 0.5
    assert (entry.positives, entry.films) == (40, 200)
    assert list(entry.scores) == sorted(entry.scores)
    assert sum(entry.p(s) for s in entry.scores) == pytest.approx(40, abs=0.5)
    missed = sum(entry.p(s) < entry.deny for s, y in zip(entry.scores, entry.outcomes, strict=True) if y)
    assert missed <= 4


def test_the_slope_stays_positive_when_the_network_is_wrong() -> None:
    scores, labels = drawn(40, 160, -2.5)
    entry = fit(scores, labels)
    assert entry.slope > 0
    assert entry.reliability is Reliability.TOO_WEAK


def test_unknown_labels_do_not_count() -> None:
    scores, labels = drawn(20, 80, 2.0)
    padded = fit(np.concatenate([scores, [0.9, 0.1]]), np.concatenate([labels, np.array([-1, -1], np.int8)]))
    assert padded == fit(scores, labels)


@pytest.mark.parametrize(("positives", "auroc_known"), [(4, True), (0, False)])
def test_too_few_films_show_it(positives: int, auroc_known: bool) -> None:
    entry = fit(*drawn(positives, 60, 3.0))
    assert entry.reliability is Reliability.TOO_FEW
    assert (entry.auroc is not None) is auroc_known
    assert positives or entry.deny == 0.0


def test_a_finding_shown_by_every_film_cannot_be_calibrated() -> None:
    entry = fit(*drawn(30, 0, 0.0))
    assert (entry.reliability, entry.auroc) == (Reliability.TOO_FEW, None)


def test_a_well_calibrated_score_is_left_nearly_alone() -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(0.02, 0.98, 4000)
    slope, offset = platt(score, (rng.random(4000) < score).astype(np.float64))
    assert (slope, offset) == (pytest.approx(1.0, abs=0.1), pytest.approx(0.0, abs=0.1))


def test_the_threshold_of_best_expected_f1_by_hand() -> None:
    # 2 * 0.9 / 2.8 = 0.64, 2 * 1.7 / 3.8 = 0.89, 2 * 1.8 / 4.8 = 0.75
    assert expected_f1_threshold(np.array([0.1, 0.9, 0.8])) == 0.8
    assert expected_f1_threshold(np.array([0.2, 0.2, 0.2])) == 0.2
