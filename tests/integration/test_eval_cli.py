"""Measurements of the labeler and of speed, and `python -m eval` in this process."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from eval import __main__ as cli
from eval import gate, labeler, speed
from knowledge_base.errors import StoreInUse
from knowledge_base.findings import FINDINGS
from rag_service import wiring
from rag_service.datasets.films import DatasetError, Split
from rag_service.errors import FilmTooLarge
from rag_service.models.encoder import FilmEncoder
from rag_service.requests import DraftRequest, SearchRequest
from rag_service.service import Stopwatch

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

STUDIES = {
    "CXR1": ("The heart is enlarged.", "Swollen legs", ("Cardiomegaly",)),
    "CXR2": ("No pleural effusion.", "Cough", ("normal",)),
    "CXR3": ("Small left pleural effusion.", "", ("Pleural Effusion/left",)),
    "CXR4": ("Possible pneumonia.", "Fever", ("Pneumonia",)),
    "CXR5": ("Never tagged.", "Pain", ("No Indexing",)),
}
"""Of these only CXR4 is kept back from tuning."""

# --- the labeler


def test_kappa() -> None:
    cells = np.array([[20.0, 10.0, 0.0], [5.0, 0.0, 0.0], [10.0, 0.0, 0.0], [15.0, 10.0, 5.0]])
    found = labeler.kappa(cells)
    assert found[:2].tolist() == [pytest.approx(0.4), 1.0] and np.isnan(found[2])


def test_reports_held_out_are_left_out(maker: Maker) -> None:
    with pytest.raises(DatasetError, match=r"collection/ holds no NLMCXR_reports\.tgz"):
        labeler.load(maker.folder)
    folder = maker.openi(STUDIES)
    assert list(labeler.load(folder)) == ["CXR1", "CXR2", "CXR3", "CXR4", "CXR5"]
    maker.table("heldout_studies.txt", "CXR2", "CXR5")
    assert list(labeler.load(folder)) == ["CXR1", "CXR3", "CXR4"]


def test_the_labeler_against_tags_and_a_second_labeler(maker: Maker) -> None:
    measured = labeler.measure(labeler.load(maker.openi(STUDIES)), seed=3)
    assert measured.signature == "labeler|rules@1|context@1|n:4|seed:3|resamples:500" and measured.seed == 3
    every, kept = measured.part("all"), measured.part("kept_back")
    assert (every.studies, kept.studies) == (4, 1)

    strict = every.comparison("rules", "mesh")
    effusion = strict.row("Pleural Effusion")
    assert (effusion.both, effusion.first_only, effusion.second_only, effusion.neither) == (1, 0, 0, 3)
    assert (effusion.kappa, effusion.f1.value, effusion.precision.denominator) == (1.0, 1.0, 1)
    pneumonia = strict.row("Pneumonia")
    assert (pneumonia.both, pneumonia.second_only) == (0, 1)
    assert (pneumonia.precision.value, pneumonia.precision.interval, pneumonia.recall.value) == (None, None, 0.0)
    assert strict.row("Fracture").kappa is None and strict.row("Fracture").kappa_interval is None

    lenient = every.comparison("rules", "mesh", "present").row("Pneumonia")
    assert (lenient.both, lenient.kappa, lenient.recall.value) == (1, 1.0, 1.0)
    pooled = strict.row("pooled")
    assert (pooled.both, pooled.first_only, pooled.second_only, pooled.neither) == (2, 0, 2, 48)
    assert (pooled.recall.numerator, pooled.recall.denominator, pooled.recall.value) == (2, 4, 0.5)
    assert every.comparison("rules", "context").row("pooled").kappa == 1.0
    assert every.polarity_by_mesh["positive"] == {"absent": 0, "present": 2}
    assert every.polarity_by_mesh["uncertain"] == {"absent": 0, "present": 2}
    assert every.polarity_by_context["negative"]["negative"] == 1

    assert json.loads(json.dumps(measured.to_json(), allow_nan=False))["parts"][0]["studies"] == 4
    table = measured.table()
    assert table.startswith(measured.signature) and "all: 4 studies" in table and "kept_back: 1 studies" in table
    assert labeler.measure(labeler.load(maker.folder), seed=3) == measured


def test_without_studies_kept_back_there_is_one_part_and_without_any_nothing(maker: Maker) -> None:
    reports = labeler.load(maker.openi(STUDIES))
    measured = labeler.measure({"CXR1": reports["CXR1"]})
    assert [p.name for p in measured.parts] == ["all"]
    with pytest.raises(DatasetError, match="no report has both text and MeSH tags"):
        labeler.measure({"CXR5": reports["CXR5"]})


# --- speed


class Service:
    """Answers at once; the second of three drafts is no draft."""

    def __init__(self) -> None:
        self.drafts: list[bytes] = []
        self.searches: list[SearchRequest] = []
        self.closed = False

    def draft(self, request: DraftRequest, watch: Stopwatch | None = None) -> SimpleNamespace:
        self.drafts.append(request.film)
        if watch is not None:
            watch.lap("read")
            watch.lap("search")
        return SimpleNamespace(status="abstained" if request.film == b"1" else "draft")

    def search(self, request: SearchRequest) -> None:
        self.searches.append(request)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service, and three phantoms that are not painted."""
    monkeypatch.setattr(speed, "render", lambda *_, seed: None)
    films = iter((b"0", b"1", b"2"))
    monkeypatch.setattr(speed, "png", lambda _: next(films))
    return Service()


