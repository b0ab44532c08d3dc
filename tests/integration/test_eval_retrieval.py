"""Retrieval measured: rankings with answers worked out by hand, phrases and regions, then the command once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eval import __main__ as cli
from eval.readings import Readings
from eval.retrieval import asking, by_film, by_region, by_text, measures, run
from eval.retrieval.by_region import Region
from eval.retrieval.by_text import Phrase
from eval.retrieval.gallery import Gallery, filled, gallery, word_scores
from eval.retrieval.measures import FIGURES, Resamples
from eval.retrieval.searches import Searches
from knowledge_base.bm25 import query_vector
from knowledge_base.cases import VectorNames
from knowledge_base.findings import FINDINGS, Laterality, Polarity
from knowledge_base.records import BoxLatent
from knowledge_base.rerank import FEATURES
from knowledge_base.schema import BM25, CASES
from knowledge_base.search import CaseSearch
from knowledge_base.store import Nearest, Scope
from knowledge_base.zones import ZONES
from rag_service.calibration import Calibration
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.datasets.openi import Report
from rag_service.models import text
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases, save_starter
from rag_service.reranker import FeatureWeight, RerankerRecord, fusion_in_use
from rag_service.settings import Settings
from rag_service.wiring import layout

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

AXES = 2
SAID = {
    "CXR11": ("The heart is enlarged.", ("Cardiomegaly",)),
    "CXR12": ("Small left pleural effusion.", ("Pleural Effusion/left",)),
    "CXR13": ("There are bilateral pleural effusions.", ("Pleural Effusion/bilateral",)),
    "CXR14": ("No pleural effusion. No pneumothorax.", ("normal",)),
    "CXR15": ("Right pleural effusion. The heart is enlarged.", ("Pleural Effusion/right", "Cardiomegaly")),
    "CXR16": ("Never tagged.", ("No Indexing",)),
}
NONE: Mapping[str, str] = {}


def figures(values: np.ndarray) -> dict[str, float]:
    return dict(zip(FIGURES, values.tolist(), strict=True))


def starter(model: str, words: HashedWords, axes: int = AXES) -> StarterCases:
    """Cases of `SAID` whose boxes lie one apart, and whose regions all point elsewhere."""
    boxes = np.full((len(SAID), 2 * axes), 0.5, np.float32)
    boxes[:, 0] = np.arange(len(SAID))
    regions = np.random.default_rng(2).normal(size=(len(SAID), len(ZONES), 64))
    regions = (regions / np.linalg.norm(regions, axis=2, keepdims=True)).astype(np.float32)
    return StarterCases(model, text.NAME, tuple(SAID), boxes, words.encode([t for t, _ in SAID.values()]), regions)


def reports() -> dict[str, Report]:
    return {study: Report(study, "", "", said, "", tags, ()) for study, (said, tags) in SAID.items()}


@pytest.fixture
def base(words: HashedWords) -> Gallery:
    return gallery(starter("film@1", words), reports())


def a_film(study: str, *present: str, source: str = "openi", tags: tuple[str, ...] | None = None) -> FilmRow:
    return FilmRow(source, Path(f"{study}.png"), study, study, {f: f in present for f in FINDINGS}, tags=tags)


def read(count: int, chances: Mapping[str, float]) -> Readings:
    """`count` films at the first case's place, with these probabilities, 0.1 for the rest."""
    scores = np.tile([chances.get(f, 0.1) for f in FINDINGS], (count, 1))
    centre = np.zeros((count, AXES))
    centre[:, 1] = 0.5
    radius = np.full((count, AXES), 0.5 * np.sqrt(3))
    return Readings(
        scores, scores * 0 + 0.01, centre, radius, np.zeros((count, 2)), np.zeros((count, 5)), np.zeros(count)
    )


# --- one ranking


def test_a_perfect_ranking_scores_one() -> None:
    grade = np.array([[1.0, 0.5, 0.0, 0.0]])
    low, nothing = np.array([[0.0, 1.0, 2.0, 3.0]]), np.zeros((1, 4), bool)
    found = figures(measures.scored(low, grade, nothing)[0])
    assert found == {
        "map": 1.0, "map_at_50": 1.0, "ndcg_at_10": pytest.approx(1.0), "p_at_1": 1.0, "p_at_5": 0.5, "p_at_10": 0.5,
    }  # fmt: skip
    last = figures(measures.scored(-low, grade, nothing)[0])
    assert last["map"] == pytest.approx((1 / 3 + 2 / 4) / 2) and last["p_at_1"] == 0.0


