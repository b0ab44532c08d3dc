"""Trains the segmenter of lungs and heart, and writes what ships: `python -m rag_service.training segmenter --data DIR`.

All outlines come from one scanner and from upright, well inflated chests, so films are changed strongly: moved, squeezed, bent, and
exposed in other ways. Never mirrored.
"""

from __future__ import annotations

import hashlib
import json
import math
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from rag_service import sealed
from rag_service.imaging.normalise import PREPROCESSING
from rag_service.models.network import ANATOMY
from rag_service.models.segmenter import (
    NAME,
    RECORD_FILE,
    WEIGHTS_FILE,
    Segmenter,
    SegmenterNetwork,
    SegmenterRecord,
    SegmenterShape,
    load_segmenter,
)
from rag_service.training import augment
from rag_service.training.corpus import UNKNOWN, Corpus
from rag_service.training.runs import Progress, autocast, average
from rag_service.training.structure_targets import Marked, Targets, box_loss, overlap_loss

CHECKPOINT: Final = "checkpoint.pt"
SETTLING, SETTLED = 24, 24
"""Batches of unchanged films, and films in each, that the final statistics are taken from: those of many scanners."""
TERMS: Final = (
    "Research use only; not a medical device. Trained on JSRT (research, cite Shiraishi 2000; masks van Ginneken 2006), NIH "
    "ChestX-ray14 (free use, attribute the NIH Clinical Center), Open-i (CC BY-NC-ND 4.0) and the Cohen COVID collection (per "
    "image, mostly NC)."
)
STRONG: Final = augment.Strength(
    rotation_degrees=10.0, zoom=0.40, aspect=0.70, shift=0.12, log_gamma=0.6, window=0.25, noise=0.06
)
"""Stronger than for the film network, whose films come from many scanners."""


@dataclass(frozen=True)
class SegmenterPlan:
    """How the segmenter is trained.

    `outlined`, `boxed` and `sketched` films in a batch; `bend` and `shade`: how far places move, and how far the logarithm of
    gamma varies over a film.
    """

    seed: int = 7
    steps: int = 1300
    outlined: int = 9
    boxed: int = 3
    sketched: int = 7
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    average: float = 0.99
    bend: float = 0.05
    shade: float = 0.35
    box_weight: float = 0.2
    sketch_weight: float = 0.3
    strength: augment.Strength = STRONG

    def rate(self, step: int) -> float:
        """Learning rate: up over the first twentieth, then down along a cosine."""
        warm = max(self.steps // 20, 1)
        return self.learning_rate * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / self.steps)))


