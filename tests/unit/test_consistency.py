"""When a report and its film contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from eval.consistency import measure, table
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.records import Case, CaseSentence, Mention
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.calibrators import Platt
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.report.consistency import consistent


def calibration(unreliable: tuple[str, ...] = ()) -> Calibration:
    """Probabilities are the scores; a tenth of the films has each finding."""
    entries = {
        name: FindingCalibration(
            calibrator=Platt(1.0, 0.0), state=0.5, possible=0.3, flag=0.4, accurate=0.5, deny=0.1,
            reliability=Reliability.TOO_WEAK if name in unreliable else Reliability.RELIABLE,
            positives=4, films=40, auroc=0.8, scores=(0.1, 0.9), outcomes=(0, 1),
        )
        for name in FINDINGS
    }  # fmt: skip
    return Calibration("model", entries, Tiers(0.75, 0.5, 1.0, 1.0, 9.0), (), "made by hand")


def case(**said: Polarity) -> Case:
    """A report that says this of findings, given with _ for spaces."""
    text = "Words."
    mentions = tuple(Mention(f.replace("_", " "), polarity, (0, 5)) for f, polarity in said.items())
    return Case("s", "S1", "P1", text, (CaseSentence(text, (0, 6), "findings", mentions),))


def scores(seen: Mapping[str, float]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([seen.get(f, 0.3) for f in FINDINGS])


YES, NO, MAYBE = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN


@pytest.mark.parametrize(
    ("said", "seen", "agree"),
    [
        ({"Cardiomegaly": NO}, {"Cardiomegaly": 0.91}, False),
        ({"Cardiomegaly": NO}, {"Cardiomegaly": 0.89}, True),
        ({"Cardiomegaly": YES}, {"Cardiomegaly": 0.91}, True),
        ({"Cardiomegaly": MAYBE}, {"Cardiomegaly": 0.91}, True),
        ({"Edema": NO}, {"Cardiomegaly": 0.91}, True),
        ({"No_Finding": YES}, {"Pleural Effusion": 0.91}, False),
        ({"No_Finding": YES, "Edema": YES}, {"Pleural Effusion": 0.91}, True),
        ({"No_Finding": YES, "Edema": MAYBE}, {"Pleural Effusion": 0.91}, True),
        ({"No_Finding": YES, "Support_Devices": YES}, {"Pleural Effusion": 0.91}, False),
        ({"Edema": YES}, {"Edema": 0.0099}, False),
        ({"Edema": YES}, {"Edema": 0.0101}, True),
        ({"Edema": MAYBE}, {"Edema": 0.0}, True),
        ({"Support_Devices": NO}, {"Support Devices": 1.0}, True),
        ({}, {"Edema": 1.0}, True),
    ],
)
def test_contradictions(said: dict[str, Polarity], seen: dict[str, float], agree: bool) -> None:
    assert consistent(case(**said), scores(seen), calibration()) is agree


def test_a_finding_that_the_calibration_does_not_rely_on_contradicts_nothing() -> None:
    unsure = calibration(("Cardiomegaly", "Edema"))
    assert consistent(case(Cardiomegaly=NO, Edema=YES), scores({"Cardiomegaly": 0.99, "Edema": 0.0}), unsure)


def a_row(study: str, text: str) -> FilmRow:
    return FilmRow("openi", Path(f"{study}.png"), study, study, labels={"Edema": True}, text=text)


def test_pairs_and_exchanged_pairs_are_counted() -> None:
    rows = [a_row("A", "FINDINGS: There is edema."), a_row("B", "FINDINGS: There is no edema.")]
    found = measure(rows, np.stack([scores({"Edema": 0.95}), scores({"Edema": 0.2})]), calibration(), seed=7)
    assert (found["pairs"], found["own_failed"], found["failed"]) == (2, 0, [])
    assert found["exchanged_failed"] == 1  # B's denial under A's film; A's edema is not beyond the rate in B's
    assert table(found) == "0 of 2 reports contradict their film\n1 of 2 contradict somebody else's (50.0%), seed 7"
    swapped = measure(rows, np.stack([scores({"Edema": 0.001}), scores({"Edema": 0.95})]), calibration(), seed=7)
    assert (swapped["own_failed"], swapped["failed"], swapped["exchanged_failed"]) == (2, ["A", "B"], 0)


def test_one_patients_reports_cannot_be_exchanged() -> None:
    rows = [a_row("A", "FINDINGS: Edema.")] * 2
    with pytest.raises(DatasetError, match="two patients"):
        measure(rows, np.stack([scores({})] * 2), calibration(), seed=7)