def test_what_is_measured_of_speed(service: Service) -> None:
    result = speed.measure(lambda: service, 6)  # type: ignore[arg-type, return-value]
    assert service.drafts == [b"0", b"1", b"2"] * 3 and service.closed
    assert [s.film for s in service.searches] == [b"0"] * 3 + [b"1"] * 3 + [b"2"] * 3 + [None] * 6
    assert (result["draft_ms"]["n"], result["drafted"]) == (6, 4)
    assert (result["search_film_ms"]["n"], result["search_text_ms"]["n"]) == (9, 6)
    assert set(result["draft_stages_p50_ms"]) == {"read", "search"}
    assert 0.0 <= result["draft_ms"]["p50"] <= result["draft_ms"]["p95"]
    assert result["memory_mib"]["service_peak"] > 10 and result["processor"]
    assert speed.table(result).splitlines()[-1].startswith("peak memory: service ")


def test_the_service_is_closed_when_a_draft_fails(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: DraftRequest, watch: Stopwatch | None = None) -> None:
        raise FilmTooLarge("too large")

    monkeypatch.setattr(service, "draft", fail)
    with pytest.raises(FilmTooLarge):
        speed.measure(lambda: service, 1)  # type: ignore[arg-type, return-value]
    assert service.closed


# --- the command line


@pytest.fixture
def run(
    whole_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a task with a whole model folder of its own: exit code, standard output, standard error."""
    shutil.copytree(whole_model, tmp_path / "model")
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(tmp_path / "model"))

    def task(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return task


Run = Callable[..., tuple[int, str, str]]


def written(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_labels_by_command(run: Run, maker: Maker, tmp_path: Path) -> None:
    result, predictions = tmp_path / "r.json", tmp_path / "p.csv"
    code, said, _ = run("labels", maker.openi(STUDIES), "--json", result, "--predictions", predictions, "--seed", 5)
    assert code == 0 and said.startswith("4 films, 4 studies, seed 5\n")
    wanted = {"macro_auroc", "macro_auroc_ci", "element_accuracy", "label_f1_macro", "brier_macro", "ece_macro",
              "per_label", "n_films", "n_studies", "seed", "signature"}  # fmt: skip
    assert wanted <= set(written(result))
    assert (written(result)["n_films"], written(result)["n_studies"], written(result)["seed"]) == (4, 4, 5)
    header, *rows = csv.reader(predictions.read_text().splitlines())
    assert header == ["file", *FINDINGS] and [r[0] for r in rows] == [
        f"films/CXR{n}.png" for n in range(1, 6)
    ]  # CXR5 has no label
    assert all(0.0 < float(v) < 1.0 for row in rows for v in row[1:])
    assert run("labels", maker.folder, "--split", Split.TEST)[1].startswith("1 films, 1 studies, seed 7\n")


def test_the_labeler_by_command(run: Run, maker: Maker, tmp_path: Path) -> None:
    code, said, _ = run("labeler", maker.openi(STUDIES), "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("labeler|rules@1|context@1|n:4|seed:7|")
    assert [p["name"] for p in written(tmp_path / "r.json")["parts"]] == ["all", "kept_back"]


def test_speed_by_command(run: Run, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = []

    def build(settings: Any) -> Service:
        stores.append(settings.store)
        return service

    monkeypatch.setattr(wiring, "build_service", build)
    code, said, _ = run("speed", "--repeats", 2, "--store", "elsewhere", "--json", tmp_path / "r.json")
    assert code == 0 and said.startswith("ready in ") and stores == ["elsewhere"]
    assert written(tmp_path / "r.json")["draft_ms"]["n"] == 2


def test_exit_codes(run: Run, maker: Maker, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("labels", tmp_path / "nowhere") == (2, "", "error: nowhere/ is no folder\n")
    for arguments in (["labels"], ["weather", "."], ["labels", ".", "--split", "all"], ["speed", "--repeats", "0"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2

    def build(_: object) -> None:
        raise StoreInUse("store", 12)

    monkeypatch.setattr(wiring, "build_service", build)
    code, _, said = run("speed")
    assert code == 1 and said.endswith("error: store is in use by pid 12\n")
    folder = maker.openi(STUDIES)
    (folder / "films" / "CXR2.png").write_bytes(b"not a film")
    code, _, said = run("labels", folder)
    assert code == 1 and "not a known image file" in said
    (tmp_path / "model" / "calibration.json").unlink()
    code, _, said = run("labels", folder)
    assert (code, said) == (3, "error: calibration.json is absent or malformed in the model folder\n")
    monkeypatch.setenv("RAG_PORT", "high")
    assert run("labels", folder) == (2, "", "error: RAG_PORT must be of type int\n")


def test_gate_counts_what_is_turned_away(tmp_path: Path, encoder: FilmEncoder) -> None:
    (tmp_path / "text.png").write_bytes(b"no picture")
    Image.fromarray(np.arange(96 * 96, dtype=np.uint8).reshape(96, 96)).save(tmp_path / "film.png")

    class Nobody:
        def judge(self, film: object, reading: object) -> object:
            return SimpleNamespace(reasons=(), out_of_distribution=None)

    result = gate.measure(gate.pictures(tmp_path, None), SimpleNamespace(gate=Nobody(), encoder=encoder))  # type: ignore[arg-type]
    assert (result["turned_away"], result["n"], result["reasons"]) == (0.5, 2, {"not_an_image": 1})
    assert gate.table(result) == "turned away 0.500 of 2 pictures (not_an_image 1)"
    with pytest.raises(DatasetError):
        gate.pictures(tmp_path / "absent", None)
