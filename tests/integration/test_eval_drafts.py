"""`python -m eval drafts | citations | radfact` over a small model and a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from eval import __main__ as cli
from eval import citations, controls, draft_checks, drafting, drafts, radfact
from eval.altered_search import Noisy, Without, strangers
from eval.drafting import Bench
from indexer import starter
from knowledge_base.memory import MemoryStore
from knowledge_base.search import CaseQuery
from rag_service import wiring
from rag_service.datasets.films import DatasetError, Split
from rag_service.errors import LateralNotUsable
from rag_service.gate import Gate
from rag_service.imaging.film import Box
from rag_service.models import text
from rag_service.models.encoder import FilmEncoder
from rag_service.report.draft import Citation, Draft
from rag_service.report.entailment import judge
from rag_service.report.writing import Candidate, Task
from rag_service.requests import DraftRequest
from tests.integration.house import NEGATIVE, PASSAGES, POSITIVE, UNCERTAIN, House, film

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

STUDIES = {
    "CXR1": ("The heart is enlarged. There is a pleural effusion. Possible edema.", "Swollen legs", ("Cardiomegaly",)),
    "CXR2": ("The lungs are clear. No pneumothorax.", "Cough", ("No Indexing",)),
}
"""Of the test split and of the train split."""


@pytest.fixture
def house(
    encoder: FilmEncoder,
    words: Any,
    stored: NDArray[np.uint8],
    open_gate: Callable[[str, int], Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    monkeypatch.setattr(wiring, "load_passages", PASSAGES)
    monkeypatch.setattr(starter, "load_passages", PASSAGES)
    return House(encoder, words, stored, open_gate("tiny", 302))


@pytest.fixture
def bench(house: House) -> Bench:
    """On every film it states cardiomegaly and an effusion, hedges edema, denies a pneumothorax and a fracture."""
    return Bench(house.service._reader, house.service._memory)


@pytest.fixture
def folder(maker: Maker, stored: NDArray[np.uint8]) -> Path:
    made = maker.openi(STUDIES)
    for number, study in enumerate(STUDIES):
        (made / "films" / f"{study}.png").write_bytes(film(stored, number))
    return made


# --- what is drafted


def test_studies_with_a_film_and_a_report(folder: Path) -> None:
    with (folder / "images.csv").open("a") as table:
        table.write("films/CXR1.png,CXR1_2,CXR1,Lateral\n")
    one, two = drafting.studies(folder, None, None, 3)
    assert (one.frontal.study, two.frontal.study, one.patient) == ("CXR1", "CXR2", ("openi", "CXR1"))
    assert one.lateral is not None and two.lateral is None and one.report.indication == "Swollen legs"
    assert [s.frontal.study for s in drafting.studies(folder, Split.TEST, None, 3)] == ["CXR1"]
    assert len(drafting.studies(folder, None, 1, 3)) == 1
    with pytest.raises(DatasetError, match="holds no study of the calibration split"):
        drafting.studies(folder, Split.CALIBRATION, None, 3)


def test_a_study_is_drafted_with_its_indication_and_without_its_own_cases(folder: Path) -> None:
    asked: list[DraftRequest] = []

    class Service:
        def draft(self, request: DraftRequest) -> str:
            asked.append(request)
            if request.lateral is not None:
                raise LateralNotUsable("not a lateral")
            return "drafted"

    (study, *_) = drafting.studies(folder, None, None, 3)
    study = replace(study, lateral=replace(study.frontal, path=folder / "films" / "CXR2.png"))
    (made,) = drafting.draft(Service(), [study], laterals=True)  # type: ignore[arg-type]
    assert made.draft == "drafted" and [r.lateral is None for r in asked] == [False, True]
    assert (asked[1].patient, asked[1].indication) == (("openi", "CXR1"), "Swollen legs")


# --- drafts


def test_drafts_against_reports(bench: Bench, folder: Path, tmp_path: Path) -> None:
    found = drafting.studies(folder, None, None, 3)
    samples = tmp_path / "samples.json"
    result = drafts.measure(bench, found, "public", laterals=False, seed=3, samples=samples)
    assert radfact.measure(radfact.read(samples), judge, 3)["logical"] == result["radfact"]
    assert set(json.loads(json.dumps(result, allow_nan=False))) == set(result)
    # Said of both: cardiomegaly, effusion, edema and with it an opacity. All four are true of the first, none of the second.
    assert result["label_f1_macro"] == pytest.approx((4 * 2 / 3 + 0) / 5)
    assert result["label_f1_micro"] == pytest.approx(8 / 13)
    assert result["label_f1_example"] == pytest.approx(0.5)
    ours = result["systems"]["draft"]
    assert ours["report"]["hallucinated"] == {"wrong": 4, "said": 8, "rate": 0.5}
    assert ours["report"]["abnormal"]["label_f1_micro"] == 1.0
    assert ours["mesh"]["studies"] == 1 and ours["mesh"]["label_f1_micro"] == pytest.approx(2 / 5)
    # Without hedges: cardiomegaly and effusion, twice said and once true.
    assert ours["hedges_absent"]["label_f1_micro"] == pytest.approx(4 / 7)
    assert (result["citation_precision"], result["citation_recall"], result["unsupported_positives"]) == (1.0, 1.0, 0)
    assert result["cited"]["positives"] == 6 and result["cited"]["sentences"] == 10
    assert (result["comparison_without_prior"], result["abstained"]["n"]) == (0, 0)
    assert result["emission"]["positive"] == 4 and result["emission"]["uncertain"] == 2
    assert 0 < result["p50_ms"] <= result["p95_ms"]
    # Of five sentences three follow from the first report, and the denied pneumothorax from the second.
    assert result["radfact"]["precision"] == pytest.approx((3 / 5 + 1 / 5) / 2)
    normal = result["systems"]["constant normal report"]["report"]
    assert normal["label_f1_micro"] == pytest.approx(2 * 1 / (5 + 2))
    other = result["systems"]["random report"]["report"]
    assert other["label_f1_micro"] == 0.0
    table = drafts.table(result)
    assert "constant normal report" in table and "comparison without a prior 0" in table and "said: 4 positive" in table


class Scribe:
    """Writes one sentence about the heart, and nothing else."""

    id = "scribe@1"

    def write(self, study: Any, tasks: Sequence[Task]) -> list[list[Candidate]]:
        told = {"Swollen legs": "The heart is enlarged.", "Cough": "Enlarged heart."}[study.indication]
        return [[Candidate(told, (1,))] if t.decision.label == "Cardiomegaly" else [] for t in tasks]


def test_a_writer_is_measured_beside_the_words_of_cases(bench: Bench, folder: Path) -> None:
    found = drafting.studies(folder, None, None, 3)
    written = replace(bench, writer=Scribe(), writers={drafting.VERBATIM: None})
    result = drafts.measure(written, found, "public", laterals=False, seed=3)
    assert result["words_of"]["scribe@1"] == 2 and sum(result["words_of"].values()) == 10
    assert result["signature"]["writer"] == "scribe@1" and (
        result["citation_recall"],
        result["citation_precision"],
    ) == (1.0, 1.0)
    assert result["systems"]["sentence retrieval"]["report"] == result["systems"]["draft"]["report"]
    alone = drafts.measure(bench, found, "public", laterals=False, seed=3)
    assert set(alone["words_of"]) == {"case"} and alone["signature"]["writer"] is None
    assert "sentence retrieval" not in alone["systems"]


def test_controls(bench: Bench, folder: Path) -> None:
    found = drafting.studies(folder, None, None, 3)
    service = bench.service()
    drafted = drafting.draft(service, found, laterals=False)
    first = service.case(UUID(drafted[0].draft.similar_cases[0].id), "public")
    assert controls.nearest(service, drafted, "public")[0] == tuple(s.text for s in first.sentences)
    silent = replace(drafted[0], draft=replace(drafted[0].draft, similar_cases=()))
    assert controls.nearest(service, [silent], "public") == [()]
    assert controls.drawn(found, 3) == [found[1].sentences, found[0].sentences]
    assert controls.drawn(found[:1], 3) == [()]


def test_what_must_not_stand_in_a_draft(house: House) -> None:
    draft = house.draft()
    assert draft_checks.check(draft) == draft_checks.Checked(False, False, False, False, False)
    effusion = next(f for f in draft.findings if f.label == "Pleural Effusion")

    def said(sentence: str, **more: Any) -> Draft:
        return replace(draft, findings=(replace(effusion, sentence=sentence, **more),), impression=sentence)

    assert draft_checks.check(said("New pleural effusion.")).compares
    assert draft_checks.check(said("Pleural effusion since XXXX.")).placeholder
    assert draft_checks.check(replace(draft, findings=draft.findings * 2)).repeats
    on_the_left = (Box(0.6, 0.5, 0.9, 0.9),)
    assert draft_checks.check(said("Right pleural effusion.", boxes=on_the_left)).sides_clash
    assert not draft_checks.check(said("Left pleural effusion.", boxes=on_the_left)).sides_clash
    assert draft_checks.check(replace(said("Right pleural effusion."), impression="Left pleural effusion.")).sides_clash
    assert draft_checks.check(replace(draft, impression="Edema.")).impression_differs
    listed = "Look for: Pneumonia. Not assessed: Fracture."
    assert not draft_checks.check(replace(draft, findings=(), impression=listed)).impression_differs


# --- citations


def test_citations_are_measured(bench: Bench, folder: Path) -> None:
    found = drafting.studies(folder, None, None, 3)
    result = citations.measure(bench, found, "public", 3)
    assert set(json.loads(json.dumps(result, allow_nan=False))) == set(result)
    assert (result["citation_precision"], result["citation_recall"], result["uncited_positives"]) == (1.0, 1.0, 0)
    assert result["quotes"]["faults"] == {} and result["quotes"]["own_patient"] == 0 < result["quotes"]["checked"]
    without = result["without_cited"]
    assert without["findings"] == 10 == sum(v for k, v in without.items() if k != "findings")
    assert list(result["noise"]) == ["0", "0.25", "0.5", "0.75"]
    assert result["noise"]["0"]["said"] == 10 >= result["noise"]["0.75"]["said"]
    assert result["noise"]["0"]["same_words"] == 10
    assert result["noise"]["0"]["label_f1_micro"] == pytest.approx(8 / 13)
    assert "quotes: " in citations.table(result) and "  0.75 " in citations.table(result)


def test_a_quote_of_the_films_own_patient_and_an_altered_one_are_found(
    bench: Bench, house: House, folder: Path
) -> None:
    (study, *_) = drafting.studies(folder, None, None, 3)
    service = bench.service()
    (made,) = drafting.draft(service, [study], laterals=False)
    finding = made.draft.findings[0]
    altered = replace(finding.citations[0], quote="Never written by anyone.")
    bad = replace(made, draft=replace(made.draft, findings=(replace(finding, citations=(altered,)),)))
    case = service.case(UUID(altered.id), "public")
    own = replace(bad, study=replace(study, frontal=replace(study.frontal, patient=case.patient, source=case.source)))
    assert citations._quotes(service, [own], "public") == {"checked": 1, "faults": {"fabricated": 1}, "own_patient": 1}
    guideline = replace(finding, citations=(Citation("guideline", "g", "A point.", (0, 8), 0.5, True),))
    spoken = replace(made, draft=replace(made.draft, findings=(guideline,)))
    assert citations._quotes(service, [spoken], "public")["checked"] == 0
    assert citations._changed(finding, None) == "unsaid"
    assert citations._changed(finding, replace(finding, polarity=NEGATIVE)) == "other_polarity"
    assert citations._changed(finding, replace(finding, sentence="Otherwise.")) == "other_words"
    assert citations._changed(finding, finding) == "same_words" and finding.polarity in {POSITIVE, UNCERTAIN}


def test_searches_that_hide_and_exchange_cases(bench: Bench) -> None:
    whole, query = bench.memory.cases, CaseQuery("public", text="effusion", limit=5)
    hits = whole.search(query).hits
    hidden = {hits[0].case.id}
    less = Without(whole, hidden)
    assert [h.case.id for h in less.search(query).hits] == [h.case.id for h in hits[1:]]
    pool = strangers(bench.memory.store, "public", 3, 1)
    assert len(pool) == 3 and pool == strangers(bench.memory.store, "public", 3, 1)
    assert [h.case for h in Noisy(whole, pool, 0.0, 1).search(query).hits] == [h.case for h in hits]
    exchanged = Noisy(whole, pool, 1.0, 1).search(query).hits
    assert {h.case.id for h in exchanged} <= {c.id for c in pool}
    assert [h.score for h in exchanged] == [h.score for h in hits]
    own = replace(query, exclude_patient=(pool[0].source, pool[0].patient))
    assert pool[0].id not in {h.case.id for h in Noisy(whole, pool[:1], 1.0, 1).search(own).hits}
    assert less.coverage("public") == Noisy(whole, pool, 0.5, 1).coverage("public") == whole.coverage("public")


# --- by command


@pytest.mark.parametrize("task", ["drafts", "citations"])
def test_by_command(
    task: str, whole_model: Path, folder: Path, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[str] = []
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))
    monkeypatch.setattr(wiring, "build_store", lambda settings: stores.append(settings.store) or MemoryStore())
    monkeypatch.setattr(text, "load_text_encoder", lambda: words)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out.json"
    assert cli.main([task, str(folder), "--limit", "1", "--store", "somewhere", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert stores == ["somewhere"] and result["citation_recall"] is None  # an empty memory holds nothing to say
    assert result["unsupported_positives"] == 0 == result["comparison_without_prior"]
    assert result["seed"] == 7


def test_radfact_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phrase = {"text": "The heart is enlarged.", "boxes": None}
    samples = tmp_path / "samples.json"
    samples.write_text(json.dumps([{"example_id": "1", "prediction": [phrase], "target": [phrase]}]))
    assert cli.main(["radfact", str(samples)]) == 0
    assert capsys.readouterr().out.startswith("1 samples, seed 7, 500 resamples\nlogical    precision 1.000")
    assert cli.main(["radfact", str(tmp_path / "none.json")]) == 2
