"""The training loop: resumable from its last checkpoint, seeded, progressive in resolution, with a moving average of weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from rag_service.datasets.films import Split
from rag_service.models.network import PRESENTATIONS, Architecture, FilmNetwork
from rag_service.training import augment, losses
from rag_service.training.corpus import SOURCES, UNKNOWN, Corpus

_FRONTAL, _LATERAL, _ROTATED, _INVERTED = (
    PRESENTATIONS.index(p) for p in ("frontal", "lateral", "rotated", "inverted")
)
_SHARES: Final = (
    ("openi", "frontal", 0.62),
    ("nih", "frontal", 0.23),
    ("openi", "lateral", 0.05),
    ("cohen", None, 0.03),
    ("rocov2", None, 0.04),
    ("not_chest", None, 0.03),
)
"""What a batch is made of: (source, presentation, share)."""
_WEIGHTS: Final = {
    "findings": 1.0,
    "tags": 0.5,
    "presentation": 0.2,
    "containment": 1.0,
    "volume": 0.05,
    "neighbours": 0.05,
    "captions": 0.05,
}
"""What each loss counts for."""


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train. `stages` are (share of steps, pixels a side)."""

    steps: int = 2100
    batch: int = 64
    shifted: int = 8
    learning_rate: float = 2.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    average: float = 0.997
    seed: int = 7
    stages: tuple[tuple[float, int], ...] = ((0.55, 128), (0.30, 160), (0.15, 192))
    strength: augment.Strength = field(default_factory=augment.Strength)
    turned_share: float = 0.06
    inverted_share: float = 0.03
    weights: dict[str, float] = field(default_factory=lambda: dict(_WEIGHTS))

    def architecture(self, tags: tuple[str, ...], sources: tuple[str, ...]) -> Architecture:
        """The network this plan trains."""
        return Architecture(side=self.stages[-1][1], tags=tags, sources=sources)

    def side(self, step: int) -> int:
        """Pixels a side at a step."""
        done = 0.0
        for share, side in self.stages:
            done += share
            if step < done * self.steps:
                return side
        return self.stages[-1][1]

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up, then a cosine to 1 % of the peak."""
        warm = self.warmup * self.steps
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm))))


PLANS: Final = {
    "scratch": Plan(),
    "continue": Plan(steps=800, learning_rate=1.2e-3, seed=8, stages=((0.7, 160), (0.3, 192))),
}
"""From random weights, and a second leg from a checkpoint of the first."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Films (B, 1, S, S) in [0, 1] and what is known of them, -1 for unknown."""

    films: Tensor
    labels: Tensor
    tags: Tensor
    presentation: Tensor
    source: Tensor
    texts: Tensor


