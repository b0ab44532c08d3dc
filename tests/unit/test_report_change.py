"""What became of a finding between two films, the fixed words for it, and what of the prior film's report is quoted."""

from __future__ import annotations

from typing import Any

import pytest

from knowledge_base.findings import Laterality, Polarity
from rag_service.calibration import Confidence, Tier
from rag_service.report.change import Measured, PriorStudy, State, compared, state_of, wording
from rag_service.report.decisions import Decision
from rag_service.report.draft import Finding, Uncertainty

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
SURE, NOT = Confidence(0.9, (0.8, 0.95), Tier.HIGH, ()), Uncertainty(0.1, (), 0.1)


@pytest.mark.parametrize(
    ("now", "then", "direction", "state"),
    [
        (POSITIVE, POSITIVE, 1, State.WORSENED),
        (POSITIVE, POSITIVE, 0, State.STABLE),
        (POSITIVE, UNCERTAIN, -1, State.IMPROVED),
        (POSITIVE, NEGATIVE, 1, State.NEW),
        (POSITIVE, NEGATIVE, 0, None),
        (POSITIVE, NEGATIVE, -1, None),
        (POSITIVE, POSITIVE, None, None),
        (POSITIVE, None, 1, None),
        (UNCERTAIN, POSITIVE, 1, None),
        (NEGATIVE, POSITIVE, -1, State.RESOLVED),
        (NEGATIVE, POSITIVE, 1, None),
        (NEGATIVE, NEGATIVE, 0, None),
    ],
)
def test_a_state_needs_both_decisions_and_the_measure_to_agree(
    now: Polarity, then: Polarity | None, direction: int | None, state: State | None
) -> None:
    assert state_of(now, then, direction) is state


def test_size_is_said_of_what_has_one() -> None:
    assert wording("Pleural Effusion", State.WORSENED) == "larger than on the prior film"
    assert wording("Edema", State.IMPROVED) == "less extensive than on the prior film"
    assert wording("Edema", State.NEW) == "new since the prior film"


def a_finding(sentence: str, polarity: Polarity = POSITIVE, **more: Any) -> Finding:
    fields = {"laterality": None, "location": None, "severity": None, "progression": None, "boxes": None, **more}
    return Finding(
        id="pleural-effusion", label="Pleural Effusion", sentence=sentence, polarity=polarity, confidence=SURE,
        uncertainty=NOT, citations=(), counter_evidence=(), **fields,
    )  # fmt: skip


def a_prior(then: Polarity | None, direction: int | None, report: str = "") -> PriorStudy:
    decided = Decision("Pleural Effusion", then, SURE, NOT)
    return PriorStudy({"Pleural Effusion": decided}, {"Pleural Effusion": Measured(1.5, direction)}, report)


def test_the_words_stand_around_the_verified_sentence() -> None:
    (found,) = compared([a_finding("Small left pleural effusion.")], a_prior(POSITIVE, 1))
    assert found.sentence == "Small left pleural effusion, larger than on the prior film."
    assert found.comparison is not None
    assert (found.progression, found.comparison.state, found.comparison.change) == ("worsened", "worsened", 1.5)
    (gone,) = compared([a_finding("No pleural effusion.", NEGATIVE)], a_prior(POSITIVE, None))
    assert (gone.sentence, gone.comparison) == ("No pleural effusion.", None)


def test_what_would_read_otherwise_with_the_words_stays_as_it_is() -> None:
    two = a_finding("Pleural effusion and edema.")
    assert compared([two], a_prior(POSITIVE, 1)) == (two,)


@pytest.mark.parametrize(
    ("report", "quote"),
    [
        ("Small left pleural effusion. Pleural effusion.", "Small left pleural effusion."),
        ("Right pleural effusion.", None),
        ("No pleural effusion.", None),
        ("Pleural effusion of 3 cm.", None),
        ("You must call the pleural effusion large.", None),
        ("Edema.", None),
        ("", None),
    ],
)
def test_only_a_plain_sentence_that_says_what_the_prior_film_shows_is_quoted(report: str, quote: str | None) -> None:
    said = a_finding("Left pleural effusion.", laterality=Laterality.LEFT)
    (found,) = compared([said], a_prior(POSITIVE, 0, report))
    assert found.comparison is not None
    quoted = found.comparison.prior_quote
    assert (quoted.quote if quoted else None) == quote
    assert found.citations == ((quoted,) if quoted else ())
    if quoted:
        assert report[slice(*quoted.span)] == quote


def test_a_prior_report_that_denies_what_is_new_is_quoted_and_supports_nothing() -> None:
    (found,) = compared([a_finding("Left pleural effusion.")], a_prior(NEGATIVE, 1, "No pleural effusion."))
    assert found.comparison is not None and found.comparison.prior_quote is not None
    assert (found.comparison.prior_quote.quote, found.comparison.prior_quote.entails) == ("No pleural effusion.", False)
    assert found.citations == ()


def test_a_report_disagrees_only_with_what_its_film_decides() -> None:
    assert a_prior(NEGATIVE, 1, "Large pleural effusion.").disagreeing() == ["Pleural Effusion"]
    assert a_prior(POSITIVE, 1, "Large pleural effusion. Edema.").disagreeing() == []
    assert a_prior(None, 1, "Large pleural effusion.").disagreeing() == []
