"""No text of a caller or a report does more than be read: what gives orders is no evidence, and nothing raises but typed errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knowledge_base.findings import FINDINGS
from rag_service.errors import BadRequest, ServiceError
from rag_service.film_words import film_words
from rag_service.indication import LIMIT, IndicationShift
from rag_service.report.citations import is_statement
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentences import split_sentences
from rag_service.requests import (
    MAX_QUESTIONS,
    MAX_TEXT,
    DraftRequest,
    QueryRequest,
    SearchRequest,
    read_language,
    read_patient,
    read_region,
)
from rag_service.similar import read_question
from tests.unit.hostile_texts import SEEN, hostile_texts

ANYTHING = st.text(st.characters(), max_size=80) | st.text("\x00\ud800\u202e\u200b <obj>{}%XxNo.\n", max_size=80)
"""Surrogates and control characters are among them."""
WORDS = ("pain", "cough", "pacemaker")
SHIFT = IndicationShift("m", WORDS, np.ones(3), np.zeros(3), np.full((len(FINDINGS), 3), 9.0), "none")
HONEST = (
    "The heart is enlarged.",
    "Small left-sided pleural effusion; no pneumothorax.",
    "No pneumothorax (supine film), no pleural effusion.",
    "Heart size is within normal limits.",
)


@pytest.mark.parametrize("text", hostile_texts(), ids=range(len(hostile_texts())))
def test_no_sentence_of_a_hostile_text_that_states_something_is_evidence(text: str) -> None:
    sentences = [text[start:end] for start, end in split_sentences(text)]
    assert not [s for s in sentences if shared_labeler().read(s) and is_statement(s)]


def test_sentences_of_reports_are_evidence() -> None:
    assert all(is_statement(text) for text in HONEST)
    assert len(SEEN) == 8


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
@example("a" * MAX_TEXT)
@example("a" * (MAX_TEXT + 1))
@example("\n".join(map(str, range(MAX_QUESTIONS + 1))))
@example("\ud800")
def test_a_request_with_any_text_is_made_or_refused(text: str) -> None:
    for make in (
        lambda: DraftRequest(b"f", prompt=text),
        lambda: DraftRequest(b"f", indication=text, technique=text, comparison=text, prior_report=text),
        lambda: QueryRequest(b"f", prompt=text),
        lambda: SearchRequest(text=text),
        lambda: read_patient(text),
        lambda: read_region(text),
        lambda: read_language(text),
    ):
        try:
            make()
        except ServiceError as error:
            assert type(error) is BadRequest
            assert len(text.strip()) < 8 or text.strip() not in str(error)


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
@example("pain " * 500)
def test_any_indication_moves_scores_within_the_limit(text: str) -> None:
    moved = SHIFT.shift(text)
    assert moved.shape == (len(FINDINGS),)
    assert np.abs(moved).max() <= LIMIT
    assert any(word in text.lower() for word in WORDS) or not moved.any()


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
def test_any_text_is_searched_for_and_read(text: str) -> None:
    names = {finding: np.ones(4, np.float32) for finding in FINDINGS}
    words, vector = film_words(("Edema",), names, text)
    assert words == (f"Edema, {text}" if text else "Edema")
    assert np.array_equal(vector, np.full(4, 0.5, np.float32))
    assert {w.finding for w in read_question(text, None).wanted} <= set(FINDINGS)