def test_the_first_fifty_are_scored_out_of_what_they_could_hold() -> None:
    low, nothing = np.arange(200.0)[None], np.zeros((1, 200), bool)
    grade = np.zeros((1, 200))
    grade[0, :25] = grade[0, 100:] = 1.0
    assert figures(measures.scored(low, grade, nothing)[0])["map_at_50"] == 0.5


def test_gains_are_graded() -> None:
    low, nothing = np.array([[0.0, 1.0, 2.0]]), np.zeros((1, 3), bool)
    found = figures(measures.scored(low, np.array([[0.5, 1.0, 0.0]]), nothing)[0])
    assert (found["ndcg_at_10"], found["map"], found["p_at_5"]) == (
        pytest.approx(0.82859, abs=1e-5), 1.0, pytest.approx(2 / 3),
    )  # fmt: skip


def test_a_study_is_not_its_own_answer() -> None:
    low, grade = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 0.0, 1.0]])
    assert figures(measures.scored(low, grade, np.array([[True, False, False]]))[0])["map"] == 0.5
    alone = measures.scored(low[:, :1], grade[:, :1], np.array([[True]]))[0]
    assert figures(alone) == dict.fromkeys(FIGURES, 0.0)
    assert figures(measures.scored(low, grade * 0, np.zeros((1, 3), bool))[0]) == dict.fromkeys(FIGURES, 0.0)


def test_the_answers_of_a_search_come_first_and_the_rest_after_them() -> None:
    low = measures.found_first([[2, 0], []], np.array([[0.0, 1.0, 2.0, -3.0], [4.0, 3.0, 2.0, 1.0]]))
    assert measures.nearest(low, np.zeros((2, 4), bool)).tolist() == [[2, 0, 3, 1], [3, 2, 1, 0]]


def test_fused_by_weighted_ranks() -> None:
    low = {"box": np.array([[0.0, 1.0]]), "text": np.array([[5.0, 4.0]])}
    np.testing.assert_allclose(measures.fused(low, ("box", "text")), [[1 / 61 + 2 / 62, 1 / 62 + 2 / 61]])


# --- votes, intervals, differences


def test_the_nearest_vote_and_the_nearer_counts_more() -> None:
    labels = np.zeros((3, len(FINDINGS)))
    labels[0, 5] = labels[2, 5] = labels[1, 6] = 1.0
    voted = measures.votes(np.array([[0.0, 1.0, 2.0]]), np.zeros((1, 3), bool), labels, 2)
    share = 1.0 / (1.0 + 1.0 / np.log2(3))
    assert voted[0, 5] == pytest.approx(share) and voted[0, 6] == pytest.approx(1 - share)
    without = measures.votes(np.array([[0.0, 1.0, 2.0]]), np.array([[True, False, False]]), labels, 10)
    assert without[0, 6] == pytest.approx(share)


def test_the_area_under_the_votes() -> None:
    labels = np.full((4, len(FINDINGS)), np.nan)
    labels[:, 5], labels[:, 6] = [1, 1, 0, 0], [1, 1, 1, 1]
    voted = np.zeros(labels.shape)
    voted[:, 5] = [0.9, 0.5, 0.5, 0.1]
    found = measures.vote_auroc(labels, voted, Resamples.of(list("abcd"), 7))
    assert (found["macro"], found["findings"], found["each"]["Edema"]) == (0.875, 1, 0.875)
    assert found["each"]["Consolidation"] is None and found["each"]["Fracture"] is None
    low, high = found["macro_ci"]
    assert 0.5 <= low < 0.875 <= high == 1.0
    nothing = measures.vote_auroc(labels * np.nan, voted, Resamples.of(list("abcd"), 7))
    assert (nothing["macro"], nothing["macro_ci"], nothing["findings"]) == (None, None, 0)


def test_patients_are_drawn_with_all_their_films() -> None:
    drawn = Resamples.of(["a", "a", "b"], 1)
    assert drawn.counts.shape == (2000, 3)
    assert (drawn.counts[:, 0] == drawn.counts[:, 1]).all()
    assert set(np.unique(drawn.counts[:, 0] + drawn.counts[:, 2])) == {2.0}
    assert drawn.interval(np.array([0.0, 0.0, 1.0])) == (0.0, 1.0)
    assert measures.middle(np.full(3, np.nan)) is None


