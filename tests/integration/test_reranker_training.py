"""The command that fits the re-ranker, on a tiny model and a small collection; and the service's search with what it wrote."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_base.findings import FINDINGS
from knowledge_base.memory import MemoryStore
from knowledge_base.rerank import FEATURES
from knowledge_base.search import CaseQuery, CaseSearch
from rag_service import sealed, wiring
from rag_service.datasets import nih, openi
from rag_service.datasets.films import FilmRow, Split, split_of
from rag_service.imaging.film import Box
from rag_service.models import text
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases, load_starter, save_starter
from rag_service.reranker import FILE, load_reranker
from rag_service.settings import Settings
from rag_service.training import __main__ as training
from rag_service.training import questions
from rag_service.training import reranker as command
from rag_service.training.questions import BY_FILM, BY_REGION, BY_WORDS, TOLD, Questioner, gallery

REPORTS = {
    "Edema": ("Pulmonary edema.", "Pulmonary Edema/bilateral"),
    "Pneumothorax": ("Left apical pneumothorax.", "Pneumothorax/apex/left"),
    "No Finding": ("The lungs are clear. No pleural effusion.", "normal"),
}


def names(source: str, split: Split) -> Iterator[str]:
    return (n for n in (f"CXR{i}" for i in range(100_000)) if split_of(source, n) is split)


@pytest.fixture
def studies() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Of each kind four training studies, four calibration studies and a test study."""
    found = {}
    for split, count in ((Split.TRAIN, 12), (Split.CALIBRATION, 12), (Split.TEST, 3)):
        for i, study in zip(range(count), names("openi", split), strict=False):
            words, tag = list(REPORTS.values())[i % 3]
            found[study] = (words, "Cough" if i % 2 else "", (tag,))
    return found


@pytest.fixture
def collection(maker: Any, studies: dict[str, Any], monkeypatch: pytest.MonkeyPatch, words: Any) -> Path:
    """A folder with openi/; its archive stands in for the package's, and hashed words for the text model."""
    folder: Path = maker.openi(studies)
    data = folder.parent / "data"
    data.mkdir()
    folder.rename(data / "openi")
    monkeypatch.setattr(command.openi, "bundled_archive", lambda: data / "openi" / openi.ARCHIVE)
    monkeypatch.setattr(command, "load_text_encoder", lambda: words)
    return data


@pytest.fixture
def model(tmp_path: Path, whole_model: Path, tiny_encoder: FilmEncoder, studies: dict[str, Any], words: Any) -> Path:
    """The tiny model with a starter case for every study; its film and report vectors are drawn by lot."""
    folder = tmp_path / "model"
    shutil.copytree(whole_model, folder)
    boxes = np.random.default_rng(1).uniform(0.5, 1.5, (len(studies), 2 * tiny_encoder.axes)).astype(np.float32)
    texts = words.encode([f"FINDINGS: {told}" for told, _, _ in studies.values()])
    save_starter(folder, StarterCases(tiny_encoder.record.id, text.NAME, tuple(studies), boxes, texts))
    return folder


