"""python -m eval change: figures worked out by hand, then the command once over films of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eval import __main__ as cli
from eval import change
from eval.change import UNSAID, Rows
from knowledge_base.findings import FINDINGS, NO_FINDING
from rag_service import wiring
from rag_service.changes import NO_WEIGHTS, ChangeRule, FindingChange
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.datasets.follow_ups import FollowUp, follow_ups
from rag_service.models.encoder import FilmEncoder
from rag_service.training.changes import make_changes
from tests.integration.house import calibration

UNTOLD = FindingChange(NO_WEIGHTS, None, None, 0, None)
TOLD = FindingChange((1.0, 0.0), 1.0, 0.25, 40, 0.9)
RULE = ChangeRule(
    "tiny", {**{f: UNTOLD for f in FINDINGS if f != NO_FINDING}, "Cardiomegaly": TOLD, "Edema": TOLD}, "made by hand"
)
EVERY = np.arange(4)


def test_accuracy_and_f1_are_of_what_is_said_and_coverage_of_all() -> None:
    rows = Rows(["a", "a", "b", "c"], ["Edema"] * 4, np.array([1, -1, 0, 1]), {"m": np.array([1, 1, 0, UNSAID])})
    found = change.figures(rows, "m", EVERY)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1_macro"] == pytest.approx((0.0 + 1.0 + 2 / 3) / 3)
    assert found["coverage"] == 0.75
    assert change.figures(rows, "m", np.array([3])) == {"accuracy": None, "f1_macro": None, "coverage": 0.0}


def a_row(name: str) -> FilmRow:
    return FilmRow("nih", Path(name), name, "1")


def test_what_each_method_tells_of_a_pair() -> None:
    """Cardiomegaly is reliable and stated at any score here; Lung Opacity is told by no rule."""
    before, after = np.zeros((14, 2)), np.zeros((14, 2))
    for finding, odds in {"Cardiomegaly": (2.5, 4.0), "Edema": (4.0, 2.5), "Lung Opacity": (-9.0, 9.0)}.items():
        before[FINDINGS.index(finding), 0], after[FINDINGS.index(finding), 0] = odds
    known = {"Cardiomegaly": 1, "Edema": -1, "Lung Opacity": 1, "Fracture": 0}
    pair = FollowUp(a_row("a"), a_row("b"), known, frozenset({"Cardiomegaly", "Edema", "Lung Opacity"}))
    rows = change.rows_of([pair], {Path("a"): before, Path("b"): after}, RULE, calibration())
    assert list(rows.findings) == ["Cardiomegaly", "Lung Opacity", "Edema"]
    assert rows.known.tolist() == [1, 1, -1]
    told = {m: t.tolist() for m, t in rows.told.items()}
    assert told["rule"] == [1, UNSAID, -1]
    assert told["drafts"] == [1, UNSAID, -1]
    assert told["always_stable"] == [0, 0, 0]
    assert told["heads_alone"] == [0, 1, 0]
    with pytest.raises(DatasetError, match="no finding whose change is known"):
        change.rows_of([FollowUp(a_row("a"), a_row("b"), {"Edema": 0}, frozenset())], {}, RULE, calibration())


@pytest.fixture
def nih(tmp_path: Path, stored: NDArray[np.uint8]) -> Path:
    lines = ["file,image,patient_id,view,age,sex,labels"]
    for i, (patient, labels) in enumerate(
        [(1, "Cardiomegaly"), (1, "No Finding"), (1, "Edema"), (2, "Edema"), (2, "Edema|Cardiomegaly"), (3, "Mass")]
    ):
        Image.fromarray(stored[i]).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{patient:08d}_{i:03d}.png,{patient},PA,50,F,{labels}")
    (tmp_path / "images.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def a_reader(encoder: FilmEncoder, rule: ChangeRule | None) -> Any:
    return SimpleNamespace(changes=rule, encoder=encoder, calibration=calibration())


def test_the_command_measures_pairs_of_one_patient(
    nih: Path, encoder: FilmEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wiring, "build_reader", lambda _: a_reader(encoder, RULE))
    out = nih / "figures.json"
    assert cli.main(["change", str(nih), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["pairs"], result["patients"]) == (4, 2)
    assert sum(result["known"].values()) == result["rows"] == sum(v["rows"] for v in result["per_finding"].values())
    assert result["controls"]["always_stable"]["coverage"] == 1.0
    assert result["controls"]["always_stable"]["accuracy"] == result["known"]["stable"] / result["rows"]
    assert result["signature"]["rule"] == RULE.digest
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith(f"{result['rows']} findings of 4 pairs of films, 2 patients (")
    assert "control heads_alone" in said
    assert cli.main(["change", str(nih), "--limit", "1", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["pairs"] == 1


def test_a_rule_is_made_of_the_sources_there_are(nih: Path, encoder: FilmEncoder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "nih").symlink_to(nih)
    rule = make_changes(data, encoder, calibration())
    pairs = [p for p in follow_ups(nih) if p.earlier.split is not Split.TEST]
    patients = {p.earlier.patient for p in pairs}
    assert rule.sample == f"nih+cohen/train+calibration: {len(pairs)} pairs of {len(patients)} patients"
    assert rule.model == encoder.record.id
    assert {entry.changed for entry in rule.findings.values()} == {None}
    assert rule.findings["Fracture"].pairs == 0 < rule.findings["Edema"].pairs


def test_without_a_rule_or_pairs_the_command_says_so(
    nih: Path, encoder: FilmEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wiring, "build_reader", lambda _: a_reader(encoder, None))
    assert cli.main(["change", str(nih)]) == 3
    assert "has no change.json" in capsys.readouterr().err
    monkeypatch.setattr(wiring, "build_reader", lambda _: a_reader(encoder, RULE))
    (nih / "images.csv").write_text("file,image,patient_id,view,age,sex,labels\n0.png,1_0.png,1,PA,5,F,Edema\n")
    assert cli.main(["change", str(nih)]) == 2
    assert "no two films of one patient" in capsys.readouterr().err


def test_a_split_without_pairs_is_named(nih: Path, encoder: FilmEncoder) -> None:
    splits = {row.split for row in (FilmRow("nih", Path(), "", patient) for patient in ("1", "2"))}
    empty = next(s for s in Split if s not in splits)
    with pytest.raises(DatasetError, match=f"of the {empty} split"):
        change.measure(nih, a_reader(encoder, RULE), empty, 7)