class SegmenterTrainer:
    """One training run in a folder; goes on from the checkpoint there when it is of the same plan."""

    def __init__(self, corpus: Corpus, films: Marked, plan: SegmenterPlan, shape: SegmenterShape, folder: Path) -> None:
        self.corpus, self.films, self.plan, self.shape, self.folder = corpus, films, plan, shape, folder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            network: Any = SegmenterNetwork(shape)
        self.network: SegmenterNetwork = network.to(memory_format=torch.channels_last)
        self.averaged: SegmenterNetwork = deepcopy(self.network).eval()
        self.optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=plan.weight_decay)
        self.step = 0

    def run(self) -> SegmenterNetwork:
        """Train to the end of the plan; the averaged network, its statistics those of films as they are."""
        self._resume()
        with tqdm(total=self.plan.steps, initial=self.step, desc="training", unit="step", mininterval=5) as bar:
            while self.step < self.plan.steps:
                loss = self._advance()
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if self.step % 50 == 0 or self.step == self.plan.steps:
                    self._save()
        return self._settled()

    def _advance(self) -> float:
        plan, rng = self.plan, np.random.default_rng((self.plan.seed, self.step))
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        films = self.films
        outlined, boxed, sketched = (
            _some(targets, count, rng)
            for targets, count in (
                (films.outlined, plan.outlined),
                (films.boxed, plan.boxed),
                (films.sketched, plan.sketched),
            )
        )
        shown = self._shown(outlined, plan.strength, plan.bend, generator)
        upright = augment.Strength(**{**asdict(plan.strength), "rotation_degrees": 0.0})
        framed = self._shown(boxed, upright, 0.0, generator)
        coarse = self._shown(sketched, plan.strength, plan.bend, generator)
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate(self.step)
        self.network.train()
        batch = torch.cat([shown[0], framed[0], coarse[0]]).contiguous(memory_format=torch.channels_last)
        with autocast(batch.device):
            logits = self.network(batch)
        parts = logits.float().split([len(part[0]) for part in (shown, framed, coarse)])
        loss = overlap_loss(parts[0], shown[1]) + plan.box_weight * box_loss(parts[1], framed[1])
        loss = loss + plan.sketch_weight * overlap_loss(parts[2], coarse[1])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        average(self.averaged, self.network, self.plan.average, self.step)
        return float(loss.detach())

    @torch.no_grad()
    def _settled(self) -> SegmenterNetwork:
        """The averaged network with its running statistics taken anew: in training it saw changed films only, and was misled by
        others.
        """
        network, rng = deepcopy(self.averaged).train(), np.random.default_rng(self.plan.seed)
        usual = self.films.sketched if self.films.sketched.films else self.films.outlined
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
                part.momentum = None  # the plain mean over all batches
        for _ in range(SETTLING):
            network(_input(self._grey(_some(usual, SETTLED, rng).rows)))
        return network.eval()

    def _grey(self, rows: NDArray[np.int64]) -> Tensor:
        """Films (n, 1, S, S) in [0, 1]."""
        films = torch.from_numpy(np.ascontiguousarray(self.corpus.films[rows])).float().div_(255.0)[:, None]
        return functional.interpolate(films, size=self.shape.side, mode="bilinear", antialias=True)

    def _shown(
        self, targets: Targets, strength: augment.Strength, bend: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Changed films (n, 1, S, S) as input, and what lies where on them (n, 3, S/2, S/2), negative where unknown."""
        if not targets.films:
            half = self.shape.side // 2
            return torch.zeros(0, 1, 2 * half, 2 * half), torch.zeros(0, len(ANATOMY), half, half)
        grid = _grid(targets.films, self.shape.side, strength, bend, generator)
        films = functional.grid_sample(self._grey(targets.rows), grid, mode="bilinear", align_corners=False)
        films = augment.acquisition(_shaded(films, self.plan.shade, generator), strength, generator)
        films = augment.occlusion(films, strength, generator)
        maps = torch.from_numpy(targets.maps).float()
        unknown = functional.grid_sample((maps < 0).float(), grid, mode="bilinear", align_corners=False)
        maps = functional.grid_sample(maps.clamp(min=0), grid, mode="bilinear", align_corners=False)
        small = functional.avg_pool2d(maps, 2)
        return _input(films), small.masked_fill(functional.max_pool2d(unknown, 2) > 0, UNKNOWN)

    def _save(self) -> None:
        self._progress().save(self.folder / CHECKPOINT, self.step, self._signature())

    def _resume(self) -> None:
        step = self._progress().resume(self.folder / CHECKPOINT, self._signature())
        if step is not None:
            self.step = step

    def _progress(self) -> Progress:
        return Progress(self.network, self.averaged, self.optimiser)

    def _signature(self) -> str:
        parts = {"plan": asdict(self.plan), "shape": asdict(self.shape), "sample": self.films.sample}
        return json.dumps(parts, sort_keys=True)


def _some(targets: Targets, count: int, rng: np.random.Generator) -> Targets:
    if not targets.films:
        return targets
    chosen = rng.choice(targets.films, count)
    return Targets(targets.rows[chosen], targets.maps[chosen])


def _input(films: Tensor) -> Tensor:
    return films.sub(0.5).div(0.25)


def _grid(count: int, side: int, strength: augment.Strength, bend: float, generator: torch.Generator) -> Tensor:
    """Where each place of the changed films is taken from, (count, S, S, 2): moved, and bent smoothly so that hearts and lungs
    change their proportions."""
    theta = augment.geometry(count, strength, generator)
    grid = functional.affine_grid(theta, [count, 1, side, side], align_corners=False)
    bends = bend * torch.randn(count, 2, 5, 5, generator=generator)
    return grid + functional.interpolate(bends, size=side, mode="bicubic").permute(0, 2, 3, 1)


def _shaded(films: Tensor, shade: float, generator: torch.Generator) -> Tensor:
    """Films with a gamma that varies smoothly from place to place, as exposure, fat and disease make it."""
    field = shade * torch.randn(len(films), 1, 4, 4, generator=generator)
    return films.clamp(0, 1).pow(functional.interpolate(field, size=films.shape[-1], mode="bicubic").exp())


def save_segmenter(network: SegmenterNetwork, sample: str, version: str, folder: Path) -> Segmenter:
    """Write weights (matrices as float16) and the sealed record that carries their digest; the segmenter as it is read back."""
    path = folder / WEIGHTS_FILE
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.ndim > 1 else v for k, v in network.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    record = SegmenterRecord(
        name=NAME,
        version=version,
        weights=hashlib.sha256(path.read_bytes()).hexdigest(),
        preprocessing=PREPROCESSING,
        sample=sample,
        terms=TERMS,
        architecture=asdict(network.shape),
    )
    sealed.write(folder / RECORD_FILE, asdict(record))
    found = load_segmenter(folder)
    assert found is not None  # noqa: S101  (its record was just written)
    return found
