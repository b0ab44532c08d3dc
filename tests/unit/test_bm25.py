"""Words as sparse vectors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.bm25 import document_vector, idf, query_vector, stem, term_id, terms
from knowledge_base.schema import TermWeights

WEIGHTS = TermWeights()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The heart is normal in size.", ["heart", "normal", "size"]),
        ("No pleural effusions, without pneumothoraces", ["no", "pleural", "effusion", "without", "pneumothorax"]),
        ("Bibasilar opacities; multiple masses", ["bibasilar", "opacity", "multiple", "mass"]),
        ("Right-sided T-tube, 3 cm", ["right", "sided", "tube", "3", "cm"]),
        ("Atelectasis is not pneumonitis", ["atelectasis", "not", "pneumonitis"]),
        ("ＥＦＦＵＳＩＯＮ", ["effusion"]),
        ("胸水なし", ["胸水", "水な", "なし"]),
        ("左肺 opacity", ["左肺", "opacity"]),
        ("肺", ["肺"]),
        ("CT上hilaの", ["ct", "上", "hilum", "の"]),
        ("_ -- ...", []),
        ("", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lungs", "lung"),
        ("boxes", "box"),
        ("patches", "patch"),
        ("masses", "mass"),
        ("mass", "mass"),
        ("thrombus", "thrombus"),
        ("diagnosis", "diagnosis"),
        ("diagnoses", "diagnosis"),
        ("bases", "base"),
        ("ribs", "rib"),
        ("gas", "gas"),
        ("ties", "tie"),
    ],
)
def test_plurals_fold_onto_singulars(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_a_term_has_the_same_id_in_every_release() -> None:
    assert term_id("effusion") == 1443735491
    assert term_id("no") == 3411430191


def test_a_document_vector_saturates_and_forgives_length() -> None:
    vector = document_vector("effusion effusion edema", WEIGHTS)
    assert vector is not None
    held = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    norm = 1.2 * (0.25 + 0.75 * 3 / 30)
    assert held[term_id("effusion")] == pytest.approx(2 * 2.2 / (2 + norm), rel=1e-6)
    assert held[term_id("edema")] == pytest.approx(2.2 / (1 + norm), rel=1e-6)
    assert len(held) == 2


def test_a_query_counts_each_term_once() -> None:
    vector = query_vector("effusion, effusions and edema")
    assert vector is not None
    assert vector.indices.tolist() == sorted([term_id("effusion"), term_id("edema")])
    assert vector.values.tolist() == [1.0, 1.0]


def test_a_text_without_terms_has_no_vector() -> None:
    assert document_vector("the of and", WEIGHTS) is None
    assert query_vector("...") is None


def test_rare_terms_weigh_more_and_no_term_weighs_less_than_nothing() -> None:
    assert idf(3, 1) == pytest.approx(math.log(2.5 / 1.5 + 1))
    assert idf(10, 10) == pytest.approx(math.log(0.5 / 10.5 + 1))
    assert idf(0, 0) == pytest.approx(math.log(2))


@given(st.text(max_size=200))
def test_any_text_makes_a_sound_vector_or_none(text: str) -> None:
    vector = document_vector(text, WEIGHTS)
    assert (vector is None) == (terms(text) == [])
    if vector is not None:
        assert (vector.values > 0).all()
        assert vector.values.max() <= WEIGHTS.k1 + 1.0
        assert query_vector(text).indices.tolist() == vector.indices.tolist()  # type: ignore[union-attr]


@given(st.lists(st.sampled_from(["effusion", "no", "edema", "left"]), min_size=1, max_size=12))
def test_word_order_does_not_matter(words: list[str]) -> None:
    one, other = document_vector(" ".join(words), WEIGHTS), document_vector(" ".join(words[::-1]), WEIGHTS)
    assert one is not None
    assert other is not None
    assert one.indices.tolist() == other.indices.tolist()
    assert one.values.tolist() == other.values.tolist()
