"""Which drawn box each region of a batch is to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rag_service.training import region_losses
from rag_service.training.region_bank import Placed


@dataclass(frozen=True, eq=False)
class Aims:
    """Of a batch, film, query and boxes where there are boxes; films and queries that are known to have none."""

    placed: Sequence[tuple[int, int, Placed]]
    empty: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Matched:
    """n regions, each with the box (n, 4) that it is to be, whether that box is its own, and what it counts for."""

    film: Tensor
    query: Tensor
    region: Tensor
    boxes: Tensor
    own: Tensor
    weight: Tensor


def matched(found: Tensor, aims: Aims) -> Matched:
    """Boxes found (B, Q, R, 4) against those aimed at: every region of a query that has boxes gets one."""
    parts = []
    for (film, query, placed), cost in zip(aims.placed, _costs(found, aims), strict=True):
        box, own = region_losses.match(cost)
        share = np.where(own, 1.0, region_losses.SPARE) * placed.weight
        parts.append((film, query, placed.boxes[box], own, share))
    count = found.shape[2]
    return Matched(
        film=torch.tensor([p[0] for p in parts], dtype=torch.long).repeat_interleave(count),
        query=torch.tensor([p[1] for p in parts], dtype=torch.long).repeat_interleave(count),
        region=torch.arange(count).repeat(len(parts)),
        boxes=torch.from_numpy(np.concatenate([p[2] for p in parts] or [np.zeros((0, 4), np.float32)])),
        own=torch.from_numpy(np.concatenate([p[3] for p in parts] or [np.zeros(0, np.bool_)])),
        weight=torch.from_numpy(np.concatenate([p[4] for p in parts] or [np.zeros(0)]).astype(np.float32)),
    )


def _costs(found: Tensor, aims: Aims) -> Iterator[NDArray[np.float32]]:
    """For each query that has k boxes, the distances (R, k) of its regions from them; all of a batch are computed at once."""
    count, sizes = found.shape[2], [len(p.boxes) for _, _, p in aims.placed]
    regions = [
        found[film, query].repeat_interleave(k, 0) for (film, query, _), k in zip(aims.placed, sizes, strict=True)
    ]
    boxes = [np.tile(p.boxes, (count, 1)) for _, _, p in aims.placed]
    if not regions:
        return
    apart = region_losses.distance(torch.cat(regions), torch.from_numpy(np.concatenate(boxes))).numpy()
    for part in np.split(apart, np.cumsum([count * k for k in sizes])[:-1]):
        yield part.reshape(count, -1)
