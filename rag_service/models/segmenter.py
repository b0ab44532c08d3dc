"""Our own small segmenter of right lung, left lung and heart: a U-shaped network that reads the film as the film network does.

Shapes: B films, S pixels a side; the network answers at half of S. The structures overlap (the heart lies over both lungs), so each
has a chance of its own. Ronneberger et al., MICCAI 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.imaging.film import Film
from rag_service.imaging.normalise import PREPROCESSING, to_stored
from rag_service.models.encoder import to_input
from rag_service.models.network import ANATOMY
from rag_service.models.structures import StructureMasks

NAME: Final = "thorax-unet"
RECORD_FILE: Final = "segmenter.json"
WEIGHTS_FILE: Final = "segmenter.safetensors"


@dataclass(frozen=True)
class SegmenterShape:
    """Everything needed to rebuild the network: input pixels a side, and channels at strides 2, 4, 8 and 16."""

    side: int = 160
    widths: tuple[int, ...] = (16, 32, 64, 96)


class Block(nn.Module):
    """Two convolutions and a way round them, (B, in, h, w) -> (B, out, h, w)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm_first, self.norm_second = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.around = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        inner = functional.relu(self.norm_first(self.first(maps)))
        return functional.relu(self.norm_second(self.second(inner)) + self.around(maps))


class SegmenterNetwork(nn.Module):
    """Film (B, 1, S, S), normalised by `encoder.to_input` -> logits (B, 3, S/2, S/2) in the order of ANATOMY."""

    def __init__(self, shape: SegmenterShape) -> None:
        super().__init__()
        self.shape = shape
        widths = shape.widths
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.down = nn.ModuleList([Block(a, b) for a, b in pairwise((widths[0], *widths))])
        upwards = tuple(reversed(widths))
        self.narrow = nn.ModuleList([nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(upwards)])
        self.up = nn.ModuleList([Block(b, b) for b in upwards[1:]])
        self.out = nn.Conv2d(widths[0], len(ANATOMY), 1)

    def forward(self, films: Tensor) -> Tensor:
        """See the class."""
        maps, kept = self.stem(films), []
        for level, block in enumerate(self.down):
            maps = block(functional.max_pool2d(maps, 2) if level else maps)
            kept.append(maps)
        for narrow, block, beside in zip(self.narrow, self.up, reversed(kept[:-1]), strict=True):
            wide = functional.interpolate(narrow(maps), size=beside.shape[-2:], mode="bilinear")
            maps = block(wide + beside)
        return self.out(maps).float()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SegmenterRecord:
    """A segmenter by name and version: its weights' SHA-256, what it was trained on, the terms it comes under."""

    name: str
    version: str
    weights: str
    preprocessing: str
    sample: str
    terms: str
    architecture: Mapping[str, Any]

    @property
    def id(self) -> str:
        """name@version-digest."""
        return f"{self.name}@{self.version}-{self.weights[:8]}"


class Segmenter:
    """A loaded segmenter with its record. It needs no film model and belongs to none."""

    def __init__(self, record: SegmenterRecord, network: SegmenterNetwork) -> None:
        self.record, self._network = record, network.eval()

    def read(self, film: Film) -> StructureMasks:
        """The structures of one decoded film."""
        return self.read_stored(to_stored(film.pixels)[None])[0]

    def read_stored(self, stored: NDArray[np.uint8]) -> list[StructureMasks]:
        """The structures of films (B, 256, 256) that were squeezed and stretched before, at S pixels a side."""
        side = self._network.shape.side
        with torch.inference_mode():
            logits = self._network(to_input(stored, side))
            chances = torch.sigmoid(functional.interpolate(logits, size=side, mode="bilinear"))
        return [StructureMasks(c) for c in chances.numpy()]


def load_segmenter(folder: Path) -> Segmenter | None:
    """The segmenter in `folder`; None when the folder has none. BadWeights when either file is altered or they do not fit."""
    if not (folder / RECORD_FILE).is_file():
        return None
    try:
        record = SegmenterRecord(**sealed.read(folder / RECORD_FILE))
    except TypeError as error:
        raise BadWeights(f"{RECORD_FILE} is malformed in the model folder") from error
    if record.preprocessing != PREPROCESSING:
        raise BadWeights(f"{record.id} expects preprocessing {record.preprocessing}, this version does {PREPROCESSING}")
    return Segmenter(record, _network(record, sealed.weights(folder / WEIGHTS_FILE, record.weights)))


def _network(record: SegmenterRecord, content: bytes) -> SegmenterNetwork:
    try:
        shape = SegmenterShape(record.architecture["side"], tuple(record.architecture["widths"]))
        network = SegmenterNetwork(shape)
        network.load_state_dict({k: v.float() for k, v in load(content).items()})
    except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise BadWeights(f"{WEIGHTS_FILE} does not fit {RECORD_FILE}") from error
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise BadWeights(f"{WEIGHTS_FILE} holds numbers that are not finite")
    return network
