"""Measurements of findings and of retrieval: hand-made predictions and boxes with answers worked out by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eval import films, labels, retrieval
from eval.labels import Predictions
from eval.retrieval import Gallery
from knowledge_base.findings import FINDINGS
from knowledge_base.records import BoxLatent
from rag_service.calibration import Calibration, Reliability
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.datasets.openi import Report
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

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


# --- retrieval


class ByDigest:
    """Reads a film as the box that the test gave it."""

    record = SimpleNamespace(id="film@1")

    def __init__(self, boxes: Mapping[Path, tuple[float, float]]) -> None:
        self._boxes = {decode(p.read_bytes()).digest: place for p, place in boxes.items()}

    def read(self, film: Film) -> SimpleNamespace:
        centre = np.array(self._boxes[film.digest], np.float32)
        return SimpleNamespace(box=BoxLatent(centre, np.ones(2, np.float32)))


def a_gallery(words: HashedWords, *cases: tuple[str, tuple[float, float], set[str], str]) -> Gallery:
    """Cases as study, centre (with radius 1), positive findings and the text they were embedded from."""
    ones = np.ones(2, np.float32)
    return Gallery(
        boxes=np.stack([BoxLatent(np.array(c, np.float32), ones).vector() for _, c, _, _ in cases]).astype(np.float64),
        texts=words.encode([t for *_, t in cases]).astype(np.float64),
        labels=np.array([[float(f in found) for f in FINDINGS] for _, _, found, _ in cases]),
        studies=tuple(s for s, *_ in cases),
    )


def a_query(maker: Maker, study: str, *present: str, source: str = "openi") -> FilmRow:
    path = maker.film(f"{study}.png", int(study.removeprefix("CXR")))
    return FilmRow(source, path, study, study, {f: f in present for f in FINDINGS})


def test_a_perfect_ranking_scores_one(maker: Maker, words: HashedWords) -> None:
    base = a_gallery(
        words,
        ("CXR11", (0.1, 0.0), {"Edema"}, "cough"),
        ("CXR12", (0.2, 0.0), {"Edema"}, "fever"),
        ("CXR13", (5.1, 0.0), {"Fracture"}, "fall"),
        ("CXR14", (5.2, 0.0), {"Fracture"}, "fight"),
    )
    rows = [a_query(maker, "CXR1", "Edema"), a_query(maker, "CXR2", "Fracture")]
    encoder = ByDigest({rows[0].path: (0.0, 0.0), rows[1].path: (5.0, 0.0)})
    result = retrieval.measure([*rows, rows[0]], base, encoder, words, {}, 7)  # type: ignore[arg-type]
    best = {"map": 1.0, "ndcg_at_10": pytest.approx(1.0), "p_at_5": 0.5}
    assert {k: result[k] for k in best} == best
    assert result["map_ci"] == (1.0, 1.0)
    assert set(result["baselines"]) == {"point", "random"} and result["baselines"]["point"] == best
    assert 0.0 < result["baselines"]["random"]["map"] <= 1.0
    assert result["all"]["n"] == result["abnormal"]["n"] == 2 and result["all"]["methods"]["box"] == best
    assert (result["n_queries"], result["n_gallery"], result["seed"]) == (2, 4, 7)
    assert result["signature"]["model"] == "film@1" and len(result["signature"]["films"]) == 64
    lines = retrieval.table(result).splitlines()
    assert lines[:3] == [
        "2 queries, 4 cases, seed 7",
        "all (2 queries)   mAP    nDCG@10  P@5",
        "  box      1.000  1.000  0.500",
    ]
    assert lines[-1] == "box mAP over all queries 1.000 [1.000, 1.000]"


@pytest.mark.parametrize(("source", "average", "gain"), [("openi", 1 / 2, 1 / np.log2(3)), ("nih", 5 / 6, None)])
def test_a_study_is_not_its_own_answer(
    maker: Maker, words: HashedWords, source: str, average: float, gain: float | None
) -> None:
    base = a_gallery(
        words,
        ("CXR1", (0.0, 0.0), {"Edema"}, "a"),
        ("CXR2", (1.0, 0.0), {"Fracture"}, "b"),
        ("CXR3", (2.0, 0.0), {"Edema"}, "c"),
    )
    row = a_query(maker, "CXR1", "Edema", source=source)
    result = retrieval.measure([row], base, ByDigest({row.path: (0.0, 0.0)}), words, {}, 7)  # type: ignore[arg-type]
    assert result["map"] == pytest.approx(average)
    assert gain is None or result["ndcg_at_10"] == pytest.approx(gain)


def test_relevance_is_graded_by_shared_findings(maker: Maker, words: HashedWords) -> None:
    base = a_gallery(
        words,
        ("CXR11", (0.1, 0.0), {"Edema"}, "a"),
        ("CXR12", (0.2, 0.0), {"Edema", "Cardiomegaly"}, "b"),
        ("CXR13", (0.3, 0.0), set(), "c"),
    )
    row = a_query(maker, "CXR1", "Edema", "Cardiomegaly")
    result = retrieval.measure([row], base, ByDigest({row.path: (0.0, 0.0)}), words, {}, 7)  # type: ignore[arg-type]
    assert result["ndcg_at_10"] == pytest.approx(0.82859, abs=1e-5)
    assert (result["map"], result["p_at_5"]) == (1.0, pytest.approx(2 / 3))


def test_the_indication_alone_is_a_baseline(maker: Maker, words: HashedWords) -> None:
    base = a_gallery(
        words, ("CXR11", (5.0, 0.0), {"Edema"}, "breathless"), ("CXR12", (0.0, 0.0), {"Fracture"}, "fell off a ladder")
    )
    rows = [a_query(maker, "CXR1", "Edema"), a_query(maker, "CXR2", "Fracture")]
    encoder = ByDigest({rows[0].path: (0.0, 0.0), rows[1].path: (5.0, 0.0)})
    told = {"CXR1": "breathless", "CXR2": "fell off a ladder"}
    result = retrieval.measure(rows, base, encoder, words, told, 7)  # type: ignore[arg-type]
    assert result["baselines"]["text"]["map"] == 1.0 and result["map"] == 0.5
    partly = retrieval.measure(rows, base, encoder, words, {"CXR1": "breathless", "CXR2": ""}, 7)  # type: ignore[arg-type]
    assert words.asked[-2:] == ["breathless", "unknown"]
    assert partly["baselines"]["text"]["map"] in {0.75, 1.0}


def test_nothing_shared_scores_zero_and_normal_films_stand_apart(maker: Maker, words: HashedWords) -> None:
    base = a_gallery(words, ("CXR11", (0.0, 0.0), {"Fracture"}, "a"), ("CXR12", (1.0, 0.0), {"Edema"}, "b"))
    rows = [a_query(maker, "CXR1", "No Finding"), a_query(maker, "CXR2")]
    result = retrieval.measure(rows, base, ByDigest({rows[0].path: (0.0, 0.0)}), words, {}, 7)  # type: ignore[arg-type]
    assert (result["n_queries"], result["map"], result["ndcg_at_10"], result["p_at_5"]) == (1, 0.0, 0.0, 0.0)
    assert "abnormal" not in result and "abnormal" not in retrieval.table(result)
    with pytest.raises(DatasetError, match="no film has a finding"):
        retrieval.measure(rows[1:], base, ByDigest({}), words, {}, 7)  # type: ignore[arg-type]


def test_a_gallery_of_ones_own_study_alone_answers_nothing(maker: Maker, words: HashedWords) -> None:
    base = a_gallery(words, ("CXR1", (0.0, 0.0), {"Edema"}, "a"))
    row = a_query(maker, "CXR1", "Edema")
    result = retrieval.measure([row], base, ByDigest({row.path: (0.0, 0.0)}), words, {}, 7)  # type: ignore[arg-type]
    assert (result["map"], result["ndcg_at_10"], result["p_at_5"]) == (0.0, 0.0, 0.0)


def test_the_gallery_is_the_starter_cases_that_have_labels() -> None:
    def report(study: str, *tags: str) -> Report:
        return Report(study, "", "", "Text.", "", tags, ())

    numbers = np.arange(12, dtype=np.float32).reshape(4, 3)
    cases = StarterCases("film@1", "mini@1", ("CXR1", "CXR2", "CXR3", "CXR4"), numbers, numbers * 2)
    known = {"CXR1": report("CXR1", "Fractures, Bone"), "CXR2": report("CXR2"), "CXR4": report("CXR4", "normal")}
    found = retrieval.gallery(cases, known)
    assert found.studies == ("CXR1", "CXR4")
    assert found.boxes.tolist() == [[0, 1, 2], [9, 10, 11]] and found.texts.tolist() == [[0, 2, 4], [18, 20, 22]]
    assert [FINDINGS[i] for i in found.labels.argmax(1)] == ["Fracture", "No Finding"]
    assert found.labels.sum() == 2.0


def test_indications_come_from_the_reports_of_the_folder(maker: Maker) -> None:
    assert retrieval.indications(maker.folder) == {}
    maker.openi(STUDIES)
    assert retrieval.indications(maker.folder) == {"CXR1": "Swollen legs", "CXR2": "Cough", "CXR3": "", "CXR4": "Pain"}
