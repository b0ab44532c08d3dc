"""Where findings lie, as the network's place maps have it: trained on radiologists' boxes, and on labels where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from knowledge_base.findings import FINDINGS
from rag_service.explain.saliency import MAP_SIDE


def place_maps(places: NDArray[np.float32], findings: Sequence[str]) -> NDArray[np.float32]:
    """float32 (len(findings), 64, 64) in [0, 1] from a reading's `places` (17, h, w)."""
    chosen = torch.from_numpy(places[[FINDINGS.index(f) for f in findings]])
    if not len(chosen):
        return np.zeros((0, MAP_SIDE, MAP_SIDE), np.float32)
    resized = functional.interpolate(chosen[:, None], size=MAP_SIDE, mode="bilinear")[:, 0]
    return np.asarray(resized.clamp(0, 1).numpy(), np.float32)
