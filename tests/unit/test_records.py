"""What is remembered: boxes with their distance and overlap, ids that never change, records that refuse what cannot be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.findings import Laterality, Polarity
from knowledge_base.records import (
    BoxLatent,
    Case,
    CaseSentence,
    Mention,
    Passage,
    RecordError,
    case_id,
    digest,
    passage_id,
)
from rag_service.imaging.film import Box, Frame

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN


def box(centre: list[float], radius: list[float]) -> BoxLatent:
    return BoxLatent(np.array(centre, np.float32), np.array(radius, np.float32))


COORDINATES = st.floats(-8, 8, width=32)
RADII = st.floats(0.125, 4, width=32)
BOXES = st.builds(box, st.lists(COORDINATES, min_size=3, max_size=3), st.lists(RADII, min_size=3, max_size=3))


def test_the_wasserstein_distance_by_hand() -> None:
    # |c1 - c2|^2 = 9 + 16 = 25 and |r1 - r2|^2 / 3 = (9 + 36) / 3 = 15.
    assert box([0, 0], [1, 1]).w2_squared(box([3, 4], [4, 7])) == 40.0


def test_the_wasserstein_distance_is_that_of_uniform_distributions() -> None:
    # On one axis W2^2 is the mean over quantiles of the squared difference of the two quantile functions.
    u = (np.arange(200_000) + 0.5) / 200_000 * 2 - 1
    transport = np.mean(((0.5 + 2.0 * u) - (-1.0 + 0.5 * u)) ** 2)
    assert box([0.5], [2.0]).w2_squared(box([-1.0], [0.5])) == pytest.approx(transport, rel=1e-6)
    assert transport == pytest.approx(2.25 + 2.25 / 3, rel=1e-6)


def test_the_stored_vector_by_hand() -> None:
    assert box([1, 2], [3, 6]).vector().tolist() == pytest.approx([1, 2, 3 / math.sqrt(3), 6 / math.sqrt(3)])
    assert box([1], [1]).vector().dtype == np.float32


@given(BOXES, BOXES)
def test_euclidean_distance_of_stored_vectors_is_w2(one: BoxLatent, other: BoxLatent) -> None:
    euclid = float(np.sum((one.vector().astype(np.float64) - other.vector()) ** 2))
    assert euclid == pytest.approx(one.w2_squared(other), rel=1e-4, abs=1e-4)


@given(BOXES)
def test_a_box_comes_back_from_its_vector(one: BoxLatent) -> None:
    back = BoxLatent.from_vector(one.vector())
    assert back.centre.tolist() == one.centre.tolist()
    assert back.radius.tolist() == pytest.approx(one.radius.tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (box([0], [1]), box([1], [1]), 1 / 3),
        (box([0], [2]), box([0], [1]), 1 / 2),
        (box([0], [1]), box([2], [1]), 0.0),
        (box([0], [1]), box([9], [1]), 0.0),
        (box([0, 0], [1, 1]), box([1, 9], [1, 1]), 1 / 6),
    ],
)
def test_overlap_by_hand(one: BoxLatent, other: BoxLatent, expected: float) -> None:
    assert one.overlap(other) == pytest.approx(expected)


@given(BOXES, BOXES)
def test_overlap_is_symmetric_between_0_and_1(one: BoxLatent, other: BoxLatent) -> None:
    assert 0.0 <= one.overlap(other) <= 1.0 + 1e-6
    assert one.overlap(other) == pytest.approx(other.overlap(one), abs=1e-6)


@given(BOXES)
def test_a_box_overlaps_itself_entirely(one: BoxLatent) -> None:
    assert one.overlap(one) == pytest.approx(1.0, abs=1e-4)
    assert one.w2_squared(one) == 0.0


@given(BOXES, st.floats(1.25, 4, width=32))
def test_a_wider_box_around_the_same_centre_overlaps_by_the_ratio(one: BoxLatent, factor: float) -> None:
    wide = BoxLatent(one.centre, one.radius * np.float32(factor))
    assert one.overlap(wide) == pytest.approx(1 / factor, rel=1e-3)


@pytest.mark.parametrize(
    ("centre", "radius"),
    [
        ([math.nan, 0.0], [1.0, 1.0]),
        ([0.0, 0.0], [math.nan, 1.0]),
        ([math.inf, 0.0], [1.0, 1.0]),
        ([0.0, 0.0], [1.0, -1.0]),
        ([0.0, 0.0], [1.0, 0.0]),
        ([0.0], [1.0, 1.0]),
    ],
)
def test_a_box_that_cannot_be_is_refused(centre: list[float], radius: list[float]) -> None:
    with pytest.raises(RecordError):
        box(centre, radius)


def test_a_box_is_one_row_and_its_vector_has_two_halves() -> None:
    with pytest.raises(RecordError, match="1-d"):
        BoxLatent(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    with pytest.raises(RecordError):
        BoxLatent.from_vector(np.ones(5, np.float32))


def test_ids_never_change() -> None:
    assert str(case_id("openi", "CXR1")) == "5dd628b4-84a3-542a-8a43-031d12084155"
    assert str(case_id("openi", "CXR1", "isle")) == "ac3a9bf1-ec36-5ce0-b4e6-1114d7779a4b"
    assert str(passage_id("use-anchor")) == "a6b600eb-6d68-5fde-bc6d-e62da1819816"


def test_parts_of_an_id_do_not_run_together() -> None:
    assert len({case_id("a", "bc"), case_id("ab", "c"), case_id('a","b', "c"), case_id("a", 'b","c')}) == 4


def a_case(*mentions: Mention, **changes: Any) -> Case:
    text = "Lungs are clear."
    fields = {"source": "openi", "study": "CXR1", "patient": "P1", "text": text}
    sentences = (CaseSentence(text, (0, 16), "findings", mentions),)
    return Case(**{**fields, "sentences": sentences, **changes})


def said(finding: str, polarity: Polarity) -> Mention:
    return Mention(finding, polarity, (0, 5))


def test_positive_beats_uncertain_beats_negative() -> None:
    case = a_case(
        said("Edema", NEGATIVE), said("Edema", POSITIVE), said("Edema", UNCERTAIN),
        said("Fracture", UNCERTAIN), said("Fracture", NEGATIVE),
        said("Pneumothorax", NEGATIVE), said("Cardiomegaly", POSITIVE),
    )  # fmt: skip
    assert case.labels(POSITIVE) == ("Cardiomegaly", "Edema")
    assert case.labels(UNCERTAIN) == ("Fracture",)
    assert case.labels(NEGATIVE) == ("Pneumothorax",)


def test_a_case_without_mentions_has_no_labels_and_a_stable_id() -> None:
    assert [a_case().labels(p) for p in Polarity] == [(), (), ()]
    assert a_case().id == case_id("openi", "CXR1")
    assert a_case(tenant="isle").id == case_id("openi", "CXR1", "isle")


@pytest.mark.parametrize("name", ["source", "study", "patient", "tenant"])
def test_a_case_names_its_origin(name: str) -> None:
    with pytest.raises(RecordError, match=f"non-empty {name}"):
        a_case(**{name: ""})


@pytest.mark.parametrize("span", [(0, 15), (1, 16), (0, 17), (3, 3)])
def test_a_sentence_quotes_the_text_exactly(span: tuple[int, int]) -> None:
    with pytest.raises(RecordError, match="does not quote"):
        a_case(sentences=(CaseSentence("Lungs are clear. ", span, "findings"),))


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (4, 3)])
def test_a_mention_covers_something(span: tuple[int, int]) -> None:
    with pytest.raises(RecordError, match="span"):
        Mention("Edema", POSITIVE, span)


def test_a_mention_is_of_a_known_finding() -> None:
    with pytest.raises(RecordError, match="unknown finding 'edema'"):
        Mention("edema", POSITIVE, (0, 5), Laterality.LEFT)


PASSAGE = {
    "slug": "use-anchor", "title": "Look first", "organisation": "This project", "source_title": "Rules", "year": 2026,
    "section": "Use", "identifier": None, "findings": ("Edema",), "keywords": (), "text": "Look yourself first.",
    "verified": False, "verified_by": None,
}  # fmt: skip


def test_a_passage_has_the_id_of_its_slug() -> None:
    assert Passage(**PASSAGE).id == passage_id("use-anchor")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": " \n"}, "has no text"),
        ({"findings": ("Hiccups",)}, "unknown findings"),
        ({"verified": True}, "does not say by what"),
        ({"verified": True, "verified_by": ""}, "does not say by what"),
    ],
)
def test_a_passage_that_cannot_be_cited_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        Passage(**{**PASSAGE, **change})


def test_the_digest_is_that_of_canonical_json() -> None:
    expected = "123b424b7606d08d0756074e1f76051117423e1a66a03e02f56fd334de63705b"
    assert digest({"b": [1, 2.5], "a": "é"}) == digest({"a": "é", "b": [1, 2.5]}) == expected


@pytest.mark.parametrize(
    "corners",
    [(0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (-0.1, 0, 0.5, 1), (0, 0, 1.1, 1), (0, 0.5, 1, 0.5), (0, 0, 1, math.nan)],
)
def test_a_rectangle_off_the_film_is_refused(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="not a box"):
        Box(*corners)


@pytest.mark.parametrize("weight", [0.0, -0.5, 1.5, math.nan])
def test_a_weight_lies_above_0_and_up_to_1(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        Box(0, 0, 1, 1, weight)


def test_rectangles_by_hand() -> None:
    half, quarter = Box(0.0, 0.0, 0.5, 1.0), Box(0.25, 0.0, 0.5, 0.5)
    assert (half.area, quarter.area) == (0.5, 0.125)
    assert half.iou(quarter) == 0.25
    assert half.iou(Box(0.5, 0.0, 1.0, 1.0)) == 0.0
    assert Frame(200, 100).to_pixels(quarter) == (25.0, 0.0, 50.0, 100.0)


@pytest.mark.parametrize("sizes", [(0, 5, 1.0), (5, 0, 1.0), (5, 5, 0.0)])
def test_a_frame_of_nothing_is_refused(sizes: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        Frame(*sizes)
