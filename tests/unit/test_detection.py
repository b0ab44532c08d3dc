"""Average precision by hand: what counts as found, what as a false alarm, and films ranked together."""

from __future__ import annotations

import numpy as np
import pytest

from eval.detection import OVERLAPS, average_precisions, film_hits
from rag_service.imaging.film import Box

TRUE = Box(0.0, 0.0, 0.4, 0.4)
HALF = Box(0.0, 0.0, 0.4, 0.2, 0.5)  # IoU 0.5 with TRUE
ELSEWHERE = Box(0.6, 0.6, 0.9, 0.9, 0.25)


def test_the_overlaps_are_those_of_chex() -> None:
    assert OVERLAPS == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def test_a_drawn_box_is_found_once_by_the_surest() -> None:
    found = film_hits([ELSEWHERE, HALF, TRUE], 0.5, [TRUE])
    assert found.scores.tolist() == [0.5, 0.25, 0.125] and found.drawn == 1
    assert found.hits[:, 0].all() and not found.hits[:, 1:].any()


def test_an_overlap_counts_up_to_its_iou() -> None:
    found = film_hits([HALF], 1.0, [TRUE])
    assert found.hits[:, 0].tolist() == [True] * 5 + [False] * 2


def test_nothing_found_and_nothing_drawn() -> None:
    assert average_precisions([film_hits([TRUE], 0.5, [])]) is None
    nothing = average_precisions([film_hits([], 0.5, [TRUE])])
    assert nothing is not None and nothing.tolist() == [0.0] * 7


def test_films_are_ranked_together() -> None:
    right, wrong = film_hits([TRUE], 0.9, [TRUE]), film_hits([TRUE], 0.5, [])
    assert average_precisions([right, wrong]) == pytest.approx(np.ones(7))
    late = average_precisions([film_hits([TRUE], 0.4, [TRUE]), wrong])
    assert late == pytest.approx(np.full(7, 0.5))
    missed = average_precisions([right, film_hits([], 0.9, [TRUE])])
    assert missed == pytest.approx(np.full(7, 51 / 101))  # recall reaches a half: 51 of the 101 points
