"""Measurements of laterals, BL-TTA, axes and sources: hand-made readings with answers worked out, then each command once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eval import __main__ as cli
from eval import axes, bltta, lateral, paired, readings, scores, sources, transfer
from eval.readings import Readings
from eval.transfer import Achieved
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration
from rag_service.datasets.films import DatasetError, FilmRow, Split, split_of
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import PRESENTATIONS
from rag_service.views import FindingFusion, ViewFusion

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

EDEMA = FINDINGS.index("Edema")
LATERAL_ALONE = ViewFusion("film@1", dict.fromkeys(FINDINGS, FindingFusion(0.0, 1.0, 0.0, 4, 2)), "made by hand")


def rows_of(present: Sequence[bool], finding: str = "Edema", view: str = "frontal") -> tuple[FilmRow, ...]:
    return tuple(
        FilmRow("openi", Path(f"{view}-{i}.png"), f"CXR{i}", f"CXR{i}", {finding: p}, presentation=view)
        for i, p in enumerate(present)
    )


def read_as(edema: Sequence[float], kinds: Sequence[str] | None = None) -> Readings:
    """Readings whose scores are 0.5 but for Edema's, presented as told."""
    n = len(edema)
    found = np.full((n, 14), 0.5)
    found[:, EDEMA] = edema
    shown = np.array([[0.9 if p == k else 0.025 for p in PRESENTATIONS] for k in kinds or ["frontal"] * n])
    return Readings(
        found, np.zeros((n, 14)), np.zeros((n, 4)), np.ones((n, 4)), np.zeros((n, 3)), shown, np.full(n, np.nan)
    )


# --- scores and pairs


def test_a_difference_is_resampled_in_pairs() -> None:
    one, other = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5])
    found = paired.difference(["a", "b", "c"], lambda r: float(one[r].mean()), lambda r: float(other[r].mean()), 7)
    assert found == {"difference": 0.5, "ci": (pytest.approx(0.5), pytest.approx(0.5))}
    assert paired.difference(["a"], lambda _: 1.0, lambda _: None, 7) == {"difference": None, "ci": None}


def test_macro_means_and_rank_correlations() -> None:
    labels = np.array([[1.0, np.nan, 0.0], [0.0, np.nan, 1.0]])
    assert scores.macro(scores.brier, labels, np.array([[0.5, 0.9, 0.0], [0.5, 0.9, 0.0]])) == pytest.approx(0.375)
    assert scores.rank_correlation(np.array([1.0, 5.0, 3.0]), np.array([0.1, 0.3, 0.2])) == pytest.approx(1.0)
    assert scores.rank_correlation(np.array([1.0, 1.0]), np.array([0.1, 0.3])) is None
    assert (scores.shown(None), scores.shown(0.12345, 4)) == ("-", "0.1235")


# --- laterals


def openi_of_two_views(maker: Maker) -> Path:
    """CXR1 and CXR3 have both films; CXR2 has no lateral; CXR4 no label. The third film of CXR1 is not used."""
    tags = {"CXR1": ("Edema",), "CXR2": ("normal",), "CXR3": ("normal",), "CXR4": ("No Indexing",)}
    folder = maker.openi({study: ("Findings.", "", t) for study, t in tags.items()})
    with (folder / "images.csv").open("a") as table:
        for number, (study, name) in enumerate((("CXR1", "a"), ("CXR1", "b"), ("CXR3", "a"), ("CXR4", "a"))):
            maker.film(f"films/{study}-{name}.png", 50 + number)
            table.write(f"films/{study}-{name}.png,{study}_{name},{study},Lateral\n")
    return folder


def test_studies_with_both_views(maker: Maker) -> None:
    found = lateral.studies(openi_of_two_views(maker), None)
    assert [r.path.name for r in found.frontals] == ["CXR1.png", "CXR3.png"]
    assert [r.path.name for r in found.laterals] == ["CXR1-a.png", "CXR3-a.png"]
    own = split_of("openi", "CXR3")
    assert "CXR3" in {r.study for r in lateral.studies(maker.folder, own).frontals}
    (maker.folder / "images.csv").write_text("file,image_id,study_id,projection\nfilms/CXR1.png,CXR1_1,CXR1,Frontal\n")
    with pytest.raises(DatasetError, match="no labelled study with a frontal and a lateral film"):
        lateral.studies(maker.folder, None)