def test_a_difference_and_its_chance() -> None:
    drawn = Resamples.of([str(i) for i in range(40)], 3)
    better = measures.difference(np.full(40, 0.6), np.full(40, 0.5), drawn)
    assert better["difference"] == pytest.approx(0.1) and better["p"] == pytest.approx(2 / 2001)
    same = measures.difference(np.full(40, 0.5), np.full(40, 0.5), drawn)
    assert (same["difference"], same["ci"], same["p"]) == (0.0, (0.0, 0.0), 1.0)


# --- the gallery


def test_the_gallery_is_the_starter_cases_that_have_labels(base: Gallery) -> None:
    assert [c.study for c in base.cases] == ["CXR11", "CXR12", "CXR13", "CXR14", "CXR15"]
    assert base.boxes[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert {FINDINGS[i] for i in np.flatnonzero(base.labels[4])} == {"Cardiomegaly", "Pleural Effusion"}
    assert base.own([("openi", "CXR12"), ("nih", "CXR12")]).sum(1).tolist() == [1, 0]


def test_the_store_holds_the_gallery_and_scores_words_as_the_arrays_do(base: Gallery) -> None:
    plan = layout("film@1", AXES)
    with filled(base, Settings(reserve_mib=0), plan) as store:
        assert store.count(CASES, Scope("public")) == 5
        words = query_vector("left pleural effusion")
        assert words is not None
        (hits,) = store.ranked(CASES, [Nearest(BM25, words, 5)], Scope("public"))
    rows, mine = base.rows(), word_scores(base, ["left pleural effusion", "of the"])
    np.testing.assert_allclose([h.score for h in hits], mine[0, [rows[h.id] for h in hits]], rtol=1e-5)
    assert len(hits) == np.count_nonzero(mine[0]) == 4 and not mine[1].any()


# --- what is asked


def test_a_film_is_asked_with_what_it_shows_and_what_was_told(words: HashedWords, calibration: Calibration) -> None:
    rows = [a_film("CXR1", "Edema", tags=("Pulmonary Edema",)), a_film("CXR2", "Edema", source="nih")]
    shows = read(2, {"Edema": 0.8, "Cardiomegaly": 0.5})
    alone = asking.asked(rows, shows, calibration, words, NONE)  # type: ignore[arg-type]
    assert alone.words == ("Cardiomegaly, Edema",) * 2
    named = words.encode(["Cardiomegaly", "Edema"]).mean(0)
    np.testing.assert_allclose(alone.texts[0], named / np.linalg.norm(named), rtol=1e-5)
    told = asking.asked(rows, shows, calibration, words, {"CXR1": "Swollen legs"})  # type: ignore[arg-type]
    assert told.words == ("Cardiomegaly, Edema, Swollen legs", "Cardiomegaly, Edema")
    np.testing.assert_array_equal(told.texts, alone.texts)
    blank = asking.asked(rows[:1], read(1, {}), calibration, words, NONE)  # type: ignore[arg-type]
    assert blank.words == ("No Finding",)
    query = alone.query(1, diverse=True)
    assert (query.exclude_patient, query.diverse, query.limit) == (("nih", "CXR2"), True, 50)
    assert query.probabilities is not None and query.probabilities["Edema"] == pytest.approx(0.8)
    assert alone.patients == ["openi/CXR1", "nih/CXR2"]


def test_labels_stand_for_tags_where_there_are_none() -> None:
    tagged = asking.traits_of(a_film("CXR1", tags=("Pleural Effusion/left",)))
    effusion = FINDINGS.index("Pleural Effusion")
    assert tagged[effusion, :3].tolist() == [1, 1, 0]
    labelled = asking.traits_of(a_film("CXR1", "Pleural Effusion"))
    assert labelled[effusion].tolist() == [1, 0, 0, 0, 0, 0] and labelled[:, 0].sum() == 1


def test_one_film_of_each_study_that_has_a_finding_is_asked() -> None:
    rows = [a_film("CXR1", "Edema"), a_film("CXR1", "Edema"), a_film("CXR2"), a_film("CXR3", "No Finding")]
    assert [r.study for r in asking.queries(rows)] == ["CXR1", "CXR3"]


# --- by film


def test_ways_are_scored_on_the_same_films(base: Gallery, words: HashedWords, calibration: Calibration) -> None:
    rows = [
        a_film("CXR1", "Pleural Effusion", tags=("Pleural Effusion/left",)),
        a_film("CXR14", "No Finding", tags=("normal",)),
    ]
    asked = asking.asked(rows, read(2, {}), calibration, words, NONE)  # type: ignore[arg-type]
    low = {"worst": np.array([[0.0, 4, 3, 1, 2]] * 2), "hybrid": np.array([[4.0, 0, 1, 3, 2]] * 2)}
    found = by_film.measure(low, asked, base, 7)
    assert (found["all"]["n"], found["abnormal"]["n"]) == (2, 1)
    best = found["abnormal"]["methods"]["hybrid"]
    assert (best["map"], best["p_at_1"], best["ndcg_at_10"]) == (1.0, 1.0, pytest.approx(1.0))
    assert found["abnormal"]["methods"]["worst"]["map"] == pytest.approx((1 / 3 + 2 / 4 + 3 / 5) / 3)
    assert found["all"]["methods"]["hybrid"]["map"] == 0.5  # the only other normal case is the film's own study
    gap = found["abnormal"]["differences"]["hybrid - worst"]["map"]
    assert gap["difference"] == pytest.approx(1 - (1 / 3 + 2 / 4 + 3 / 5) / 3)


def test_the_label_prior_is_the_same_for_every_film(
    base: Gallery, words: HashedWords, calibration: Calibration
) -> None:
    asked = asking.asked([a_film("CXR1", "Edema")] * 2, read(2, {}), calibration, words, NONE)  # type: ignore[arg-type]
    found = by_film.rankings(asked, base, Searches(None, {}, None), 7)  # type: ignore[arg-type]
    assert found["label_prior"].tolist() == [[-1, -2, -2, -1, -1]] * 2
    assert set(found) == {"random", "label_prior", "bm25", "text", "point", "box"}
    assert found["box"].argmin(1).tolist() == [0, 0]


# --- by words


def test_phrases_deny_affirm_and_name_sides() -> None:
    made = {p.text: p for p in by_text.phrases()}
    assert len(made) == 13 * 2 + 8 * 3
    assert made["no pneumothorax"] == Phrase("no pneumothorax", "Pneumothorax", Polarity.NEGATIVE)
    assert made["bilateral pleural effusions"].side is Laterality.BILATERAL
    assert "left cardiomegaly" not in made


@pytest.mark.parametrize(
    ("phrase", "studies"),
    [
        (Phrase("", "Pleural Effusion", Polarity.POSITIVE), {"CXR12", "CXR13", "CXR15"}),
        (Phrase("", "Pleural Effusion", Polarity.POSITIVE, Laterality.LEFT), {"CXR12", "CXR13"}),
        (Phrase("", "Pleural Effusion", Polarity.POSITIVE, Laterality.BILATERAL), {"CXR13"}),
        (Phrase("", "Pleural Effusion", Polarity.NEGATIVE), {"CXR14"}),
        (Phrase("", "Fracture", Polarity.POSITIVE), set()),
    ],
)
def test_a_case_is_relevant_that_states_it_so(base: Gallery, phrase: Phrase, studies: set[str]) -> None:
    found = by_text.relevant(base, phrase)
    assert {base.cases[i].study for i in np.flatnonzero(found)} == studies


# --- by region


def a_region(zone: str, finding: str, base: Gallery, like: int, **more: Any) -> Region:
    vector = base.regions[like, ZONES.index(zone)].astype(np.float32)  # type: ignore[index]
    box = BoxLatent(np.zeros(AXES, np.float32), np.ones(AXES, np.float32))
    row = FilmRow("nih", Path("1.png"), "1", more.pop("patient", "1"), {finding: True}, **more)
    return Region(row, finding, zone, vector, box, np.full(len(FINDINGS), 0.5))


def test_a_region_wants_its_finding_on_its_side(base: Gallery) -> None:
    asked = [a_region("left-lower", "Pleural Effusion", base, 0), a_region("mediastinum", "Cardiomegaly", base, 0)]
    assert by_region.grades(asked, base).tolist() == [[0.0, 1.0, 0.75, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0, 1.0]]


def test_regions_are_reported_by_markers_and_finding(base: Gallery) -> None:
    plan = layout("film@1", AXES)
    asked = [
        a_region("left-lower", "Pleural Effusion", base, 1, markers="original"),
        a_region("mediastinum", "Cardiomegaly", base, 4, markers="markers_blacked_out", patient="2"),
    ]
    with filled(base, Settings(reserve_mib=0), plan) as store:
        ways = {"hybrid": CaseSearch(store, VectorNames.of(plan.cases))}
        found = by_region.measure(asked, base, Searches(None, ways, None), 7)  # type: ignore[arg-type]
    assert list(found) == ["all", "markers_blacked_out", "original", "Cardiomegaly", "Pleural Effusion"]
    assert found["all"]["n"] == 2 and found["original"]["n"] == 1
    assert found["all"]["methods"]["region"]["p_at_1"] == 1.0
    assert set(found["all"]["methods"]) == {"random", "box", "region", "hybrid"}
    assert "region - box" in found["all"]["differences"]


def test_reader_boxes_become_regions(
    maker: Maker, base: Gallery, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = maker.film("a.png", 1)
    maker.table("boxes_1024.csv", "image,finding,x,y,w,h", "a.png,Effusion,1,2,3,4", "b.png,Mass,1,2,3,4")
    row = FilmRow("nih", path, "a", "7", {"Pleural Effusion": True})
    box = BoxLatent(np.zeros(AXES, np.float32), np.ones(AXES, np.float32))
    reading = SimpleNamespace(box=box, probabilities=np.full(len(FINDINGS), 0.3))
    reader: Any = SimpleNamespace(encoder=SimpleNamespace(read=lambda _: reading), calibration=calibration)
    vector = np.ones(64, np.float32) / 8
    monkeypatch.setattr(by_region, "region_of", lambda *_: ("left-lower", vector))
    (found,) = by_region.regions(maker.folder, [row], reader)
    assert (found.row, found.finding, found.zone, found.box) == (row, "Pleural Effusion", "left-lower", box)
    np.testing.assert_allclose(found.probabilities, 0.3)
    monkeypatch.setattr(by_region, "region_of", lambda *_: None)
    assert by_region.regions(maker.folder, [row], reader) == []


# --- the command


def test_indications_come_from_the_reports_of_the_folder(maker: Maker) -> None:
    assert run.indications(maker.folder) == {}
    maker.openi({"CXR1": ("Large heart.", "Swollen legs", ("Cardiomegaly",)), "CXR2": ("Clear.", "", ("normal",))})
    assert run.indications(maker.folder) == {"CXR1": "Swollen legs", "CXR2": ""}


def test_films_without_a_finding_ask_nothing(base: Gallery) -> None:
    with pytest.raises(DatasetError, match="no film has a finding"):
        run.measure(Path(), [a_film("CXR1")], base, None, None, None, 7)  # type: ignore[arg-type]


def evenly(model: str) -> RerankerRecord:
    """A re-ranker that goes by the agreement of findings alone."""
    weights = {name: FeatureWeight(0.0, 1.0, float(name == "agreement")) for name in FEATURES}
    return RerankerRecord(model, text.NAME, weights, fusion_in_use(), "made by hand")


def test_retrieval_by_command(
    whole_model: Path,
    maker: Maker,
    words: HashedWords,
    tiny_encoder: FilmEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    shutil.copytree(whole_model, model)
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(model))
    monkeypatch.setenv("RAG_RESERVE_MIB", "0")
    monkeypatch.chdir(tmp_path)
    studies = {study: (said, "Short of breath", tags) for study, (said, tags) in SAID.items()}
    folder = maker.openi({"CXR1": ("The heart is enlarged.", "Swollen legs", ("Cardiomegaly",)), **studies})
    monkeypatch.setattr(openi, "bundled_archive", lambda: folder / "NLMCXR_reports.tgz")
    monkeypatch.setattr(text, "load_text_encoder", lambda: words)
    save_starter(model, starter(tiny_encoder.record.id, words, tiny_encoder.axes))
    assert cli.main(["retrieval", str(folder), "--json", "r.json"]) == 0
    said, plain = capsys.readouterr().out, json.loads(Path("r.json").read_text())
    assert said.startswith(f"{plain['n_queries']} queries, 5 cases, seed 7\n")
    assert plain["method"] == "hybrid" and said.splitlines()[-1].startswith("hybrid mAP over all queries ")
    assert {"random", "label_prior", "bm25", "text", "point", "box"} == set(plain["baselines"])
    assert {"map", "map_ci", "ndcg_at_10", "p_at_5", "knn_auroc_10", "with_indication", "by_text"} <= set(plain)
    assert "by_region" not in plain  # an Open-i folder has no reader's boxes
    assert set(plain["by_text"]["rare"]["methods"]) == {"random", "bm25", "text", "hybrid", "service"}
    assert plain["by_text"]["phrases"]["cardiomegaly"]["cases"] == 2
    evenly(tiny_encoder.record.id).save(model)
    assert cli.main(["retrieval", str(folder), "--json", "r.json"]) == 0
    assert "by words, rare" in capsys.readouterr().out
    found = json.loads(Path("r.json").read_text())
    assert found["method"] == "reranked" and {"hybrid", "diversified"} <= set(found["baselines"])
    assert "reranked - text" in found["all"]["differences"]
    assert found["baselines"]["box"] == plain["baselines"]["box"]