def test_the_command_fits_and_the_search_uses_it(
    collection: Path,
    model: Path,
    tiny_encoder: FilmEncoder,
    words: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (collection / "nih").mkdir()
    read: list[str] = []
    monkeypatch.setattr(command.nih, "films", lambda folder: read.append(folder.name) or [])
    monkeypatch.setattr(command.nih, "boxes", lambda folder: read.append(folder.name) or [])
    assert training.main(["reranker", "--data", str(collection), "--out", str(model)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("fused alone: film ")
    assert printed[-1].startswith("re-ranker, ridge ")
    assert read == ["nih", "nih"]
    kept = sealed.read(model / FILE)
    assert kept["sample"] == (
        "calibration: 12 by film, 6 by film and indication, 8 by words, against 24 cases"  # test studies are no cases
    )
    assert list(kept["features"]) == list(FEATURES)
    assert kept["features"]["region"]["weight"] == 0.0
    loaded = load_reranker(model, tiny_encoder.record.id, text.NAME)
    assert loaded is not None
    store = MemoryStore()
    memory = wiring.build_memory(store, tiny_encoder, words, loaded)
    assert memory.cases.search(CaseQuery("isle", text="effusion")).hits == ()
    assert memory.reranker_digest == loaded.digest
    assert wiring.build_memory(store, tiny_encoder, words).reranker_digest is None


def test_the_service_is_built_with_the_folders_reranker(
    collection: Path, model: Path, tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.main(["reranker", "--data", str(collection), "--out", str(model)])
    built: list[Any] = []

    class Listening(CaseSearch):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            built.append(options["reranker"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(wiring, "CaseSearch", Listening)
    monkeypatch.setattr(wiring, "load_text_encoder", lambda: words)
    monkeypatch.setattr(wiring, "build_store", lambda _: MemoryStore())
    wiring.build_service(Settings(model_folder=str(model), store=str(tmp_path / "store"))).close()
    expected = load_reranker(model, sealed.read(model / FILE)["model"], text.NAME)
    assert expected is not None
    assert built[0].weight.tolist() == expected.weight.tolist()


def asker(model: Path, encoder: FilmEncoder, calibration: Any, words: Any) -> Questioner:
    starter = load_starter(model, encoder.record.id, text.NAME)
    base = gallery(starter, openi.reports(command.openi.bundled_archive()), command.Labeler())
    return Questioner(encoder, calibration, words, base)


def test_films_are_asked_as_the_service_asks(
    collection: Path, model: Path, tiny_encoder: FilmEncoder, calibration: Any, words: Any
) -> None:
    rows = openi.films(collection / "openi")
    asking = asker(model, tiny_encoder, calibration, words)
    study = next(names("openi", Split.CALIBRATION))
    found = list(asking.films(rows, {study: "Cough"}))
    assert [q.kind for q in found].count(TOLD) == 1
    film, told = found[0], found[1]
    assert (film.kind, told.kind, film.patient, told.patient) == (BY_FILM, TOLD, ("openi", study), ("openi", study))
    assert film.query.exclude_patient == ("openi", study)
    assert set(film.query.probabilities or {}) == set(FINDINGS)
    shown = [f for f, p in (film.query.probabilities or {}).items() if p >= 0.4 and f != "No Finding"]
    assert film.query.text == (", ".join(shown) or "No Finding")
    assert (told.query.text, told.query.box) == (f"{film.query.text}, Cough", film.query.box)
    # Half of the training and calibration cases of its kind stated edema like the film's tags, itself left out.
    assert film.grade.sum() == told.grade.sum() == 7.0


def test_words_are_sentences_that_say_one_thing(
    collection: Path, model: Path, tiny_encoder: FilmEncoder, calibration: Any, words: Any
) -> None:
    reports = openi.reports(collection / "openi" / openi.ARCHIVE)
    found = list(asker(model, tiny_encoder, calibration, words).words(reports, command.Labeler()))
    assert {q.query.text for q in found} == {"Pulmonary edema.", "Left apical pneumothorax."}
    assert len(found) == 8
    assert {q.kind for q in found} == {BY_WORDS}
    # The tags of edema mean an opacity too, on both sides; the pneumothorax is where it should be.
    best = {"Pulmonary edema.": 0.75 / 2, "Left apical pneumothorax.": 1.0}
    assert [q.grade.max() for q in found] == [best[q.query.text or ""] for q in found]
    assert {(q.grade > 0).sum() for q in found} == {7}


def test_regions_are_asked_for_the_finding_drawn_there(
    collection: Path,
    model: Path,
    tiny_encoder: FilmEncoder,
    calibration: Any,
    words: Any,
    maker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking = asker(model, tiny_encoder, calibration, words)
    study = next(names("nih", Split.CALIBRATION))
    other = next(names("nih", Split.TRAIN))
    rows = [FilmRow("nih", maker.film(f"{s}.png", 1), s, s) for s in (study, other)]
    boxes = [nih.ReaderBox(f"{s}.png", "Pneumothorax", 0.5, 0.0, 0.9, 0.3) for s in (study, other)]
    assert list(asking.regions(rows, boxes)) == []  # this model makes no regions
    drawn: list[Box] = []

    def somewhere(_: object, box: Box) -> tuple[str, np.ndarray]:
        drawn.append(box)
        return "left-upper", np.eye(1, 64, dtype=np.float32)[0]

    monkeypatch.setattr(questions, "region_of", somewhere)
    (found,) = asking.regions(rows, boxes)
    assert drawn == [Box(0.5, 0.0, 0.9, 0.3)]
    assert (found.kind, found.patient, found.query.exclude_patient) == (BY_REGION, ("nih", study), None)
    assert found.query.region is not None
    assert found.query.region[0] == "left-upper"
    assert sorted(set(found.grade.tolist())) == [0.0, 1.0]
