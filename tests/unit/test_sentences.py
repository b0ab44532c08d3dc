"""Sentences: where they begin and end, and what a case's sentences carry."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.records import Case
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences, split_sentences

CASES = [
    ("", []),
    (" \n\t ", []),
    ("...", []),
    ("No effusion", ["No effusion"]),
    ("No effusion. Heart is large.", ["No effusion.", "Heart is large."]),
    ("  No effusion.  ", ["No effusion."]),
    ("A nodule of 2.5 cm is seen. No effusion.", ["A nodule of 2.5 cm is seen.", "No effusion."]),
    ("A nodule measures 2.5 cm. x 3.1 cm. in size.", ["A nodule measures 2.5 cm. x 3.1 cm. in size."]),
    ("A nodule measures 3 cm. No effusion.", ["A nodule measures 3 cm.", "No effusion."]),
    ("Seen by Dr. Okafor today. No effusion.", ["Seen by Dr. Okafor today.", "No effusion."]),
    ("Scar vs. atelectasis at the base.", ["Scar vs. atelectasis at the base."]),
    ("Chronic disease, e.g. emphysema, is seen.", ["Chronic disease, e.g. emphysema, is seen."]),
    ("Lungs are clear. heart is normal.", ["Lungs are clear.", "heart is normal."]),
    ("The XXXX are normal. XXXX XXXX. No edema.", ["The XXXX are normal.", "XXXX XXXX.", "No edema."]),
    ("1. No acute disease. 2. Old rib fracture.", ["No acute disease.", "Old rib fracture."]),
    ("1) No acute disease\n2) Old rib fracture", ["No acute disease", "Old rib fracture"]),
    ("- Clear lungs\n- Normal heart", ["Clear lungs", "Normal heart"]),
    ("FINDINGS: Clear lungs. IMPRESSION: Normal chest.", ["Clear lungs.", "Normal chest."]),
    ("Findings: Clear lungs.\nImpression: 1. Normal chest.", ["Clear lungs.", "Normal chest."]),
    ("COMPARISON: None. FINDINGS: Clear lungs.", ["None.", "Clear lungs."]),
    ("Clear lungs\nNormal heart", ["Clear lungs", "Normal heart"]),
    ("A small left\npleural effusion is seen.", ["A small left\npleural effusion is seen."]),
    ("Clear lungs\n\nnormal heart", ["Clear lungs", "normal heart"]),
    ("Clear lungs.Normal heart.", ["Clear lungs.", "Normal heart."]),
    ("Is there a nodule? Yes!", ["Is there a nodule?", "Yes!"]),
    ("Clear lungs.. Normal heart.", ["Clear lungs..", "Normal heart."]),
    ("Fracture of T8. No effusion.", ["Fracture of T8.", "No effusion."]),
    ("The tip is at T4.5 level.", ["The tip is at T4.5 level."]),
    ('The film reads "normal." No edema.', ['The film reads "normal."', "No edema."]),
    ("No effusion (see above). No edema.", ["No effusion (see above).", "No edema."]),
]


@pytest.mark.parametrize(("text", "sentences"), CASES)
def test_sentences_are_cut_as_written(text: str, sentences: list[str]) -> None:
    assert [text[a:b] for a, b in split_sentences(text)] == sentences


@given(st.text(max_size=400))
def test_spans_are_stripped_ordered_and_apart(text: str) -> None:
    at = 0
    for start, end in split_sentences(text):
        assert at <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert any(c.isalnum() for c in text[start:end])
        at = end


PIECES = ["No effusion.", "1.", "\n", "FINDINGS:", "2.5 cm.", "IMPRESSION :", "-", "Dr.", "a)", "X"]


@given(st.lists(st.sampled_from(PIECES)))
def test_report_shaped_text_never_breaks_the_spans(parts: list[str]) -> None:
    text = " ".join(parts)
    spans = split_sentences(text)
    assert spans == sorted(spans)
    assert all("FINDINGS:" not in text[a:b] for a, b in spans)


def test_a_long_text_is_cut_in_linear_time() -> None:
    for unit in ("a. ", "1. ", "FINDINGS ", "\n", "x.Aa", "Dr. ", ".....", "-----Dr. ", "FINDINGS \t"):
        text = (unit * 60_000)[:60_000] + "x"
        began = time.process_time()
        split_sentences(text)
        assert time.process_time() - began < 3.0


def test_case_sentences_carry_section_span_and_mentions() -> None:
    text = "FINDINGS: Small left effusion. Heart size is normal.\nIMPRESSION: 1. Left effusion."
    first, second, third = read_case_sentences(text, Labeler())
    assert (first.text, first.section, first.span) == ("Small left effusion.", "findings", (10, 30))
    assert (second.text, second.section) == ("Heart size is normal.", "findings")
    assert (third.text, third.section) == ("Left effusion.", "impression")
    quoted = [text[slice(*s.mentions[0].span)] for s in (first, second, third)]
    assert quoted == ["effusion", "Heart size is normal", "effusion"]
    case = Case("openi", "S1", "P1", text, (first, second, third))
    assert case.sentences[2].span == (text.rindex("Left"), len(text))


def test_what_a_request_names_is_no_finding() -> None:
    text = "INDICATION: Pneumonia. COMPARISON: None. FINDINGS: No edema."
    sentences = read_case_sentences(text, Labeler())
    assert [(s.section, len(s.mentions)) for s in sentences] == [("indication", 0), ("comparison", 0), ("findings", 1)]


def test_text_without_headers_is_findings() -> None:
    (only,) = read_case_sentences("No edema.", Labeler())
    assert only.section == "findings"
