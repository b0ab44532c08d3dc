"""A site refits on its own scores: what is written, what is refused, what the service then loads; drift; conformal coverage."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval import __main__ as cli
from eval import calibration as comparison
from eval import drift, labels, recalibrate, site_scores, tiers
from eval.labels import Predictions
from knowledge_base.findings import FINDINGS
from rag_service import wiring
from rag_service.calibration import Calibration, load_calibration
from rag_service.calibrators import Platt
from rag_service.datasets.films import FilmRow
from rag_service.errors import BadWeights
from rag_service.models.catalogue import load_record
from rag_service.operating_points import Target
from rag_service.settings import Settings
from rag_service.site import FILE, SiteCalibration, load_site

Run = Callable[..., tuple[int, str, str]]
EDEMA = FINDINGS.index("Edema")
FRACTURE = FINDINGS.index("Fracture")


@pytest.fixture
def run(whole_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))

    def started(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return started


def drawn(films: int = 120) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores as the calibration sample's, and Edema labels drawn from a logit two higher than the scores say."""
    rng = np.random.default_rng(11)
    scores = rng.uniform(0.01, 0.99, (films, len(FINDINGS)))
    odds = scores[:, EDEMA] / (1 - scores[:, EDEMA]) * np.exp(-2.0)
    known = np.full(scores.shape, np.nan)
    known[:, EDEMA] = rng.random(films) < odds / (1 + odds)
    known[:4, FRACTURE] = 1.0
    return scores, known