def test_what_a_lateral_adds(calibration: Calibration) -> None:
    present = (True, False, True, False)
    found = lateral.Studies(rows_of(present), rows_of(present, view="lateral"))
    front = read_as((0.9, 0.8, 0.2, 0.1), ("frontal", "frontal", "lateral", "frontal"))
    side = read_as((0.9, 0.1, 0.8, 0.2), ("lateral", "lateral", "lateral", "not_chest"))
    result = lateral.measure(found, front, side, LATERAL_ALONE, calibration, 7)
    assert json.loads(json.dumps(result, allow_nan=False))["n_studies"] == 4
    frontal, fused = result["methods"]["frontal"], result["methods"]["fused"]
    assert frontal == {"macro_auroc": 0.75, "label_f1_macro": 0.5, "brier_macro": pytest.approx(0.325)}
    assert fused == {"macro_auroc": 1.0, "label_f1_macro": 1.0, "brier_macro": pytest.approx(0.025)}
    assert result["methods"]["lateral"]["macro_auroc"] == result["methods"]["mean_logit"]["macro_auroc"] == 1.0
    gain = result["gain_over_frontal"]["fused"]["macro_auroc"]
    assert gain["difference"] == 0.25 and gain["ci"][0] <= 0.25 <= gain["ci"][1]
    edema = result["per_finding"]["Edema"]
    assert (edema["auroc"]["frontal"], edema["positives"], edema["studies"]) == (0.75, 2, 4)
    assert edema["weights"] == {"frontal": 0.0, "lateral": 1.0, "offset": 0.0}
    assert result["per_finding"]["Fracture"]["auroc"] == dict.fromkeys(lateral.METHODS)
    told = result["view_classifier"]
    assert (told["accuracy"], told["n"]) == (6 / 8, 8)
    assert told["confusion"]["frontal"]["lateral"] == told["confusion"]["lateral"]["not_chest"] == 1
    assert result["signature"]["view_fusion"] == LATERAL_ALONE.digest
    lines = lateral.table(result).splitlines()
    assert lines[0] == "4 studies with both views, seed 7"
    assert lines[2] == "frontal       0.750  0.500  0.3250"
    assert lines[4].startswith("fused         1.000  1.000  0.0250   +0.2500 [")
    assert lines[-2:] == [
        "  frontal  taken for frontal 3, lateral 1",
        "  lateral  taken for lateral 3, not_chest 1",
    ]


# --- BL-TTA


def test_the_curve_of_samples(tiny_encoder: FilmEncoder, calibration: Calibration, stored: NDArray[np.uint8]) -> None:
    rows = rows_of((True, False, True, False, True, False))
    read = readings.of(tiny_encoder.read_stored(stored))
    result = bltta.measure(rows, read, tiny_encoder, calibration, 7)
    assert json.loads(json.dumps(result, allow_nan=False))["n_films"] == 6
    curve = {v["samples"]: v for v in result["curve"]}
    assert list(curve) == [1, 2, 4, 8, 16, 32]
    assert (curve[1]["sd"], curve[32]["gap"]) == (0.0, 0.0)
    assert all(curve[n]["gap"] > 0 for n in (1, 2, 4, 8, 16)) and curve[8]["sd"] > 0
    assert all(v["ms_per_film"] > 0 for v in curve.values())
    assert result["repeats_bit_for_bit"] is True
    truth = readings.labels(rows)
    box, point = (scores.macro_auroc(truth, tiny_encoder.over_box(read.centre, read.radius, n)[0]) for n in (8, 1))
    assert box is not None and point is not None
    assert result["box_minus_point"]["macro_auroc"]["difference"] == pytest.approx(box - point)
    lines = bltta.table(result).splitlines()
    assert lines[0] == "6 films, seed 7" and "repeats bit for bit: yes" in lines
    assert lines[-1].startswith("N = 8 minus the centre alone, brier_macro: ")


