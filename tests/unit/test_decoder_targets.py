"""What the decoder learns to write: one finding a sentence, nothing that no draft may say."""

from __future__ import annotations

import pytest

from knowledge_base.findings import Laterality, Polarity
from rag_service.training.decoder_targets import Target, targets

P, N, U = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
L, R = Laterality.LEFT, Laterality.RIGHT


def said(text: str) -> list[tuple[str, str, Polarity, Laterality | None]]:
    return [(t.text, t.finding, t.polarity, t.side) for t in targets(f"FINDINGS: {text}")]


def test_a_sentence_that_says_one_thing_stays_as_it_is() -> None:
    assert said("The heart is enlarged.") == [("The heart is enlarged.", "Cardiomegaly", P, None)]
    assert said("Small left pleural effusion") == [("Small left pleural effusion.", "Pleural Effusion", P, L)]


def test_a_list_of_denials_is_one_denial_each() -> None:
    assert said("No pneumothorax or pleural effusion.") == [
        ("No pneumothorax.", "Pneumothorax", N, None),
        ("No pleural effusion.", "Pleural Effusion", N, None),
    ]


def test_what_is_cut_out_keeps_its_side_and_place() -> None:
    assert said("Patchy consolidation in the right lower lobe and small left effusion, no pneumothorax.") == [
        ("Patchy consolidation in the right lower lobe.", "Consolidation", P, R),
        ("Small left effusion.", "Pleural Effusion", P, L),
        ("No pneumothorax.", "Pneumothorax", N, None),
    ]


def test_what_is_hedged_stays_hedged() -> None:
    assert ("Possible left basilar atelectasis.", "Atelectasis", U, L) in said(
        "Possible left basilar atelectasis and possible pneumonia."
    )


def test_a_statement_is_no_name_that_could_be_denied() -> None:
    assert "No heart size normal." not in [t for t, *_ in said("Heart size normal, no effusion, no edema.")]


def test_comparisons_leave_what_compares_nothing() -> None:
    assert said("Small left effusion, unchanged since the prior film.") == [
        ("Small left effusion.", "Pleural Effusion", P, L)
    ]


def test_a_sentence_that_says_yes_and_no_of_a_finding_is_not_learned() -> None:
    assert said("Left effusion but no right effusion.") == []


def test_words_before_a_finding_reach_to_a_mark_of_punctuation() -> None:
    assert said("Heart enlarged, left: small effusion and edema.")[1][0] == "Left small effusion."


@pytest.mark.parametrize(
    ("text", "learned"),
    [
        ("XXXX.", []),
        ("No new effusion since XXXX.", []),
        ("No new effusion.", []),
        ("Interval removal of the right chest tube.", []),
        ("The lungs are clear.", []),
        ("Cough.", []),
        ("Small effusion measuring 3 cm.", ["Small effusion."]),
        ("Recommend CT for the nodule.", ["Nodule."]),
        ("No large effusion.", []),
    ],
)
def test_what_no_draft_may_say_is_not_learned(text: str, learned: list[str]) -> None:
    assert [t for t, *_ in said(text)] == learned


def test_each_text_is_learned_once_of_a_report() -> None:
    twice = targets("FINDINGS: No pneumothorax. No pneumothorax.\nIMPRESSION: No pneumothorax.")
    assert [t.text for t in twice] == ["No pneumothorax."]
    assert isinstance(twice[0], Target)