def written(path: Path, scores: NDArray[np.float64], known: NDArray[np.float64], **more: Any) -> Path:
    """The CSV of a site."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *more, *FINDINGS, *(f"label:{f}" for f in FINDINGS)])
        for number, (row, label) in enumerate(zip(scores, known, strict=True)):
            told = ("" if np.isnan(v) else str(int(v)) for v in label)
            writer.writerow([f"{number}.png", *more.values(), *(f"{v:.6f}" for v in row), *told])
    return path


def test_a_site_refits_by_command_and_the_service_loads_it(run: Run, whole_model: Path, tmp_path: Path) -> None:
    shipped = load_calibration(whole_model, load_record(whole_model).id)
    path = written(tmp_path / "s.csv", *drawn(), model=shipped.model)
    code, said, _ = run("recalibrate", path, "--out", tmp_path / "site", "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("120 films of 120 patients; operating points: best expected F1\n")
    result = json.loads((tmp_path / "r.json").read_text())
    assert list(result["findings"]) == ["Edema"] and result["n_films"] == 120
    edema = result["findings"]["Edema"]
    assert edema["after"]["brier"] < edema["before"]["brier"] and edema["after"]["ece"] < edema["before"]["ece"]
    assert edema["changed"] and edema["films"] == 120
    assert result["kept"]["Fracture"] == "4 patients with it and 0 without, 5 of each are needed"
    assert len(result["kept"]) == 13 and result["drift"]["verdict"] == "ok"

    site = load_site(tmp_path / "site" / FILE, shipped.model)
    assert (site.cases, site.model, set(site.findings)) == (120, shipped.model, {"Edema"})
    settings = Settings(model_folder=str(whole_model), site_calibration=str(tmp_path / "site" / FILE))
    reader = wiring.build_reader(settings)
    assert reader.calibration.findings["Edema"].p(0.8) < shipped.findings["Edema"].p(0.8) - 0.1
    assert reader.calibration.findings["Fracture"] == shipped.findings["Fracture"]
    assert reader.thresholds_digest != wiring.build_reader(replace(settings, site_calibration=None)).thresholds_digest


@pytest.mark.parametrize(("option", "wish"), [("--sensitivity", "sensitivity"), ("--specificity", "specificity")])
def test_operating_points_at_a_wished_share(run: Run, tmp_path: Path, option: str, wish: str) -> None:
    path = written(tmp_path / "s.csv", *drawn())
    code, said, _ = run("recalibrate", path, "--out", tmp_path, option, "0.9", "--json", tmp_path / "r.json")
    assert code == 0 and f"operating points: {wish} 0.9\n" in said
    edema = json.loads((tmp_path / "r.json").read_text())["findings"]["Edema"]
    assert edema["after"][wish] == pytest.approx(0.9, abs=0.08)
    assert len(edema["roc"]) > 50 and edema["roc"][-1][1:] == [1.0, 0.0]


def test_the_points_of_a_site_are_those_it_wished(calibration: Calibration) -> None:
    scores, known = drawn()
    own = site_scores.SiteScores(scores, known, tuple(map(str, range(120))), "ab" * 32)
    entry = recalibrate.refit(own, calibration, Target(sensitivity=0.9)).findings["Edema"]
    p = entry.calibrator.p(scores[:, EDEMA])
    shown = known[:, EDEMA] == 1
    assert (p[shown] >= entry.flag).mean() >= 0.9 > (p[shown] > entry.flag).mean()
    assert entry.deny <= entry.possible == entry.flag <= entry.state


BROKEN = {
    "a column is missing": (lambda text: text.replace(",Edema,", ",", 1), "s.csv lacks the columns Edema"),
    "a label is unknown": (
        lambda text: text.replace("label:Edema", "label:Oedema", 1),
        "s.csv has columns that are not known: label:Oedema",
    ),
    "a score is no number": (
        lambda text: text.replace("0.png,0.500000", "0.png,high", 1),
        "s.csv, line 2: No Finding is not a number",
    ),
    "a score is too large": (
        lambda text: text.replace("0.png,0.500000", "0.png,50", 1),
        "s.csv, line 2: No Finding lies outside 0 and 1",
    ),
    "a score is not finite": (
        lambda text: text.replace("0.png,0.500000", "0.png,nan", 1),
        "s.csv, line 2: No Finding lies outside 0 and 1",
    ),
    "a label is no label": (
        lambda text: text.replace(",1,,", ",yes,,", 1),
        "s.csv, line 2: label:Edema is neither 1, 0 nor empty",
    ),
    "a film is named twice": (lambda text: text.replace("1.png", "0.png", 1), "s.csv names a film twice"),
    "the file is empty": (lambda _: "", "s.csv lacks the columns file, "),
    "there is only a header": (lambda text: text.splitlines()[0] + "\n", "s.csv holds no film"),
    "nothing is labelled": (
        lambda text: text.replace(",1,,", ",,,").replace(",0,,", ",,,"),
        "no finding has 5 patients with it and 5 without it: nothing to refit",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_file_that_cannot_be_used_is_refused(run: Run, tmp_path: Path, fault: str) -> None:
    change, said = BROKEN[fault]
    known = np.full((12, len(FINDINGS)), np.nan)
    known[:, EDEMA] = [1, 0] * 6
    path = written(tmp_path / "s.csv", np.full((12, len(FINDINGS)), 0.5), known)
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    code, out, error = run("recalibrate", path, "--out", tmp_path / "site")
    assert (code, out) == (2, "") and error.startswith(f"error: {said}")
    assert not (tmp_path / "site").exists()


def test_a_file_that_is_absent_and_shares_that_are_none(run: Run, tmp_path: Path) -> None:
    assert run("recalibrate", tmp_path / "absent.csv")[0] == 2
    for wish in (["--sensitivity", "0"], ["--specificity", "1.5"], ["--sensitivity", "0.9", "--specificity", "0.9"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["recalibrate", "s.csv", *wish])
        assert stopped.value.code == 2


def test_scores_of_another_model_are_refused(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", *drawn(), model="other@1-abababab")
    code, _, said = run("recalibrate", path, "--out", tmp_path)
    assert code == 3 and said.startswith("error: s.csv holds scores of another model")


def test_a_site_calibration_that_cannot_be_used_is_bad_weights(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / FILE
    with pytest.raises(BadWeights, match=r"site-calibration\.json, which RAG_SITE_CALIBRATION names, is absent"):
        load_site(path, calibration.model)
    entry = calibration.findings["Edema"]
    whole = SiteCalibration(calibration.model, 60, "ab" * 32, "best expected F1", {"Edema": entry}, {}, {})
    whole.save(path)
    assert load_site(path, calibration.model) == whole
    with pytest.raises(BadWeights, match="the model is other@1"):
        load_site(path, "other@1")
    path.write_text(path.read_text().replace('"cases":60', '"cases":61'))
    with pytest.raises(BadWeights, match="expected sha256"):
        load_site(path, calibration.model)
    replace(whole, findings={"Hiccups": entry}).save(path)
    with pytest.raises(BadWeights, match="malformed"):
        load_site(path, calibration.model)


# --- drift


def test_holm_by_hand() -> None:
    # 0.01 * 3, then 0.02 * 2 = 0.04, then 0.03 * 1 raised to what came before.
    assert drift.holm(np.array([0.03, 0.01, 0.02])).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert drift.holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]


def test_the_stability_index_is_nought_on_average_where_nothing_moved() -> None:
    rng = np.random.default_rng(2)
    same = [drift.stability(rng.random(400), rng.random(80)) for _ in range(200)]
    assert np.mean(same) == pytest.approx(0.0, abs=0.02)
    assert drift.stability(rng.random(400), rng.random(80) * 0.5) > 1.0


@pytest.mark.parametrize(
    ("psi", "p", "verdict"),
    [(0.3, 0.001, "alarm"), (0.3, 0.02, "watch"), (0.15, 0.001, "watch"), (0.3, 0.2, "ok"), (0.05, 0.001, "ok")],
)
def test_verdicts(psi: float, p: float, verdict: str) -> None:
    assert drift.verdict(psi, p) == verdict


def test_drift_by_command(run: Run, tmp_path: Path) -> None:
    scores, known = drawn(200)
    code, said, _ = run("drift", written(tmp_path / "s.csv", scores, known), "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("drift: ok   200 films against 40 calibration films\n")
    scores[:, EDEMA] *= 0.3
    _, said, _ = run("drift", written(tmp_path / "moved.csv", scores, known), "--json", tmp_path / "r.json")
    result = json.loads((tmp_path / "r.json").read_text())
    assert said.startswith("drift: alarm") and result["verdict"] == "alarm"
    assert [f for f, v in result["findings"].items() if v["verdict"] != "ok"] == ["Edema"]


# --- the comparison


def predicted(calibration: Calibration, films: int = 300) -> Predictions:
    """Films whose Edema score is its own probability, and none of whose other findings are labelled."""
    rng = np.random.default_rng(5)
    raw = rng.uniform(0.0, 1.0, (films, len(FINDINGS)))
    shown = rng.random(films) < raw[:, EDEMA]
    rows = tuple(
        FilmRow("openi", Path(f"{i}.png"), f"CXR{i}", f"CXR{i}", labels={"Edema": bool(s)}) for i, s in enumerate(shown)
    )
    return Predictions(rows, calibration.probabilities(raw), raw, np.full(raw.shape, 0.01), np.full(films, 0.5))


def test_calibrators_sets_and_tiers_compared(calibration: Calibration) -> None:
    result = comparison.measure(predicted(calibration), calibration, 7)
    assert json.loads(json.dumps(result, allow_nan=False))["n_studies"] == 300
    methods = result["methods"]
    assert list(methods) == ["uncalibrated", "temperature", "platt", "beta", "isotonic", "chosen"]
    assert methods["chosen"]["brier"] == pytest.approx(methods["uncalibrated"]["brier"])  # its slope is 1, its offset 0
    assert methods["chosen"]["ece"] < methods["isotonic"]["ece"], "the sample is a step, the truth is a line"
    assert methods["platt"]["per_label"]["Fracture"] == {
        "brier": None, "ece": None, "log_loss": None, "positives": 0, "studies": 0,
    }  # fmt: skip
    assert result["ece_of_perfect"] == pytest.approx(methods["chosen"]["ece"], abs=0.03)
    curve = result["reliability"]["Edema"]
    assert [b["n"] for b in curve] == [30] * 10 and curve[0]["p"] < 0.1 and curve[9]["p"] > 0.9
    assert result["reliability"]["Fracture"] == []
    low, high = methods["chosen"]["brier_ci"]
    assert low < methods["chosen"]["brier"] < high


def test_sets_by_hand(calibration: Calibration) -> None:
    entry = calibration.findings["Edema"]  # present from 0.525 up, absent up to 0.45
    raw = np.tile(np.array([0.3, 0.5, 0.6, 0.4, 0.9])[:, None], (1, len(FINDINGS)))
    told = [False, False, False, True, True]
    rows = tuple(FilmRow("openi", Path(f"{i}.png"), f"s{i}", f"s{i}", labels={"Edema": t}) for i, t in enumerate(told))
    made = Predictions(rows, raw, raw, np.full(raw.shape, 0.01), np.full(5, 0.5))
    found = comparison.measure(made, calibration, 7)["conformal"]["0.9"]
    assert (entry.conformal.present, entry.conformal.absent) == (0.525, 0.45)
    assert found["absent"] == {"coverage": pytest.approx(1 / 3), "n": 3, "expected": pytest.approx(19 / 21)}
    assert found["present"] == {"coverage": 0.5, "n": 2, "expected": pytest.approx(19 / 21)}
    assert (found["coverage"], found["size"], found["singletons"], found["empty"]) == (0.4, 0.8, 0.8, 0.2)


def test_the_comparison_as_a_table(calibration: Calibration) -> None:
    result = comparison.measure(predicted(calibration, 60), calibration, 7)
    said = comparison.table(result)
    assert said.startswith("60 films, 60 studies, seed 7; fitted to made by hand\n")
    assert "\nuncalibrated " in said and "\nconformal " in said
    assert said.endswith(f"accuracy falls from tier to tier: {'yes' if result['tiers_monotone'] else 'NO'}")


@pytest.mark.parametrize(
    ("accuracy", "falls"),
    [((0.9, 0.8, 0.7), True), ((0.9, None, 0.7), True), ((0.8, 0.9, 0.7), False), ((None, 0.5, 0.6), False)],
)
def test_tiers_are_monotone_when_accuracy_never_rises(accuracy: tuple[float | None, ...], falls: bool) -> None:
    measured = {t: {"accuracy": a} for t, a in zip(("high", "medium", "low"), accuracy, strict=True)}
    assert tiers.monotone(measured) is falls


def test_raw_scores_are_read_back(calibration: Calibration, tmp_path: Path) -> None:
    made = predicted(calibration, 20)
    labels.write_raw_scores(made, calibration.model, tmp_path / "s.csv")
    own = site_scores.read(tmp_path / "s.csv", calibration.model)
    np.testing.assert_allclose(own.scores, made.raw, atol=1e-6)
    assert own.patients == tuple(f"CXR{i}" for i in range(20))
    assert own.labels[:, EDEMA].tolist() == [float(r.labels["Edema"]) for r in made.rows]
    assert np.isnan(own.labels[:, FRACTURE]).all()


def test_findings_with_a_better_shipped_calibrator_keep_it(calibration: Calibration) -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.02, 0.98, (150, len(FINDINGS)))
    known = np.where(rng.random(scores.shape) < scores, 1.0, 0.0)
    own = site_scores.SiteScores(scores, known, tuple(map(str, range(150))), "ab" * 32)
    fitted = recalibrate.refit(own, calibration, None)
    assert sum(e.calibrator == Platt(1.0, 0.0) for e in fitted.findings.values()) >= 9
