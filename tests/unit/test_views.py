"""Two views of a study: the fused score, its record, what may stand as a lateral, and how the fusion is fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from knowledge_base.records import BoxLatent
from rag_service import sealed
from rag_service.calibrators import Platt
from rag_service.errors import BadWeights, LateralNotUsable
from rag_service.imaging.film import Film, Frame
from rag_service.models.encoder import FilmReading
from rag_service.models.network import PRESENTATIONS
from rag_service.training.views import fit, link, paired
from rag_service.views import FindingFusion, ViewFusion, check_lateral, load_views, logit

EVEN = FindingFusion(0.5, 0.5, 0.0, 10, 4)
FUSION = ViewFusion("tiny@1", dict.fromkeys(FINDINGS, EVEN), "made by hand")
SHARE = st.floats(0.001, 0.999)


def test_logits_are_weighted_and_shifted() -> None:
    score = FindingFusion(1.0, 0.5, -1.0, 1, 1).score(np.array([0.5, 0.8]), np.array([0.5, 0.8]))
    assert score.tolist() == pytest.approx([0.268941, 1 / (1 + np.exp(1 - 1.5 * np.log(4)))], abs=1e-6)


@given(SHARE, SHARE)
def test_equal_weights_lie_between_the_views(one: float, other: float) -> None:
    (score,) = EVEN.score(np.array([one]), np.array([other]))
    assert min(one, other) - 1e-9 <= score <= max(one, other) + 1e-9


@given(SHARE, SHARE, SHARE)
def test_a_lateral_that_shows_more_never_lowers_a_finding(frontal: float, low: float, high: float) -> None:
    laterals = np.sort(np.array([low, high]))
    less, more = FindingFusion(0.7, 0.4, 0.2, 1, 1).score(np.full(2, frontal), laterals)
    assert less <= more


def test_scores_at_the_ends_stay_finite() -> None:
    assert EVEN.score(np.array([0.0, 1.0]), np.array([0.0, 1.0])).tolist() == pytest.approx([1e-6, 1 - 1e-6])


@pytest.mark.parametrize("wrong", [{"lateral": -0.1}, {"frontal": -1.0}, {"offset": float("nan")}])
def test_weights_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        replace(EVEN, **wrong)  # type: ignore[arg-type]


def a_reading(kind: str, p: float = 0.5) -> FilmReading:
    """A reading that presents itself as `kind`, every probability `p`."""
    presentation = np.array([0.9 if name == kind else 0.025 for name in PRESENTATIONS])
    box = BoxLatent(np.zeros(2, np.float32), np.ones(2, np.float32))
    return FilmReading(box, np.full(14, p), np.full(14, 0.1), presentation, np.zeros(3, np.float32), maps=None)  # type: ignore[arg-type]


def test_only_the_scores_of_a_reading_and_their_spread_change() -> None:
    frontal = a_reading("frontal", 0.2)
    fused = FUSION.fused(frontal, a_reading("lateral", 0.8))
    assert fused.probabilities.tolist() == pytest.approx([0.5] * 14)
    assert fused.spread.tolist() == pytest.approx([0.25 * np.hypot(0.5, 0.5) * 0.1 / 0.16] * 14)
    assert (fused.box, fused.presentation, fused.pooled) == (frontal.box, frontal.presentation, frontal.pooled)
    assert frontal.probabilities.tolist() == [0.2] * 14


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert load_views(tmp_path, "tiny@1") is None
    FUSION.save(tmp_path)
    found = load_views(tmp_path, "tiny@1")
    assert found == FUSION
    assert found is not None and found.digest == FUSION.digest != replace(FUSION, model="other@1").digest


def test_a_record_that_is_altered_or_anothers_is_refused(tmp_path: Path) -> None:
    FUSION.save(tmp_path)
    with pytest.raises(BadWeights, match=r"views\.json belongs to tiny@1, the model is tiny@2"):
        load_views(tmp_path, "tiny@2")
    path = tmp_path / "views.json"
    path.write_text(path.read_text().replace("0.5", "0.6", 1))
    with pytest.raises(BadWeights, match=r"views\.json: expected sha256"):
        load_views(tmp_path, "tiny@1")
    path.write_text("{")
    with pytest.raises(BadWeights, match="malformed"):
        load_views(tmp_path, "tiny@1")


def test_a_record_without_every_finding_or_with_a_negative_weight_is_refused(tmp_path: Path) -> None:
    for findings in ({"Edema": EVEN}, {f: SimpleNamespace(**{**vars(EVEN), "lateral": -1.0}) for f in FINDINGS}):
        plain = {name: vars(entry) for name, entry in findings.items()}
        sealed.write(tmp_path / "views.json", {"model": "tiny@1", "findings": plain, "sample": ""})
        assert json.loads((tmp_path / "views.json").read_text())["model"] == "tiny@1"
        with pytest.raises(BadWeights, match=r"views\.json is malformed"):
            load_views(tmp_path, "tiny@1")


def a_film(grey: NDArray[np.float32] | None = None) -> Film:
    pixels = np.random.default_rng(0).random((64, 64), np.float32) if grey is None else grey
    return Film(pixels, Frame(64, 64), "00" * 32, "image/png")


def test_a_lateral_may_stand_as_one() -> None:
    check_lateral(a_film(), a_reading("lateral"), a_reading("frontal"))
    check_lateral(a_film(), a_reading("lateral"), a_reading("rotated"))  # what the frontal is, the gate says


@pytest.mark.parametrize(
    ("lateral", "frontal", "told"),
    [
        ("frontal", "frontal", "the film given as lateral is a frontal film"),
        ("frontal", "lateral", "the films are swapped"),
        ("rotated", "frontal", r"not a lateral chest film \(rotated\)"),
        ("not_chest", "lateral", r"not a lateral chest film \(not_chest\)"),
    ],
)
def test_what_is_no_lateral_is_told_apart(lateral: str, frontal: str, told: str) -> None:
    with pytest.raises(LateralNotUsable, match=told):
        check_lateral(a_film(), a_reading(lateral), a_reading(frontal))


def test_a_blank_film_is_no_lateral_whatever_the_network_says() -> None:
    blank = a_film(np.full((64, 64), 0.3, np.float32))
    with pytest.raises(LateralNotUsable, match=r"\(blank\)"):
        check_lateral(blank, a_reading("lateral"), a_reading("frontal"))


# --- fitting

SAME = Platt(1.0, 0.0)


def two_views(count: int, shown_by: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
    """Scores of both views and outcomes; only the view named knows the outcome, the other is noise."""
    rng = np.random.default_rng(4)
    labels = (rng.random(count) < 0.3).astype(np.int8)
    noise = rng.normal(0, 1, (2, count))
    told = 1.5 * (2 * labels - 1) + noise[0]
    views = (told, noise[1]) if shown_by == "frontal" else (noise[1], told)
    frontal, lateral = (1 / (1 + np.exp(-v)) for v in views)
    return frontal, lateral, labels


def test_weight_goes_to_the_view_that_shows_the_finding() -> None:
    by_lateral = fit(*two_views(400, "lateral"), SAME)
    assert by_lateral.lateral > 1.5 and by_lateral.frontal < 0.6
    by_frontal = fit(*two_views(400, "frontal"), SAME)
    assert by_frontal.frontal > 1.5 and by_frontal.lateral < 0.4
    assert (by_frontal.studies, by_frontal.positives) == (400, int(two_views(400, "frontal")[2].sum()))


def test_fitted_scores_mean_what_they_say() -> None:
    frontal, lateral, labels = two_views(2000, "lateral")
    fused = fit(frontal, lateral, labels, SAME).score(frontal, lateral)
    assert fused.mean() == pytest.approx(labels.mean(), abs=0.01)
    high = fused > 0.5
    assert fused[high].mean() == pytest.approx(labels[high].mean(), abs=0.05)


def test_a_fused_score_means_what_the_frontals_meant() -> None:
    frontal, lateral, labels = two_views(2000, "frontal")
    halved = 1 / (1 + np.exp(-logit(frontal) / 2))
    meaning = link(halved, labels)
    fused = fit(halved, lateral, labels, meaning).score(halved, lateral)
    assert np.abs(meaning.p(fused) - meaning.p(halved)).mean() < 0.02


def test_without_studies_the_frontal_stands_alone() -> None:
    none = np.zeros(0)
    assert fit(none, none, np.zeros(0, np.int8), SAME) == FindingFusion(1.0, 0.0, 0.0, 0, 0)
    frontal, lateral, _ = two_views(20, "lateral")
    assert fit(frontal, lateral, np.full(20, -1, np.int8), SAME) == FindingFusion(1.0, 0.0, 0.0, 0, 0)


def test_a_handful_of_positives_moves_little() -> None:
    frontal, lateral, labels = two_views(400, "lateral")
    rows = np.r_[np.flatnonzero(labels == 1)[:2], np.flatnonzero(labels == 0)[:20]]
    few = fit(frontal[rows], lateral[rows], labels[rows], SAME)
    assert few.lateral < 0.7 * fit(frontal, lateral, labels, SAME).lateral


def test_the_first_film_of_each_view_stands_for_the_study() -> None:
    corpus = SimpleNamespace(studies=("a", "a", "b", "a", "c", "a", "c"))
    pairs = paired(corpus, np.array([0, 1, 2, 4]), np.array([3, 5, 6]))  # type: ignore[arg-type]
    assert pairs.tolist() == [[0, 3], [4, 6]]
    assert paired(corpus, np.array([2]), np.array([3])).shape == (0, 2)  # type: ignore[arg-type]
