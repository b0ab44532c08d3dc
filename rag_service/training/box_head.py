"""Trains a box head on a frozen encoder's features, and packs both as a film model that the service can load.

One command for every encoder of the catalogue: `python -m rag_service.training box-head --encoder NAME --model FOLDER
--data DIR --out FOLDER`. The losses are those of the whole program (`losses`); only the trunk does not move.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from rag_service.datasets.films import Split
from rag_service.imaging.normalise import PREPROCESSING
from rag_service.models.box_head import BACKBONE_FOLDER, BoxHead, HeadShape
from rag_service.models.catalogue import RECORD_FILE, ModelRecord
from rag_service.models.encoders.record import SIDECAR, EncoderRecord
from rag_service.models.network import PRESENTATIONS
from rag_service.training import augment, losses
from rag_service.training.corpus import UNKNOWN, Corpus
from rag_service.training.features import Change, FeatureCache, Inverted, OtherDevice, Turned

WEIGHTS_FILE: Final = "box-head.safetensors"
TURNED_EVERY: Final = 6
INVERTED_EVERY: Final = 12
"""One frontal film in so many is also shown turned, and one inverted, so that the head learns to turn such films away."""
_WEIGHTS: Final = {"findings": 1.0, "presentation": 0.2, "containment": 1.0, "volume": 0.05, "neighbours": 0.05}
"""What each loss counts for, as in the whole program."""


@dataclass(frozen=True)
class HeadPlan:
    """How a head is trained.

    `box`: findings are read at samples of the box; otherwise the box is a point. `contained`: device-shifted copies must
    fall into the box (onto the point). `shown_shifted`: device-shifted copies stand in for half of the films, the usual
    pixel augmentation. `copies`: how many of each film are made.
    """

    seed: int = 7
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    axes: int = 128
    copies: int = 2
    box: bool = True
    contained: bool = True
    shown_shifted: bool = False


@dataclass(frozen=True, eq=False)
class Bank:
    """n films as features (n, D), each with K device-shifted copies (K, n, D); labels (n, 14) and presentation (n,), -1
    for unknown."""

    features: Tensor
    copies: Tensor
    labels: Tensor
    presentation: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def at(self, rows: Tensor | NDArray[np.int64]) -> Bank:
        """Only these films."""
        rows = torch.as_tensor(rows)
        return Bank(self.features[rows], self.copies[:, rows], self.labels[rows], self.presentation[rows])

    def joined(self, other: Bank) -> Bank:
        """These films and those."""
        return Bank(
            torch.cat([self.features, other.features]),
            torch.cat([self.copies, other.copies], 1),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.presentation, other.presentation]),
        )


def bank(cache: FeatureCache, corpus: Corpus, rows: NDArray[np.int64], copies: int) -> Bank:
    """The films of these rows, with copies at training strength."""
    shifts = [OtherDevice(augment.Strength(), seed) for seed in range(copies)]
    clean = torch.from_numpy(cache.pooled(corpus.films, rows))
    shifted = [torch.from_numpy(cache.pooled(corpus.films, rows, s)) for s in shifts]
    return Bank(
        features=clean,
        copies=torch.stack(shifted) if shifted else clean[None][:0],
        labels=torch.from_numpy(corpus.labels[rows]),
        presentation=torch.from_numpy(corpus.presentation[rows]).long(),
    )


def whole_bank(cache: FeatureCache, corpus: Corpus, plan: HeadPlan) -> Bank:
    """Every training film, and turned and inverted frontals whose findings do not count."""
    frontals = corpus.rows(Split.TRAIN, presentation="frontal")
    found = bank(cache, corpus, corpus.rows(Split.TRAIN), plan.copies)
    kinds: tuple[tuple[Change, int, str], ...] = (
        (Turned(), TURNED_EVERY, "rotated"),
        (Inverted(), INVERTED_EVERY, "inverted"),
    )
    for change, every, name in kinds:
        features = torch.from_numpy(cache.pooled(corpus.films, frontals[::every], change))
        count = len(features)
        found = found.joined(
            Bank(
                features,
                features.expand(plan.copies, -1, -1),
                torch.full((count, found.labels.shape[1]), UNKNOWN, dtype=torch.int8),
                torch.full((count,), PRESENTATIONS.index(name)),
            )
        )
    return found


def train_head(train: Bank, held: Bank, plan: HeadPlan) -> BoxHead:
    """A head trained on `train`; of its epochs the one with the least loss on the findings of `held` is kept."""
    generator = torch.Generator().manual_seed(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        head = BoxHead(HeadShape(train.features.shape[1], plan.axes))
    head.standardise(train.features)
    optimiser = _optimiser(head, plan)
    # Films with a positive pathology are drawn twice as often as the rest, as in the whole program.
    often = 1.0 + (train.labels[:, 1:] == 1).any(1)
    steps = math.ceil(len(train) / plan.batch)
    best, least = deepcopy(head.state_dict()), math.inf
    for epoch in range(plan.epochs):
        for step in range(steps):
            rate = 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (plan.epochs * steps)))
            for group in optimiser.param_groups:
                group["lr"] = plan.learning_rate * rate
            rows = torch.multinomial(often, min(plan.batch, len(train)), generator=generator)
            terms = _terms(head, train.at(rows), plan, generator)
            optimiser.zero_grad(set_to_none=True)
            torch.stack([_WEIGHTS[k] * v for k, v in terms.items()]).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        loss = held_loss(head, held)
        if loss < least:
            best, least = deepcopy(head.state_dict()), loss
    head.load_state_dict(best)
    return head.eval()


def _optimiser(head: BoxHead, plan: HeadPlan) -> torch.optim.AdamW:
    """Weight decay for matrices only."""
    matrices = [p for p in head.parameters() if p.ndim > 1]
    biases = [p for p in head.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


@torch.no_grad()
def held_loss(head: BoxHead, held: Bank) -> float:
    """Cross-entropy of the findings at the centres of the boxes."""
    return float(losses.masked_bce(head.logits(head(held.features).centre), held.labels))


def _terms(head: BoxHead, films: Bank, plan: HeadPlan, generator: torch.Generator) -> dict[str, Tensor]:
    """The losses of a batch."""
    count = len(films)
    seen = films.features
    if plan.shown_shifted:
        seen = torch.where(torch.rand(count, 1, generator=generator) < 0.5, seen, _one_copy(films, generator))
    reading = head(seen)
    radius = reading.radius if plan.box else torch.zeros_like(reading.radius)
    points = reading.centre + radius * (2 * torch.rand(radius.shape, generator=generator) - 1)
    known = (films.presentation != UNKNOWN).sum()
    presentation = functional.cross_entropy(
        reading.presentation, films.presentation, ignore_index=UNKNOWN, reduction="sum"
    )
    terms = {
        "findings": losses.masked_bce(head.logits(points), films.labels),
        "presentation": presentation / known.clamp(min=1),
        "neighbours": losses.neighbours(reading.centre, films.labels),
    }
    if plan.box:
        terms["volume"] = reading.radius.mean()
    if plan.contained:
        terms["containment"] = losses.containment(reading.centre, radius, head(_one_copy(films, generator)).centre)
    return terms


def _one_copy(films: Bank, generator: torch.Generator) -> Tensor:
    """For each film one of its copies, (n, D)."""
    which = torch.randint(len(films.copies), (len(films),), generator=generator)
    return films.copies[which, torch.arange(len(films))]


def pack(head: BoxHead, encoder: EncoderRecord, source: Path, version: str, folder: Path) -> ModelRecord:
    """Write head, record, and the encoder's files from `source`, so that the folder is a model by itself."""
    backbone = folder / BACKBONE_FOLDER
    backbone.mkdir(parents=True, exist_ok=True)
    for file in {encoder.weights, encoder.config, SIDECAR}:
        if (source / file).is_file():
            shutil.copyfile(source / file, backbone / file)
    path = folder / WEIGHTS_FILE
    save_file({k: v.contiguous() for k, v in head.state_dict().items()}, path)
    record = ModelRecord(
        name=f"{encoder.name}-box",
        version=version,
        file=WEIGHTS_FILE,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        preprocessing=PREPROCESSING,
        terms=f"Research use only; not a medical device. Encoder {encoder.id}: {encoder.terms}",
        architecture={"backbone": encoder.name, "backbone_sha256": encoder.sha256, **asdict(head.shape)},
    )
    (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")
    return record
