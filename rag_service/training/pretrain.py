"""Image-only pretraining: the trunk learns to fill in hidden patches of films, from the films of every source's training split.

Masked autoencoding at our size (He et al., CVPR 2022; for convolutions Tian et al., ICLR 2023): 60 % of the 16-pixel patches are
painted out, and a small decoder draws each hidden patch, its own grey levels standardised, from the trunk's maps of
stride 16 and 32. Nothing is mirrored: the heart stays on its side.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from rag_service.datasets.films import Split
from rag_service.models.network import Architecture, FilmNetwork
from rag_service.training import augment
from rag_service.training.corpus import SOURCES, Corpus
from rag_service.training.runs import autocast, load_checkpoint, save_checkpoint

PATCH: Final = 16
CHECKPOINT: Final = "pretrained.pt"


@dataclass(frozen=True)
class PretrainPlan:
    """How long and how hard to pretrain; `side` in pixels, a multiple of 32."""

    steps: int = 450
    batch: int = 128
    side: int = 96
    hidden: float = 0.6
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 7
    strength: augment.Strength = field(default_factory=augment.Strength)

    def rate(self, step: int) -> float:
        """Learning rate: 5 % of the steps of warm-up, then a cosine to nothing."""
        warm = max(0.05 * self.steps, 1)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(self.steps - warm, 1)))


class PatchDecoder(nn.Module):
    """Maps of stride 16 (B, C, h, w) and 32 -> the pixels of every patch (B, 256, h, w)."""

    def __init__(self, early: int, late: int, width: int = 128) -> None:
        super().__init__()
        self.from_early, self.from_late = nn.Conv2d(early, width, 1), nn.Conv2d(late, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, PATCH * PATCH, 1)

    def forward(self, early: Tensor, late: Tensor) -> Tensor:
        """See the class."""
        coarse = functional.interpolate(self.from_late(late), size=early.shape[-2:], mode="bilinear")
        joined = functional.gelu(self.from_early(early) + coarse)
        return self.out(functional.gelu(self.mix(joined))).float()  # type: ignore[no-any-return]


def hide(films: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Films (B, 1, S, S) with a share of their patches at zero, and which: (B, S/16, S/16) bool, the same number on each."""
    count, cells = len(films), films.shape[-1] // PATCH
    order = torch.rand(count, cells * cells, generator=generator).argsort(1).argsort(1)
    hidden = (order < round(share * cells * cells)).view(count, cells, cells)
    spread = hidden.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)[:, None]
    return films.masked_fill(spread.to(films.device), 0.0), hidden.to(films.device)


def patch_loss(drawn: Tensor, films: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over hidden patches; each true patch standardised, with a floor for flat ones."""
    truth = functional.unfold(films, PATCH, stride=PATCH).view_as(drawn)
    mean, deviation = truth.mean(1, keepdim=True), truth.std(1, keepdim=True)
    error = (drawn - (truth - mean) / (deviation + 0.02)).pow(2).mean(1)
    return error[hidden].mean()


class Pretrainer:
    """Runs a plan over the training films of a corpus; goes on from the checkpoint in the folder."""

    def __init__(self, corpus: Corpus, plan: PretrainPlan, architecture: Architecture, folder: Path) -> None:
        self.corpus, self.plan, self.folder = corpus, plan, folder
        torch.manual_seed(plan.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = FilmNetwork(architecture).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        early, late = (int(i["num_chs"]) for i in self.network.trunk.feature_info[-2:])
        self.decoder = PatchDecoder(early, late).to(self.device)
        parameters = [*self.network.trunk.parameters(), *self.decoder.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self.rows = np.concatenate([corpus.rows(Split.TRAIN, s) for s in SOURCES if s != "not_chest"])
        self.step = 0

    def run(self) -> None:
        """Pretrain to the end of the plan."""
        self._resume()
        started = time.monotonic()
        with tqdm(total=self.plan.steps, initial=self.step, desc="pretraining", unit="step", mininterval=5) as bar:
            while self.step < self.plan.steps:
                loss = self._advance()
                bar.update()
                if self.step % 10 == 0:
                    self._log(loss, time.monotonic() - started)
                if self.step % 100 == 0 or self.step == self.plan.steps:
                    save_checkpoint(self.folder / CHECKPOINT, self._state(), self._signature())

    def _advance(self) -> float:
        films, generator = self._films()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        seen, hidden = hide(films, self.plan.hidden, generator)
        with autocast(self.device):
            drawn = self.decoder(*self.network.stages(seen.contiguous(memory_format=torch.channels_last)))
        loss = patch_loss(drawn, films, hidden)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.trunk.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def _films(self) -> tuple[Tensor, torch.Generator]:
        rng = np.random.default_rng((self.plan.seed, self.step))
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.step)
        rows = np.sort(rng.choice(self.rows, self.plan.batch))
        films = torch.from_numpy(self.corpus.films[rows]).float().div_(255.0)[:, None]
        theta = augment.geometry(len(films), self.plan.strength, generator)
        films = augment.acquisition(augment.resample(films, theta, self.plan.side), self.plan.strength, generator)
        return films.sub(0.5).div(0.25).to(self.device), generator

    def _log(self, loss: float, seconds: float) -> None:
        with (self.folder / "pretrain.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.step, "seconds": round(seconds, 1), "loss": round(loss, 5)}) + "\n")

    def _state(self) -> dict[str, object]:
        return {
            "trunk": self.network.trunk.state_dict(),
            "decoder": self.decoder.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def _resume(self) -> None:
        state = load_checkpoint(self.folder / CHECKPOINT, self._signature())
        if state is not None:
            self.network.trunk.load_state_dict(state["trunk"])
            self.decoder.load_state_dict(state["decoder"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = int(state["step"])

    def _signature(self) -> str:
        return json.dumps({"plan": asdict(self.plan), "films": len(self.rows)}, sort_keys=True)