def test_a_head_that_does_not_repeat_is_told(
    tiny_encoder: FilmEncoder, calibration: Calibration, stored: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, rng = readings.of(tiny_encoder.read_stored(stored)), np.random.default_rng(0)
    steady = tiny_encoder.over_box

    def shaky(centre: Any, radius: Any, count: int) -> Any:
        mean, spread = steady(centre, radius, count)
        return np.clip(mean + rng.normal(0, 1e-9, mean.shape), 0, 1), spread

    monkeypatch.setattr(tiny_encoder, "over_box", shaky)
    result = bltta.measure(rows_of((True, False) * 3), read, tiny_encoder, calibration, 7)
    assert result["repeats_bit_for_bit"] is False
    assert "repeats bit for bit: NO" in bltta.table(result)


# --- axes


def test_an_axis_name_has_a_label_and_a_sign() -> None:
    assert axes.AxisName.parse("aorta, thoracic (-)") == axes.AxisName("aorta, thoracic", -1)
    assert axes.AxisName.parse("Edema (+)") == axes.AxisName("Edema", 1)


def test_the_target_of_a_heading_is_the_studys_tags() -> None:
    tags = (("Aorta/tortuous",), ("normal",), None)
    rows = [replace(r, tags=t) for r, t in zip(rows_of((True, False, True)), tags, strict=True)]
    assert axes.target(rows, "aorta").tolist()[:2] == [1.0, 0.0]
    assert np.isnan(axes.target(rows, "aorta")[2])
    assert axes.target(rows, "Edema").tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(axes.target(rows, "Fracture")).all()


def test_what_is_measured_of_axes(calibration: Calibration) -> None:
    named = replace(calibration, axis_names=("Edema (+)", "Edema (-)", "aorta (+)", "Fracture (+)"))
    rows = [replace(r, tags=("aorta",) if i == 0 else ()) for i, r in enumerate(rows_of((True, False, True, False)))]
    centre = np.array([[2.0, 2.0, 9.0, 0.0], [1.0, 1.0, 1.0, 0.0], [3.0, 3.0, 2.0, 0.0], [0.0, 0.0, 3.0, 0.0]])
    radius = np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 1.0, 1.0, 1.0], [4.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 1.0]])
    read = replace(read_as((0.9, 0.3, 0.6, 0.2)), centre=centre, radius=radius)
    weights = np.zeros((14, 4), np.float32)
    weights[EDEMA] = (0.5, -2.0, 0.0, 0.1)
    encoder = SimpleNamespace(record=SimpleNamespace(id="film@1"), finding_weights=weights)
    result = axes.measure(rows, read, radius * (2.0, 1.0, 1.0, 0.5), encoder, named, 7)  # type: ignore[arg-type]
    assert json.loads(json.dumps(result, allow_nan=False))["n_films"] == 4
    edema, against, aorta, fracture = result["axes"]
    assert (edema["auroc"], edema["positives"], edema["mean_radius"], edema["radius_ratio"]) == (1.0, 2, 2.5, 2.0)
    assert edema["error_correlation"] == pytest.approx(1.0)  # errors 0.1, 0.3, 0.4, 0.2
    assert (against["auroc"], against["error_correlation"]) == (0.0, None)  # a radius that is always the same
    assert (aorta["auroc"], aorta["positives"], aorta["films"], aorta["error_correlation"]) == (1.0, 1, 4, None)
    assert (fracture["auroc"], fracture["films"]) == (None, 0)
    summary = result["summary"]
    assert (summary["axes"], summary["named_by_finding"], summary["telling"], summary["axes_wider"]) == (4, 3, 2, 1)
    assert summary["auroc"]["value"] == pytest.approx(2 / 3)
    assert summary["radius_ratio"] == pytest.approx(1.125)
    assert summary["error_by_film"]["value"] == pytest.approx(1.0)
    most = result["of_findings"]["Edema"]
    assert [(a["axis"], a["name"], a["auroc"]) for a in most][:2] == [(1, "Edema (-)", 0.0), (0, "Edema (+)", 1.0)]
    assert axes.table(result).splitlines()[0] == "4 films, seed 7; 4 axes, 3 named after a finding"


# --- sources


def boxes(centre: float, radius: float, films: int = 20) -> Readings:
    return replace(read_as([0.5] * films), centre=np.full((films, 4), centre), radius=np.full((films, 4), radius))


def test_the_overlap_of_hulls() -> None:
    one, other, far = (sources.hull(boxes(c, 1.0)) for c in (0.0, 1.0, 9.0))
    assert one[0].tolist() == [-1.0] * 4 and one[1].tolist() == [1.0] * 4
    assert sources.overlap(one, one) == 1.0
    assert sources.overlap(one, other) == sources.overlap(other, one) == pytest.approx(1 / 3)
    assert sources.overlap(one, far) == 0.0
    outlier = boxes(0.0, 1.0, 100)
    outlier.centre[0] = 50.0
    assert sources.hull(outlier)[1].tolist() == [1.0] * 4


