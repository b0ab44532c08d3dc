"""Trains the grounded decoder: `python -m rag_service.training decoder --data DIR`. Resumable; writes it into the model folder.

It learns from the training split alone: what reports and captions say of each finding, where radiologists drew on NIH films, and
evidence retrieved for each task anew, with gaps and with sentences that do not belong. What is measured is on calibration studies.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from knowledge_base.records import digest
from rag_service.datasets import nih, openi
from rag_service.datasets.films import Split
from rag_service.models import text as text_model
from rag_service.models.decoder import batch_of, save_decoder
from rag_service.models.decoder_network import Batch, DecoderNetwork, DecoderShape
from rag_service.models.decoder_sight import MASKS, QUERIES, Sight, load_sight
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.starter import load_starter
from rag_service.models.vocabulary import Vocabulary, train_bpe
from rag_service.training.corpus import Corpus
from rag_service.training.decoder_evidence import Shelf
from rag_service.training.decoder_examples import (
    Example,
    boxed_rows,
    drawn_boxes,
    hidden,
    placed,
    told,
    worded,
    written_rows,
)
from rag_service.training.decoder_films import FilmBank, read_films
from rag_service.training.decoder_loss import UNLEARNED, padded, sentence_ids, word_loss
from rag_service.training.decoder_measure import line, write_held
from rag_service.training.runs import load_checkpoint, save_checkpoint

CHECKPOINT: Final = "decoder.pt"
LOG: Final = "decoder.jsonl"
WORDS: Final = 2500
"""Byte-pair codes."""
LATER_LEG: Final = 0.5
MEASURED: Final = 600
"""Calibration tasks that are written for the figures."""
_SAVED_EVERY: Final = 100


@dataclass(frozen=True)
class DecoderPlan:
    """How it is trained. Rare tasks and rare sentences are drawn more often: by their count to the power of -`evening`."""

    seed: int = 11
    steps: int = 2400
    batch: int = 32
    learning_rate: float = 2e-3
    warm_up: int = 150
    weight_decay: float = 0.01
    clip: float = 1.0
    evening: float = 0.5
    held_tasks: int = 320


@dataclass(frozen=True, eq=False)
class Lessons:
    """What is learned from and what is held back for measurement, with the films and evidence of both."""

    train: tuple[Example, ...]
    held: tuple[Example, ...]
    films: FilmBank
    shelf: Shelf
    sample: str


def gather(corpus: Corpus, data: Path, folder: Path, encoder: FilmEncoder, sight: Sight, cache: Path) -> Lessons:
    """Read films, reports and boxes; `folder` holds the starter cases."""
    drawn = drawn_boxes(data / nih.SOURCE)
    train_rows, held_rows = (written_rows(corpus, s) for s in (Split.TRAIN, Split.CALIBRATION))
    nih_rows = boxed_rows(corpus, drawn, Split.TRAIN)
    films = read_films(encoder, sight, corpus, np.unique(np.concatenate([train_rows, held_rows, nih_rows])), cache)
    reports = openi.reports(openi.bundled_archive())
    shelf = Shelf(load_starter(folder, encoder.record.id, text_model.NAME), reports)
    train = tuple(worded(corpus, train_rows.tolist(), films, shelf, reports))
    words = list({e.target.text: e.target for e in train}.values())
    boxed = placed(corpus, nih_rows.tolist(), films, shelf, drawn, words, np.random.default_rng(DecoderPlan.seed))
    found = (*train, *boxed)
    sample = (
        f"{len(train)} sentences of {len(train_rows)} training reports and captions, boxes on {len(nih_rows)} NIH films"
    )
    return Lessons(found, tuple(worded(corpus, held_rows.tolist(), films, shelf, reports)), films, shelf, sample)


def vocabulary_of(lessons: Lessons) -> Vocabulary:
    """Byte pairs of what training reports say, and of what they are asked."""
    texts = [f" {t}" for e in lessons.train for t in (e.target.text, e.indication, e.earlier)]
    return Vocabulary(train_bpe(texts, WORDS))


class DecoderTrainer:
    """One run; its checkpoint lies in `folder` and belongs to one plan and one set of lessons."""

    def __init__(self, lessons: Lessons, plan: DecoderPlan, folder: Path, vocabulary: Vocabulary) -> None:
        self.lessons, self.plan, self.folder, self.vocabulary = lessons, plan, folder, vocabulary
        torch.manual_seed(plan.seed)
        shape = DecoderShape(sees=lessons.films.film(lessons.train[0].row).shapes)
        self.network = DecoderNetwork(shape, vocabulary)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), plan.learning_rate, betas=(0.9, 0.98), weight_decay=plan.weight_decay
        )
        self._chances = _chances(lessons.train, plan.evening)
        self._signature = digest([asdict(plan), asdict(shape), vocabulary.bpe, lessons.sample])

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights of an earlier leg; kinds of film token that it did not see begin afresh.

        FileNotFoundError when there is none, RuntimeError when it is of another shape or other words.
        """
        state = load_checkpoint(checkpoint)
        if state is None:
            raise FileNotFoundError(checkpoint.name)
        self.network.load_state_dict(state["network"], strict=False)

    def run(self) -> float:
        """Train to the end of the plan, from the checkpoint where there is one; the loss by word on held-back tasks."""
        start = self._resume()
        for step in tqdm(range(start, self.plan.steps), desc="training", unit="step", mininterval=10.0):
            loss = self._step(step)
            if (step + 1) % _SAVED_EVERY == 0 or step + 1 == self.plan.steps:
                self._save(step + 1)
                self._note({"step": step + 1, "loss": round(loss, 4), "held": round(self.held_loss(), 4)})
        return self.held_loss()

    @torch.inference_mode()
    def held_loss(self) -> float:
        """Cross-entropy by word on tasks of calibration studies, the same ones each time."""
        self.network.eval()
        rng = np.random.default_rng(self.plan.seed)
        chosen = some_of(self.lessons.held, self.plan.held_tasks, self.plan.seed)
        total, words = 0.0, 0
        for start in range(0, len(chosen), self.plan.batch):
            batch, before, labels = self._batch(chosen[start : start + self.plan.batch], rng)
            known = int((labels != UNLEARNED).sum())
            total, words = total + known * float(word_loss(self.network, batch, before, labels)), words + known
        return total / max(words, 1)

    def _step(self, step: int) -> float:
        """One step. What it draws depends on the plan's seed and its own number alone: a run that is taken up goes on the same."""
        self.network.train()
        torch.manual_seed(self.plan.seed * self.plan.steps + step)
        rng = np.random.default_rng([self.plan.seed, step])
        drawn = rng.choice(len(self.lessons.train), self.plan.batch, p=self._chances).tolist()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * _rate(step, self.plan)
        self.optimiser.zero_grad(set_to_none=True)
        loss = word_loss(self.network, *self._batch([self.lessons.train[i] for i in drawn], rng))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        self.optimiser.step()
        return float(loss.detach())

    def _batch(self, examples: Sequence[Example], rng: np.random.Generator) -> tuple[Batch, Tensor, Tensor]:
        """Tasks made of the examples, what has been written before each word, and the labels."""
        films = self.lessons.films
        asked = [told(e, self.lessons.shelf, self.lessons.train, rng) for e in examples]
        kinds = tuple(self.network.shape.sees)
        unseen = [frozenset[str]() if not e.learned else hidden(kinds, rng) for e in examples]
        batch = batch_of(self.vocabulary, [films.film(e.row) for e in examples], [a for a, _ in asked], unseen)
        rows = [
            sentence_ids(self.vocabulary, e, slots, seen=len(out) < len(kinds))
            for e, (_, slots), out in zip(examples, asked, unseen, strict=True)
        ]
        return batch, *padded(self.vocabulary, rows)

    def _resume(self) -> int:
        state = load_checkpoint(self.folder / CHECKPOINT, self._signature)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def _save(self, step: int) -> None:
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": step}
        save_checkpoint(self.folder / CHECKPOINT, state, self._signature)

    def _note(self, line: Mapping[str, float]) -> None:
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def some_of(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """At most so many of the examples, drawn by seed alone."""
    chosen = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[i] for i in chosen.tolist()]


