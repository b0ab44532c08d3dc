"""What region queries are asked for: boxes matched to those drawn, weights that say which box counts, regions near their words."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from rag_service import torchvision_ops

L1: Final = 5.0
GIOU: Final = 2.0
"""What a box's distance and overlap count for, as in ChEX."""
SPARE: Final = 0.3
"""What the distance of a region without a box of its own counts for; it follows the nearest."""
GAMMA: Final = 2.0
TEMPERATURE: Final = 0.1


def corners(boxes: Tensor) -> Tensor:
    """Centre and size (..., 4) -> x_min, y_min, x_max, y_max."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def distance(found: Tensor, drawn: Tensor) -> Tensor:
    """5 L1 + 2 (1 - GIoU) of boxes (n, 4) and (n, 4) as centre and size, (n,)."""
    torchvision_ops.declare()
    from torchvision.ops import generalized_box_iou_loss  # type: ignore[import-untyped]

    apart = (found - drawn).abs().sum(-1)
    return L1 * apart + GIOU * generalized_box_iou_loss(corners(found), corners(drawn))  # type: ignore[no-any-return]


def match(cost: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Costs (R, k) of regions and drawn boxes -> for each region a box (R,), and whether it is its own (R,).

    Each box goes to one region (Hungarian, at most R boxes); a region left over follows the box nearest to it.
    """
    region, box = linear_sum_assignment(cost)
    nearest, own = cost.argmin(1), np.zeros(len(cost), np.bool_)
    nearest[region], own[region] = box, True
    return nearest, own


def focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss (n,) of logits (n,) against 0 and 1, both kinds counting the same (Lin et al., ICCV 2017)."""
    loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (1 - torch.exp(-loss)).pow(GAMMA) * loss


def outside(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far values lie below `low` or above `high`; 0 between."""
    return functional.relu(low - values) + functional.relu(values - high)


def named(likeness: Tensor, positives: Tensor) -> Tensor:
    """InfoNCE with several right answers: cosines (n, K) of regions and texts, `positives` (n, K) of 0 and 1, mean over n."""
    scores = functional.log_softmax(likeness / TEMPERATURE, 1)
    return -((scores * positives).sum(1) / positives.sum(1).clamp(min=1)).mean()
