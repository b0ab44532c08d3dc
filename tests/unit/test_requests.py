"""What a request may hold, and how its texts are read."""

from __future__ import annotations

from typing import Any

import pytest

from rag_service.errors import BadRequest, PriorNotUsable, PriorOfAnotherPatient, ServiceError
from rag_service.imaging.film import Box
from rag_service.requests import (
    DraftRequest,
    Language,
    QueryRequest,
    read_boxes,
    read_language,
    read_patient,
)

WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        ({"prior": b"film"}, PriorNotUsable, "one of this study's films again"),
        ({"prior": b"side", "lateral": b"side"}, PriorNotUsable, "one of this study's films again"),
        ({"prior_patient": ("a", "1"), "patient": ("a", "1")}, BadRequest, "needs the prior film"),
        ({"prior": b"old", "prior_patient": ("a", "1")}, BadRequest, "is compared with patient"),
        ({"prompt": "\n".join(f"what {i}?" for i in range(13))}, BadRequest, "at most 12 prompts and boxes"),
        ({"prompt": "what?", "boxes": (WHOLE,) * 12}, BadRequest, "at most 12 prompts and boxes"),
        ({"prior_report": "x" * 4001}, BadRequest, "prior_report is longer than 4000 characters"),
        ({"technique": "a\x1b[2J"}, BadRequest, "technique holds characters that are no text"),
        ({"comparison": "\ud800"}, BadRequest, "comparison holds characters that are no text"),
    ],
)
def test_what_no_draft_can_be_made_of(fields: dict[str, Any], error: type[ServiceError], told: str) -> None:
    with pytest.raises(error, match=told):
        DraftRequest(b"film", **fields)


@pytest.mark.parametrize(
    ("one", "other", "two"),
    [
        (("a", "1"), ("a", "1"), False),
        (("a", "1"), ("", "1"), False),
        (("a", "1"), ("b", "1"), True),
        (("a", "1"), ("a", "2"), True),
        (("", "1"), ("", "2"), True),
    ],
)
def test_two_patients_are_told_apart_by_what_both_names_say(
    one: tuple[str, str], other: tuple[str, str], two: bool
) -> None:
    refused = None
    try:
        DraftRequest(b"film", patient=one, prior=b"old", prior_patient=other)
    except PriorOfAnotherPatient as error:
        refused = error
    assert (refused is not None) is two


def test_prompts_are_lines_each_once() -> None:
    asked = DraftRequest(b"film", prompt=" effusion? \r\n\n胸水は？\neffusion?", boxes=(WHOLE,) * 10)
    assert asked.prompts == ("effusion?", "胸水は？")


def test_a_query_asks_something() -> None:
    assert QueryRequest(b"film", box=WHOLE).prompt == ""
    with pytest.raises(BadRequest, match="a prompt, a box, or both"):
        QueryRequest(b"film", prompt=" \n")


def test_boxes_languages_and_patients_are_read() -> None:
    assert read_boxes(" 0,0,1,1 ;\n0,0,0.5,1;") == (WHOLE, Box(0.0, 0.0, 0.5, 1.0))
    assert read_boxes("") == ()
    assert read_language("es") is Language.ES
    assert (read_patient(" a:1:2 "), read_patient("1")) == (("a", "1:2"), ("", "1"))


@pytest.mark.parametrize("text", ["0,0,1", "1,0,0,1", "0,0,1,2", "0,0,1,1,1", "x"])
def test_boxes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        read_boxes(f"0,0,1,1;{text}")


def test_other_languages_and_nameless_patients_are_refused() -> None:
    with pytest.raises(BadRequest, match="language must be one of: en, es, ja"):
        read_language("EN")
    for text in ("", "a:", ":1", " "):
        with pytest.raises(BadRequest, match="PATIENT or SOURCE:PATIENT"):
            read_patient(text)
