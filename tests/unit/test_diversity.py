"""Maximal marginal relevance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.diversity import TRADE, diversified, similarity
from knowledge_base.rerank import stated_findings

COPIES = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def test_a_copy_gives_way_to_what_is_new() -> None:
    scores = np.array([3.0, 2.9, 1.5])
    assert diversified(scores, COPIES, 3, trade=1.0) == [0, 1, 2]
    # Relevance 1, 0.93, 0: at 0.5 the copy is worth 0.47 - 0.5 and the other 0.
    assert diversified(scores, COPIES, 3, trade=0.5) == [0, 2, 1]
    assert diversified(scores, COPIES, 2, trade=0.5) == [0, 2]
    assert diversified(scores, COPIES, 3, trade=0.8) == [0, 1, 2]


def test_likeness_is_to_the_most_alike_of_those_chosen() -> None:
    alike = np.array([[1, 0, 0.9, 0], [0, 1, 0, 0.5], [0.9, 0, 1, 0], [0, 0.5, 0, 1]])
    scores = np.array([1.0, 0.9, 0.8, 0.0])
    # Once 0 and 1 are chosen, 2 is worth 0.4 - 0.45 and 3 is worth 0 - 0.25.
    assert diversified(scores, alike, 4, trade=0.5) == [0, 1, 2, 3]
    assert diversified(scores, alike, 4, trade=0.1) == [0, 1, 3, 2]


def test_equals_come_in_order_and_nothing_gives_nothing() -> None:
    assert diversified(np.ones(3), np.zeros((3, 3)), 2) == [0, 1]
    assert diversified(np.zeros(0), np.zeros((0, 0)), 5) == []
    with pytest.raises(ValueError, match=r"trade lies in \[0, 1\]"):
        diversified(np.ones(1), np.ones((1, 1)), 1, trade=1.5)
    assert TRADE == 0.85


def test_likeness_of_reports_and_where_they_have_no_vector_of_findings() -> None:
    stated = stated_findings([{"labels_positive": ["Edema", "Fracture"]}, {"labels_uncertain": ["Edema"]}, {}])
    by_labels = [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert similarity(stated, None).tolist() == by_labels
    texts = np.array([[1.0, 0.0], [math.nan, math.nan], [0.6, 0.8]])
    assert similarity(stated, texts) == pytest.approx(np.array([[1.0, 0.5, 0.6], [0.5, 1.0, 0.0], [0.6, 0.0, 1.0]]))
    assert similarity(stated[:2] * math.nan, -texts[[0, 0]] * [[1], [-1]]).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert similarity(np.full((2, 14), math.nan), None).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@given(
    st.lists(st.floats(-9, 9), max_size=8),
    st.integers(1, 9),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
def test_the_best_comes_first_and_none_twice(scores: list[float], limit: int, trade: float, rng: object) -> None:
    n = len(scores)
    draws = np.array([[rng.random() for _ in range(n)] for _ in range(n)]).reshape(n, n)  # type: ignore[attr-defined]
    chosen = diversified(np.array(scores), np.maximum(draws, draws.T), limit, trade)
    assert len(chosen) == len(set(chosen)) == min(limit, n)
    if chosen and trade > 0.01:
        assert scores[chosen[0]] == pytest.approx(max(scores), abs=1e-9 * 18 / trade)
