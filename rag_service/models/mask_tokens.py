"""What a writer sees of each structure: a token of the frozen film network's features inside its mask, and where the mask lies.

MAIRA-Seg (Sharma et al., ML4H 2024, arXiv 2411.11362), whose extractor follows Osprey (Yuan et al., CVPR 2024): per mask, the
features of every level averaged over it, and the mask itself made small and laid out flat. The linear maps that bring both to
a model's own width belong to the model that reads them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rag_service.models.encoder import FilmReading
from rag_service.models.structures import StructureMasks

SPATIAL_SIDE: Final = 8
"""Cells a side of the small mask."""
_LEAST: Final = 1e-6

Floats = NDArray[np.float32]


def mask_tokens(reading: FilmReading, structures: StructureMasks) -> Floats:
    """(3, L + 64), float32, structures in the order of ANATOMY; a structure that is not seen has a row of zeros.

    L is the width of the reading's levels, of which each is averaged over the mask: `maps`, and where the model has them
    `local` and `places`. The last 64 are the share of the mask in each of 8 x 8 cells, row by row.
    """
    masks = torch.from_numpy(structures.masks).float()[None]
    levels = [reading.maps.float(), *(torch.from_numpy(m) for m in (reading.local, reading.places) if m is not None)]
    pooled = [_inside(level, masks) for level in levels]
    spatial = functional.adaptive_avg_pool2d(masks, SPATIAL_SIDE)[0].flatten(1)
    return np.asarray(torch.cat([*pooled, spatial], 1).numpy(), np.float32)


def _inside(level: Tensor, masks: Tensor) -> Tensor:
    """Mean (3, C) of maps (C, h, w) over masks (1, 3, S, S), each cell weighed by its share that lies in the mask."""
    shares = functional.adaptive_avg_pool2d(masks, (level.shape[1], level.shape[2]))[0].flatten(1)
    return (shares @ level.flatten(1).T) / shares.sum(1, keepdim=True).clamp(min=_LEAST)
