"""What every training run shares: checkpoints that belong to one plan, and half precision where the machine has it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


def save_checkpoint(path: Path, state: dict[str, object], signature: str) -> None:
    """Write a state in one step: a run that is killed leaves the old checkpoint or the new one."""
    partial = path.with_suffix(".partial")
    torch.save(state | {"plan": signature}, partial)
    partial.replace(path)


def load_checkpoint(path: Path, signature: str | None = None) -> dict[str, Any] | None:
    """The state in `path`, None when there is none. ValueError when it was written by a run with another signature."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    if signature is not None and state["plan"] != signature:
        raise ValueError(f"{path.name} belongs to another plan; remove it or use another folder")
    return state


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 for convolutions and products, on a GPU and on processors alike; sums and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16)


@torch.no_grad()
def average(mean: nn.Module, now: nn.Module, kept: float, step: int) -> None:
    """Move the averaged weights towards those of `now`; `kept` stays of them, less of it in the first steps."""
    keep = min(kept, (1 + step) / (10 + step))
    for old, new in zip(mean.state_dict().values(), now.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


@dataclass(frozen=True, eq=False)
class Progress:
    """What a run goes on from: its network, the averaged one, the optimiser, and how many steps were taken."""

    network: nn.Module
    averaged: nn.Module
    optimiser: torch.optim.Optimizer

    def save(self, path: Path, step: int, signature: str) -> None:
        """As `save_checkpoint`."""
        parts = {name: getattr(self, name).state_dict() for name in ("network", "averaged", "optimiser")}
        save_checkpoint(path, {**parts, "step": step}, signature)

    def resume(self, path: Path, signature: str) -> int | None:
        """Take up the state in `path`: the steps taken, None when there is none. ValueError as `load_checkpoint`."""
        state = load_checkpoint(path, signature)
        if state is None:
            return None
        for name in ("network", "averaged", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        return int(state["step"])
