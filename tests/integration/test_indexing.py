"""Studies to stored cases: what is added, what is left alone, what is skipped, and who may see it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from indexer import starter
from indexer.builder import Embedder, StudyMap, labelled
from indexer.checkpoint import Checkpoint
from indexer.films import Stamp
from indexer.local_engine import LocalEngine
from indexer.pipeline import Indexing
from indexer.quarantine import Quarantine
from indexer.starter import add_passages, add_starter
from indexer.studies import Skipped, Study
from indexer.summary import Summary
from knowledge_base.cases import VectorNames, from_payload
from knowledge_base.errors import DiskLow
from knowledge_base.findings import Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.passages import load_passages
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention, case_id
from knowledge_base.schema import CASES, GUIDELINES, WITHDRAWN
from knowledge_base.store import Point, Scope
from knowledge_base.verification import verify
from rag_service.imaging.decode import decode
from rag_service.imaging.decode_pool import DecodePool
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases
from rag_service.report.labeler import Labeler
from rag_service.wiring import Layout, layout, open_collections

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

PUBLIC = Scope("public")


@pytest.fixture
def plan(tiny_encoder: FilmEncoder) -> Layout:
    return layout(tiny_encoder.record.id, tiny_encoder.network.architecture.axes)


@pytest.fixture
def store(plan: Layout) -> MemoryStore:
    made = MemoryStore()
    open_collections(made, plan)
    return made


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodePool]:
    with DecodePool(2) as pool:
        yield pool


@pytest.fixture
def study_map(plan: Layout, tiny_encoder: FilmEncoder, words: HashedWords, decoder: DecodePool) -> StudyMap:
    return StudyMap(plan.cases, tiny_encoder, words, Labeler(), decoder)


@pytest.fixture
def indexing(store: MemoryStore, study_map: StudyMap, maker: Maker, tmp_path: Path) -> Iterator[Indexing]:
    with closing(Checkpoint(tmp_path / "state")) as checkpoint:
        quarantine = Quarantine(tmp_path / "quarantine")
        yield Indexing(store, LocalEngine(study_map, 2), checkpoint, quarantine, maker.folder, Summary())


def run(indexing: Indexing, studies: Iterable[Study | Skipped], **changes: Any) -> Summary:
    """One run with a summary of its own."""
    summary = Summary()
    replace(indexing, summary=summary, **changes).run(studies)
    return summary


def a_study(maker: Maker, number: int, text: str = "Small left pleural effusion. No pneumothorax.") -> Study:
    film = maker.film(f"{number}.png", number)
    return Study("folder", f"S{number}", f"P{number}", film, text, view="PA", sex="F", age_years=61)


def stored_case(store: MemoryStore, study: Study, scope: Scope = PUBLIC) -> Case:
    (point,) = store.get(CASES, [case_id(study.source, study.study, scope.tenant)], scope).points
    return from_payload(point.payload)


def test_a_study_becomes_a_case_with_its_box_words_and_mentions(
    indexing: Indexing, store: MemoryStore, plan: Layout, maker: Maker, words: HashedWords, tiny_encoder: FilmEncoder
) -> None:
    study = a_study(maker, 1)
    summary = run(indexing, [study])
    assert (summary.added, summary.unchanged, summary.skipped, summary.quarantined) == (1, 0, {}, {})
    assert set(summary.seconds) == {"look up", "compare", "store", "decode", "label", "encode", "embed"}
    case = stored_case(store, study)
    assert (case.study, case.patient, case.view, case.sex, case.age_years) == ("S1", "P1", "PA", "F", 61)
    assert [s.text for s in case.sentences] == ["Small left pleural effusion.", "No pneumothorax."]
    assert case.labels(Polarity.POSITIVE) == ("Pleural Effusion",)
    assert case.labels(Polarity.NEGATIVE) == ("Pneumothorax",)
    (point,) = store.get(CASES, [case.id], PUBLIC, list(plan.cases.dense)).points
    assert study.film is not None
    box = tiny_encoder.read(decode(study.film.read_bytes())).box
    assert words.asked == [study.text]
    names = VectorNames.of(plan.cases)
    np.testing.assert_allclose(point.vectors[names.box], box.vector(), atol=1e-6)
    np.testing.assert_allclose(point.vectors[names.text], words.encode([study.text])[0], atol=1e-6)
    assert verify(store, plan.cases).intact


def test_a_second_run_changes_nothing_and_reads_no_film(
    indexing: Indexing, store: MemoryStore, maker: Maker, words: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [a_study(maker, n) for n in range(3)]
    run(indexing, studies)
    before = store.scroll(CASES, PUBLIC).points
    words.asked.clear()
    for reading in ("open", "read_bytes"):
        monkeypatch.setattr(Path, reading, lambda *_: pytest.fail("a film was read"))
    summary = run(indexing, studies)
    assert (summary.added, summary.unchanged) == (0, 3)
    assert [p.payload for p in store.scroll(CASES, PUBLIC).points] == [p.payload for p in before]
    assert words.asked == []


def test_an_edited_report_is_indexed_again_and_the_others_are_not(
    indexing: Indexing, store: MemoryStore, maker: Maker
) -> None:
    studies = [a_study(maker, n) for n in range(3)]
    run(indexing, studies)
    edited = replace(studies[1], text="Large right pleural effusion.")
    summary = run(indexing, [studies[0], edited, studies[2]])
    assert (summary.added, summary.unchanged) == (1, 2)
    assert stored_case(store, edited).text == "Large right pleural effusion."
    assert store.count(CASES, PUBLIC) == 3


def test_a_replaced_film_under_the_same_report_is_indexed_again(
    indexing: Indexing, store: MemoryStore, plan: Layout, maker: Maker, tiny_encoder: FilmEncoder
) -> None:
    studies = [a_study(maker, n) for n in range(3)]
    run(indexing, studies)
    film = studies[1].film
    assert film is not None
    maker.film("1.png", 77)
    summary = run(indexing, studies)
    assert (summary.added, summary.unchanged) == (1, 2)
    (point,) = store.get(CASES, [case_id("folder", "S1")], PUBLIC, list(plan.cases.dense)).points
    box = tiny_encoder.read(decode(film.read_bytes())).box
    np.testing.assert_allclose(point.vectors[next(iter(plan.cases.dense))], box.vector(), atol=1e-6)
    os.utime(film, (1, 1))  # touched, not changed: read once more, and known by its new stamp from then on
    assert run(indexing, studies).unchanged == 3
    assert indexing.checkpoint.digest(film, Stamp.of(film)) == hashlib.sha256(film.read_bytes()).hexdigest()


def test_a_film_that_has_gone_is_quarantined_and_its_case_stays(
    indexing: Indexing, store: MemoryStore, maker: Maker
) -> None:
    study = a_study(maker, 1)
    run(indexing, [study])
    (maker.folder / "1.png").unlink()
    assert run(indexing, [study]).quarantined == {"film_unreadable": 1}
    assert stored_case(store, study).text == study.text


def test_without_its_checkpoint_a_run_reads_the_films_again_and_changes_nothing(
    indexing: Indexing, maker: Maker, tmp_path: Path
) -> None:
    studies = [a_study(maker, n) for n in range(3)]
    run(indexing, studies)
    with closing(Checkpoint(tmp_path / "another state")) as empty:
        assert run(indexing, studies, checkpoint=empty).unchanged == 3


def test_films_that_cannot_be_read_are_quarantined_by_code_and_the_first_is_named(
    indexing: Indexing, store: MemoryStore, maker: Maker
) -> None:
    good = a_study(maker, 1)
    assert good.film is not None
    contents = {"empty": b"", "gif": b"GIF89a" + bytes(50), "cut": good.film.read_bytes()[:60], "text": b"not a film"}
    bad = []
    for name, content in contents.items():
        path = maker.folder / name
        path.write_bytes(content)
        bad.append(Study("folder", name, "P", path, "Clear lungs."))
    bad.append(Study("folder", "gone", "P", maker.folder / "gone", "Clear lungs."))
    summary = run(indexing, [bad[0], Skipped("line 9", "no_study_or_patient"), good, *bad[1:]])
    assert summary.added == 1 and summary.skipped == {"no_study_or_patient": 1} and summary.settled == 7
    assert summary.quarantined == {"not_an_image": 2, "unsupported_film": 1, "film_truncated": 1, "film_unreadable": 1}
    assert summary.examples["not_an_image"] == "empty" and summary.examples["unsupported_film"] == "gif"
    assert store.ids(CASES, PUBLIC) == [case_id("folder", "S1")]
    listed = {e.study: (e.reason, e.error, e.film) for e in indexing.quarantine}
    assert listed["cut"] == ("film_truncated", "TruncatedFilm", "cut")
    assert listed["gone"] == ("film_unreadable", "FileNotFoundError", "gone")


def test_batches_are_of_32_and_each_is_stored_before_the_one_after_the_next_is_encoded(
    indexing: Indexing, store: MemoryStore, words: HashedWords
) -> None:
    studies = [Study("folder", f"S{n}", "P1", None, f"Report {n}: no effusion.") for n in range(100)]
    told: list[tuple[int, int]] = []
    summary = Summary()

    def hear() -> None:
        told.append((summary.added, store.count(CASES, PUBLIC)))

    replace(indexing, summary=summary, told=hear).run(iter(studies))
    assert told == [(0, 0), (32, 32), (64, 64), (96, 96), (100, 100)]
    assert [len(words.asked[i : i + 32]) for i in range(0, 100, 32)] == [32, 32, 32, 4]
    assert run(indexing, []) == Summary()


def test_a_run_that_is_to_stop_stores_what_is_encoded_and_the_next_goes_on(
    indexing: Indexing, store: MemoryStore, words: HashedWords
) -> None:
    studies = [Study("folder", f"S{n}", "P1", None, f"Report {n}: no effusion.") for n in range(200)]
    summary = run(indexing, studies, stopping=lambda: len(words.asked) >= 64)
    assert (summary.added, store.count(CASES, PUBLIC), len(words.asked)) == (64, 64, 64)
    assert run(indexing, studies, stopping=lambda: True) == Summary()
    words.asked.clear()
    again = run(indexing, studies)
    assert (again.added, again.unchanged, len(words.asked)) == (136, 64, 136)


def test_what_the_store_refuses_ends_the_run_and_what_it_took_is_kept(
    indexing: Indexing, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [Study("folder", f"S{n}", "P1", None, f"Report {n}: no effusion.") for n in range(100)]
    upsert = MemoryStore.upsert

    def full(self: MemoryStore, collection: str, points: Sequence[Point]) -> None:
        if self.count(CASES, PUBLIC):
            raise DiskLow("the disk ran full")
        upsert(self, collection, points)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryStore, "upsert", full)
        with pytest.raises(DiskLow):
            run(indexing, studies)
    assert store.count(CASES, PUBLIC) == 32
    summary = run(indexing, studies)
    assert (summary.added, summary.unchanged) == (68, 32)


def test_tenants_are_kept_apart(indexing: Indexing, study_map: StudyMap, store: MemoryStore, maker: Maker) -> None:
    study = a_study(maker, 1)
    engine = LocalEngine(replace(study_map, tenant="clinic"), 1)
    clinic = {"engine": engine, "tenant": "clinic"}
    run(indexing, [study])
    summary = run(indexing, [replace(study, text="Clear lungs.")], **clinic)
    assert (summary.added, summary.unchanged) == (1, 0)
    summary = run(indexing, [replace(study, text="Clear lungs.")], **clinic)
    assert (summary.added, summary.unchanged) == (0, 1)
    assert store.tenants(CASES) == {"clinic": 1, "public": 1}
    assert stored_case(store, study).text == "Small left pleural effusion. No pneumothorax."
    private = stored_case(store, study, Scope("clinic", also_public=False))
    assert (private.text, private.tenant) == ("Clear lungs.", "clinic")


def test_what_was_withdrawn_stays_withdrawn(indexing: Indexing, store: MemoryStore, maker: Maker) -> None:
    study = a_study(maker, 1)
    run(indexing, [study])
    store.set_withdrawn(CASES, [case_id("folder", "S1")], "public")
    summary = run(indexing, [study])
    assert (summary.added, summary.unchanged) == (0, 1)
    summary = run(indexing, [replace(study, text="Effusion, corrected.")])
    assert (summary.added, summary.unchanged) == (1, 0)
    (point,) = store.scroll(CASES, PUBLIC).points
    assert (point.payload["text"], point.payload[WITHDRAWN]) == ("Effusion, corrected.", 1)


def test_a_film_without_a_report_is_known_by_its_labels(
    indexing: Indexing, store: MemoryStore, maker: Maker, words: HashedWords
) -> None:
    film = maker.film("1.png", 1)
    study = Study("nih", "1_000", "1", film, "", ("Lung Opacity", "Pneumonia"))
    run(indexing, [study, Study("nih", "2_000", "2", film, "", ())])
    case = stored_case(store, study)
    assert case.text == "Lung Opacity. Pneumonia."
    assert [s.section for s in case.sentences] == ["labels", "labels"]
    assert case.labels(Polarity.POSITIVE) == ("Lung Opacity", "Pneumonia")
    assert words.asked == ["Lung Opacity. Pneumonia.", "2_000"]
    (silent,) = store.get(CASES, [case_id("nih", "2_000")], PUBLIC).points
    assert (silent.payload["text"], silent.payload["labels_positive"]) == ("", [])


def test_labels_as_words() -> None:
    assert labelled(()) == ("", ())
    assert labelled(("Edema", "Fracture")) == (
        "Edema. Fracture.",
        (
            CaseSentence("Edema.", (0, 6), "labels", (Mention("Edema", Polarity.POSITIVE, (0, 5)),)),
            CaseSentence("Fracture.", (7, 16), "labels", (Mention("Fracture", Polarity.POSITIVE, (7, 15)),)),
        ),
    )


# --- the cases and passages that ship


def a_starter(model: str, studies: tuple[str, ...], axes: int = 4) -> StarterCases:
    rng = np.random.default_rng(3)
    boxes = rng.uniform(0.1, 1.0, (len(studies), 2 * axes)).astype(np.float32)
    texts = rng.normal(size=(len(studies), 384)).astype(np.float32)
    return StarterCases(model, "mini@1", studies, boxes, texts)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "reports.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for number in range(1, 4):
            text = f"<AbstractText Label='FINDINGS'>Report {number} of Dr. Smith. Cardiomegaly.</AbstractText>"
            xml = f"<eCitation><uId id='CXR{number}'/>{text}</eCitation>".encode()
            member = tarfile.TarInfo(f"{number}.xml")
            member.size = len(xml)
            tar.addfile(member, io.BytesIO(xml))
    return path


def test_starter_cases_join_vectors_and_reports(
    store: MemoryStore, plan: Layout, archive: Path, tiny_encoder: FilmEncoder
) -> None:
    cases = a_starter(tiny_encoder.record.id, ("CXR1", "CXR3", "CXR9"))
    summary = Summary()
    assert list(add_starter(store, plan.cases, cases, archive, summary)) == [2]
    assert (summary.added, summary.unchanged) == (2, 0)
    assert store.ids(CASES, PUBLIC) == sorted([case_id("openi", "CXR1"), case_id("openi", "CXR3")])
    (point,) = store.get(CASES, [case_id("openi", "CXR3")], PUBLIC, list(plan.cases.dense)).points
    assert point.payload["text"] == "FINDINGS: Report 3 of XXXX. Cardiomegaly."
    assert point.payload["labels_positive"] == ["Cardiomegaly"]
    np.testing.assert_allclose(
        BoxLatent.from_vector(point.vectors[next(iter(plan.cases.dense))]).vector(), cases.boxes[1], rtol=1e-5
    )
    assert verify(store, plan.cases).intact


def test_adding_the_starter_again_opens_no_archive_and_keeps_withdrawals(
    store: MemoryStore, plan: Layout, archive: Path, tiny_encoder: FilmEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "BATCH", 2)
    cases = a_starter(tiny_encoder.record.id, ("CXR1", "CXR2", "CXR3"))
    assert list(add_starter(store, plan.cases, cases, archive, Summary())) == [2, 1]
    store.set_withdrawn(CASES, [case_id("openi", "CXR2")], "public")
    summary = Summary()
    assert list(add_starter(store, plan.cases, cases, Path("/nowhere.tgz"), summary)) == []
    assert (summary.added, summary.unchanged) == (0, 3)
    store.delete(CASES, [case_id("openi", "CXR1")], "public")
    assert list(add_starter(store, plan.cases, cases, archive, summary)) == [1]
    (point,) = store.get(CASES, [case_id("openi", "CXR2")], PUBLIC).points
    assert point.payload[WITHDRAWN] == 1


def test_passages_are_added_once_and_again_when_their_text_changed(
    store: MemoryStore, plan: Layout, words: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder: Embedder = words
    passages = load_passages()
    summary = Summary()
    assert sum(add_passages(store, plan.guidelines, embedder, summary)) == len(passages) == summary.added
    assert words.asked[0] == f"{passages[0].title}. {passages[0].text}"
    (point,) = store.get(GUIDELINES, [passages[0].id], PUBLIC).points
    assert point.payload["slug"] == passages[0].slug and point.payload["text"] == passages[0].text
    again = Summary()
    assert list(add_passages(store, plan.guidelines, embedder, again)) == []
    assert (again.added, again.unchanged) == (0, len(passages))
    edited = (replace(passages[0], text="Another wording."), *passages[1:])
    monkeypatch.setattr(starter, "load_passages", lambda: edited)
    changed = Summary()
    assert list(add_passages(store, plan.guidelines, embedder, changed)) == [1]
    assert (changed.added, changed.unchanged) == (1, len(passages) - 1)
    assert verify(store, plan.guidelines).intact
