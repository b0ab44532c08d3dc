"""Measurements of findings: hand-made predictions with answers worked out by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval import films, labels
from eval.labels import Predictions
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration, Reliability
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.imaging.decode import decode
from rag_service.models.encoder import FilmEncoder

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

STUDIES = {
    "CXR1": ("Large heart.", "Swollen legs", ("Cardiomegaly",)),
    "CXR2": ("Clear lungs.", "Cough", ("normal",)),
    "CXR3": ("Effusion on the left.", "", ("Pleural Effusion/left",)),
    "CXR4": ("Not indexed.", "Pain", ("No Indexing",)),
}


def a_row(study: str, present: Mapping[str, bool], patient: str = "", film: str = "1.png") -> FilmRow:
    return FilmRow("openi", Path("films") / film, study, patient or study, present)


# --- which films are measured


def test_labelled_frontal_films_of_openi(maker: Maker) -> None:
    folder = maker.openi(STUDIES)
    with (folder / "images.csv").open("a") as table:
        table.write("films/CXR1.png,CXR1_2,CXR1,Lateral\n")
    assert [r.study for r in films.read(folder)] == ["CXR1", "CXR2", "CXR3", "CXR4"]
    rows = films.labelled(films.read(folder))
    assert [(r.study, r.presentation) for r in rows] == [("CXR1", "frontal"), ("CXR2", "frontal"), ("CXR3", "frontal")]
    assert [r.study for r in films.read(folder, Split.TEST)] == ["CXR1"]
    with pytest.raises(DatasetError, match="holds no labelled frontal film of the calibration split"):
        films.read(folder, Split.CALIBRATION)


def test_labelled_films_of_nih(maker: Maker) -> None:
    maker.film("a.png", 1)
    header = "file,image,patient_id,view,age,sex,labels"
    maker.table("images.csv", header, "a.png,00000001_000.png,1,PA,57,M,Edema")
    (row,) = films.read(maker.folder)
    assert (row.source, row.labels["Edema"]) == ("nih", True)


def test_a_folder_that_holds_nothing_to_measure_is_refused(maker: Maker, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere/ is no folder"):
        films.read(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds neither NLMCXR_reports"):
        films.read(maker.folder)
    with pytest.raises(DatasetError, match=r"collection/ holds no labelled frontal film$"):
        films.read(maker.openi({"CXR4": STUDIES["CXR4"]}))


def test_the_signature_names_the_films_whatever_their_order() -> None:
    one, two = a_row("CXR1", {}), a_row("CXR2", {})
    assert films.signature([one, two]) == films.signature([two, one])
    assert films.signature([one]) != films.signature([replace(one, path=Path("films/2.png"))])
    assert len(films.signature([one])) == 64


# --- findings


def by_hand() -> Predictions:
    """Three studies, the first with two films; Edema and No Finding are known, everything else is not."""
    values = {"Edema": (0.9, 0.3, 0.7, 0.6), "No Finding": (0.1, 0.7, 0.1, 0.2)}
    p = np.full((4, len(FINDINGS)), 0.37)
    for finding, column in values.items():
        p[:, FINDINGS.index(finding)] = column
    rows = (
        a_row("CXR1", {"Edema": True, "No Finding": False}, film="1a.png"),
        a_row("CXR2", {"Edema": False, "No Finding": True}),
        a_row("CXR1", {"Edema": True, "No Finding": False}, film="1b.png"),
        a_row("CXR3", {"Edema": False, "No Finding": True}),
    )
    return Predictions(rows, p, p, np.full(p.shape, 0.01), np.array([0.5, 0.8, 0.7, 0.9]))


def by_hand_of(films_kept: int) -> Predictions:
    """The first of `by_hand`."""
    found = by_hand()
    return Predictions(
        found.rows[:films_kept],
        *(getattr(found, n)[:films_kept] for n in ("p", "raw", "spread", "radius")),
    )


def test_predictions_are_the_encoders_calibrated(
    maker: Maker, tiny_encoder: FilmEncoder, calibration: Calibration
) -> None:
    rows = films.labelled(films.read(maker.openi(STUDIES)))
    found = labels.predict(rows, tiny_encoder, calibration)
    assert found.rows == tuple(rows) and found.p.shape == (3, 14)
    reading = tiny_encoder.read(decode(rows[1].path.read_bytes()))
    np.testing.assert_allclose(found.p[1], reading.probabilities, rtol=1e-9)
    assert found.radius[1] == pytest.approx(reading.box.radius.mean())


def test_the_films_of_a_study_count_once() -> None:
    studies = labels.by_study(by_hand())
    edema = FINDINGS.index("Edema")
    np.testing.assert_allclose(studies.p[:, edema], [0.8, 0.3, 0.6])
    np.testing.assert_allclose(studies.radius, [0.6, 0.8, 0.9])
    assert studies.labels[:, edema].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(studies.labels[:, FINDINGS.index("Fracture")]).all()
    assert studies.patients == ("openi/CXR1", "openi/CXR2", "openi/CXR3")


def test_what_is_measured_of_findings(calibration: Calibration) -> None:
    result = labels.measure(by_hand(), calibration, "film@1", 7)
    assert set(json.loads(json.dumps(result, allow_nan=False))) == set(result)
    edema = result["per_label"]["Edema"]
    assert edema == {
        "auroc": 1.0,
        "f1": pytest.approx(2 / 3),
        "brier": pytest.approx((0.04 + 0.09 + 0.36) / 3),
        "ece": pytest.approx((0.2 + 0.3 + 0.6) / 3),
        "positives": 1,
        "studies": 3,
        "flag": 0.4,
    }
    assert result["per_label"]["Fracture"] == {
        "auroc": None, "f1": None, "brier": None, "ece": None, "positives": 0, "studies": 0, "flag": 0.4,
    }  # fmt: skip
    assert (result["macro_auroc"], result["macro_auroc_ci"]) == (1.0, (1.0, 1.0))
    assert result["labels_in_macro"] == ["No Finding", "Edema"]
    assert result["element_accuracy"] == result["element_accuracy_at_half"] == pytest.approx(4 / 6)
    assert result["element_accuracy_at_flag"] == pytest.approx(4 / 6)
    eager = {f: replace(e, accurate=0.65) for f, e in calibration.findings.items()}
    moved = labels.measure(by_hand(), replace(calibration, findings=eager), "film@1", 7)
    # From 0.65 up the third study's Edema, at 0.6, is no longer called.
    assert moved["element_accuracy"] == pytest.approx(5 / 6) and moved["element_accuracy_at_flag"] == pytest.approx(
        4 / 6
    )
    assert result["label_f1_macro"] == pytest.approx(2 / 3) and result["label_f1_micro"] == pytest.approx(4 / 6)
    assert result["brier_macro"] == pytest.approx((0.49 / 3 + 0.74 / 3) / 2)
    assert result["ece_macro"] == pytest.approx((1.1 / 3 + 1.2 / 3) / 2)
    assert (result["n_films"], result["n_studies"], result["seed"]) == (4, 3, 7)
    assert result["signature"] == {
        "films": films.signature(list(by_hand().rows)),
        "model": "film@1",
        "thresholds": calibration.digest,
        "bl_tta": 8,
        "bootstrap": 500,
        "ece": "equal mass, 10 bins",
    }


def test_tiers_count_what_would_be_said_of_reliable_findings(calibration: Calibration) -> None:
    assert labels.measure(by_hand(), calibration, "film@1", 7)["tiers"] == {
        "high": {"accuracy": 1.0, "statements": 1},
        "medium": {"accuracy": 1.0, "statements": 1},
        "low": {"accuracy": 0.0, "statements": 1},
    }
    silent = replace(calibration.findings["Edema"], reliability=Reliability.TOO_WEAK)
    mute = replace(calibration, findings={**calibration.findings, "Edema": silent})
    assert labels.measure(by_hand(), mute, "film@1", 7)["tiers"]["high"] == {"accuracy": None, "statements": 0}


def test_the_table_of_findings(calibration: Calibration) -> None:
    lines = labels.table(labels.measure(by_hand(), calibration, "film@1", 7)).splitlines()
    assert lines[0] == "4 films, 3 studies, seed 7"
    assert lines[1] == "macro-AUROC 1.000 [1.000, 1.000] over 2 labels"
    assert lines[6] == "No Finding                    1.000  0.667  0.247  0.400     2      3"
    assert lines[-4] == "Support Devices                   -      -      -      -     0      0"
    assert lines[-3:] == [
        "tier high    accuracy 1.000 of 1 statements",
        "tier medium  accuracy 1.000 of 1 statements",
        "tier low     accuracy 0.000 of 1 statements",
    ]


def test_one_class_alone_has_no_area_and_no_interval(calibration: Calibration) -> None:
    only = by_hand_of(1)
    result = labels.measure(only, calibration, "film@1", 7)
    assert (result["macro_auroc"], result["macro_auroc_ci"], result["labels_in_macro"]) == (None, None, [])
    assert "macro-AUROC - [nan, nan] over 0 labels" in labels.table(result)


def test_predictions_as_a_table(tmp_path: Path) -> None:
    labels.write_predictions(by_hand(), tmp_path / "p.csv")
    header, first, *rest = csv.reader((tmp_path / "p.csv").read_text().splitlines())
    assert header == ["file", *FINDINGS] and len(rest) == 3
    assert first[0] == "films/1a.png" and first[1] == "0.100000" and first[header.index("Edema")] == "0.900000"
