"""The second labeler, and what `eval.labeler` says of the two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.labeler import kappa, kept_back, load, measure
from knowledge_base.findings import Polarity
from rag_service.datasets.films import DatasetError
from rag_service.datasets.openi import Report
from rag_service.report.context_labeler import ContextLabeler

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN


@pytest.fixture(scope="module")
def labeler() -> ContextLabeler:
    return ContextLabeler()


@pytest.mark.parametrize(
    ("text", "finding", "polarity"),
    [
        ("Small left pleural effusion.", "Pleural Effusion", POSITIVE),
        ("No pneumothorax or effusion.", "Pleural Effusion", NEGATIVE),
        ("The heart is mildly enlarged.", "Cardiomegaly", POSITIVE),
        ("Possible pneumonia at the base.", "Pneumonia", UNCERTAIN),
        ("Pneumonia is not excluded.", "Pneumonia", UNCERTAIN),
        ("No effusion. Small effusion.", "Pleural Effusion", POSITIVE),
        ("Bibasilar atelectasis.", "Lung Opacity", POSITIVE),
        ("Right chest port.", "Support Devices", POSITIVE),
        ("No acute disease.", "No Finding", POSITIVE),
        ("Rib fracture.", "No Finding", NEGATIVE),
        ("Hydropneumothorax.", "Pneumothorax", POSITIVE),
    ],
)
def test_context_labeler_reads(labeler: ContextLabeler, text: str, finding: str, polarity: Polarity) -> None:
    assert labeler.read_report(text)[finding] is polarity


def test_context_labeler_skips_look_alikes(labeler: ContextLabeler) -> None:
    assert "Pleural Effusion" not in labeler.read_report("Small pericardial effusion.")


def report(study: str, text: str, *tags: str) -> Report:
    return Report(study, "", "", text, "", tags, ())


def test_measure_counts_agreement_with_tags_and_between_labelers() -> None:
    reports = {
        "S1": report("S1", "Cardiomegaly.", "Cardiomegaly"),
        "S2": report("S2", "No cardiomegaly.", "normal"),
        "S3": report("S3", "Possible pneumonia.", "Pneumonia"),
        "S4": report("S4", "No edema.", "normal"),
        "S5": report("S5", "", "normal"),
        "S6": report("S6", "Edema."),
    }
    scores = measure(reports, seed=3)
    everything = scores.part("all")
    assert everything.studies == 4
    row = everything.comparison("rules", "mesh").row("Cardiomegaly")
    assert (row.both, row.first_only, row.second_only, row.neither, row.kappa) == (1, 0, 0, 3, 1.0)
    assert (row.precision.numerator, row.precision.denominator) == (1, 1)
    assert everything.comparison("rules", "mesh", "absent").row("Pneumonia").second_only == 1
    assert everything.comparison("rules", "mesh", "present").row("Pneumonia").both == 1
    assert everything.comparison("rules", "context").row("pooled").kappa == 1.0
    assert everything.comparison("rules", "mesh").row("Pneumothorax").kappa is None
    assert everything.comparison("rules", "mesh").row("Pneumothorax").recall.value is None
    assert everything.polarity_by_mesh["uncertain"] == {"absent": 0, "present": 2}
    assert scores.part("all") == measure(reports, seed=3).part("all")
    assert json.loads(json.dumps(scores.to_json()))["seed"] == 3
    assert "Cardiomegaly" in scores.table()


def test_measure_refuses_reports_without_tags() -> None:
    with pytest.raises(DatasetError):
        measure({"S6": report("S6", "Edema.")})


def test_kappa_of_known_counts() -> None:
    assert kappa(np.array([20.0, 5.0, 10.0, 15.0])) == pytest.approx(0.4)


def test_kept_back_is_about_three_in_ten() -> None:
    assert sum(kept_back(f"CXR{i}") for i in range(2000)) == pytest.approx(600, abs=80)


def test_load_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"NLMCXR_reports\.tgz"):
        load(tmp_path)
