"""Films as region queries are trained on them: what the frozen network makes of each, once, and what each is to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rag_service.models.network import ANATOMY
from rag_service.models.region_network import FilmMaps
from rag_service.training.region_prompts import concepts
from rag_service.training.region_targets import FilmTargets, Hull, hull_of, join, structure_boxes

Floats = NDArray[np.float32]

CONCEPTS: Final = concepts()
HINT: Final = 0.2
"""What a rectangle that follows from the network's own maps counts for, against one that somebody drew."""
FINE: Final = 64
"""Places across to which a map is resampled before its outline is taken."""
USUAL: Final[Hull] = (0.1, 0.1, 0.9, 0.8)
"""The lungs of a film on which the network sees none."""
_EDGE: Final = 0.02


@dataclass(frozen=True, eq=False)
class Placed:
    """Boxes (k, 4) of concept `concept` on a film, and what they count for."""

    concept: int
    boxes: NDArray[np.float32]
    weight: float


@dataclass(frozen=True, eq=False)
class Shown:
    """What one film is to answer: `presence` (C,) 1, 0 or -1 by concept, `placed` boxes, and the hull of its lungs."""

    presence: NDArray[np.int8]
    placed: tuple[Placed, ...]
    lungs: Hull


@dataclass(frozen=True, eq=False)
class Bank:
    """M films as float16 arrays of what `FilmMaps` holds, and what each is to answer."""

    early: NDArray[np.float16]
    late: NDArray[np.float16]
    places: NDArray[np.float16]
    pooled: NDArray[np.float16]
    shown: Sequence[Shown]

    def maps(self, rows: NDArray[np.int64]) -> FilmMaps:
        """Those of some films."""
        parts = (self.early, self.late, self.places, self.pooled)
        return FilmMaps(*(torch.from_numpy(np.asarray(part[rows], np.float32)) for part in parts))


@dataclass(frozen=True, eq=False)
class Words:
    """Text vectors (n, T), and which of them ask for each concept and which deny it."""

    vectors: Tensor
    asking: Sequence[Sequence[int]]
    denying: Sequence[Sequence[int]]


def outlined(places: Floats) -> dict[str, Hull]:
    """Hulls of right lung, left lung and heart as the film network sees them, from place logits (17, h, w)."""
    maps = torch.from_numpy(np.asarray(places[-len(ANATOMY) :], np.float32))
    fine = torch.nn.functional.interpolate(maps[None], size=FINE, mode="bilinear")[0]
    hulls = {name: hull_of(m.numpy() > 0) for name, m in zip(ANATOMY, fine, strict=True)}
    return {name: hull for name, hull in hulls.items() if hull is not None}


def lungs_of(hulls: Mapping[str, Hull]) -> Hull:
    """The hull of both lungs, of those that are seen."""
    seen = [h for name, h in hulls.items() if name.endswith("lung")]
    return join(*seen) if seen else USUAL


def moved(boxes: Floats, theta: Floats) -> Floats:
    """Boxes (k, 4) as centre and size, where `augment.resample` with `theta` (2, 3) takes them; those that leave the film are lost.

    Sizes follow the zoom alone: the turn is small.
    """
    centre = (boxes[:, :2] * 2 - 1 - theta[:, 2]) @ np.linalg.inv(theta[:, :2]).T
    middle = (centre + 1) / 2
    half = boxes[:, 2:] / np.abs(theta[[0, 1], [0, 1]]) / 2
    low, high = np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
    found = np.concatenate([(low + high) / 2, high - low], 1).astype(np.float32)
    return np.asarray(found[(found[:, 2:] > _EDGE).all(1)])


def shown(targets: FilmTargets, places: Floats, theta: Floats | None = None) -> Shown:
    """What a film is to answer, from its targets and the place logits (17, h, w) of this copy of it."""
    hulls = outlined(places)
    presence = np.array([targets.presence(c) for c in CONCEPTS], np.int8)
    hinted = structure_boxes(hulls.get("right lung"), hulls.get("left lung"), hulls.get("heart"))
    placed = []
    for index, concept in enumerate(CONCEPTS):
        boxes = targets.boxes(concept)
        weight = 1.0
        if boxes is None and concept in hinted:
            boxes, weight = hinted[concept], HINT
        elif boxes is not None and theta is not None:
            boxes = moved(boxes, theta)
        if boxes is not None and len(boxes):
            placed.append(Placed(index, boxes, weight))
    return Shown(presence, tuple(placed), lungs_of(hulls))
