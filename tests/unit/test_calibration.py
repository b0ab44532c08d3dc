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
    steadiness,
)
from rag_service.calibrators import Platt
from rag_service.conformal import Presence
from rag_service.errors import BadWeights
from rag_service.models.catalogue import load_record

WEIGHTS = Path(__file__).parents[2] / "rag_service" / "weights"
ENTRY = FindingCalibration(
    calibrator=Platt(2.0, -1.0),
    state=0.7,
    possible=0.4,
    flag=0.3,
    accurate=0.5,
    deny=0.1,
    reliability=Reliability.RELIABLE,
    positives=2,
    films=4,
    auroc=1.0,
    scores=(0.1, 0.2, 0.6, 0.8),
    outcomes=(0, 0, 1, 1),
)
TIERS = Tiers(high=0.9, low=0.6, radius_high=0.5, radius_bound=2.0, spread_high=0.3)
CALIBRATION = Calibration(
    model="tiny@1-abababab",
    findings={f: replace(ENTRY, auroc=None) if f == "Fracture" else ENTRY for f in FINDINGS},
    tiers=TIERS,
    axis_names=("Edema", "Fracture", "Edema", "none"),
    sample="four films",
)


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
    flat = replace(ENTRY, calibrator=Platt(1.0, 0.0))
    assert flat.interval(0.4) == (0.0, 1.0)
    # Below the two negatives a positive is pooled with them: (1 + 0 + 0) / 3; a negative stays 0.
    assert flat.interval(0.05) == pytest.approx((0.0, 1 / 3))
    # Above the two positives a negative is pooled with them: (1 + 1 + 0) / 3.
    assert flat.interval(0.9) == pytest.approx((2 / 3, 1.0))


def test_films_with_the_very_score_widen_the_bracket() -> None:
    tied = replace(ENTRY, calibrator=Platt(1.0, 0.0), scores=(0.5, 0.5), outcomes=(0, 1))
    assert tied.interval(0.5) == (0.0, 1.0)


def test_the_bracket_is_widened_to_hold_p() -> None:
    low, high = ENTRY.interval(0.05)
    assert (low, high) == pytest.approx((0.0, 1 / 3))
    assert replace(ENTRY, calibrator=Platt(2.0, 20.0)).interval(0.05) == (0.0, pytest.approx(1.0, abs=1e-4))
    assert replace(ENTRY, calibrator=Platt(2.0, -20.0)).interval(0.9)[0] == pytest.approx(0.0, abs=1e-4)


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
    entry = replace(ENTRY, calibrator=Platt(1.0, 0.0), scores=tuple(scores), outcomes=tuple(outcomes))
    p = entry.p(score)
    low, high = (isotonic_at(scores, outcomes, score, o) for o in (0, 1))
    assert entry.interval(score) == pytest.approx((min(low, p), max(high, p)), abs=1e-9)
    assert 0.0 <= entry.interval(score)[0] <= p <= entry.interval(score)[1] <= 1.0


PRESENT, ABSENT = (Presence.PRESENT,), (Presence.ABSENT,)
BOTH = PRESENT + ABSENT


