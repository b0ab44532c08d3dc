"""`python -m eval speed store`: made-up cases are like real ones, exact lists are exact, a small run writes every figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from eval import __main__ as cli
from eval.store_speed import run as runs
from eval.store_speed import synthetic
from eval.store_speed.baselines import Job, apart, numpy_exact
from eval.store_speed.exact import Answered, Exact, Recorder, Words, WordsWriter, key, load_words
from eval.store_speed.searches import dense, lists_of, recall
from eval.store_speed.synthetic import Arrays, Originals
from knowledge_base.cases import VectorNames, to_point
from knowledge_base.findings import Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.schema import BM25, CASES, IndexManifest, cases_schema
from knowledge_base.store import Nearest, Scope, SparseVector
from knowledge_base.zones import ZONES
from rag_service.datasets import openi
from rag_service.datasets.films import Split, split_of
from rag_service.datasets.openi import Report
from rag_service.models import starter as starter_cases
from rag_service.models import text
from rag_service.models.catalogue import load_record
from rag_service.models.starter import StarterCases, load_starter
from rag_service.settings import Settings

AXES, WIDTH, REGION = 3, 5, 4
SCHEMA = cases_schema("film@1", "mini@1", box_dimension=AXES, text_dimension=WIDTH, region_dimension=REGION)
NAMES = VectorNames.of(SCHEMA)
WEIGHTS = Path(Settings().model_folder)
MODEL = load_record(WEIGHTS).id
SAID = (
    "The heart is enlarged. No pleural effusion.",
    "Small left pleural effusion. Lungs are otherwise clear.",
    "No pneumothorax. Mild right basilar atelectasis. Heart size is normal.",
)


def starter(count: int = 60) -> StarterCases:
    rng = np.random.default_rng(3)
    boxes = np.concatenate([rng.normal(size=(count, AXES)), rng.uniform(0.1, 1, (count, AXES))], 1)
    texts, regions = rng.normal(size=(count, WIDTH)), rng.normal(size=(count, len(ZONES), REGION))
    unit = [(v / np.linalg.norm(v, axis=-1, keepdims=True)).astype(np.float32) for v in (texts, regions)]
    return StarterCases("film@1", "mini@1", tuple(f"CXR{i}" for i in range(count)), boxes.astype(np.float32), *unit)


def few(cases: StarterCases) -> StarterCases:
    """The first 60 of the shipped cases, under the names of `reports`."""
    return replace(
        cases,
        studies=tuple(f"CXR{i}" for i in range(60)),
        boxes=cases.boxes[:60],
        texts=cases.texts[:60],
        regions=None if cases.regions is None else cases.regions[:60],
    )


def reports(count: int = 60) -> dict[str, Report]:
    return {f"CXR{i}": Report(f"CXR{i}", "", "", SAID[i % 3], "", (), ()) for i in range(count)}


@pytest.fixture
def real() -> Originals:
    return synthetic.originals(starter(), reports())


@pytest.fixture
def arrays(real: Originals, tmp_path: Path) -> Arrays:
    return synthetic.make(tmp_path, real, 300, 7)


# --- the cases


def test_cases_are_made_of_training_studies_and_asked_for_by_others(real: Originals) -> None:
    assert all(split_of("openi", s) is Split.TRAIN for s in real.cases.studies)
    assert real.sentences[real.own[0][0]].text in {s.split(".")[0] + "." for s in SAID}
    assert all(s.span == (0, len(s.text)) for s in real.sentences)
    asked = synthetic.queries(starter(), reports(), Split.TEST, 5)
    assert 0 < len(asked) <= 5
    assert not {q.study for q in asked} & set(real.cases.studies)
    assert {q.words for q in asked} <= {
        "No pleural effusion.", "Small left pleural effusion.", "Lungs are otherwise clear.", "Heart size is normal.",
    }  # fmt: skip
    assert synthetic.queries(starter(), {}, Split.TEST, 5) == []


def test_vectors_are_legal_and_do_not_depend_on_how_many_are_made(
    real: Originals, arrays: Arrays, tmp_path: Path
) -> None:
    assert (arrays.boxes.shape, arrays.texts.shape, arrays.said.shape) == ((300, 6), (300, 5), (300, 8))
    assert (arrays.boxes[:, AXES:] > 0).all()
    assert arrays.regions is not None
    np.testing.assert_allclose(np.linalg.norm(arrays.texts.astype(np.float64), axis=1), 1.0, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(arrays.regions.astype(np.float64), axis=2), 1.0, atol=2e-3)
    spread = np.asarray(arrays.boxes, np.float64).std(0) / real.cases.boxes.std(0)
    assert ((spread > 0.5) & (spread < 1.5)).all()
    (tmp_path / "fewer").mkdir()
    fewer = synthetic.make(tmp_path / "fewer", real, 40, 7)
    assert (fewer.boxes == arrays.boxes[:40]).all() and (fewer.said == arrays.said[:40]).all()


def test_a_case_quotes_real_sentences_with_their_findings(real: Originals, arrays: Arrays) -> None:
    made = [synthetic.case(arrays, real.sentences, row) for row in range(40)]
    assert len({c.id for c in made}) == 40
    for case in made:
        for sentence in case.sentences:
            assert case.text[slice(*sentence.span)] == sentence.text
            assert all(case.text[slice(*m.span)] in sentence.text for m in sentence.mentions)
    stated = {f for c in made for f in c.labels(Polarity.POSITIVE)}
    assert stated == {"Cardiomegaly", "Pleural Effusion", "Atelectasis", "Lung Opacity"} & stated and len(stated) > 1


# --- exact answers


def filled(arrays: Arrays, real: Originals, folder: Path) -> tuple[MemoryStore, Words]:
    store, writer = MemoryStore(), WordsWriter(folder)
    store.open(SCHEMA, IndexManifest("film@1", "mini@1", None, None, AXES, WIDTH))
    points = [
        to_point(
            synthetic.case(arrays, real.sentences, row),
            SCHEMA,
            box=arrays.box(row),
            text_vector=arrays.texts[row].astype(np.float32),
            regions=arrays.zones(row),
        )
        for row in range(len(arrays))
    ]
    store.upsert(CASES, points)
    writer.add((p.id, p.sparse.get(BM25)) for p in points)
    writer.close()
    return store, load_words(folder)


def test_exact_lists_are_those_of_the_store_in_memory(
    real: Originals, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.store_speed.exact.CHUNK", 70)
    store, words = filled(arrays, real, tmp_path)
    query = synthetic.queries(starter(), reports(), Split.TEST, 1)[0]
    zone, vector = query.region  # type: ignore[misc]
    region = Nearest(NAMES.regions[zone], vector, 20)
    asked = {key(n): n for n in (*lists_of(NAMES, query).values(), region)}
    found = Exact(arrays, words, NAMES, len(arrays)).lists(asked)
    wanted = store.ranked(CASES, list(asked.values()), Scope(synthetic.TENANT))
    for (name, _), hits in zip(asked, wanted, strict=True):
        mine = found[next(k for k in asked if k[0] == name)]
        assert [h.id for h in mine][: len(hits)] == [h.id for h in hits], name
        np.testing.assert_allclose([h.score for h in mine][: len(hits)], [h.score for h in hits], atol=1e-5)


def test_words_nobody_wrote_find_nothing(real: Originals, arrays: Arrays, tmp_path: Path) -> None:
    _, words = filled(arrays, real, tmp_path)
    unknown = SparseVector(np.array([1], np.uint32), np.ones(1, np.float32))
    nearest = Nearest(BM25, unknown, 5)
    exact = Exact(arrays, words, NAMES, len(arrays))
    assert exact.lists({key(nearest): nearest}) == {key(nearest): []}


def test_recall_is_the_share_of_the_exact_answer_that_was_found(
    real: Originals, arrays: Arrays, tmp_path: Path
) -> None:
    store, words = filled(arrays, real, tmp_path)
    asked = synthetic.queries(starter(), reports(), Split.TEST, 3)
    recorder = Recorder(store)
    found = [dense(NAMES)(recorder)(q) for q in asked]
    truth = Exact(arrays, words, NAMES, len(arrays)).lists(recorder.asked)
    wanted = [dense(NAMES)(Answered(store, truth))(q) for q in asked]
    assert recall(found, wanted) == 1.0
    assert Answered(store, truth).count(CASES, Scope(synthetic.TENANT)) == 300
    one, two, three = (UUID(int=i) for i in (1, 2, 3))
    assert recall([[one, two], []], [[two, three], [one]]) == 0.25


def test_another_engine_answers_from_a_process_of_its_own(real: Originals, arrays: Arrays, tmp_path: Path) -> None:
    filled(arrays, real, tmp_path)
    asked = [lists_of(NAMES, q) for q in synthetic.queries(starter(), reports(), Split.TEST, 2)]
    wanted = [[UUID(int=1)]] * len(asked)
    row = apart(numpy_exact, Job(tmp_path, NAMES, 100, asked, wanted))
    assert (row["cases"], row["queries"], row["recall_at_10"]) == (100, len(asked), 0.0)
    assert row["hybrid_p50_ms"] > 0.0


# --- the whole


def test_targets_go_by_the_number_of_cases() -> None:
    figures = {
        "hybrid_p50_ms": 9.0, "hybrid_p99_ms": 20.0, "recall_at_10": 0.975, "rss_mb": 100.0,
        "times_faster_than_qdrant_local": 50.0, "dense_times_faiss_hnsw": 3.5,
    }  # fmt: skip
    few = {t["figure"]: t["met"] for t in runs.against(figures, 2000)}
    assert few == {
        "hybrid_p50_ms": False, "hybrid_p99_ms": True, "recall_at_10": False,
        "times_faster_than_qdrant_local": True, "dense_times_faiss_hnsw": False,
    }  # fmt: skip
    many = {t["figure"]: t["met"] for t in runs.against(figures, 1_000_000)}
    assert (many["hybrid_p50_ms"], many["rss_mb"], many["recall_at_10"]) == (True, True, True)


def test_a_small_run_writes_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in {"ASKED": 12, "LOCAL_ASKED": 3, "NUMPY_ASKED": 2, "LOCAL_AT_MOST": 400}.items():
        monkeypatch.setattr(runs, name, count)
    monkeypatch.setattr(runs, "apart", lambda engine, job: engine(job))
    monkeypatch.setattr(starter_cases, "load_starter", lambda *_: few(load_starter(WEIGHTS, MODEL, text.NAME)))
    monkeypatch.setattr(openi, "reports", lambda _: reports())
    place, out = tmp_path / "place", tmp_path / "r.json"
    command = ["speed", "store", "--cases", "400", "--folder", str(place), "--json", str(out)]
    assert cli.main([*command, "--keep"]) == 0
    first = json.loads(out.read_text())
    wanted = {"hybrid_p50_ms", "hybrid_p99_ms", "recall_at_10", "bytes_per_case", "rss_mb"}
    assert wanted <= set(first)
    assert set(first["baselines"]) == {"qdrant_local", "faiss_hnsw", "faiss_flat", "numpy_exact"}
    assert all(wanted <= set(row) and row["recall_at_10"] >= 0.95 for row in first["baselines"].values())
    assert set(first["searches"]) == {"hybrid", "reranked", "region", "dense"}
    assert set(first["list_recall_at_10"].values()) == {1.0} and len(first["list_recall_at_10"]) > 3
    assert first["recall_at_10"] == first["searches"]["dense"]["recall_at_10"] == 1.0
    assert (first["cases"], first["beside_qdrant_local"]["cases"], first["baselines"]["qdrant_local"]["cases"]) == (
        400, 400, 400,
    )  # fmt: skip
    assert first["rss_mb"] > 1.0 and first["hybrid_p50_ms"] > 0.0 and first["bytes_per_case"] > 2000.0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "400 synthetic cases, seed 7"
    assert sum(line.startswith(("met ", "missed ")) for line in said) == 5
    assert cli.main(command) == 0
    again = json.loads(out.read_text())
    assert again["upsert_seconds"] == first["upsert_seconds"] and not place.exists()


def test_a_workplace_is_temporary_unless_kept(tmp_path: Path) -> None:
    with runs.workplace(None, keep=False) as place:
        (place / "boxes.npy").touch()
    assert not place.exists()
    with runs.workplace(tmp_path / "new", keep=True) as place:
        assert place.is_dir()
    assert (tmp_path / "new").is_dir()
