"""The command that trains the decoder, on a tiny model and a small collection: what it learns from, resuming, what it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from knowledge_base.findings import Laterality, Polarity
from knowledge_base.records import Mention
from rag_service.datasets import nih, openi
from rag_service.datasets.films import Split, split_of
from rag_service.models import text
from rag_service.models.decoder import load_decoder
from rag_service.models.decoder_network import DecoderShape
from rag_service.models.decoder_sight import Sight
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.regions import RegionAxes
from rag_service.models.starter import StarterCases, save_starter
from rag_service.models.vocabulary import SLOTS
from rag_service.report.grammar import BinBox
from rag_service.training import __main__ as training
from rag_service.training import decoder as command
from rag_service.training.corpus import Corpus, build
from rag_service.training.decoder import DecoderPlan, DecoderTrainer, Lessons, gather, some_of, vocabulary_of
from rag_service.training.decoder_evidence import drawn_slots, supports
from rag_service.training.decoder_examples import drawn_boxes, hidden, placed, told
from rag_service.training.decoder_loss import UNLEARNED, padded, sentence_ids
from rag_service.training.decoder_measure import Written, line, write_held

REPORTS = (
    ("There is a small left pleural effusion. No pneumothorax.", "Dyspnea XXXX old"),
    ("No pneumothorax or pleural effusion. The heart is enlarged.", ""),
    ("Right pleural effusion. Possible edema. No focal consolidation.", "Fall"),
)
PLAN = DecoderPlan(steps=4, batch=6, warm_up=2, held_tasks=8)
BOX = "Effusion,102,512,307,256"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A narrow network, few words; torch's own generator is put back afterwards."""
    monkeypatch.setattr(
        command, "DecoderShape", lambda sees: DecoderShape(sees, width=16, hidden=16, heads=2, layers=1)
    )
    monkeypatch.setattr(command, "WORDS", 300)
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def names(split: Split, source: str = "openi") -> Iterator[str]:
    return (n for n in (f"CXR{i}" for i in range(100_000)) if split_of(source, n) is split)