@pytest.mark.parametrize(
    ("p", "polarity", "held", "radius", "spread", "tier"),
    [
        (0.95, Polarity.POSITIVE, PRESENT, 0.5, 0.3, Tier.HIGH),
        (0.95, Polarity.POSITIVE, PRESENT, 0.51, 0.3, Tier.MEDIUM),
        (0.95, Polarity.POSITIVE, PRESENT, 0.5, 0.31, Tier.MEDIUM),
        (0.95, Polarity.POSITIVE, PRESENT, 2.01, 0.3, Tier.LOW),
        (0.95, Polarity.POSITIVE, ABSENT, 0.5, 0.3, Tier.MEDIUM),
        (0.95, Polarity.POSITIVE, (), 0.5, 0.3, Tier.MEDIUM),
        (0.95, Polarity.POSITIVE, BOTH, 0.5, 0.3, Tier.MEDIUM),
        (0.7, Polarity.POSITIVE, PRESENT, 0.1, 0.1, Tier.MEDIUM),
        (0.55, Polarity.POSITIVE, PRESENT, 0.1, 0.1, Tier.LOW),
        (0.02, Polarity.NEGATIVE, ABSENT, 0.1, 0.1, Tier.HIGH),
        (0.02, Polarity.NEGATIVE, PRESENT, 0.1, 0.1, Tier.MEDIUM),
        (0.02, Polarity.NEGATIVE, BOTH, 0.1, 0.1, Tier.MEDIUM),
        (0.2, Polarity.NEGATIVE, BOTH, 0.1, 0.1, Tier.LOW),
        (0.3, Polarity.NEGATIVE, ABSENT, 0.1, 0.1, Tier.MEDIUM),
        (0.45, Polarity.NEGATIVE, ABSENT, 0.1, 0.1, Tier.LOW),
        (0.99, Polarity.UNCERTAIN, PRESENT, 0.1, 0.1, Tier.LOW),
        (0.99, None, PRESENT, 0.1, 0.1, Tier.LOW),
    ],
)
def test_tiers(
    p: float, polarity: Polarity | None, held: tuple[Presence, ...], radius: float, spread: float, tier: Tier
) -> None:
    assert TIERS.of(p, polarity, held, radius, spread) is tier


def test_steadiness_is_the_deviation_of_the_logit() -> None:
    found = steadiness(np.array([0.5, 0.2, 0.0]), np.array([0.05, 0.04, 0.0]))
    assert found.tolist() == pytest.approx([0.2, 0.25, 0.0])


def test_confidence_is_probability_bracket_tier_and_set() -> None:
    p = 9 / (9 + math.e)
    few = Confidence(pytest.approx(p), (0.5, 1.0), Tier.LOW, BOTH)  # of two films a class none can be cut off
    assert CALIBRATION.confidence("Edema", 0.75, 0.1, 0.01) == few
    many = replace(ENTRY, scores=tuple(i / 40 for i in range(40)), outcomes=(0,) * 20 + (1,) * 20)
    sure = replace(CALIBRATION, findings={**CALIBRATION.findings, "Edema": many})
    found = sure.confidence("Edema", 0.75, 0.1, 0.01)
    assert (found.p, found.tier, found.set) == (pytest.approx(p), Tier.MEDIUM, PRESENT)
    assert sure.confidence("Edema", 0.97, 0.1, 0.001).tier is Tier.HIGH
    assert sure.confidence("Edema", 0.97, 0.1, 0.02).tier is Tier.MEDIUM, "0.02 / (0.97 * 0.03) is over 0.3"


def test_many_scores_at_once_are_the_same_as_one_by_one() -> None:
    scores = np.linspace(0.01, 0.99, 28).reshape(2, 14)
    expected = [[ENTRY.p(s) for s in row] for row in scores.tolist()]
    np.testing.assert_allclose(CALIBRATION.probabilities(scores), expected, rtol=1e-12)


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
        lambda raw: raw["findings"]["Edema"].pop("calibrator"),
        lambda raw: raw["findings"]["Edema"].update(more=1),
        lambda raw: raw["findings"]["Edema"].update(scores=None),
        lambda raw: raw["findings"]["Edema"].update(calibrator={"kind": "spline"}),
        lambda raw: raw["findings"]["Edema"]["calibrator"].update(slope=-1.0),
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
        assert 0.0 <= entry.deny <= entry.possible <= entry.state <= 1.0
        assert 0.0 < entry.flag <= entry.possible and 0.0 < entry.accurate <= 1.0
        assert list(entry.scores) == sorted(entry.scores)
        assert len(entry.scores) == len(entry.outcomes) == entry.films
        assert sum(entry.outcomes) == entry.positives