def a_part(seed: int, films: int, turned: bool = False, finding: str = "Edema") -> SimpleNamespace:
    """Films whose first axis tells the finding, the other way round when `turned`."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(films, 4))
    labels = np.full((films, 14), np.nan)
    labels[:, FINDINGS.index(finding)] = (centre[:, 0] > 0) != turned
    rows = rows_of([True] * films)
    return SimpleNamespace(rows=rows, read=replace(read_as([0.5] * films), centre=centre), labels=labels)


def test_what_a_probe_achieves_elsewhere() -> None:
    alike, turned = (a_part(1, 60), a_part(2, 40)), (a_part(3, 60, turned=True), a_part(4, 40, turned=True))
    other = a_part(5, 60, finding="Fracture"), a_part(6, 40, finding="Fracture")
    few = a_part(7, 9), a_part(8, 40)
    named = {"alike": alike, "turned": turned, "other": other, "few": few}
    found = {(a.source, a.target): a for a in transfer.achieved([(n, *parts) for n, parts in named.items()])}
    assert found["alike", "alike"].auroc > 0.95
    assert found["alike", "turned"].auroc < 0.05
    assert found["turned", "alike"].auroc < 0.05
    assert found["alike", "few"].auroc > 0.95 and ("few", "alike") not in found  # enough to test on, not to learn from
    assert {k for k in found if "other" in k} == {("other", "other")}
    assert found["alike", "turned"].films == 40


def by_hand(target: str, areas: Mapping[str, float], finding: str = "Edema") -> list[Achieved]:
    return [Achieved(s, target, finding, a, 5, 10) for s, a in areas.items()]


def test_how_well_a_ranking_foretells() -> None:
    found = by_hand("t", {"a": 0.9, "b": 0.8, "c": 0.6, "t": 0.99}) + by_hand("u", {"a": 0.5, "b": 0.7})
    right = {("a", "t"): 3.0, ("b", "t"): 2.0, ("c", "t"): 1.0, ("a", "u"): 1.0, ("b", "u"): 2.0}
    told = transfer.foretold(found, lambda s, t: right[s, t], 7)
    assert (told["correlation"], told["groups"]) == (pytest.approx(1.0), 2)
    assert told["by_target"] == {"t": pytest.approx(1.0)}
    assert told["p"] == pytest.approx(1 / 12, abs=0.03)  # one order of three, one of two
    assert told["first"] == told["best"] == pytest.approx((0.9 + 0.7) / 2)
    assert told["average"] == pytest.approx(((0.9 + 0.8 + 0.6) / 3 + 0.6) / 2)
    wrong = transfer.foretold(found, lambda s, t: -right[s, t], 7)
    assert wrong["correlation"] == pytest.approx(-1.0) and wrong["p"] == 1.0
    assert wrong["first"] == pytest.approx((0.6 + 0.5) / 2)


def test_a_source_without_rivals_is_not_ranked() -> None:
    told = transfer.foretold(by_hand("t", {"a": 0.9, "t": 0.8}), lambda *_: 1.0, 7)
    assert told["groups"] == 0 and told["by_target"] == {}
    assert {told[k] for k in ("correlation", "p", "first", "average", "best")} == {None}
    even = transfer.foretold(by_hand("t", {"a": 0.9, "b": 0.8}), lambda *_: 1.0, 7)
    assert (even["correlation"], even["p"]) == (None, None)


def test_what_is_measured_of_sources() -> None:
    parts = {
        "a": (a_part(1, 60), a_part(2, 40)),
        "b": (a_part(3, 30), a_part(4, 40)),
        "c": (a_part(5, 40, True), a_part(6, 40)),
    }
    found = [sources.Source(n, *p) for n, p in parts.items()]  # type: ignore[arg-type]
    result = sources.measure(found, "film@1", 7)
    assert json.loads(json.dumps(result, allow_nan=False))["seed"] == 7
    assert set(result["overlap"]) == {"a/b", "a/c", "b/c"} and all(0 < v <= 1 for v in result["overlap"].values())
    assert len(result["transfer"]) == 9
    assert [v["overlap"] for v in result["transfer"] if v["source"] == v["target"]] == [None] * 3
    assert set(result["rankings"]) == {"hull_overlap", "source_size", "centroid_distance"}
    assert result["rankings"]["source_size"]["groups"] == 3
    assert result["sources"]["b"] == {"train": 30, "test": 40, "labelled": 30}
    lines = sources.table(result).splitlines()
    assert lines[0] == "a 60+40 films, b 30+40 films, c 40+40 films"
    assert sum(line.endswith("own") for line in lines) == 3


# --- the commands


@pytest.fixture
def run(
    whole_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a task with a model folder and a working folder of its own: exit code, standard output, standard error."""
    shutil.copytree(whole_model, tmp_path / "model")
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)

    def task(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return task


Run = Callable[..., tuple[int, str, str]]


def test_laterals_by_command(run: Run, maker: Maker, tiny_encoder: FilmEncoder, tmp_path: Path) -> None:
    folder = openi_of_two_views(maker)
    code, _, said = run("lateral", folder)
    assert (code, said) == (3, "error: the model folder has no views.json: this model reads no laterals\n")
    replace(LATERAL_ALONE, model=tiny_encoder.record.id).save(tmp_path / "model")
    code, said, _ = run("lateral", folder, "--json", tmp_path / "r.json", "--seed", 5)
    assert code == 0 and said.startswith("2 studies with both views, seed 5\n")
    assert json.loads((tmp_path / "r.json").read_text())["view_classifier"]["n"] == 4
    LATERAL_ALONE.save(tmp_path / "model")
    code, _, said = run("lateral", folder)
    assert code == 3 and said.startswith("error: views.json belongs to film@1, the model is ")


def test_samples_by_command(run: Run, maker: Maker, tmp_path: Path) -> None:
    code, said, _ = run("bl-tta", openi_of_two_views(maker), "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("3 films, seed 7\n")
    assert json.loads((tmp_path / "r.json").read_text())["repeats_bit_for_bit"] is True


def test_axes_by_command(run: Run, maker: Maker, tmp_path: Path) -> None:
    code, said, _ = run("axes", openi_of_two_views(maker), "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("3 films, seed 7; 4 axes, ")
    first = json.loads((tmp_path / "r.json").read_text())
    assert first["axes"][0]["radius_ratio"] != 1.0
    run("axes", maker.folder, "--json", tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == first


def test_sources_by_command(run: Run, maker: Maker, tmp_path: Path) -> None:
    kinds = {
        "jsrt": ("JPCLN{:03d}.png", "JPCNN{:03d}.png"),
        "paediatric": ("pneumonia_person{}_virus_1.jpg", "normal_IM-{}-1.jpg"),
    }
    for source, names in kinds.items():
        for name in names:
            for split, count in ((Split.TRAIN, 8), (Split.TEST, 2)):
                for number in [n for n in range(200) if split_of(source, patient(name.format(n))) is split][:count]:
                    maker.film(f"{source}/images/{name.format(number)}", number)
    code, said, _ = run("sources", maker.folder, "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("jsrt 16+4 films, paediatric 16+4 films\n")
    result = json.loads((tmp_path / "r.json").read_text())
    shared = {(v["source"], v["target"]) for v in result["transfer"] if v["finding"] == "No Finding"}
    assert shared == {(a, b) for a in kinds for b in kinds}
    assert run("sources", maker.folder, "--limit", 3)[1].startswith("jsrt 3+3 films, paediatric 3+3 films\n")
    shutil.rmtree(maker.folder / "jsrt")
    assert run("sources", maker.folder)[2].startswith("error: collection/ holds fewer than two of openi, nih")


def patient(name: str) -> str:
    """As the readers take it from a file's name."""
    return name.removesuffix(".png") if name.startswith("JP") else name.split("_")[1].removesuffix("-1.jpg")


def test_a_source_without_films_to_test_on_is_refused(run: Run, maker: Maker) -> None:
    names = [f"JPCLN{n:03d}" for n in range(40) if split_of("jsrt", f"JPCLN{n:03d}") is Split.TRAIN][:2]
    for number, name in enumerate(names):
        maker.film(f"jsrt/images/{name}.png", number)
    code, _, said = run("sources", maker.folder)
    assert (code, said.splitlines()[-1]) == (2, "error: jsrt/ holds no frontal film of the test split")
