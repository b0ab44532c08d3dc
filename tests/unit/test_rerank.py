"""Features that compare a query with cases, and the linear model over them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from knowledge_base.records import BoxLatent, RecordError
from knowledge_base.rerank import FEATURES, Asked, Candidates, Reranker, features, stated_findings

COUNT = len(FEATURES)
UNSAID = np.full((1, 14), math.nan)
NUMBERS = st.floats(-5.0, 5.0, width=32)
RADII = st.floats(0.125, 4.0, width=32)


def box(centre: list[float], radius: list[float]) -> BoxLatent:
    return BoxLatent(np.array(centre, np.float32), np.array(radius, np.float32))


def vector(centre: list[float], radius: list[float]) -> NDArray[np.float32]:
    return box(centre, radius).vector()


def chances(**told: float) -> NDArray[np.float64]:
    names = {"none": "No Finding", "edema": "Edema", "fracture": "Fracture"}
    found = np.full(14, math.nan)
    for name, p in told.items():
        found[FINDINGS.index(names[name])] = p
    return found


def one(asked: Asked, stated: NDArray[np.float64] = UNSAID, **vectors: NDArray[np.floating]) -> dict[str, float]:
    """The features of a single candidate, absent ones left out."""
    rows = {name: v[None] for name, v in vectors.items()}
    found = features(asked, Candidates(stated, np.array([0.25]), **rows))[0]
    return {name: v for name, v in zip(FEATURES, found.tolist(), strict=True) if not math.isnan(v)}


def test_what_cases_state() -> None:
    payloads = [
        {"labels_positive": ["Edema"], "labels_negative": ["Fracture"], "labels_uncertain": ["Pneumonia"]},
        {"labels_positive": ["Support Devices"], "labels_negative": ["No Finding"], "labels_uncertain": []},
        {"labels_positive": ["No Finding"], "labels_negative": [], "labels_uncertain": ["Pneumonia"]},
        {"labels_positive": ["Hiccups"]},
    ]
    found = stated_findings(payloads)
    assert [{f: v for f, v in zip(FINDINGS, row, strict=True) if not math.isnan(v)} for row in found.tolist()] == [
        {"No Finding": 0.0, "Edema": 1.0, "Pneumonia": 0.5, "Fracture": 0.0},
        {"No Finding": 1.0, "Support Devices": 1.0},
        {"No Finding": 0.0, "Pneumonia": 0.5},
        {"No Finding": 1.0},
    ]


def test_agreement_and_likelihood_of_findings() -> None:
    stated = stated_findings([{"labels_positive": ["Edema"], "labels_negative": ["Fracture"]}])
    found = one(Asked(chances=chances(none=0.25, edema=0.5, fracture=0.25)), stated)
    # 0.5 of the edema is shared; 1.0 expected of the film and 1 of the case, less what is shared.
    assert found == {
        "agreement": pytest.approx(0.5 / 1.5),
        "likelihood": pytest.approx((math.log(0.5) + 2 * math.log(0.75)) / 3),
        "fused": 0.25,
    }


def test_a_suspicion_counts_half_and_is_neither_affirmed_nor_denied() -> None:
    stated = stated_findings([{"labels_uncertain": ["Edema"]}])
    found = one(Asked(chances=chances(edema=0.5, fracture=0.5)), stated)
    assert found == {"agreement": pytest.approx(0.25 / 1.25), "fused": 0.25}


def test_chances_that_are_certain_are_not_taken_for_certain() -> None:
    stated = stated_findings([{"labels_positive": ["Edema"], "labels_negative": ["Fracture"]}])
    found = one(Asked(chances=chances(edema=0.0, fracture=1.0)), stated)
    assert found["likelihood"] == pytest.approx(math.log(0.001))


def test_boxes_by_hand() -> None:
    found = one(Asked(box=vector([0, 0], [1, 1])), boxes=vector([1, 4], [1, 1]))
    # The first axis shares 1 of 3, the second nothing.
    assert found == {
        "box_overlap": pytest.approx(1 / 6),
        "box_volume": pytest.approx((math.log(1 / 3) + math.log(0.001)) / 2),
        "w2": pytest.approx(math.sqrt(17)),
        "fused": 0.25,
    }


def test_cosines_of_text_and_region() -> None:
    unit, tilted = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    assert one(Asked(text=unit, region=tilted), texts=tilted, regions=tilted) == {
        "text": pytest.approx(0.6),
        "region": pytest.approx(1.0),
        "fused": 0.25,
    }


def test_what_query_or_case_lacks_is_absent() -> None:
    asked = Asked(vector([0], [1]), np.array([1.0, 0.0]), np.array([1.0, 0.0]), chances(edema=0.5))
    stated = np.full((2, 14), math.nan)
    assert set(one(asked)) == {"agreement", "fused"}
    nothing = np.full((2, 2), math.nan)
    nothing[1] = [1.0, 0.0]
    found = features(asked, Candidates(stated, np.zeros(2), boxes=nothing, texts=nothing, regions=nothing))
    assert np.isnan(found[0, 2:7]).all()
    assert not np.isnan(found[1, 2:7]).any()


@given(*(st.lists(part, min_size=3, max_size=3) for part in (NUMBERS, RADII, NUMBERS, RADII)))
def test_box_features_are_the_geometry_of_boxes(
    centre: list[float], radius: list[float], other: list[float], width: list[float]
) -> None:
    ours, theirs = box(centre, radius), box(other, width)
    found = one(Asked(box=ours.vector()), boxes=theirs.vector())
    assert found["box_overlap"] == pytest.approx(ours.overlap(theirs), abs=1e-5)
    assert found["w2"] ** 2 == pytest.approx(ours.w2_squared(theirs), rel=1e-4, abs=1e-6)
    assert math.log(0.001) <= found["box_volume"] <= math.log(max(found["box_overlap"], 0.001)) + 1e-6
    back = one(Asked(box=theirs.vector()), boxes=ours.vector())
    assert back == pytest.approx(found)


def test_scores_are_linear_and_what_is_absent_counts_as_average() -> None:
    mean, scale, weight = np.zeros(COUNT), np.ones(COUNT), np.zeros(COUNT)
    mean[0], scale[0], weight[0], weight[4] = 0.5, 0.25, 2.0, -1.0
    found = np.full((3, COUNT), math.nan)
    found[0, 0], found[1, [0, 4]] = 0.75, [0.5, 3.0]
    assert Reranker(mean, scale, weight).scores(found).tolist() == [2.0, -3.0, 0.0]


def test_a_digest_tells_rerankers_apart() -> None:
    even, one = np.ones(COUNT), np.eye(COUNT)[0]
    assert Reranker(even, even, even).digest == Reranker(even.copy(), even, even).digest
    assert (
        len({r.digest for r in (Reranker(even, even, even), Reranker(even, even, one), Reranker(one, even, even))}) == 3
    )


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("mean", np.zeros(COUNT - 1), "8 finite"),
        ("weight", np.full(COUNT, math.inf), "8 finite"),
        ("scale", np.zeros(COUNT), "positive"),
    ],
)
def test_a_reranker_checks_itself(part: str, value: NDArray[np.float64], reason: str) -> None:
    parts = {"mean": np.zeros(COUNT), "scale": np.ones(COUNT), "weight": np.ones(COUNT)}
    with pytest.raises(RecordError, match=reason):
        Reranker(**{**parts, part: value})
