"""The measure of change between two films, its record, its fit, and the pairs of films it is fitted to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from knowledge_base.findings import FINDINGS, NO_FINDING
from rag_service.changes import NO_WEIGHTS, ChangeRule, FindingChange, amounts, load_changes
from rag_service.datasets.films import DatasetError
from rag_service.datasets.follow_ups import FollowUp, follow_ups
from rag_service.errors import BadWeights
from rag_service.training.changes import Differences, differences, fit, fit_finding, lower_bound

UNTOLD = FindingChange(NO_WEIGHTS, None, None, 0, None)
TOLD = FindingChange((1.0, 0.5), 2.0, 0.5, 40, 0.9)
NAMES = [f for f in FINDINGS if f != NO_FINDING]
RULE = ChangeRule("tiny@1", {**dict.fromkeys(NAMES, UNTOLD), "Edema": TOLD}, "made by hand")
EDEMA = FINDINGS.index("Edema")


def a_film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


# --- the measure


@pytest.mark.parametrize(
    ("measured", "direction"), [(2.0, 1), (-2.0, -1), (9.0, 1), (0.5, 0), (-0.4, 0), (0.6, None), (-1.9, None)]
)
def test_a_direction_is_told_only_where_it_is_certain(measured: float, direction: int | None) -> None:
    assert TOLD.direction(measured) == direction
    assert UNTOLD.direction(measured) is None


def test_a_measure_joins_two_differences() -> None:
    earlier, later = np.zeros((14, 2)), np.zeros((14, 2))
    later[EDEMA] = 3.0, -1.0
    assert RULE.measured("Edema", earlier, later) == 2.5
    assert RULE.measured("Edema", later, earlier) == -2.5
    assert RULE.measured("Fracture", earlier, later) == 0.0


def test_amounts_are_log_odds_and_log_extents() -> None:
    places = np.zeros((17, 2, 2), np.float32)
    places[EDEMA] = 0.5
    calibration: Any = SimpleNamespace(probabilities=lambda p: p)
    reading: Any = SimpleNamespace(probabilities=np.array([0.5] * 13 + [1.0]), places=places)
    found = amounts(reading, calibration)
    assert found.shape == (14, 2)
    assert found[EDEMA].tolist() == pytest.approx([0.0, np.log(0.5)])
    assert found[13].tolist() == pytest.approx([np.log(999), np.log(0.001)])
    with pytest.raises(BadWeights, match="no place maps"):
        amounts(replace_places(reading), calibration)


def replace_places(reading: Any) -> Any:
    return SimpleNamespace(probabilities=reading.probabilities, places=None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"weights": (1.0,)}, "finite and not negative"),
        ({"weights": (1.0, -0.1)}, "finite and not negative"),
        ({"weights": (1.0, float("nan"))}, "finite and not negative"),
        ({"still": None}, "both cut-offs or none"),
        ({"still": 3.0}, "lies below what has changed"),
        ({"still": -1.0}, "lies below what has changed"),
    ],
)
def test_what_no_rule_can_be(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(TOLD, **fields)


# --- the record


def test_a_rule_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert load_changes(tmp_path, "tiny@1") is None
    RULE.save(tmp_path)
    found = load_changes(tmp_path, "tiny@1")
    assert found == RULE
    assert found is not None and found.digest == RULE.digest != replace(RULE, model="other@1").digest


def test_a_rule_that_is_altered_anothers_or_incomplete_is_refused(tmp_path: Path) -> None:
    RULE.save(tmp_path)
    with pytest.raises(BadWeights, match=r"change\.json belongs to tiny@1, the model is tiny@2"):
        load_changes(tmp_path, "tiny@2")
    path = tmp_path / "change.json"
    path.write_text(path.read_text().replace("2.0", "1.0", 1))
    with pytest.raises(BadWeights, match=r"change\.json: expected sha256"):
        load_changes(tmp_path, "tiny@1")
    path.write_text("{")
    with pytest.raises(BadWeights, match="malformed"):
        load_changes(tmp_path, "tiny@1")
    with pytest.raises(ValueError, match="covers all findings"):
        ChangeRule("tiny@1", {"Edema": TOLD}, "")


# --- the fit


def known(measured: list[float], change: list[int]) -> Differences:
    return Differences(np.array([[m, 0.1 * m] for m in measured]), np.array(change, np.int64))


def test_a_change_that_can_be_told_has_cut_offs_where_most_pairs_are_right() -> None:
    apart = [*np.linspace(2, 3, 15), *-np.linspace(2, 3, 15), *np.linspace(-0.5, 0.5, 20)]
    found = fit_finding(known(apart, [1] * 15 + [-1] * 15 + [0] * 20))
    assert (found.pairs, found.auroc) == (30, 1.0)
    assert found.direction(found.weights[0] * 2.5 + found.weights[1] * 0.25) == 1
    assert found.direction(-(found.weights[0] * 2.5 + found.weights[1] * 0.25)) == -1
    assert found.direction(0.0) == 0
    assert found.still is not None and found.changed is not None and 0 < found.still <= found.changed


def test_nothing_is_told_of_few_changes_of_one_direction_or_of_what_the_films_do_not_show() -> None:
    few = fit_finding(known([2.0] * 7 + [-2.0] * 7, [1] * 7 + [-1] * 7))
    assert few == FindingChange(NO_WEIGHTS, None, None, 14, None)
    assert fit_finding(known([2.0] * 20, [1] * 20)).changed is None
    rng = np.random.default_rng(3)
    noise = fit_finding(known(rng.normal(size=40).tolist(), [1, -1] * 20))
    assert (noise.changed, noise.still, noise.pairs) == (None, None, 40)


def test_pairs_that_did_not_change_speak_against_a_change() -> None:
    moved = [*np.linspace(2, 3, 15), *-np.linspace(2, 3, 15)]
    alone = fit_finding(known(moved, [1] * 15 + [-1] * 15))
    beside = fit_finding(known([*moved, *np.linspace(4, 5, 30)], [1] * 15 + [-1] * 15 + [0] * 30))
    assert alone.changed is not None and alone.still == 0.0
    assert beside.changed is None


def test_the_lower_end_of_an_area_is_hanley_and_mcneil_s() -> None:
    assert lower_bound(0.9, 50, 50) == pytest.approx(0.83704, abs=1e-5)
    assert lower_bound(1.0, 9, 9) == 1.0


def test_only_pairs_that_show_a_finding_teach_its_change(tmp_path: Path) -> None:
    row: Any = SimpleNamespace(path=tmp_path / "a.png")
    later: Any = SimpleNamespace(path=tmp_path / "b.png")
    pairs = [
        FollowUp(row, later, {"Edema": 1}, frozenset({"Edema"})),
        FollowUp(row, later, {"Edema": 0}, frozenset()),
        FollowUp(row, later, {}, frozenset({"Edema"})),
    ]
    shown = {row.path: np.zeros((14, 2)), later.path: np.full((14, 2), 2.0)}
    found = differences(pairs, shown, "Edema")
    assert (found.features.tolist(), found.change.tolist()) == ([[2.0, 2.0]], [1])
    assert fit("tiny@1", {f: differences(pairs, shown, f) for f in NAMES}, "two films").findings["Edema"].pairs == 1


# --- the pairs


def test_labels_of_one_patient_come_go_and_stay(tmp_path: Path) -> None:
    for name in "abcd":
        a_film(tmp_path / f"{name}.png")
    (tmp_path / "images.csv").write_text(
        "file,image,patient_id,view,age,sex,labels\n"
        "b.png,00000001_001.png,1,PA,57,M,Effusion|Edema\n"
        "a.png,00000001_000.png,1,PA,57,M,Cardiomegaly|Effusion\n"
        "c.png,00000002_000.png,2,PA,60,F,Edema\n"
        "d.png,00000001_002.png,1,PA,57,M,No Finding\n"
    )
    first, *_, last = follow_ups(tmp_path)
    assert (first.earlier.study, first.later.study) == ("00000001_000", "00000001_001")
    assert {f: c for f, c in first.change.items() if c} == {"Cardiomegaly": -1, "Edema": 1, "Lung Opacity": 1}
    assert first.change["Pleural Effusion"] == first.change["Pneumothorax"] == 0
    assert first.present == {"Cardiomegaly", "Pleural Effusion", "Edema", "Lung Opacity"}
    assert (last.earlier.study, last.later.study) == ("00000001_001", "00000001_002")
    assert len(follow_ups(tmp_path)) == 3 and NO_FINDING not in first.change


def cohen(folder: Path, scores: str, header: str = "filename,geographic_mean") -> Path:
    for name in "abc":
        a_film(folder / "images" / f"{name}.png")
    (folder / "metadata.csv").write_text(
        "file,patientid,finding,view,offset\nimages/b.png,1,todo,PA,9\nimages/a.png,1,todo,AP,2\nimages/c.png,1,todo,PA,\n"
    )
    (folder / "covid-severity-scores.csv").write_text(f"# of three readers\n{header}\n{scores}")
    return folder


@pytest.mark.parametrize(
    ("before", "after", "change", "shown"),
    [(1.0, 3.0, 1, 1), (3.0, 1.0, -1, 1), (2.0, 2.4, 0, 1), (0.0, 0.0, 0, 0)],
)
def test_scores_of_readers_tell_a_change(tmp_path: Path, before: float, after: float, change: int, shown: int) -> None:
    (pair,) = follow_ups(cohen(tmp_path, f"a.png,{before}\nb.png,{after}\nc.png,5\nd.png,unread\n"))
    assert (pair.earlier.path.stem, pair.later.path.stem) == ("a", "b")
    assert pair.change == {"Lung Opacity": change}
    assert pair.present == frozenset(["Lung Opacity"] * shown)


def test_scores_that_differ_by_less_than_readers_do_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no two films of one patient with a known change"):
        follow_ups(cohen(tmp_path, "a.png,1.0\nb.png,1.5\n"))


def test_a_folder_without_scores_is_named(tmp_path: Path) -> None:
    cohen(tmp_path, "", header="filename,score")
    with pytest.raises(DatasetError, match="lacks the columns filename, geographic_mean"):
        follow_ups(tmp_path)
    (tmp_path / "covid-severity-scores.csv").unlink()
    with pytest.raises(DatasetError, match=r"covid-severity-scores\.csv is missing"):
        follow_ups(tmp_path)
