"""Where in a frontal film each finding can lie: soft masks of lungs, heart and mediastinum in fractions of the film.

The shapes are ellipses: their places follow the mean lung and heart masks of JSRT (Shiraishi 2000) and the mean reader
boxes of NIH ChestX-ray14, widened for the spread of patients and collimation. They weigh a saliency map, they do not
replace it. The patient's right lung is on the viewer's left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import Laterality
from rag_service.explain.saliency import MAP_SIDE

FLOOR: Final = 0.05
"""What is left of a map far outside the region."""
_SOFTNESS: Final = 0.18


@dataclass(frozen=True)
class Ellipse:
    """Centre and half-axes in fractions of the film."""

    x: float
    y: float
    half_width: float
    half_height: float

    def mask(self) -> NDArray[np.float32]:
        """(64, 64) in [0, 1]: 1 inside, falling softly to 0 outside."""
        cells = (np.arange(MAP_SIDE) + 0.5) / MAP_SIDE
        across, down = np.meshgrid(cells, cells)
        distance = np.hypot((across - self.x) / self.half_width, (down - self.y) / self.half_height)
        return np.clip(1.0 - (distance - 1.0) / _SOFTNESS, 0.0, 1.0).astype(np.float32)


RIGHT_LUNG: Final = Ellipse(0.28, 0.45, 0.19, 0.37)
LEFT_LUNG: Final = Ellipse(0.72, 0.45, 0.19, 0.37)
HEART: Final = Ellipse(0.57, 0.59, 0.24, 0.19)
MEDIASTINUM: Final = Ellipse(0.50, 0.40, 0.14, 0.32)
RIGHT_BASE: Final = Ellipse(0.26, 0.70, 0.19, 0.22)
LEFT_BASE: Final = Ellipse(0.74, 0.70, 0.19, 0.22)
WHOLE: Final = Ellipse(0.50, 0.50, 0.70, 0.70)

_LUNGS: Final = (RIGHT_LUNG, LEFT_LUNG)
REGIONS: Final[Mapping[str, tuple[Ellipse, ...]]] = {
    "Enlarged Cardiomediastinum": (MEDIASTINUM, HEART),
    "Cardiomegaly": (HEART,),
    "Lung Opacity": _LUNGS,
    "Lung Lesion": _LUNGS,
    "Edema": (*_LUNGS, MEDIASTINUM),
    "Consolidation": _LUNGS,
    "Pneumonia": _LUNGS,
    "Atelectasis": _LUNGS,
    "Pneumothorax": _LUNGS,
    "Pleural Effusion": (RIGHT_BASE, LEFT_BASE),
    "Pleural Other": _LUNGS,
    "Fracture": (WHOLE,),
    "Support Devices": (WHOLE,),
}
"""Finding -> where it can lie. "No Finding" has no place and is absent."""
SIDED: Final = frozenset(
    {
        "Lung Opacity",
        "Lung Lesion",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
    }
)
"""Findings whose side is worth stating."""


@cache
def prior(finding: str) -> NDArray[np.float32]:
    """(64, 64): the region of a finding as weights between FLOOR and 1. KeyError for one that has no place."""
    mask = np.maximum.reduce([e.mask() for e in REGIONS[finding]])
    return np.asarray(np.maximum(mask, FLOOR), np.float32)


def side(x_min: float, x_max: float) -> Laterality:
    """The patient's side of a box: the viewer's left is the patient's right; bilateral when it straddles the middle."""
    if x_max <= 0.55:
        return Laterality.RIGHT
    return Laterality.LEFT if x_min >= 0.45 else Laterality.BILATERAL
