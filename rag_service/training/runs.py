"""What every training run shares: checkpoints that belong to one plan, and half precision where the machine has it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch


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
