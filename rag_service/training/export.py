"""From a checkpoint to shipped weights: the averaged network in half precision, with a record that carries its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from rag_service.imaging.normalise import PREPROCESSING
from rag_service.models.catalogue import RECORD_FILE, ModelRecord
from rag_service.models.network import Architecture

NAME: Final = "box-latent-resnet"
WEIGHTS_FILE: Final = "film-encoder.safetensors"
TERMS: Final = (
    "Research use only; not a medical device. Trained on Open-i (CC BY-NC-ND 4.0), NIH ChestX-ray14 (free use, attribute the "
    "NIH Clinical Center; RSNA readings research only), ROCOv2 (CC BY-NC-SA), the Cohen COVID collection (per image, mostly NC), "
    "JSRT (research, cite Shiraishi 2000), children's films of Kermany (CC BY 4.0), other radiology pictures (CC BY)."
)


def export(
    checkpoint: Path, architecture: Architecture, version: str, folder: Path, blend: Sequence[Path] = ()
) -> ModelRecord:
    """Write weights and record; matrices as float16, statistics and biases as float32.

    The weights are the mean of the checkpoint's and those of `blend`: legs of one run (Wortsman et al., ICML 2022).
    """
    states = [torch.load(path, weights_only=True)["averaged"] for path in (checkpoint, *blend)]
    state = {k: _mean([s[k] for s in states]) for k in states[0]}
    small = {k: v.half() if v.ndim > 1 and v.is_floating_point() else v for k, v in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS_FILE
    save_file({k: v.contiguous() for k, v in small.items()}, path)
    record = ModelRecord(
        name=NAME,
        version=version,
        file=WEIGHTS_FILE,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        preprocessing=PREPROCESSING,
        terms=TERMS,
        architecture=architecture.to_json(),
    )
    (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")
    return record


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The mean of floating tensors; counters are taken from the first."""
    return torch.stack(list(values)).mean(0) if values[0].is_floating_point() else values[0]
