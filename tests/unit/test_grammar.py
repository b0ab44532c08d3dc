"""The grammar of grounded sentences: what is written reads back as it was, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_service.imaging.film import Box
from rag_service.report.grammar import (
    BINS,
    LONGEST,
    BinBox,
    GrammarError,
    Phrase,
    from_centre_crop,
    read,
    to_centre_crop,
    write,
)

WHERE = "<box><x10><y20><x30><y40></box>"


@st.composite
def bin_boxes(draw: st.DrawFn) -> BinBox:
    x_min, y_min = draw(st.integers(0, BINS - 1)), draw(st.integers(0, BINS - 1))
    return BinBox(x_min, y_min, draw(st.integers(x_min, BINS - 1)), draw(st.integers(y_min, BINS - 1)))


TEXTS = st.text(
    st.characters(blacklist_characters="<>\n\r", blacklist_categories=("Cs",)), min_size=1, max_size=40
).map(str.strip)
PHRASES = st.builds(
    Phrase,
    TEXTS.filter(lambda t: bool(t) and not set("\n\r") & set(t)),
    st.none() | st.lists(bin_boxes(), min_size=1, max_size=4).map(tuple),
    st.sets(st.integers(1, 99), max_size=4).map(lambda s: tuple(sorted(s))),
)


@given(st.lists(PHRASES, max_size=4))
def test_what_is_written_reads_back(phrases: list[Phrase]) -> None:
    assert read(write(phrases)) == tuple(phrases)


@example(BinBox(29, 57, 29, 58))
@given(bin_boxes())
def test_bins_survive_their_coordinates(box: BinBox) -> None:
    again = BinBox.of(box.box)
    assert (again.x_min, again.y_min) == (box.x_min, box.y_min)
    if box.x_min < box.x_max and box.y_min < box.y_max:
        assert again == box


def test_a_grounded_sentence_and_one_without_a_place() -> None:
    text = f"<obj>Small left effusion.{WHERE}<box><x0><y0><x99><y99></box><cite_1><cite_3></obj>\n<obj> Clear lungs. </obj>"
    effusion, clear = read(text)
    assert effusion == Phrase("Small left effusion.", (BinBox(10, 20, 30, 40), BinBox(0, 0, 99, 99)), (1, 3))
    assert clear == Phrase("Clear lungs.")
    assert effusion.boxes is not None
    assert effusion.boxes[0].box == Box(0.105, 0.205, 0.305, 0.405)
    assert write([clear]) == "<obj>Clear lungs.</obj>"


def test_a_side_within_one_bin_is_as_wide_as_the_bin() -> None:
    assert BinBox(7, 10, 7, 12).box == Box(0.07, 0.105, 0.08, 0.125)


@pytest.mark.parametrize(
    "text",
    [
        "Small left effusion.",
        "<obj>a</obj> b",
        "<obj>a",
        "<obj></obj>",
        "<obj> </obj>",
        f"<obj>a{WHERE[:-6]}</obj>",
        "<obj>a<box><x30><y20><x10><y40></box></obj>",
        "<obj>a<box><x10><y20><x30><y100></box></obj>",
        "<obj>a<box><x10><y20><x30></box></obj>",
        "<obj>a<box></box></obj>",
        f"<obj>{WHERE}</obj>",
        f"<obj>a{WHERE}b</obj>",
        "<obj>a<cite_0></obj>",
        "<obj>a<cite_2><cite_1></obj>",
        "<obj>a<cite_1><cite_1></obj>",
        f"<obj>a<cite_1>{WHERE}</obj>",
        "<obj>a<obj>b</obj></obj>",
        "<obj>a\nb</obj>",
        "x" * (LONGEST + 1),
    ],
)
def test_what_does_not_follow_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        read(text)


def test_an_error_does_not_repeat_what_was_read() -> None:
    with pytest.raises(GrammarError, match="no phrase at character 12") as refused:
        read("<obj>a</obj>Zzyzx Canary")
    assert "Canary" not in str(refused.value)


@pytest.mark.parametrize("phrase", [("",), (" a",), ("a<b",), ("a", ()), ("a", None, (2, 1)), ("a", None, (0,))])
def test_a_phrase_that_cannot_be_written_cannot_be_made(phrase: tuple[object, ...]) -> None:
    with pytest.raises(GrammarError):
        Phrase(*phrase)  # type: ignore[arg-type]


def test_a_box_of_the_centre_crop_in_the_whole_image() -> None:
    # 300 x 200: the crop is the middle 200 columns, from column 50 on.
    assert from_centre_crop(Box(0.1, 0.2, 0.5, 0.6, 0.5), 300, 200) == Box(
        70 / 300, 40 / 200, 150 / 300, 120 / 200, 0.5
    )
    assert from_centre_crop(Box(0.1, 0.2, 0.5, 0.6), 200, 300) == Box(20 / 200, 90 / 300, 100 / 200, 170 / 300)


def test_no_box_of_the_crop_is_thinner_than_a_pixel() -> None:
    assert from_centre_crop(Box(0.995, 0.5, 1.0, 0.505), 10, 10) == Box(0.9, 0.5, 1.0, 0.6)


def test_a_box_outside_the_crop_is_none() -> None:
    assert to_centre_crop(Box(0.0, 0.1, 0.15, 0.9), 300, 200) is None
    assert to_centre_crop(Box(0.0, 0.25, 0.5, 0.75), 300, 200) == Box(0.0, 0.25, 0.5, 0.75)


@given(bin_boxes(), st.integers(200, 3000), st.integers(200, 3000))
def test_there_and_back_is_off_by_a_pixel_at_most(box: BinBox, columns: int, rows: int) -> None:
    back = to_centre_crop(from_centre_crop(box.box, columns, rows), columns, rows)
    assert back is not None
    pixel = 1.0 / min(columns, rows) + 1e-9
    for one, other in zip(
        (back.x_min, back.y_min, back.x_max, back.y_max),
        (box.box.x_min, box.box.y_min, box.box.x_max, box.box.y_max),
        strict=True,
    ):
        assert abs(one - other) <= pixel
