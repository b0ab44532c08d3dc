"""Measures of reports on texts small enough to work out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from eval import alce, citations, places_said, radfact, report_labels
from eval.draft_checks import repeated
from eval.overlap import bleu, meteor, overlap, rouge_l, words
from eval.radfact import Phrase, Sample
from knowledge_base.findings import FINDINGS, Polarity
from rag_service.datasets.films import DatasetError
from rag_service.imaging.film import Box
from rag_service.report.entailment import judge

LEFT = (Box(0.5, 0.5, 0.75, 0.75),)

# --- words


def test_bleu_pools_the_counts_of_pairs() -> None:
    pairs = [(words("The heart is large."), words("The heart is normal."))]
    assert bleu(pairs) == pytest.approx((0.75, math.sqrt(0.75 * 2 / 3), (0.75 * 2 / 3 * 0.5) ** (1 / 3), 0.0))
    short = [(["a", "b"], ["a", "b", "c", "d"])]
    assert bleu(short)[:2] == pytest.approx((math.exp(-1), math.exp(-1)))
    assert bleu([([], ["a"])]) == (0.0, 0.0, 0.0, 0.0)


def test_a_word_is_matched_no_more_often_than_the_reference_has_it() -> None:
    assert bleu([(["the"] * 7, "the cat is on the mat".split())])[0] == pytest.approx(2 / 7)


def test_rouge_l_is_f1_of_the_longest_common_subsequence() -> None:
    assert rouge_l("a b c d".split(), "a c x d e".split()) == pytest.approx(2 * 3 / 9)
    assert rouge_l([], ["a"]) == 0.0


def test_meteor_matches_words_then_plurals() -> None:
    assert meteor(["opacity", "left"], ["opacities", "left"]) == pytest.approx(1 - 0.5 * 0.5**3)
    assert meteor("b a".split(), "a b".split()) == pytest.approx(1 - 0.5)
    assert meteor(["a"], ["b"]) == 0.0
    assert meteor(["a"], ["a", "b"]) == pytest.approx(0.5 / (0.9 + 0.1 * 0.5) * 0.5)


def test_overlap_of_pairs_of_texts() -> None:
    found = overlap(["Clear lungs.", ""], ["Clear lungs.", "Large heart."])
    assert (found.rouge_l, found.meteor) == pytest.approx((0.5, (1 - 0.5 / 8) / 2))


# --- labels


def row(*names: str) -> np.ndarray:
    return np.array([f in names for f in FINDINGS])


def test_no_finding_is_a_report_without_a_pathology() -> None:
    hedged = report_labels.stated(["Possible edema. The heart is normal."])
    assert hedged["Edema"] is Polarity.UNCERTAIN
    assert (report_labels.present(hedged) == row("Lung Opacity", "Edema")).all()
    assert (report_labels.present(hedged, hedged=False) == row("No Finding")).all()
    assert (report_labels.present({}) == row("No Finding")).all()
    devices = report_labels.present({"Support Devices": Polarity.POSITIVE})
    assert (devices == row("No Finding", "Support Devices")).all()


def test_f1_macro_micro_and_of_studies() -> None:
    truth = np.stack([row("Edema", "Fracture"), row("No Finding"), row("Edema")]).astype(float)
    called = np.stack([row("Edema"), row("No Finding"), row("Pneumonia")])
    found = report_labels.measure(truth, called, ["a", "b", "c"], 3)
    # Edema 2 of 3, No Finding 1, Fracture 0, Pneumonia 0; 2 shared of 4 in the truth and 3 called
    assert found["label_f1_macro"] == pytest.approx((2 / 3 + 1) / 4)
    assert found["label_f1_micro"] == pytest.approx(4 / 7)
    assert found["label_f1_example"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["abnormal"]["label_f1_micro"] == pytest.approx(2 / 5) and found["abnormal"]["studies"] == 2
    assert found["hallucinated"] == {"wrong": 1, "said": 2, "rate": 0.5}
    edema = report_labels.per_finding(truth, called)["Edema"]
    assert (edema["missed"], edema["positives"], edema["falsely_said"], edema["said"]) == (0.5, 2, 0.0, 1)


def test_what_the_reference_does_not_know_is_not_scored() -> None:
    truth = np.full((1, 14), np.nan)
    found = report_labels.measure(truth, row("Edema")[None], ["a"], 3)
    assert (found["label_f1_macro"], found["label_f1_micro"], found["label_f1_example"]) == (None, None, None)
    assert found["hallucinated"] == {"wrong": 0, "said": 0, "rate": None} and found["label_f1_macro_ci"] is None


def test_sides_and_places_of_what_both_say() -> None:
    reports = [
        ["Left lower lobe consolidation. Edema."],
        ["Right pleural effusion."],
        ["Pleural effusion."],
        ["Clear lungs."],
    ]
    references = [
        ["Left retrocardiac consolidation."],
        ["Left pleural effusion."],
        ["Left pleural effusion."],
        ["Edema."],
    ]
    found = places_said.measure(reports, references)
    assert (found["side"]["of"] - found["side"]["right"], found["side_left_out"]["n"]) == (1, 1)
    assert found["place"]["share"] == 1.0 and places_said.measure([["Clear."]], [["Clear."]])["side"]["share"] is None


def test_a_phrase_said_twice() -> None:
    assert not repeated(["No evidence of pleural effusion.", "No evidence of pleural thickening."])
    assert repeated(["Clear lungs.", "Clear lungs."])
    assert repeated(["There is no evidence of acute edema.", "There is no evidence of acute fracture or edema."])


# --- citations


def test_citations_that_bear_out_and_those_that_are_needed() -> None:
    sentence = "Pleural effusions on both sides."
    both = ("Left pleural effusion.", "Right pleural effusion.", "The heart is enlarged.")
    judged = alce.judge_sentence(alce.Cited(sentence, both), judge)
    assert (judged.supported, judged.right) == (True, (True, True, False))
    alone = alce.judge_sentence(alce.Cited("Pleural effusion.", both[:2]), judge)
    assert alone.right == (True, True)
    wrong = alce.judge_sentence(alce.Cited("Edema.", both[:1]), judge)
    none = alce.judge_sentence(alce.Cited("Edema.", ()), judge)
    assert (wrong.supported, wrong.right, none.supported, none.right) == (False, (False,), False, ())
    assert alce.recall([judged, wrong]) == 0.5 and alce.precision([judged, wrong]) == 0.5
    assert alce.recall([]) is None and alce.precision([none]) is None


def test_what_is_wrong_with_a_quote() -> None:
    text, others = "Large heart. Small left pleural effusion. No edema.", ["Rib fracture."]
    assert citations.fault("Large heart.", (0, 12), text, others) is None
    assert citations.fault("No edema.", (0, 9), text, others) == "misplaced"
    assert citations.fault("Rib fracture.", (0, 13), text, others) == "misattributed"
    assert citations.fault("left pleural effusion large heart small", (0, 5), text, others) == "frankenquote"
    assert citations.fault("Clear lungs today.", (0, 5), text, others) == "fabricated"


# --- RadFact


def test_radfact_by_hand() -> None:
    """The prediction: an effusion placed right, an opacity placed wrong, a heart that the target lacks."""
    here, there = (Box(0.0, 0.0, 0.5, 0.5),), (Box(0.5, 0.5, 1.0, 1.0),)
    prediction = (
        Phrase("Left pleural effusion.", LEFT),
        Phrase("Lung opacity.", here),
        Phrase("The heart is enlarged."),
    )
    target = (
        Phrase("Small left pleural effusion.", there),
        Phrase("Lung opacity.", there),
        Phrase("Rib fracture.", here),
    )
    found = radfact.ratios(Sample("1", prediction, target), judge)
    assert found.precision == pytest.approx({"logical": 2 / 3, "grounding": 1 / 2, "spatial": 1 / 2})
    # The target's effusion is small, which the prediction does not say: only its opacity follows, in another place.
    assert found.recall == pytest.approx({"logical": 1 / 3, "grounding": 0.0, "spatial": 0.0})


def test_phrases_that_make_another_true_together() -> None:
    phrases = (Phrase("Left pleural effusion."), Phrase("Edema."), Phrase("Right pleural effusion."))
    assert radfact.evidence("Pleural effusions on both sides.", phrases, judge) == (phrases[0], phrases[2])
    assert radfact.evidence("Edema.", phrases, judge) == (phrases[1],)
    assert radfact.evidence("Fracture.", phrases, judge) == () == radfact.evidence("Edema.", (), judge)


def test_pixels_of_boxes() -> None:
    assert radfact.pixel_precision(LEFT, [Box(0.5, 0.5, 0.625, 0.75)]) == 0.5
    assert radfact.pixel_precision(LEFT, ()) == 0.0
    assert radfact.pixel_precision([Box(0.0, 0.0, 0.001, 0.001)], LEFT) == 0.0


def test_radfact_over_samples() -> None:
    right = Sample("a", (Phrase("Edema."),), (Phrase("Edema."), Phrase("Fracture.")))
    silent = Sample("b", (), (Phrase("Edema."),))
    found = radfact.measure([right, silent], judge, 3)
    assert found["logical"]["precision"] == 1.0 and found["logical"]["counted"] == {"precision": 1, "recall": 2}
    assert found["logical"]["recall"] == 0.25 and found["logical"]["f1"] == pytest.approx(2 * 0.25 / 1.25)
    assert found["spatial"]["precision"] is None and found["spatial"]["f1"] is None
    assert "logical    precision 1.000 [1.000, 1.000]  recall 0.250" in radfact.table(found)
    assert "spatial    precision - [-]" in radfact.table(found)
    lost = radfact.measure([Sample("c", (Phrase("Edema."),), (Phrase("Fracture."),))], judge, 3)
    assert lost["logical"]["f1"] == 0.0


def test_radfact_reads_its_own_format(tmp_path: Path) -> None:
    box = {"x_min": 0.5, "y_min": 0.5, "x_max": 0.75, "y_max": 0.75}
    sample = {
        "example_id": 7,
        "prediction": [{"text": "Edema.", "boxes": [box]}],
        "target": [{"text": "Edema.", "boxes": None}],
    }
    path = tmp_path / "samples.json"
    path.write_text(json.dumps([sample]))
    assert radfact.read(path) == [Sample("7", (Phrase("Edema.", LEFT),), (Phrase("Edema."),))]
    for broken in ("{", "[1]", json.dumps([{**sample, "target": [{"text": "Edema.", "boxes": []}]}])):
        path.write_text(broken)
        with pytest.raises(DatasetError, match=r"samples\.json is no list"):
            radfact.read(path)
