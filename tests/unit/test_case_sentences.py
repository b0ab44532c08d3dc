"""Case sentences as the unit of evidence, what is left of one without its comparison, and when two cases are one study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.case_sentences import OTHER, PARTLY, SAME, UNSAID, Fit, Wanted, best_sentence, supporting
from knowledge_base.duplicates import distinct, is_repeated, same_film
from knowledge_base.findings import Laterality, Polarity
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention
from knowledge_base.search import CaseHit
from rag_service.report.comparisons import without_comparison
from rag_service.report.labeler import comparison_spans, comparison_words, shared_labeler
from rag_service.report.sentences import read_case_sentences

POSITIVE, NEGATIVE = Polarity.POSITIVE, Polarity.NEGATIVE
LEFT, RIGHT, BOTH = Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL
EFFUSION = Wanted("Pleural Effusion", POSITIVE)


def case(text: str, study: str = "s", source: str = "openi") -> Case:
    return Case(source, study, f"p-{study}", text, read_case_sentences(text, shared_labeler()))


def hit(
    text: str, study: str = "s", source: str = "openi", box: BoxLatent | None = None, overlap: float | None = None
) -> CaseHit:
    return CaseHit(case(text, study, source), 0.1, {}, None, overlap, box)


def whole(sentence: CaseSentence, _: str) -> CaseSentence:
    return sentence


@pytest.mark.parametrize(
    ("said", "wanted", "grade"),
    [
        (LEFT, None, SAME), (None, None, SAME), (LEFT, LEFT, SAME), (BOTH, LEFT, PARTLY), (LEFT, BOTH, PARTLY),
        (None, LEFT, UNSAID), (RIGHT, LEFT, OTHER), (None, BOTH, UNSAID),
    ],
)  # fmt: skip
def test_how_a_side_fits(said: Laterality | None, wanted: Laterality | None, grade: int) -> None:
    mention = Mention("Pleural Effusion", POSITIVE, (0, 1), laterality=said)
    assert replace(EFFUSION, laterality=wanted).fit(mention) == Fit(grade, SAME)


@pytest.mark.parametrize(
    ("said", "wanted", "grade"),
    [("base", None, SAME), ("base", "base", SAME), (None, "base", UNSAID), ("apex", "base", OTHER)],
)
def test_how_a_place_fits(said: str | None, wanted: str | None, grade: int) -> None:
    mention = Mention("Pleural Effusion", POSITIVE, (0, 1), location=said)
    assert replace(EFFUSION, location=wanted).fit(mention) == Fit(SAME, grade)


def test_another_finding_or_polarity_does_not_fit() -> None:
    assert EFFUSION.fit(Mention("Edema", POSITIVE, (0, 1))) is None
    assert EFFUSION.fit(Mention("Pleural Effusion", NEGATIVE, (0, 1))) is None


def test_the_side_comes_before_the_rank_and_another_side_supports_nothing() -> None:
    hits = [
        hit("Small pleural effusion.", "a"),
        hit("Right pleural effusion. Heart is normal.", "b"),
        hit("Bilateral effusions. Edema.", "c"),
        hit("No pleural effusion.", "d"),
        hit("The heart is normal. Left pleural effusion.", "e"),
    ]
    found = supporting(hits, replace(EFFUSION, laterality=LEFT), whole)
    assert [(s.sentence.text, s.rank) for s in found] == [
        ("Left pleural effusion.", 5),
        ("Bilateral effusions.", 3),
        ("Small pleural effusion.", 1),
    ]
    assert all(s.whole for s in found)
    assert [s.rank for s in supporting(hits, EFFUSION, whole)] == [1, 2, 3, 5]
    assert supporting(hits, EFFUSION, lambda *_: None) == ()


def test_support_quotes_the_case_text_clause_or_not() -> None:
    hits = [hit("Heart is normal. Stable left effusion since the prior film. Pleural effusion.")]
    found = supporting(hits, EFFUSION, without_comparison)
    assert [(s.sentence.text, s.whole) for s in found] == [("left effusion", False), ("Pleural effusion.", True)]
    for s in found:
        assert s.hit.case.text[slice(*s.sentence.span)] == s.sentence.text


@pytest.mark.parametrize(
    ("text", "finding", "left"),
    [
        ("Small left effusion, unchanged since the prior film.", "Pleural Effusion", "Small left effusion"),
        ("Stable cardiomegaly.", "Cardiomegaly", "cardiomegaly"),
        ("Heart is enlarged and unchanged.", "Cardiomegaly", "Heart is enlarged"),
        ("Interval development of a small right pleural effusion.", "Pleural Effusion", "small right pleural effusion"),
        ("There is a new left effusion.", "Pleural Effusion", "left effusion"),
        ("Improved edema compared to prior exam.", "Edema", "edema"),
        ("Left effusion has increased, no pneumothorax.", "Pneumothorax", "no pneumothorax"),
        ("Left effusion has increased, no pneumothorax.", "Pleural Effusion", "Left effusion"),
        ("No significant interval change in cardiomegaly.", "Cardiomegaly", "cardiomegaly"),
        ("There is no pneumothorax.", "Pneumothorax", "There is no pneumothorax."),
        ("No new effusion.", "Pleural Effusion", None),
        ("The effusion has resolved.", "Pleural Effusion", None),
        ("The heart remains enlarged.", "Cardiomegaly", None),
        ("Possible new edema.", "Edema", None),
        ("Unchanged effusion (left base, with edema).", "Fracture", None),
        ("Stable (and left effusion).", "Pleural Effusion", "left effusion"),
        ("Increased effusion (with edema) on the left.", "Pleural Effusion", "effusion (with edema) on the left"),
        ("Stable effusion on the left (small).", "Pleural Effusion", None),
    ],
)
def test_what_is_left_without_the_comparison(text: str, finding: str, left: str | None) -> None:
    sentence = case(f"FINDINGS: {text}").sentences[0]
    found = without_comparison(sentence, finding)
    assert (None if found is None else found.text) == left
    if found is not None:
        assert found.span[0] - sentence.span[0] == text.index(found.text)
        assert comparison_words(found.text) == ()
        assert [m.polarity for m in found.mentions if m.finding == finding] == [
            m.polarity for m in sentence.mentions if m.finding == finding
        ]


WORDS = (
    "no",
    "new",
    "stable",
    "left",
    "effusion",
    "edema",
    "may",
    "be",
    "resolved",
    "since",
    "prior",
    "and",
    ",",
    "is",
    "not",
)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9), st.sampled_from(["Pleural Effusion", "Edema"]))
def test_a_clause_never_says_another_thing_than_its_sentence(words: list[str], finding: str) -> None:
    text = " ".join(words)
    sentence = CaseSentence(text, (0, len(text)), "findings", shared_labeler().read(text))
    found = without_comparison(sentence, finding)
    if found is not None and found is not sentence:
        assert text[slice(*found.span)] == found.text
        assert comparison_spans(found.text) == ()
        assert {(m.polarity, m.laterality) for m in found.mentions if m.finding == finding} == {
            (m.polarity, m.laterality) for m in sentence.mentions if m.finding == finding
        }


def test_the_sentence_that_answers_best() -> None:
    told = case("FINDINGS: Right effusion. Left basilar effusion. Tortuous aorta. No pneumothorax.")
    left = replace(EFFUSION, laterality=LEFT)

    def answer(*wanted: Wanted, question: str = "") -> tuple[str, int] | None:
        found = best_sentence(told, wanted, question, without_comparison)
        return None if found is None else (found[0].text, found[1])

    assert answer(left) == ("Left basilar effusion.", 16)
    assert answer(EFFUSION) == ("Right effusion.", 16)
    assert answer(replace(EFFUSION, laterality=BOTH)) == ("Right effusion.", 12)
    assert answer(Wanted("Pneumothorax", NEGATIVE)) == ("No pneumothorax.", 16)
    assert answer(question="is the aorta tortuous") == ("Tortuous aorta.", 0)
    assert answer(Wanted("Edema", POSITIVE), question="edema at the aorta") == ("Tortuous aorta.", 0)
    assert answer(question="hernia") is None
    changed = case("FINDINGS: The heart remains enlarged. New left effusion. Cardiomegaly.")
    heart = Wanted("Cardiomegaly", POSITIVE)
    asked = [
        best_sentence(changed, [wanted], "", usable)
        for usable in (without_comparison, whole)
        for wanted in (left, heart)
    ]
    assert [(found[0].text, found[1]) for found in asked if found is not None] == [
        ("left effusion", 16), ("Cardiomegaly.", 16), ("New left effusion.", 16), ("The heart remains enlarged.", 16),
    ]  # fmt: skip
    assert best_sentence(Case("a", "b", "c", "", ()), [left], "left", whole) is None


def box(shift: float = 0.0) -> BoxLatent:
    return BoxLatent(np.full(4, shift, np.float32), np.ones(4, np.float32))


def test_the_film_itself_is_told_by_its_box() -> None:
    assert [same_film(hit("x", overlap=o)) for o in (None, 0.97, 0.98, 1.0)] == [False, False, True, True]
    hits = [hit("x", "a", overlap=1.0, box=box()), hit("y", "b", overlap=0.4, box=box(1.0))]
    found = distinct(hits, 5)
    assert ([h.case.study for h in found.hits], [h.case.study for h in found.same]) == (["b"], ["a"])
    assert [h.case.study for h in distinct(hits, 5, include_same=True).hits] == ["a", "b"]


def test_one_study_under_two_names_is_one() -> None:
    first = hit("Normal chest.", "a", overlap=0.5, box=box())
    copied = hit("Report of the same film.", "b", "nih", overlap=0.5, box=box(0.005))
    near = hit("Normal chest.", "c", "nih", overlap=0.49, box=box(0.2))
    far = hit("Normal chest.", "d", "nih", overlap=0.9, box=box())
    assert is_repeated(copied, [first])
    assert not is_repeated(near, [first])
    assert not is_repeated(far, [first])  # cannot be: equal boxes overlap equally with the film
    found = distinct([first, copied, near], 3)
    assert ([h.case.study for h in found.hits], [h.case.study for h in found.repeated]) == (["a", "c"], ["b"])
    assert [h.case.study for h in distinct([first, copied, near], 1).hits] == ["a"]


def test_without_films_the_same_words_from_another_source_are_one_study() -> None:
    first = hit("Normal chest.", "a")
    assert is_repeated(hit("Normal chest.", "a", "nih"), [first])
    assert not is_repeated(hit("Normal chest.", "b"), [first])  # another patient of the source
    assert not is_repeated(hit("Normal lungs.", "a", "nih"), [first])
    assert is_repeated(hit("Normal chest.", "a"), [first])
    assert is_repeated(hit("Normal chest.", "b", "nih"), [hit("Normal chest.", "a", box=box(), overlap=0.5)])