class Trainer:
    """Runs a plan over a corpus. `text_vectors` (N, t) are unit vectors of the reports, zero where there is none."""

    def __init__(self, corpus: Corpus, text_vectors: NDArray[np.float32], plan: Plan, folder: Path) -> None:
        self.corpus, self.plan, self.folder = corpus, plan, folder
        self.text_vectors = torch.from_numpy(text_vectors)
        torch.manual_seed(plan.seed)
        architecture = plan.architecture(corpus.tag_names, SOURCES)
        self.network = FilmNetwork(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = FilmNetwork(architecture)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(_groups(self.network, plan.weight_decay), lr=plan.learning_rate)
        self.step = 0
        self._pools = [(corpus.rows(Split.TRAIN, s, p), share) for s, p, share in _SHARES]

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the averaged weights of an earlier run; a checkpoint of this run's own goes before."""
        weights = torch.load(checkpoint, weights_only=True)["averaged"]
        self.network.load_state_dict(weights)
        self.averaged.load_state_dict(weights)

    def run(self) -> None:
        """Train to the end of the plan, going on from the checkpoint in the folder when it is of the same plan."""
        self._resume()
        started = time.monotonic()
        with tqdm(total=self.plan.steps, initial=self.step, desc="training", unit="step", mininterval=5) as bar:
            while self.step < self.plan.steps:
                terms = self._advance(self._batch())
                bar.update()
                if self.step % 20 == 0:
                    self._log(terms, time.monotonic() - started)
                if self.step % 100 == 0 or self.step == self.plan.steps:
                    self._save()

    def _batch(self) -> Batch:
        rng = np.random.default_rng((self.plan.seed, self.step))
        rows = np.concatenate([self._draw(rng, pool, share) for pool, share in self._pools if len(pool)])
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.step)
        films = torch.from_numpy(self.corpus.films[np.sort(rows)]).float().div_(255.0)[:, None]
        rows = np.sort(rows)
        labels, presentation = (
            torch.from_numpy(self.corpus.labels[rows]),
            torch.from_numpy(self.corpus.presentation[rows]),
        )
        tags, texts = torch.from_numpy(self.corpus.tags[rows]), self.text_vectors[rows].clone()
        films, spoilt = _spoil(films, presentation, rng, self.plan)
        films = augment.geometry(films, self.plan.side(self.step), self.plan.strength, generator)
        labels, tags = labels.clone(), tags.clone()
        labels[spoilt], tags[spoilt], texts[spoilt] = UNKNOWN, UNKNOWN, 0.0
        films = augment.occlusion(
            augment.acquisition(films, self.plan.strength, generator), self.plan.strength, generator
        )
        return Batch(films, labels, tags, presentation.long(), torch.from_numpy(self.corpus.source[rows]).long(), texts)

    def _draw(self, rng: np.random.Generator, pool: NDArray[np.int64], share: float) -> NDArray[np.int64]:
        """Films of one pool, those with a positive pathology twice as often as the rest."""
        weight = 1.0 + (self.corpus.labels[pool, 1:] == 1).any(1)
        return rng.choice(pool, size=max(round(share * self.plan.batch), 1), replace=True, p=weight / weight.sum())

    def _advance(self, batch: Batch) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        terms = self._terms(batch)
        total = torch.stack([self.plan.weights[k] * v for k, v in terms.items()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        self._average()
        return {k: float(v.detach()) for k, v in terms.items()} | {"total": float(total.detach())}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        shifted, which = self._shifted(batch)
        films = torch.cat([batch.films, shifted]).sub(0.5).div(0.25).contiguous(memory_format=torch.channels_last)
        reading = self.network(films)
        count = len(batch.films)
        centre, radius = reading.centre[:count], reading.radius[:count]
        points = centre + radius * (2 * torch.rand_like(centre) - 1)
        logits = self.network.logits(points) + self.network.source_offset(batch.source)
        told = batch.texts.abs().sum(1) > 0
        return {
            "findings": losses.masked_bce(logits, batch.labels),
            "tags": losses.masked_bce(self.network.tags(points), batch.tags),
            "presentation": functional.cross_entropy(
                reading.presentation[:count], batch.presentation, ignore_index=UNKNOWN
            ),
            "containment": losses.containment(centre[which], radius[which], reading.centre[count:]),
            "volume": radius.mean(),
            "neighbours": losses.neighbours(centre, batch.labels),
            "captions": losses.captions(
                self.network.film_joint(points[told]), self.network.text_joint(batch.texts[told]), batch.texts[told]
            ),
        }

    def _shifted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Device-shifted copies of some films that are chest films, and which films they are copies of."""
        chest = torch.nonzero((batch.presentation == _FRONTAL) | (batch.presentation == _LATERAL)).flatten()
        which = chest[torch.randperm(len(chest))[: self.plan.shifted]]
        generator = torch.Generator().manual_seed(self.plan.seed * 7_000_003 + self.step)
        return augment.acquisition(batch.films[which], self.plan.strength, generator), which

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)

    def _log(self, terms: dict[str, float], seconds: float) -> None:
        line = {"step": self.step, "side": self.plan.side(self.step - 1), "seconds": round(seconds, 1), **terms}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "plan": self._signature(),
        }
        partial = self.folder / "checkpoint.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        if state["plan"] != self._signature():
            raise ValueError(f"{path.name} belongs to another plan; remove it or use another folder")
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        torch.manual_seed(self.plan.seed + self.step)

    def _signature(self) -> str:
        return json.dumps(
            {"plan": asdict(self.plan), "films": len(self.corpus.films), "tags": self.corpus.tag_names}, sort_keys=True
        )


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels only."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _spoil(films: Tensor, presentation: Tensor, rng: np.random.Generator, plan: Plan) -> tuple[Tensor, Tensor]:
    """Turn or invert a few upright frontal films in place of themselves; their findings then no longer count."""
    spoilt = torch.zeros(len(films), dtype=torch.bool)
    for index, draw in enumerate(rng.random(len(films))):
        if presentation[index] != _FRONTAL or draw > plan.turned_share + plan.inverted_share:
            continue
        spoilt[index] = True
        if draw < plan.turned_share:
            films[index] = torch.rot90(films[index], int(rng.integers(1, 4)), (1, 2))
            presentation[index] = _ROTATED
        else:
            films[index] = 1.0 - films[index]
            presentation[index] = _INVERTED
    return films, spoilt


def text_vectors(
    texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[np.float32]], cache: Path
) -> NDArray[np.float32]:
    """Unit vectors (N, t) of the texts, zero rows for empty ones; kept in `cache` beside the pack."""
    path = cache / "texts.npy"
    if path.is_file() and len(known := np.load(path)) == len(texts):
        return known  # type: ignore[no-any-return]
    told = [i for i, t in enumerate(texts) if t]
    found = encode([texts[i] for i in told])
    vectors = np.zeros((len(texts), found.shape[1]), np.float32)
    vectors[told] = found
    np.save(path, vectors)
    return vectors