@pytest.fixture
def data(maker: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve training and four calibration studies, a caption, and an NIH film with a box."""
    studies = {}
    for split, count in ((Split.TRAIN, 12), (Split.CALIBRATION, 4)):
        for i, study in zip(range(count), names(split), strict=False):
            findings, indication = REPORTS[i % 3]
            studies[study] = (findings, indication, ("normal",))
    folder: Path = maker.openi(studies)
    data = folder.parent / "data"
    data.mkdir()
    folder.rename(data / "openi")
    figures = replace(maker, folder=data / "rocov2")
    caption = next(n for n in (f"films/{i}.png" for i in range(99)) if split_of("rocov2", n) is Split.TRAIN)
    figures.film(caption, 50)
    figures.table("captions.csv", "file,caption", f'{caption},"Chest radiograph showing a large right pneumothorax."')
    films = replace(maker, folder=data / "nih")
    patient = next(str(i) for i in range(99) if split_of("nih", str(i)) is Split.TRAIN)
    films.film("films/n1.png", 60)
    films.table(
        "images.csv", "file,image,patient_id,view,age,sex,labels,rsna_opacity,source",
        f"films/n1.png,n1.png,{patient},PA,40,F,Effusion,,original",
    )  # fmt: skip
    films.table("boxes_1024.csv", "image,finding,x,y,w,h,reader", f"n1.png,{BOX},NIH")
    monkeypatch.setattr(openi, "bundled_archive", lambda: data / "openi" / openi.ARCHIVE)
    return data


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path, tiny_encoder: FilmEncoder, data: Path) -> Path:
    """The tiny model with axes for regions, and a starter case for every study."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    name = tiny_encoder.record.id
    RegionAxes(name, np.zeros(8, np.float32), np.eye(8, 3, dtype=np.float32)).save(folder)
    studies = tuple(openi.reports(openi.bundled_archive()))
    boxes = np.random.default_rng(1).uniform(0.5, 1.5, (len(studies), 2 * tiny_encoder.axes)).astype(np.float32)
    save_starter(folder, StarterCases(name, text.NAME, studies, boxes, np.zeros((len(studies), 384), np.float32)))
    return folder


@pytest.fixture
def corpus(data: Path, tmp_path: Path) -> Corpus:
    return build(data, tmp_path / "cache")


@pytest.fixture
def lessons(corpus: Corpus, data: Path, model: Path, tmp_path: Path) -> Lessons:
    return gather(corpus, data, model, load_encoder(model), Sight(), tmp_path / "cache")


def trainer(lessons: Lessons, folder: Path, plan: DecoderPlan = PLAN) -> DecoderTrainer:
    folder.mkdir(exist_ok=True)
    return DecoderTrainer(lessons, plan, folder, vocabulary_of(lessons))


def test_the_command_trains_and_the_service_loads_what_it_wrote(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    options = ["--data", str(data), "--out", str(model), "--work", str(work), "--steps", "2", "--seed", "3"]
    assert training.main(["decoder", *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "33 sentences of 13 training reports and captions, boxes on 1 NIH films"
    assert printed[1].startswith("loss by word on calibration tasks ")
    assert [p.split(":")[0] for p in printed[2:]] == [
        "as it serves", "without evidence", "without film", "without masks",
    ]  # fmt: skip
    decoder = load_decoder(model, load_encoder(model).record.id)
    assert decoder is not None
    assert decoder.sight.digests == {}
    log = [json.loads(entry) for entry in (work / "decoder-3" / command.LOG).read_text().splitlines()]
    assert [entry["step"] for entry in log] == [2]


def test_a_second_leg_goes_on_from_the_weights_of_the_first(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, options = tmp_path / "work", ["--data", str(data), "--out", str(model), "--steps", "1"]
    assert training.main(["decoder", *options, "--work", str(work), "--seed", "3"]) == 0
    first = work / "decoder-3" / command.CHECKPOINT
    begun: list[torch.Tensor] = []
    monkeypatch.setattr(
        DecoderTrainer, "_step", lambda self, _: begun.append(self.network.segments.weight.clone()) or 0.0
    )
    assert training.main(["decoder", *options, "--work", str(work), "--seed", "4", "--initial", str(first)]) == 0
    assert torch.equal(begun[0], torch.load(first, weights_only=True)["network"]["segments.weight"])
    with pytest.raises(FileNotFoundError, match="nothing"):
        training.main(["decoder", *options, "--work", str(work), "--seed", "5", "--initial", str(tmp_path / "nothing")])


def test_it_learns_from_training_studies_and_is_measured_on_others(lessons: Lessons) -> None:
    assert {split_of("openi", e.study) for e in lessons.train if e.study.startswith("CXR")} == {Split.TRAIN}
    assert {split_of("openi", e.study) for e in lessons.held} == {Split.CALIBRATION}
    assert {e.target.text for e in lessons.train if not e.study.startswith("CXR")} >= {"Large right pneumothorax."}
    assert lessons.train[0].indication in {"Dyspnea old", "", "Fall"}


def test_evidence_states_what_is_wanted_on_no_other_side_and_comes_from_other_training_studies(
    lessons: Lessons,
) -> None:
    starter = lessons.shelf.studies
    left = next(e for e in lessons.train if e.target.side is Laterality.LEFT)
    assert left.near
    for stated in left.near:
        assert split_of("openi", starter[stated.case]) is Split.TRAIN
        assert starter[stated.case] != left.study
        assert "right" not in stated.text.lower()
        assert any(m.finding == "Pleural Effusion" and m.polarity is Polarity.POSITIVE for m in stated.mentions)


def test_what_is_called_possible_may_rest_on_what_is_stated(lessons: Lessons) -> None:
    left = next(e for e in lessons.train if e.target.side is Laterality.LEFT)
    hedged = replace(left.target, mention=replace(left.target.mention, polarity=Polarity.UNCERTAIN))
    found = lessons.shelf.near(lessons.films.box(left.row), hedged, left.study)
    assert found == left.near
    nobody = replace(left.target, mention=replace(left.target.mention, finding="Fracture"))
    assert lessons.shelf.near(lessons.films.box(left.row), nobody, left.study) == ()


def test_slots_are_those_that_entail_whatever_strays_in(lessons: Lessons) -> None:
    rng = np.random.default_rng(0)
    counts, strayed = set(), 0
    for _ in range(40):
        for example in lessons.train:
            evidence, slots = drawn_slots(lessons.shelf, example.target, example.near, example.study, rng)
            counts.add(len(evidence))
            strayed += len(evidence) - len(slots)
            assert all(1 <= s <= len(evidence) for s in slots)
    assert counts == set(range(SLOTS + 1))
    assert strayed > 0
    effusion = (Mention("Pleural Effusion", Polarity.POSITIVE, (0, 5), Laterality.LEFT),)
    assert supports(effusion, "There is a left pleural effusion.")
    assert not supports(effusion, "There is a right pleural effusion.")
    assert not supports(effusion, "No pleural effusion.")


def test_what_a_radiologist_drew_is_learned_without_the_words(corpus: Corpus, lessons: Lessons, data: Path) -> None:
    (boxed,) = [e for e in lessons.train if not e.learned]
    assert boxed.boxes == (BinBox(9, 50, 39, 75),)
    assert boxed.target.side in {None, Laterality.RIGHT}
    words = vocabulary_of(lessons)
    ids, labels = sentence_ids(words, boxed, (1,), seen=True)
    assert len(ids) == len(labels)
    learned = [i for i in labels if i != UNLEARNED]
    assert words.written(learned) == "<box><x9><y50><x39><y75></box>"
    drawn = drawn_boxes(data / nih.SOURCE)
    rows = np.flatnonzero([s in drawn for s in corpus.studies]).tolist()
    nobody = placed(corpus, rows, lessons.films, lessons.shelf, drawn, [], np.random.default_rng(0))
    assert list(nobody) == []
    assert drawn_boxes(data / "nowhere") == {}


def test_the_mark_after_the_words_is_not_learned_where_nobody_knows_the_boxes(lessons: Lessons) -> None:
    words = vocabulary_of(lessons)
    effusion = next(e for e in lessons.train if e.target.polarity is Polarity.POSITIVE and e.learned)
    unknown, known = replace(effusion, boxes=None), replace(effusion, boxes=(BinBox(1, 2, 3, 4),))
    length = len(words.read(effusion.target.text, 40))
    ids, labels = sentence_ids(words, unknown, (), seen=True)
    assert (labels[length], labels[:length]) == (UNLEARNED, ids[:length])
    assert sentence_ids(words, unknown, (), seen=False)[1] == ids
    assert words.written(sentence_ids(words, known, (2,), seen=True)[1]).endswith("</box><cite_2></obj>")
    assert "<box>" not in words.written(sentence_ids(words, known, (), seen=False)[1])
    before, both = padded(words, [sentence_ids(words, known, (), True), sentence_ids(words, unknown, (), True)])
    assert before.shape == both.shape
    assert before[0, 0] == words.mark("<obj>")
    assert both[1, -1] == UNLEARNED


def test_what_a_task_is_told_varies(lessons: Lessons) -> None:
    rng = np.random.default_rng(0)
    example = next(e for e in lessons.train if e.target.side is Laterality.LEFT and e.indication)
    tasks = [told(example, lessons.shelf, lessons.train, rng)[0] for _ in range(200)]
    assert {a.side for a in tasks} == {Laterality.LEFT}
    boxed = replace(example, boxes=(BinBox(50, 50, 80, 80),))
    assert {told(boxed, lessons.shelf, lessons.train, rng)[0].boxes for _ in range(99)} == {(), boxed.boxes}
    assert {a.words for a in tasks} == {"", "Pleural Effusion", "Dyspnea old", "Pleural Effusion Dyspnea old"}
    assert any(a.prior for a in tasks)
    assert not any("small left pleural effusion" in a.prior and a.prior == example.earlier for a in tasks)
    kinds = ("film", "box")
    assert {hidden(kinds, rng) for _ in range(200)} == {
        frozenset(),
        frozenset(kinds),
        frozenset({"film"}),
        frozenset({"box"}),
    }


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    lessons: Lessons, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(command, "_SAVED_EVERY", 2)
    whole = trainer(lessons, tmp_path / "whole")
    loss = whole.run()
    stopped = trainer(lessons, tmp_path / "stopped")
    monkeypatch.setattr(stopped, "_step", stopping(stopped, 2))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = trainer(lessons, tmp_path / "stopped")
    assert resumed.run() == loss
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def stopping(stopped: DecoderTrainer, at: int) -> Any:
    step_of = stopped._step

    def step(number: int) -> float:
        if number == at:
            raise KeyboardInterrupt
        return step_of(number)

    return step


def test_a_checkpoint_of_another_plan_is_refused(lessons: Lessons, tmp_path: Path) -> None:
    trainer(lessons, tmp_path / "run").run()
    with pytest.raises(ValueError, match="another plan"):
        trainer(lessons, tmp_path / "run", replace(PLAN, seed=9)).run()


def test_what_is_written_is_held_against_what_was_asked(lessons: Lessons, tmp_path: Path) -> None:
    made = trainer(lessons, tmp_path / "run")
    examples = some_of(lessons.held, 3, 0)
    written = write_held(made.network, made.vocabulary, lessons.films, examples)
    assert [w.asked.finding for w in written] == [e.target.finding for e in examples]
    said = replace(written[0], asked=replace(written[0].asked, finding="Pleural Effusion", polarity=Polarity.POSITIVE,
                   side=Laterality.LEFT, evidence=("Left effusion.", "No effusion.")))  # fmt: skip
    good = replace(said, phrase=replace(said.phrase, text="Left effusion.", slots=(1, 2), boxes=None))
    other = replace(said, phrase=replace(said.phrase, text="Right effusion.", slots=(), boxes=(BinBox(1, 1, 2, 2),)))
    assert (good.agrees, good.sayable, good.entailing) == (True, True, (True, False))
    assert (other.agrees, other.entailing) == (False, ())
    assert line("two", [good, other]) == (
        "two: say what was asked 0.500 (n=2), of those not denied 0.500 (n=2), nothing against the words 1.000 (n=2), "
        "slots that entail 0.500 (n=2), with such a slot 0.500 (n=2), with boxes, of those not denied 0.500 (n=2)"
    )
    assert line("none", list[Written]()).startswith("none: say what was asked - (n=0)")
