"""Guideline passages by meaning, words and finding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from knowledge_base.guideline_search import GuidelineSearch, WordIndex
from knowledge_base.records import Passage, RecordError


def a_passage(slug: str, text: str, findings: tuple[str, ...] = ()) -> Passage:
    return Passage(slug, "Title", "Society", "Source", 2020, "Section", None, findings, (), text, False, None)


PASSAGES = [
    a_passage("pneumothorax-size", "Measure the pneumothorax at the hilum.", ("Pneumothorax",)),
    a_passage("effusion-lateral", "A lateral film shows a small effusion.", ("Pleural Effusion",)),
    a_passage("tube-position", "The tip of the tube lies above the carina.", ("Support Devices",)),
    a_passage("effusion-pneumothorax", "Air and fluid together.", ("Pleural Effusion", "Pneumothorax")),
]
VECTORS = np.eye(4, dtype=np.float32)


def unit(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@pytest.fixture
def search() -> GuidelineSearch:
    return GuidelineSearch(PASSAGES, VECTORS, "minilm@1")


def test_meaning_and_words_are_fused(search: GuidelineSearch) -> None:
    hits = search.search("where is the tube", unit(0.6, 0.0, 0.8, 0.0), limit=2)
    assert [(h.passage.slug, dict(h.ranks)) for h in hits] == [
        ("tube-position", {"bm25": 1, "text": 1}),
        ("pneumothorax-size", {"text": 2}),
    ]
    assert hits[0].score == pytest.approx(2 / 61)


def test_words_alone_find_only_passages_that_share_one(search: GuidelineSearch) -> None:
    assert [h.passage.slug for h in search.search("TUBES", None)] == ["tube-position"]
    assert search.search("nothing of the kind", None) == []
    assert search.search("", None) == []


def test_findings_boost_but_do_not_shut_out(search: GuidelineSearch) -> None:
    hits = search.search("tube", None, ("Pleural Effusion", "Pneumothorax"))
    assert [(h.passage.slug, dict(h.ranks)) for h in hits] == [
        ("effusion-pneumothorax", {"findings": 1}),
        ("tube-position", {"bm25": 1}),
        ("effusion-lateral", {"findings": 2}),
        ("pneumothorax-size", {"findings": 3}),
    ]


def test_equal_scores_come_by_slug_whatever_the_order_given() -> None:
    same = [a_passage(slug, "same words") for slug in ("c", "a", "b")]
    vectors = np.tile(unit(1, 0), (3, 1))
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        search = GuidelineSearch([same[i] for i in order], vectors, "minilm@1")
        assert [h.passage.slug for h in search.search("words", unit(1, 0))] == ["a", "b", "c"]


def test_an_empty_library_answers_with_nothing() -> None:
    search = GuidelineSearch([], np.zeros((0, 4), np.float32), "minilm@1")
    assert search.search("tube", unit(1, 0, 0, 0), ("Edema",)) == []


@pytest.mark.parametrize(
    ("passages", "vectors", "reason"),
    [
        (PASSAGES, VECTORS[:3], "4 passages"),
        (PASSAGES, VECTORS[0], "4 passages"),
        (PASSAGES, VECTORS * 2, "unit length"),
        (PASSAGES, VECTORS * np.nan, "unit length"),
        ([PASSAGES[0], PASSAGES[0]], VECTORS[:2], "share a slug"),
    ],
)
def test_passages_and_vectors_must_fit(passages: list[Passage], vectors: NDArray[np.float32], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        GuidelineSearch(passages, vectors, "minilm@1")


def test_questions_are_checked(search: GuidelineSearch) -> None:
    with pytest.raises(RecordError, match="shape"):
        search.search("tube", unit(1, 0))
    with pytest.raises(RecordError, match="not zero"):
        search.search("tube", unit(0, 0, 0, 0))
    with pytest.raises(RecordError, match="finite"):
        search.search("tube", unit(np.nan, 0, 0, 0))
    with pytest.raises(ValueError, match="unknown findings"):
        search.search("tube", None, ("Hiccups",))
    with pytest.raises(ValueError, match="at least 1"):
        search.search("tube", None, limit=0)


def test_the_traps_of_rank_bm25_are_closed() -> None:
    assert WordIndex([]).ranked("effusion") == []
    assert WordIndex(["", "the of"]).ranked("effusion") == []
    assert WordIndex(["effusion", "effusion"]).ranked("effusion") == [0, 1]
    assert WordIndex(["clear", "effusion", "clear effusion"]).ranked("effusion") == [1, 2]
    assert WordIndex(["clear lungs"]).ranked("xylophone") == []


@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=6), st.text(alphabet="abc ", max_size=8))
def test_any_corpus_answers_any_question(texts: list[str], question: str) -> None:
    assert set(WordIndex(texts).ranked(question)) <= set(range(len(texts)))
