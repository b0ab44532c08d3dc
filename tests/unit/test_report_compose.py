"""From decisions and cases to a report: the choice of words, what they cite, the impression, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from knowledge_base.case_sentences import Support, Wanted, supporting
from knowledge_base.findings import FINDINGS, NO_FINDING, Laterality, Polarity
from knowledge_base.guideline_search import PassageHit
from knowledge_base.records import Case, CaseSentence, Mention, Passage
from knowledge_base.search import CaseHit
from rag_service.calibration import Confidence, Tier
from rag_service.conformal import Presence
from rag_service.gate import OutOfDistribution
from rag_service.imaging.film import Box
from rag_service.report.comparisons import without_comparison
from rag_service.report.compose import compose, quote_passage
from rag_service.report.decisions import Decision
from rag_service.report.draft import (
    AxisUncertainty,
    Citation,
    CounterEvidence,
    Coverage,
    Draft,
    Finding,
    NotAssessed,
    Provenance,
    SearchAnswer,
    SeparatingAxis,
    SimilarCase,
    Status,
    Uncertainty,
)
from rag_service.report.impression import NOTHING_FOUND, URGENCY, impression
from rag_service.report.plans import NO_SENTENCE, TOO_FAR
from rag_service.report.render import render
from rag_service.report.sentence_choice import Supported, choices, nearest, opposite_of

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
LEFT = Laterality.LEFT
BOTH = (Presence.PRESENT, Presence.ABSENT)
SURE, VAGUE = (
    Confidence(0.9, (0.8, 0.95), Tier.HIGH, (Presence.PRESENT,)),
    Uncertainty(0.1, (AxisUncertainty(3, "Edema", 0.25),), 0.01),
)
Reading = tuple[str, str, Polarity] | tuple[str, str, Polarity, dict[str, Any]]


def decision(label: str, polarity: Polarity | None, **more: Any) -> Decision:
    return Decision(label, polarity, SURE, VAGUE, **more)


def all_decided(*given: Decision) -> dict[str, Decision]:
    return {f: decision(f, None, silence="quiet") for f in FINDINGS} | {d.label: d for d in given}


def hit(study: str, *sentences: tuple[str, Reading], overlap: float | None = 0.5, score: float = 0.1) -> CaseHit:
    """A case "FINDINGS: a b c" of sentences, each with one mention (words, finding, polarity, traits)."""
    text, found = "FINDINGS:", []
    for words, (phrase, finding, polarity, *traits) in sentences:
        start = len(text) + 1
        text = f"{text} {words}"
        at = start + words.index(phrase)
        mention = Mention(finding, polarity, (at, at + len(phrase)), **(traits[0] if traits else {}))
        found.append(CaseSentence(words, (start, start + len(words)), "findings", (mention,)))
    return CaseHit(Case("openi", study, f"p-{study}", text, tuple(found)), score, {"box": 1}, 1.0, overlap)


BOX = Box(0.6, 0.7, 0.9, 0.9)
EDEMA = decision("Edema", POSITIVE, boxes=(BOX,))
DECIDED = all_decided(EDEMA)


def edema(words: str, polarity: Polarity = POSITIVE, **traits: Any) -> tuple[str, Reading]:
    return words, ("edema", "Edema", polarity, traits)


def stating(*hits: CaseHit) -> tuple[Support, ...]:
    return supporting(hits, Wanted("Edema", POSITIVE), without_comparison)


def chosen(*hits: CaseHit) -> Supported:
    return next(choices(EDEMA, DECIDED, stating(*hits)))


def test_the_nearest_sentence_wins_when_all_say_it_once() -> None:
    found = chosen(hit("a", edema("Evident edema.")), hit("b", edema("There is edema.")))
    assert (found.sentence.text, found.support) == ("Evident edema.", 1.0)


def test_cases_that_say_the_same_words_add_up() -> None:
    found = chosen(
        hit("a", edema("Evident edema.")),
        hit("b", edema("There is edema.")), hit("c", edema("there is edema")), hit("d", edema("There is edema!")),
    )  # fmt: skip
    assert found.sentence.text == "There is edema."
    assert found.support == pytest.approx(1 / 2 + 1 / 3 + 1 / 4)


@pytest.mark.parametrize(
    ("words", "traits", "quality"),
    [
        ("There is edema.", {}, 1.0),
        ("Mild edema.", {"severity": "mild"}, 0.6),
        ("Curious edema.", {}, 0.5),
        ("Curious purple edema.", {}, 0.25),
        ("Curious mild edema.", {"severity": "mild"}, 0.3),
    ],
)
def test_what_the_image_does_not_carry_counts_against_a_sentence(
    words: str, traits: dict[str, Any], quality: float
) -> None:
    assert chosen(hit("a", edema(words, **traits))).support == pytest.approx(quality)


def test_a_sentence_of_two_findings_counts_less() -> None:
    case = hit("a", edema("Edema-free heart, edema."))
    sentence = case.case.sentences[0]
    second = Mention("Cardiomegaly", POSITIVE, (sentence.span[0] + 11, sentence.span[0] + 16))
    both = replace(case.case, sentences=(replace(sentence, mentions=(*sentence.mentions, second)),))
    decided = all_decided(EDEMA, decision("Cardiomegaly", POSITIVE))
    found = next(choices(EDEMA, decided, stating(replace(case, case=both))))
    assert found.support == pytest.approx(0.7 * 0.5)  # "Edema" before the phrase is a word nobody read


def test_of_equals_the_shorter_sentence_is_said() -> None:
    one = hit("a", edema("Evident edema seen."), edema("Evident edema."))
    assert chosen(one).sentence.text == "Evident edema."


@pytest.mark.parametrize(
    "sentence",
    [
        edema("No edema.", NEGATIVE),
        edema("No new edema.", NEGATIVE),
        edema("Edema in XXXX, edema."),
        edema("Quite unheard curious purple edema."),
        ("There is a fracture.", ("fracture", "Fracture", POSITIVE)),
    ],
)
def test_no_sentence_that_fails_the_gate_is_said(sentence: tuple[str, Reading]) -> None:
    assert not list(choices(EDEMA, DECIDED, stating(hit("a", sentence))))
    assert not list(choices(EDEMA, DECIDED, []))


def test_a_sentence_that_compares_is_said_without_its_comparison_and_yields_to_a_whole_one() -> None:
    compared = hit("a", edema("Stable edema since the prior study."))
    found = chosen(compared)
    assert (found.said, found.sentence.text, found.sentence.span, found.support) == ("Edema.", "edema", (17, 22), 1.0)
    assert [c.quote for c in found.citations] == ["edema"]
    assert compared.case.text[17:22] == "edema"
    both = chosen(compared, hit("b", edema("Evident edema.")), hit("c", edema("Curious edema.")))
    assert (both.said, both.support) == ("Evident edema.", 0.5)


def test_citations_quote_their_cases_exactly() -> None:
    hits = [
        hit("a", edema("No large edema.", NEGATIVE), edema("Evident edema."), overlap=0.9),
        hit("b", edema("There is edema."), overlap=None, score=0.03),
        hit("c", edema("Evident edema"), overlap=0.7),
        hit("d", edema("There is edema."), overlap=0.6),
    ]
    found = chosen(*hits)
    assert [(c.quote, c.similarity) for c in found.citations] == [
        ("Evident edema.", 0.9),
        ("Evident edema", 0.7),
        ("There is edema.", 0.03),
    ]
    texts = {str(h.case.id): h.case.text for h in hits}
    for citation in found.citations:
        assert texts[citation.id][citation.span[0] : citation.span[1]] == citation.quote
        assert (citation.kind, citation.entails) == ("case", True)


def test_the_same_study_is_cited_once() -> None:
    twice = hit("a", edema("Evident edema."), edema("There is edema."))
    found = chosen(twice, replace(twice, case=replace(twice.case, source="other")), hit("b", edema("Some edema.")))
    assert [c.quote for c in found.citations] == ["Evident edema.", "Some edema."]


def test_counter_evidence_is_the_nearest_that_says_the_opposite() -> None:
    hits = [
        hit("a", edema("There is edema.")),
        hit("b", edema("Perhaps edema.", UNCERTAIN)),
        hit("c", edema("No edema.", NEGATIVE), overlap=0.8),
        hit("d", edema("No edema at all.", NEGATIVE), overlap=None, score=0.02),
        hit("e", edema("Never edema.", NEGATIVE)),
    ]
    wanted = opposite_of(EDEMA)
    assert wanted == opposite_of(decision("Edema", UNCERTAIN)) == Wanted("Edema", NEGATIVE)
    found = nearest(supporting(hits, wanted, without_comparison), 2)
    assert [s.sentence.text for s in found] == ["No edema.", "No edema at all."]
    wanted = opposite_of(decision("Edema", NEGATIVE))
    assert [s.sentence.text for s in supporting(hits, wanted, without_comparison)] == ["There is edema."]


PASSAGE = Passage(
    slug="edema-signs", title="Signs of edema", organisation="Society", source_title="Guide", year=2024, section="Signs",
    identifier=None, findings=("Edema",), keywords=(), text="Septal lines suggest it. Edema follows.", verified=False,
    verified_by=None,
)  # fmt: skip


APART = SeparatingAxis(2, "Edema (+)", 0.5, 0.25)


class Shelf:
    """Evidence that a test sets: cases by the finding and polarity they state. A case is near from an overlap of 0.3."""

    prior = False

    def __init__(self, stating: dict[tuple[str, Polarity], list[CaseHit]]) -> None:
        self._stating = stating

    def supporting(self, wanted: Wanted) -> Sequence[Support]:
        hits = self._stating.get((wanted.finding, wanted.polarity), [])
        return supporting(hits, wanted, without_comparison)

    opposing = supporting

    def passes(self, support: Support, polarity: Polarity) -> bool:
        return (support.hit.box_overlap or 0.0) >= (0.4 if polarity is UNCERTAIN else 0.3)

    def separating(self, support: Support, finding: str) -> tuple[SeparatingAxis, ...]:
        return (replace(APART, name=finding),)

    def passages(self, finding: str, sentence: str) -> Sequence[PassageHit]:
        return [PassageHit(PASSAGE, 0.03, {"text": 1})]


def shelf() -> Shelf:
    effusion = ("Small left effusion at the base.", ("effusion", "Pleural Effusion", POSITIVE,
                {"laterality": LEFT, "severity": "small", "location": "base"}))  # fmt: skip
    denied = ("No pneumothorax.", ("pneumothorax", "Pneumothorax", NEGATIVE))
    lesion = ("A nodule.", ("nodule", "Lung Lesion", POSITIVE))
    return Shelf(
        {
            ("Edema", UNCERTAIN): [hit("a", edema("Possible edema.", UNCERTAIN))],
            ("Edema", NEGATIVE): [hit("b", edema("No edema.", NEGATIVE))],
            ("Pleural Effusion", POSITIVE): [
                hit("far", ("Effusion.", ("Effusion", "Pleural Effusion", POSITIVE)), overlap=0.29),
                hit("c", effusion),
            ],
            ("Pneumothorax", NEGATIVE): [hit("d", denied)],
            ("Pneumothorax", POSITIVE): [
                hit("f", ("Pneumothorax.", ("Pneumothorax", "Pneumothorax", POSITIVE)), overlap=0.2),
                hit("e", ("A pneumothorax.", ("pneumothorax", "Pneumothorax", POSITIVE))),
            ],
            ("Lung Lesion", POSITIVE): [hit("far", lesion, overlap=0.29), hit("none", lesion, overlap=None)],
        },
    )


def composed() -> tuple[tuple[Finding, ...], tuple[NotAssessed, ...]]:
    decided = all_decided(
        decision("Pneumothorax", NEGATIVE), decision("Edema", UNCERTAIN), decision("Fracture", POSITIVE),
        decision("Pleural Effusion", POSITIVE, laterality=LEFT, boxes=(BOX,)), decision(NO_FINDING, POSITIVE),
        decision("Lung Lesion", POSITIVE),
    )  # fmt: skip
    composition = compose(decided, shelf())
    return composition.findings, composition.not_assessed


def test_findings_in_chexpert_order_those_present_first() -> None:
    findings, silent = composed()
    assert [(f.label, f.polarity, f.sentence) for f in findings] == [
        ("Edema", UNCERTAIN, "Possible edema."),
        ("Pleural Effusion", POSITIVE, "Small left effusion at the base."),
        ("Pneumothorax", NEGATIVE, "No pneumothorax."),
    ]
    assert {f.label for f in findings} | {n.label for n in silent} == set(FINDINGS) - {NO_FINDING}
    assert [f.id for f in findings] == ["edema", "pleural-effusion", "pneumothorax"]


def test_a_finding_carries_its_decision_and_what_its_sentence_says() -> None:
    effusion = composed()[0][1]
    assert (effusion.laterality, effusion.location, effusion.severity, effusion.progression) == (
        LEFT,
        "base",
        "small",
        None,
    )
    assert (effusion.boxes, effusion.confidence, effusion.uncertainty) == ((BOX,), SURE, VAGUE)


def test_present_findings_cite_guidelines_and_denied_ones_do_not() -> None:
    possible, _, denied = composed()[0]
    assert [c.kind for c in possible.citations] == ["case", "guideline"]
    assert [c.kind for c in denied.citations] == ["case"]
    assert possible.citations[1].quote == "Edema follows."
    assert [c.quote for c in possible.counter_evidence] == ["No edema."]
    against = CounterEvidence(
        denied.counter_evidence[0].id, 0.5, "A pneumothorax.", (10, 25), (replace(APART, name="Pneumothorax"),)
    )
    assert denied.counter_evidence == (against,)


def test_every_silence_has_its_reason_and_a_flagged_one_says_so() -> None:
    silent = {n.label: n for n in composed()[1]}
    assert silent["Fracture"] == NotAssessed("Fracture", NO_SENTENCE, possible=True, p=0.9)
    assert silent["Lung Lesion"] == NotAssessed("Lung Lesion", TOO_FAR, possible=True, p=0.9)
    assert silent["Cardiomegaly"] == NotAssessed("Cardiomegaly", "quiet", possible=False, p=0.9)


@pytest.mark.parametrize(
    ("text", "span"), [("Septal lines suggest it. Edema follows.", (0, 24)), ("…", (0, 1)), ("One. Two.", (0, 4))]
)
def test_a_passage_is_quoted_by_its_first_sentence(text: str, span: tuple[int, int]) -> None:
    citation = quote_passage(PassageHit(replace(PASSAGE, text=text), 0.5, {}), "Edema")
    assert citation == Citation("guideline", str(PASSAGE.id), text[slice(*span)], span, 0.5, entails=True)
    assert quote_passage(PassageHit(PASSAGE, 0.5, {}), "Fracture").entails is False


def finding(label: str, polarity: Polarity, sentence: str, **more: Any) -> Finding:
    fields = {
        "id": label.lower(), "label": label, "sentence": sentence, "polarity": polarity, "laterality": None, "location": None,
        "severity": None, "progression": None, "boxes": None, "confidence": SURE, "uncertainty": VAGUE, "citations": (),
        "counter_evidence": (),
    }  # fmt: skip
    return Finding(**{**fields, **more})


def test_the_impression_in_order_of_weight() -> None:
    findings = [
        finding("Cardiomegaly", POSITIVE, "The heart is enlarged."),
        finding("Pneumothorax", UNCERTAIN, "Possible pneumothorax."),
        finding("Edema", POSITIVE, "There is edema."),
        finding("Lung Opacity", POSITIVE, "There is edema."),
        finding("Fracture", NEGATIVE, "No fracture."),
    ]
    silent = [NotAssessed("Pneumonia", NO_SENTENCE, possible=True), NotAssessed("Fracture", "quiet")]
    assert impression(findings, []) == "There is edema. The heart is enlarged. Possible pneumothorax."
    assert impression(findings, silent) == (
        "There is edema. The heart is enlarged. Possible pneumothorax. Look for: Pneumonia. Not assessed: Fracture."
    )
    assert impression(findings[4:], []) == NOTHING_FOUND
    assert impression([], silent[:1]) == "Look for: Pneumonia."
    assert impression([], silent[1:]) == f"{NOTHING_FOUND} Not assessed: Fracture."
    assert set(URGENCY) == set(FINDINGS) - {NO_FINDING}


PROVENANCE = Provenance("m@1", "p@1", "i", "k", "t", 20260, "f")
CITED = Citation("case", "12345678-rest", "There is edema.", (10, 25), 0.8765432109, entails=True)
COUNTER = CounterEvidence("87654321-rest", 0.5, "No edema.", (10, 19), (APART,))
DRAFT = Draft(
    status=Status.DRAFT,
    abstain_reasons=(),
    findings=(
        finding(
            "Edema", POSITIVE, "There is edema.", boxes=(BOX,), citations=(CITED, CITED), laterality=LEFT,
            counter_evidence=(COUNTER, COUNTER), confidence=Confidence(2 / 3, (0.5, 0.75), Tier.MEDIUM, BOTH),
        ),
        finding("Fracture", NEGATIVE, "No fracture.", citations=(CITED, CITED), counter_evidence=(COUNTER,)),
    ),
    impression="There is edema.",
    not_assessed=(NotAssessed("Pneumonia", NO_SENTENCE, possible=True, p=0.61), NotAssessed("Atelectasis", "other", p=0.2)),
    similar_cases=(
        SimilarCase("12345678-rest", 0.05, 0.873, ("Edema", "Fracture"), "There is edema.", None),
        SimilarCase("87654321-rest", 0.04, None, (), "Clear.", "1.png"),
    ),
    out_of_distribution=OutOfDistribution(1.23456789, 2.0, {"knn": 0.5}),
    checks={"every_sentence_cited": True, "damaged_records": 0},
    coverage=(Coverage("Edema", 7, "Only 7 cases of Edema here."), Coverage("Fracture", 77)),
    provenance=PROVENANCE,
)  # fmt: skip
ABSTAINED = Draft(Status.ABSTAINED, ("not_chest", "odd"), (), None, (), (), None, {}, (), PROVENANCE)


def test_a_draft_as_text() -> None:
    assert render(DRAFT, lambda c: f"case {c.id[:8]}") == (
        "DRAFT REPORT  (research use; a clinician decides and signs)\n"
        "\n"
        "IMPRESSION\n"
        "  There is edema.\n"
        "\n"
        "FINDINGS\n"
        "   1. There is edema.\n"
        "      Edema, positive  p 0.67 [0.50-0.75]  medium confidence  1 box, left\n"
        "      <- case 12345678: “There is edema.”\n"
        "      <- case 12345678: “There is edema.”\n"
        "      but case 87654321 looks alike and says: “No edema.”\n"
        "          what tells them apart: Edema (+) +0.50\n"
        "   2. No fracture.\n"
        "      Fracture, negative  p 0.90 [0.80-0.95]  high confidence\n"
        "      <- case 12345678: “There is edema.”\n"
        "\n"
        "NOT ASSESSED\n"
        "  Pneumonia (possible, p 0.61): no similar case says it in words that fit this film\n"
        "  Atelectasis: other\n"
        "\n"
        "FEW CASES TO GO BY\n"
        "  Only 7 cases of Edema here.\n"
        "\n"
        "SIMILAR CASES\n"
        "  12345678  overlap 0.87  Edema, Fracture\n"
        "  87654321  no finding labelled"
    )


def test_several_boxes_and_no_silence_as_text() -> None:
    first = replace(
        DRAFT.findings[0], boxes=(BOX, BOX), laterality=None, counter_evidence=(replace(COUNTER, separating_axes=()),)
    )
    shown = replace(DRAFT, findings=(first,), not_assessed=(), coverage=DRAFT.coverage[1:])
    text = render(shown, lambda c: c.id)
    assert "apart" not in text
    assert "FEW CASES" not in text
    assert "medium confidence  2 boxes\n" in text
    assert "NOT ASSESSED" not in text


def test_why_a_probable_finding_is_only_possible_as_text() -> None:
    hedged = replace(DRAFT.findings[0], hedged=("no_place_on_the_film", "other"))
    text = render(replace(DRAFT, findings=(hedged,)), lambda c: c.id)
    assert "left\n      only possible: no place on the film shows it; other\n      <- " in text


def test_an_abstention_as_text() -> None:
    expected = "NO DRAFT\n  - this does not look like a chest film [not_chest]\n  - odd [odd]"
    assert render(ABSTAINED, lambda c: c.id) == expected


def test_the_json_of_a_draft_has_the_names_of_the_contract() -> None:
    json = DRAFT.to_json()
    assert set(json) == {
        "status", "abstain_reasons", "findings", "impression", "not_assessed", "similar_cases", "out_of_distribution",
        "checks", "coverage", "provenance", "concepts", "measurements", "answers", "language", "impression_en",
    }  # fmt: skip
    found = json["findings"][0]
    assert set(found) == {
        "id", "label", "sentence", "polarity", "laterality", "location", "severity", "progression", "boxes", "confidence",
        "uncertainty", "citations", "counter_evidence", "concepts", "source", "hedged", "guidance", "sentence_en",
        "comparison", "prompts",
    }  # fmt: skip
    assert found["boxes"] == [{"x_min": 0.6, "y_min": 0.7, "x_max": 0.9, "y_max": 0.9, "weight": 1.0}]
    assert found["uncertainty"] == {
        "radius": 0.1,
        "top_axes": [{"axis": 3, "name": "Edema", "r": 0.25}],
        "bl_tta_sd": 0.01,
    }
    assert set(found["citations"][0]) == {"kind", "id", "quote", "span", "similarity", "entails"}
    assert found["counter_evidence"][0] == {
        "id": "87654321-rest", "similarity": 0.5, "quote": "No edema.", "span": [10, 19],
        "separating_axes": [{"axis": 2, "name": "Edema (+)", "difference": 0.5, "logit": 0.25}],
    }  # fmt: skip
    assert set(json["similar_cases"][0]) == {
        "id", "score", "box_overlap", "labels", "excerpt", "film_url", "shared_concepts", "sentence",
    }  # fmt: skip
    assert json["coverage"] == [
        {"label": "Edema", "cases": 7, "warning": "Only 7 cases of Edema here."},
        {"label": "Fracture", "cases": 77, "warning": None},
    ]
    assert set(json["provenance"]) >= {"model", "preprocessing", "index", "knowledge_base", "thresholds", "seed"}
    assert {"label", "reason"} <= set(json["not_assessed"][0])


def test_json_numbers_have_six_places_and_enums_are_words() -> None:
    json = DRAFT.to_json()
    assert json["findings"][0]["confidence"] == {
        "p": 0.666667,
        "interval": [0.5, 0.75],
        "tier": "medium",
        "set": ["present", "absent"],
    }
    assert json["out_of_distribution"] == {"score": 1.234568, "threshold": 2.0, "scores": {"knn": 0.5}}
    assert json["findings"][0]["citations"][0]["similarity"] == 0.876543
    assert (type(json["status"]), json["status"], json["findings"][0]["polarity"]) == (str, "draft", "positive")
    assert (json["findings"][0]["laterality"], json["findings"][1]["boxes"]) == ("left", None)
    assert json["checks"] == {"every_sentence_cited": True, "damaged_records": 0}


def test_a_search_answer_as_json() -> None:
    answer = SearchAnswer(DRAFT.similar_cases, (CITED,), ("blank",), PROVENANCE).to_json()
    assert set(answer) == {"cases", "passages", "abstain_reasons", "provenance", "coverage"}
    assert answer["passages"][0]["span"] == [10, 25]
    assert answer["cases"][1]["film_url"] == "1.png"
