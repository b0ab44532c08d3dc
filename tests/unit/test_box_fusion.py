"""Boxes of place maps and of queries as one set."""

from __future__ import annotations

import pytest

from rag_service.imaging.film import Box
from rag_service.models.box_fusion import BoxChoice, fused

ONE = Box(0.2, 0.2, 0.4, 0.4, 1.0)
BESIDE = Box(0.2, 0.2, 0.4, 0.5, 0.5)
FAR = Box(0.7, 0.7, 0.9, 0.9, 0.5)


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


def test_boxes_of_one_place_are_averaged_by_weight() -> None:
    (found,) = fused([ONE], [BESIDE], BoxChoice(queries=0.5))
    assert corners(found) == pytest.approx((0.2, 0.2, 0.4, 0.4 + 0.1 / 3)) and found.weight == pytest.approx(0.75)


def test_a_place_that_both_see_comes_first() -> None:
    first, second = fused([FAR, Box(0.2, 0.2, 0.4, 0.4, 0.4)], [BESIDE], BoxChoice())
    assert first.x_min == pytest.approx(0.2) and first.weight == pytest.approx(0.45)
    assert corners(second) == pytest.approx(corners(FAR)) and second.weight == pytest.approx(0.25)


def test_one_side_alone() -> None:
    assert [corners(b) for b in fused([ONE], [FAR], BoxChoice(queries=0.0))] == [pytest.approx(corners(ONE))]
    assert [corners(b) for b in fused([ONE], [FAR], BoxChoice(queries=1.0))] == [pytest.approx(corners(FAR))]
    assert fused([], [], BoxChoice()) == ()


def test_light_boxes_and_a_fourth_are_left_out() -> None:
    light = Box(0.6, 0.1, 0.8, 0.2, 0.1)
    assert len(fused([ONE, light], [], BoxChoice(queries=0.0))) == 1
    four = [Box(0.3 * i, 0.0, 0.3 * i + 0.1, 0.1) for i in range(3)] + [Box(0.0, 0.5, 0.1, 0.6)]
    assert len(fused(four, [], BoxChoice(queries=0.0))) == 3


def test_the_result_is_drawn_larger_within_the_film() -> None:
    (found,) = fused([Box(0.0, 0.4, 0.2, 0.6)], [], BoxChoice(queries=0.0, scale=1.5))
    assert corners(found) == pytest.approx((0.0, 0.35, 0.25, 0.65))


@pytest.mark.parametrize("bad", [{"queries": 1.5}, {"queries": -0.1}, {"scale": 0.0}, {"scale": float("nan")}])
def test_a_choice_that_makes_no_boxes(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no way to make boxes"):
        BoxChoice(**bad)
