"""The relevance gate: what it lets through, its record, and how it is chosen on calibration films."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.records import BoxLatent, Case
from knowledge_base.search import CaseHit
from rag_service import sealed
from rag_service.datasets.films import FilmRow, Split, split_of
from rag_service.errors import BadWeights
from rag_service.models import text
from rag_service.models.catalogue import load_record
from rag_service.models.starter import StarterCases
from rag_service.relevance import RelevanceGate, load_relevance
from rag_service.training import __main__ as training
from rag_service.training import evidence_gate
from rag_service.training.evidence_gate import COMMAND, LEAST_PAIRS, fit_relevance, lifts, opening

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
GATE = RelevanceGate("tiny@1", {POSITIVE: 0.3, NEGATIVE: 0.4, UNCERTAIN: 0.2}, "made by hand", COMMAND)
WEIGHTS = Path(__file__).parents[2] / "rag_service" / "weights"
EDEMA = FINDINGS.index("Edema")


@pytest.mark.parametrize(
    ("overlap", "passed"),
    [(0.45, {POSITIVE, NEGATIVE, UNCERTAIN}), (0.3, {POSITIVE, UNCERTAIN}), (0.1, set()), (None, set())],
)
def test_a_case_passes_from_the_least_overlap_up(overlap: float | None, passed: set[Polarity]) -> None:
    hit = CaseHit(Case("a", "b", "c", "", ()), 0.9, {}, None, overlap)
    assert {p for p in Polarity if GATE.passes(hit, p)} == passed


@pytest.mark.parametrize("least", [{}, {POSITIVE: 0.3}, {POSITIVE: 0.3, NEGATIVE: 0.4, UNCERTAIN: 1.1}])
def test_a_gate_has_an_overlap_for_each_polarity(least: dict[Polarity, float]) -> None:
    with pytest.raises(ValueError, match="a least overlap in"):
        replace(GATE, least=least)


def test_a_gate_is_kept_with_its_digest(tmp_path: Path) -> None:
    assert load_relevance(tmp_path, "tiny@1") is None
    GATE.save(tmp_path)
    assert load_relevance(tmp_path, "tiny@1") == GATE
    assert json.loads((tmp_path / "evidence.json").read_text())["least"] == {
        "positive": 0.3,
        "negative": 0.4,
        "uncertain": 0.2,
    }
    with pytest.raises(BadWeights, match=r"belongs to tiny@1, the model is other@1"):
        load_relevance(tmp_path, "other@1")
    assert replace(GATE, sample="other").digest != GATE.digest


@pytest.mark.parametrize(
    "change", [{"least": {"positive": 0.3}}, {"least": None}, {"extra": 1}, {"model": 3, "least": 1}]
)
def test_a_record_that_is_no_gate_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    GATE.save(tmp_path)
    sealed.write(tmp_path / "evidence.json", {**sealed.read(tmp_path / "evidence.json"), **change})
    with pytest.raises(BadWeights, match="malformed"):
        load_relevance(tmp_path, "tiny@1")


def test_an_altered_record_is_refused(tmp_path: Path) -> None:
    GATE.save(tmp_path)
    file = tmp_path / "evidence.json"
    file.write_text(file.read_text().replace("0.3", "0.1"))
    with pytest.raises(BadWeights, match="expected sha256"):
        load_relevance(tmp_path, "tiny@1")


def test_the_shipped_gate_is_of_the_shipped_model() -> None:
    gate = load_relevance(WEIGHTS, load_record(WEIGHTS).id)
    assert gate is not None
    assert gate.command == COMMAND
    assert all(0.2 < least < 0.4 for least in gate.least.values())


def test_lift_is_how_much_oftener_a_statement_is_true_near_than_at_large() -> None:
    films, cases = 40, 100
    overlaps = np.full((films, cases), 0.25)
    overlaps[:10, :50] = 0.655  # ten films lie near half of the cases
    overlaps[0, 0] = np.nan
    stated = np.zeros((cases, 14), np.bool_)
    stated[:50, EDEMA] = True
    true = np.zeros((films, 14), np.bool_)
    true[:5, EDEMA] = True  # five of the near ones, of forty
    found = lifts(overlaps, stated, true)
    assert found.shape == (100,)
    near, far = 499, 1500
    assert near < LEAST_PAIRS <= far
    assert np.isnan(found[61:66]).all()
    assert found[21:26].tolist() == [0.0] * 5
    stated[50, EDEMA] = True
    overlaps[:10, 50] = 0.655
    assert lifts(overlaps, stated, true)[61:66].tolist() == pytest.approx([254 / 509 / 0.125] * 5)
    assert np.isnan(lifts(overlaps, stated, true)[66])
    assert np.isnan(lifts(overlaps, stated, np.zeros((films, 14), np.bool_))).all()


@pytest.mark.parametrize(
    ("lift", "overlap"), [([0.5, 1.0, 0.9, 2.0], 0.01), ([np.nan, 0.9, np.nan, 1.1], 0.03), ([1.0, 0.0, 0.0, 0.0], 0.0)]
)
def test_the_gate_opens_where_the_lift_first_reaches_one(lift: list[float], overlap: float) -> None:
    assert opening(np.array(lift)) == overlap


def test_too_few_films_choose_no_gate() -> None:
    assert opening(np.array([np.nan, 0.9])) is None
    nothing = StarterCases("tiny@1", "t", (), np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32))
    assert fit_relevance(nothing, []) is None


def studies(split: Split, count: int) -> list[str]:
    names = (f"CXR{i}" for i in range(9999))
    return [next(n for n in names if split_of("openi", n) is split) for _ in range(count)]


def a_collection() -> tuple[StarterCases, list[FilmRow]]:
    """Films along a line: those left of 0 show edema, the others do not, and near films report alike."""
    at = {}
    for split, count in ((Split.TRAIN, 60), (Split.CALIBRATION, 40), (Split.TEST, 10)):
        at |= dict(zip(studies(split, count), np.linspace(-1.0, 1.0, count), strict=True))
    rows = []
    for study, x in at.items():
        sick = x < 0 and split_of("openi", study) is not Split.TEST
        text = "FINDINGS: " + ("Edema. Possible edema on the left." if sick else "No edema.")
        labels = dict.fromkeys(FINDINGS, False) | {"Edema": bool(x < 0)}
        rows.append(FilmRow("openi", Path("x.png"), study, study, labels, text=text, presentation="frontal"))
        rows.append(FilmRow("openi", Path("y.png"), study, study, {}, text=text, presentation="frontal"))
        rows.append(FilmRow("openi", Path("z.png"), study, study, labels, text=text, presentation="lateral"))
    boxes = [BoxLatent(np.full(2, x, np.float32), np.ones(2, np.float32)).vector() for x in at.values()]
    return StarterCases("tiny@1", "t", tuple(at), np.stack(boxes), np.zeros((len(at), 2), np.float32)), rows


def test_the_gate_is_chosen_on_calibration_films_against_cases_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_gate, "LEAST_PAIRS", 20)
    cases, rows = a_collection()
    spoken = "FINDINGS: Edema."
    rows = [replace(r, text=f"{spoken} Possible fracture.") if "left" in r.text else r for r in rows]
    rows = [replace(r, labels=r.labels | {"Fracture": r.labels["Edema"]}) if r.labels else r for r in rows]
    gate = fit_relevance(cases, rows)
    assert (gate.model, gate.sample, gate.command) == (
        "tiny@1",
        "openi/calibration: 40 films against 100 cases",
        COMMAND,
    )
    # Half of all films are sick; of those at d from a sick case, (2 - 2d) / (2 - d): a half at d = 2/3, where boxes overlap by
    # (2 - d) / (2 + d), a half too.
    assert 0.45 <= gate.least[POSITIVE] <= 0.5
    assert 0.45 <= gate.least[NEGATIVE] <= 0.5
    assert gate.least[UNCERTAIN] == gate.least[POSITIVE]
    without_test = [r for r in rows if r.split is not Split.TEST]
    assert fit_relevance(cases, without_test) == gate


def test_the_command_writes_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(training, "load_record", lambda folder: SimpleNamespace(id="tiny@1"))
    monkeypatch.setattr(training, "load_starter", lambda *arguments: asked.append(arguments) or "cases")
    monkeypatch.setattr(training.openi, "films", lambda folder: [folder.name])
    monkeypatch.setattr(training, "fit_relevance", lambda cases, films: asked.append((cases, films)) or GATE)
    assert training.main(["evidence-gate", "--data", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert asked == [(tmp_path, "tiny@1", text.NAME), ("cases", ["openi"])]
    assert load_relevance(tmp_path, "tiny@1") == GATE
    assert capsys.readouterr().out == (
        "a case is evidence by its box overlap: positive from 0.30, negative from 0.40, uncertain from 0.20 (made by hand)\n"
    )
    monkeypatch.setattr(training, "fit_relevance", lambda cases, films: None)
    assert training.main(["evidence-gate", "--data", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert load_relevance(tmp_path, "tiny@1") is None
    assert capsys.readouterr().out.startswith("too few calibration films ")
