"""Graded relevance between studies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.findings import FINDINGS
from rag_service.datasets.relevance import grades, trait, traits

TAGS = st.lists(
    st.sampled_from(
        ["normal", "Opacity/lung/base/left", "Opacity/right", "Pleural Effusion/bilateral", "Pneumothorax/apex/right"]
    ),
    max_size=4,
)


def grade(one: list[str], other: list[str]) -> float:
    return float(grades([traits(one)], [traits(other)])[0, 0])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (["normal"], ["Scoliosis"], 1.0),  # neither has one of the observations: both are No Finding
        (["normal"], ["Cardiomegaly"], 0.0),
        (["Pneumothorax/left"], ["Pneumothorax/left/small"], 1.0),
        (["Pneumothorax/left"], ["Pneumothorax/right"], 0.75),
        (["Pneumothorax/left"], ["Pneumothorax"], 0.75),
        (["Pneumothorax/left"], ["Pneumothorax/bilateral"], 0.875),
        (["Pneumothorax/left/apex"], ["Pneumothorax/right/base"], 0.5),
        (["Opacity/lung/lower lobe/left"], ["Opacity/lung/base/left"], 1.0),
        (["Pneumothorax/left"], ["Pneumothorax/left", "Cardiomegaly"], 0.5),
        (["Implanted Medical Device"], ["Implanted Medical Device", "normal"], 1.0),
    ],
)
def test_grades_by_hand(one: list[str], other: list[str], expected: float) -> None:
    assert grade(one, other) == pytest.approx(expected)


def test_a_study_as_traits() -> None:
    found = traits(["Pulmonary Atelectasis/lung/base/bilateral", "Opacity/upper lobe/left"])
    names = {FINDINGS[f]: found[f].tolist() for f in np.flatnonzero(found[:, 0])}
    assert names == {"Lung Opacity": [1, 1, 1, 1, 0, 1], "Atelectasis": [1, 1, 1, 0, 0, 1]}


def test_one_observation_at_a_place() -> None:
    found = trait("Pneumothorax", ["left", "upper"])
    assert found[FINDINGS.index("Pneumothorax")].tolist() == [1, 1, 0, 1, 0, 0]
    assert found.sum() == 3
    assert grades([found], [traits(["Pneumothorax/apex/left"]), traits(["Pneumothorax/base/left"])]).tolist() == [
        [1.0, 0.75]
    ]


@given(TAGS, TAGS)
def test_grades_are_symmetric_and_a_study_is_most_like_itself(one: list[str], other: list[str]) -> None:
    assert grade(one, one) == pytest.approx(1.0)
    assert grade(one, other) == pytest.approx(grade(other, one))
    assert 0.0 <= grade(one, other) <= 1.0 + 1e-12
