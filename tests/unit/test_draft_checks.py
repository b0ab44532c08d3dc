"""What is looked for in a whole draft, what goes for it, and an impression that follows from what is left."""

from __future__ import annotations

from typing import Any

import pytest

from knowledge_base.findings import Laterality, Polarity
from rag_service.calibration import Confidence, Tier
from rag_service.imaging.film import Box
from rag_service.report.checks import Checked, Fault, check, conflict, contradicts, unsupported_device, word_faults
from rag_service.report.draft import Finding, NotAssessed, Uncertainty
from rag_service.report.verification import read_sentence

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
LEFT_BOX, RIGHT_BOX = Box(0.6, 0.6, 0.9, 0.9), Box(0.1, 0.6, 0.4, 0.9)


def finding(label: str, sentence: str, polarity: Polarity = POSITIVE, p: float = 0.9, **more: Any) -> Finding:
    sure = Confidence(p, (0.1, 0.9), Tier.HIGH, ())
    fields = {"laterality": None, "location": None, "severity": None, "progression": None, "boxes": None, **more}
    return Finding(
        id=label, label=label, sentence=sentence, polarity=polarity, confidence=sure, uncertainty=Uncertainty(0.1, (), 0.1),
        citations=(), counter_evidence=(), **fields,
    )  # fmt: skip


def checked(*findings: Finding, prior: bool = False) -> Checked:
    return check(findings, [NotAssessed("Fracture", "quiet", p=0.1)], prior)


EFFUSION = finding("Pleural Effusion", "Left pleural effusion.", boxes=(LEFT_BOX,), laterality=Laterality.LEFT)


def test_a_draft_without_fault_leaves_as_it_is() -> None:
    edema, heart = (
        finding("Edema", "Possible edema.", UNCERTAIN),
        finding("Cardiomegaly", "Heart size is normal.", NEGATIVE),
    )
    found = checked(edema, EFFUSION, heart)
    assert found.findings == (edema, EFFUSION, heart)
    assert found.not_assessed == (NotAssessed("Fracture", "quiet", p=0.1),)
    assert found.impression == "Left pleural effusion. Possible edema. Not assessed: Fracture."
    assert found.checks["removed"] == {}
    assert found.checks["faults"] == dict.fromkeys(map(str, Fault), 0)
    assert found.checks["emission"]["stated"] == 1


@pytest.mark.parametrize(
    ("finding_", "fault"),
    [
        (finding("Edema", "Edema with XXXX."), Fault.PLACEHOLDER),
        (finding("Edema", "Edema as seen by Dr. Smith."), Fault.PRIVATE),
        (finding("Edema", "Edema on 12/03/2019."), Fault.PRIVATE),
        (finding("Edema", "New edema."), Fault.COMPARISON),
        (finding("Edema", "Edema edema."), Fault.REPEATED),
        (finding("Cardiomegaly", "Cardiomegaly with a pacemaker."), Fault.DEVICE),
        (finding("Pneumonia", "Right pneumonia.", boxes=(LEFT_BOX,)), Fault.LATERALITY),
        (finding("Pneumonia", "Right pneumonia.", laterality=Laterality.LEFT), Fault.LATERALITY),
        (finding("Lung Opacity", "No opacity or effusion.", NEGATIVE), Fault.NEGATION),
        (finding("Atelectasis", "Atelectasis without effusion.", p=0.4), Fault.NEGATION),
        (finding("Atelectasis", "Atelectasis with right effusion.", p=0.4), Fault.LATERALITY),
        (finding("Atelectasis", "Left pleural effusion.", p=0.4), Fault.REPEATED),
    ],
)
def test_a_faulty_sentence_is_taken_out_and_its_finding_named(finding_: Finding, fault: Fault) -> None:
    found = checked(EFFUSION, finding_)
    assert found.findings == (EFFUSION,)
    present = finding_.polarity is not NEGATIVE
    silent = NotAssessed(finding_.label, f"failed_the_check:{fault}", present, finding_.confidence.p)
    assert silent in found.not_assessed
    assert found.checks["removed"] == {str(fault): 1}
    assert set(found.checks["faults"].values()) == {0}
    assert found.impression.startswith("Left pleural effusion.")
    assert (f"Look for: {finding_.label}." in found.impression) is present


def test_with_a_prior_film_a_sentence_may_compare() -> None:
    worse = finding("Edema", "Worsening edema.")
    assert checked(EFFUSION, worse, prior=True).findings == (EFFUSION, worse)


def test_a_device_that_is_a_finding_may_be_spoken_of() -> None:
    heart, device = (
        finding("Cardiomegaly", "Cardiomegaly with a pacemaker."),
        finding("Support Devices", "A catheter is seen."),
    )
    assert checked(heart, device).findings == (heart, device)
    assert unsupported_device(read_sentence("A pacemaker."), ["Edema"])
    assert not unsupported_device(read_sentence("No pacemaker."), ["Edema"])


@pytest.mark.parametrize(
    ("one", "other", "fault"),
    [
        ("Left effusion.", "No effusion.", Fault.NEGATION),
        ("The lungs are clear.", "Pneumonia.", Fault.NEGATION),
        ("No effusion.", "Possible effusion.", Fault.NEGATION),
        ("Left effusion.", "Right effusion.", Fault.LATERALITY),
        ("Left effusion.", "No right effusion.", None),
        ("Left effusion.", "Right pneumonia.", None),
        ("Left effusion.", "Bilateral effusions.", None),
        ("Left effusion.", "left  effusion", Fault.REPEATED),
        ("Small effusion.", "Large effusion.", None),
    ],
)
def test_sentences_that_cannot_stand_together(one: str, other: str, fault: Fault | None) -> None:
    assert conflict(read_sentence(one), read_sentence(other)) is fault
    assert conflict(read_sentence(other), read_sentence(one)) is fault


@pytest.mark.parametrize(
    ("told", "differs"),
    [
        (["Left effusion."], False),
        (["Effusion."], False),
        (["Right effusion."], True),
        (["Left effusion.", "Edema."], True),
        (["No finding reached its threshold."], False),
        ([], False),
    ],
)
def test_an_impression_says_what_the_findings_make_true(told: list[str], differs: bool) -> None:
    said = [read_sentence("Small left effusion."), read_sentence("No pneumothorax.")]
    assert contradicts([read_sentence(t) for t in told], said) is differs


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("Seen by Mrs Jones.", True),
        ("MRN is on the film.", True),
        ("Number 1234567.", True),
        ("Call (555) 123-4567.", True),
        ("Mail a@b.", True),
        ("Dated 3 February.", True),
        ("There may be edema.", False),
        ("A ratio of 0.55.", False),
        ("Dr is short for drain.", False),
    ],
)
def test_what_names_a_person_or_a_day(text: str, private: bool) -> None:
    assert (Fault.PRIVATE in word_faults(text, prior=False)) is private
