"""The citation gate, line by line: what a sentence of another patient's report may say of this film."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.findings import FINDINGS, Laterality, Polarity, Progression
from knowledge_base.records import CaseSentence, Mention
from rag_service.calibration import Confidence, Tier
from rag_service.imaging.film import Box
from rag_service.report.citations import entails, extra_words, holds, speaks_of_this_film_only
from rag_service.report.decisions import Decision
from rag_service.report.draft import Uncertainty
from rag_service.report.labeler import Labeler

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
LEFT, RIGHT, BOTH = Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL
UPPER, LOWER = Box(0.6, 0.1, 0.8, 0.3), Box(0.6, 0.7, 0.8, 0.9)


def decision(label: str, polarity: Polarity | None, **more: Any) -> Decision:
    return Decision(label, polarity, Confidence(0.9, (0.8, 0.95), Tier.HIGH, ()), Uncertainty(0.1, (), 0.01), **more)


def said(
    text: str, *read: tuple[str, str, Polarity] | tuple[str, str, Polarity, dict[str, Any]], at: int = 7
) -> CaseSentence:
    """A sentence whose mentions are (words, finding, polarity, traits), as if it began at `at` in its case."""
    mentions = []
    for words, finding, polarity, *traits in read:
        start = at + text.index(words)
        mentions.append(Mention(finding, polarity, (start, start + len(words)), **(traits[0] if traits else {})))
    return CaseSentence(text, (at, at + len(text)), "findings", tuple(mentions))


def all_decided(*given_: Decision) -> dict[str, Decision]:
    return {f: decision(f, None) for f in FINDINGS} | {d.label: d for d in given_}


EFFUSION = decision("Pleural Effusion", POSITIVE, laterality=LEFT, boxes=(LOWER,))
NO_EFFUSION = decision("Pleural Effusion", NEGATIVE)


def effusion(text: str, polarity: Polarity = POSITIVE, **traits: Any) -> CaseSentence:
    return said(text, ("effusion", "Pleural Effusion", polarity, traits))


def test_a_sentence_that_says_what_was_decided_holds() -> None:
    assert holds(effusion("There is a pleural effusion."), EFFUSION, all_decided(EFFUSION))
    assert holds(effusion("No pleural effusion.", NEGATIVE), NO_EFFUSION, all_decided(NO_EFFUSION))


def test_a_sentence_of_another_finding_does_not() -> None:
    sentence = said("There is edema.", ("edema", "Edema", POSITIVE))
    assert not holds(sentence, EFFUSION, all_decided(EFFUSION, decision("Edema", POSITIVE)))
    assert not holds(said("Clear."), EFFUSION, all_decided(EFFUSION))


@pytest.mark.parametrize("polarity", [NEGATIVE, UNCERTAIN])
def test_another_polarity_does_not_hold(polarity: Polarity) -> None:
    assert not holds(effusion("Pleural effusion.", polarity), EFFUSION, all_decided(EFFUSION))


def test_a_sentence_that_affirms_and_denies_does_not_hold() -> None:
    text = "Left effusion, no right sided effusion."
    both = said(text, ("effusion", "Pleural Effusion", POSITIVE), ("sided effusion", "Pleural Effusion", NEGATIVE))
    assert not holds(both, EFFUSION, all_decided(EFFUSION))
    assert not holds(both, NO_EFFUSION, all_decided(NO_EFFUSION))


@pytest.mark.parametrize(("side", "fits"), [(None, True), (LEFT, True), (RIGHT, False), (BOTH, False)])
def test_a_stated_side_is_that_of_the_boxes(side: Laterality | None, fits: bool) -> None:
    assert holds(effusion("Pleural effusion.", laterality=side), EFFUSION, all_decided(EFFUSION)) is fits


@pytest.mark.parametrize(("side", "fits"), [(None, True), (BOTH, True), (LEFT, False), (RIGHT, False)])
def test_what_is_denied_is_denied_on_both_sides(side: Laterality | None, fits: bool) -> None:
    sentence = effusion("No pleural effusion.", NEGATIVE, laterality=side)
    assert holds(sentence, NO_EFFUSION, all_decided(NO_EFFUSION)) is fits


def test_a_denial_of_one_degree_denies_too_little() -> None:
    sentence = effusion("No large effusion.", NEGATIVE, severity="large")
    assert not holds(sentence, NO_EFFUSION, all_decided(NO_EFFUSION))
    assert not entails(sentence, NO_EFFUSION)
    assert entails(effusion("No effusion.", NEGATIVE), NO_EFFUSION)
    large = effusion("A large effusion.", severity="large")
    assert holds(large, EFFUSION, all_decided(EFFUSION))
    assert entails(large, EFFUSION)


def test_a_finding_without_a_side_takes_no_sentence_with_one() -> None:
    edema = decision("Edema", POSITIVE, boxes=(LOWER,))
    sentence = said("Left edema.", ("edema", "Edema", POSITIVE, {"laterality": LEFT}))
    assert not holds(sentence, edema, all_decided(edema))


@pytest.mark.parametrize("change", list(Progression))
def test_a_change_needs_an_earlier_film(change: Progression) -> None:
    assert not holds(effusion("Pleural effusion.", progression=change), EFFUSION, all_decided(EFFUSION))


@pytest.mark.parametrize(
    ("words", "box", "fits"),
    [
        ("at the left base", LOWER, True),
        ("at the left base", UPPER, False),
        ("in the left upper lobe", UPPER, True),
        ("in the left upper lobe", LOWER, False),
        ("at the left apex", LOWER, False),
        ("blunting the costophrenic angle", UPPER, False),
        ("in the left upper and lower lobes", LOWER, False),
        ("in the left lung", UPPER, True),
        ("at the left base", Box(0.6, 0.3, 0.8, 0.65), True),
        ("in the left upper lobe", Box(0.6, 0.3, 0.8, 0.65), True),
    ],
)
def test_words_of_height_are_where_the_heaviest_box_is(words: str, box: Box, fits: bool) -> None:
    decided = decision("Pleural Effusion", POSITIVE, laterality=LEFT, boxes=(box, LOWER, UPPER))
    assert holds(effusion(f"Pleural effusion {words}."), decided, all_decided(decided)) is fits


def test_a_finding_without_boxes_takes_no_words_of_height_but_a_denied_one_does() -> None:
    nowhere = decision("Pleural Effusion", POSITIVE)
    assert not holds(effusion("Pleural effusion at the base."), nowhere, all_decided(nowhere))
    assert holds(effusion("Pleural effusion."), nowhere, all_decided(nowhere))
    assert holds(effusion("No effusion at either lung base.", NEGATIVE), NO_EFFUSION, all_decided(NO_EFFUSION))


PAIR = said(
    "Pleural effusion and cardiomegaly.",
    ("effusion", "Pleural Effusion", POSITIVE),
    ("cardiomegaly", "Cardiomegaly", POSITIVE),
)


@pytest.mark.parametrize(("other", "fits"), [(POSITIVE, True), (NEGATIVE, False), (UNCERTAIN, False), (None, False)])
def test_whatever_else_is_mentioned_must_agree_with_the_film(other: Polarity | None, fits: bool) -> None:
    assert holds(PAIR, EFFUSION, all_decided(EFFUSION, decision("Cardiomegaly", other))) is fits


def test_a_finding_nobody_decided_on_does_not_agree() -> None:
    assert not holds(PAIR, EFFUSION, {"Pleural Effusion": EFFUSION})


def test_a_film_is_never_called_normal_beside_a_finding() -> None:
    text = "No acute disease, no effusion."
    normal = said(text, ("acute disease", "No Finding", POSITIVE), ("effusion", "Pleural Effusion", NEGATIVE))
    decided = all_decided(NO_EFFUSION, decision("No Finding", POSITIVE))
    assert not holds(normal, NO_EFFUSION, decided)


OPACITY = ("opacity", "Lung Opacity", POSITIVE)


@pytest.mark.parametrize(
    ("label", "polarity", "opacity", "fits"),
    [
        ("Pneumonia", POSITIVE, POSITIVE, True),
        ("Pneumonia", POSITIVE, UNCERTAIN, True),
        ("Consolidation", POSITIVE, POSITIVE, True),
        ("Pneumonia", POSITIVE, NEGATIVE, False),
        ("Pneumonia", NEGATIVE, POSITIVE, False),
        ("Pleural Effusion", POSITIVE, POSITIVE, False),
    ],
)
def test_an_opacity_may_be_named_with_the_disease_it_is(
    label: str, polarity: Polarity, opacity: Polarity, fits: bool
) -> None:
    decided = decision(label, polarity, boxes=(LOWER,), laterality=LEFT)
    sentence = said("Opacity with disease.", ("Opacity", "Lung Opacity", opacity), ("disease", label, polarity))
    assert holds(sentence, decided, all_decided(decided)) is fits


@pytest.mark.parametrize(
    "text",
    [
        "The effusion is unchanged.",
        "There is a new effusion.",
        "Stable pleural effusion.",
        "Effusion compared to prior.",
        "Increased effusion since the previous film.",
        "Effusion with XXXX.",
        "Effusion seen on ___.",
        "An effusion of 3 cm.",
        "An effusion of two centimeters.",
        "A five mm effusion.",
        "Effusion, recommend drainage.",
        "Effusion, follow-up advised.",
        "Effusion, suggest CT.",
        "Effusion, correlate clinically.",
        "Effusion better seen on the lateral view.",
        "Patient with effusion.",
        "Known effusion.",
        "Effusion status post surgery.",
        "Effusion discussed with the ward.",
        "Effusion, otherwise normal.",
        "Effusion and " + "very " * 22 + "large.",
    ],
)
def test_what_no_film_shows_is_not_said(text: str) -> None:
    assert not speaks_of_this_film_only(text)
    sentence = said(text, ("ffusion", "Pleural Effusion", POSITIVE))
    assert not holds(sentence, EFFUSION, all_decided(EFFUSION))


@pytest.mark.parametrize(
    "text", ["Small left pleural effusion.", "No effusion is seen.", "There is " + "very " * 21 + "effusion."]
)
def test_what_a_film_shows_is_said(text: str) -> None:
    assert speaks_of_this_film_only(text)


@given(st.text(alphabet="0123456789 abcdefX.", max_size=40))
def test_a_digit_or_a_blanked_word_is_never_said(text: str) -> None:
    if any(c.isdigit() for c in text) or "XXX" in text:
        assert not speaks_of_this_film_only(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("There is a small left pleural effusion.", 0),
        ("Cunning purple effusion.", 2),
        ("Effusion-like mischief, effusion.", 3),
        ("EFFUSION IS PRESENT.", 1),
    ],
)
def test_words_that_the_labeler_does_not_read_are_counted(text: str, count: int) -> None:
    sentence = said(text, ("effusion", "Pleural Effusion", POSITIVE)) if "effusion" in text else said(text)
    assert extra_words(sentence) == count


@pytest.mark.parametrize(
    ("sentence", "implied"),
    [
        (effusion("Effusion, effusion."), True),
        (effusion("An effusion since then.", progression=Progression.NEW), True),
        (effusion("An effusion.", laterality=LEFT), True),
        (effusion("An effusion.", laterality=RIGHT), False),
        (effusion("An effusion.", UNCERTAIN), False),
        (effusion("An effusion.", NEGATIVE), False),
        (said("Edema.", ("Edema", "Edema", POSITIVE)), False),
        (PAIR, True),
    ],
)
def test_a_citation_alone_implies_the_finding(sentence: CaseSentence, implied: bool) -> None:
    assert entails(sentence, EFFUSION) is implied


REPORT = (
    "The heart is mildly enlarged. There is a small left pleural effusion. No pneumothorax is seen. "
    "Stable effusion since the prior study. Nodule measures 8 mm. Heart size is normal."
)


def test_the_gate_over_what_the_labeler_reads() -> None:
    labeler = Labeler()
    decided = all_decided(EFFUSION, decision("Cardiomegaly", POSITIVE), decision("Pneumothorax", NEGATIVE))
    passing: dict[str, list[str]] = {}
    start = 0
    for text in (part + "." for part in REPORT.rstrip(".").split(". ")):
        sentence = CaseSentence(text, (start, start + len(text)), "findings", labeler.read(text, start))
        passing |= {d.label: [*passing.get(d.label, []), text] for d in decided.values() if holds(sentence, d, decided)}
        start += len(text) + 1
    assert passing == {
        "Cardiomegaly": ["The heart is mildly enlarged."],
        "Pleural Effusion": ["There is a small left pleural effusion."],
        "Pneumothorax": ["No pneumothorax is seen."],
    }