def make_decoder(
    data: Path, folder: Path, corpus: Corpus, plan: DecoderPlan, work: Path, version: str, initial: Path | None = None
) -> list[str]:
    """Train for the film model in `folder`, from the checkpoint in `work` if there is one; write it there; lines on how it writes.

    It looks with the region queries and the segmenter that the folder has. `initial` is the checkpoint of an earlier leg, from
    which it goes on at LATER_LEG times the rate.
    """
    encoder = load_encoder(folder)
    model = encoder.record.id
    sight = load_sight(folder, model, (QUERIES, MASKS))
    lessons = gather(corpus, data, folder, encoder, sight, work.parent / "cache")
    if initial is not None:
        plan = replace(plan, learning_rate=plan.learning_rate * LATER_LEG)
    trainer = DecoderTrainer(lessons, plan, work, vocabulary_of(lessons))
    if initial is not None:
        trainer.start_from(initial)
    held = trainer.run()
    about = {"version": version, "sample": f"{lessons.sample}; seed {plan.seed}, {plan.steps} steps in the last leg"}
    save_decoder(folder, model, trainer.vocabulary, trainer.network.eval(), sight, about)
    return [lessons.sample, f"loss by word on calibration tasks {held:.3f}", *_figures(trainer)]


def _figures(trainer: DecoderTrainer) -> list[str]:
    """How it writes of calibration studies: rare findings and common ones alike, and with something kept from it."""
    lessons, network, words = trainer.lessons, trainer.network, trainer.vocabulary
    examples = some_of(lessons.held, MEASURED, trainer.plan.seed)
    kept_from: dict[str, dict[str, Any]] = {
        "as it serves": {},
        "without evidence": {"slots": 0},
        "without film": {"unseen": frozenset(network.shape.sees)},
        "without masks": {"unseen": frozenset({MASKS})},
    }
    return [line(k, write_held(network, words, lessons.films, examples, **kept)) for k, kept in kept_from.items()]


def _chances(examples: Sequence[Example], evening: float) -> NDArray[np.float64]:
    """How likely each example is drawn."""
    tasks, texts = Counter(e.key for e in examples), Counter(e.target.text for e in examples)
    weights = np.array([(tasks[e.key] * texts[e.target.text]) ** -evening for e in examples])
    return weights / weights.sum()  # type: ignore[no-any-return]


def _rate(step: int, plan: DecoderPlan) -> float:
    """Linear warm-up, then half a cosine to nothing."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - plan.warm_up) / max(plan.steps - plan.warm_up, 1)))
