"""The cardiothoracic ratio: how wide the heart is against the thorax, and whether what is said of its size can be right.

Danzer, American Journal of the Medical Sciences 1919;157:513-521: the heart's farthest reach to the right and to the left, over the
widest inner width of the thorax. All three run across the film, so its aspect and the size of its pixels cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from knowledge_base.findings import Polarity
from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.models.network import ANATOMY
from rag_service.models.structures import Masks, StructureMasks
from rag_service.report.measurements import Measurement, Segment

NAME: Final = "cardiothoracic_ratio"
FINDING: Final = "Cardiomegaly"
FILE: Final = "cardiothoracic.json"
LEAST_AREA: Final = 0.02
"""Fraction of the film that each lung and the heart cover at least."""
LEAST_EVEN: Final = 0.5
"""Height of the shorter lung over the taller: below, one of them is not seen whole."""
PLAUSIBLE: Final = (0.25, 0.90)
"""Ratios that a heart can have."""
PROJECTED: Final = 0.5
"""Probability of an AP projection from which a wide heart may be the projection's doing."""
NOT_SEEN, NOT_WHOLE, OUT_OF_ORDER, IMPLAUSIBLE = (
    "structure_not_seen",
    "lung_not_whole",
    "structures_out_of_order",
    "implausible_ratio",
)
_RIGHT, _LEFT, _HEART = ANATOMY


@dataclass(frozen=True)
class RatioLimits:
    """Below `normal_below` a heart is clearly not enlarged, from `enlarged_from` on it clearly is. Chosen on calibration films
    (`sample`) as the segmenter `segmenter` outlines them; ValueError when they are not in order.
    """

    segmenter: str
    normal_below: float
    enlarged_from: float
    sample: str

    def __post_init__(self) -> None:
        if not 0.0 < self.normal_below <= self.enlarged_from < 1.0:
            raise ValueError(f"limits of a ratio lie in order between 0 and 1, got {self}")

    @property
    def digest(self) -> str:
        """SHA-256 of both limits."""
        return digest([self.segmenter, self.normal_below, self.enlarged_from])

    def save(self, folder: Path) -> None:
        """Write `cardiothoracic.json`."""
        content = {
            "segmenter": self.segmenter,
            "normal_below": self.normal_below,
            "enlarged_from": self.enlarged_from,
            "sample": self.sample,
        }
        sealed.write(folder / FILE, content)


def load_limits(folder: Path, segmenter: str) -> RatioLimits | None:
    """The limits for a segmenter in `folder`; None when the folder has none. BadWeights when altered or for another segmenter."""
    if not (folder / FILE).is_file():
        return None
    try:
        found = RatioLimits(**sealed.read(folder / FILE))
    except (TypeError, ValueError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder") from error
    if found.segmenter != segmenter:
        raise BadWeights(f"{FILE} belongs to {found.segmenter}, the segmenter is {segmenter}")
    return found


def cardiothoracic_ratio(structures: StructureMasks) -> Measurement:
    """The ratio with the heart's and the thorax's lines; None with a reason where the masks cannot be right."""
    if (reason := _refused(structures)) is not None:
        return Measurement(NAME, None, "ratio", reason=reason)
    heart = _reach(structures.mask(_HEART))
    thorax = _widest(structures.mask(_RIGHT), structures.mask(_LEFT))
    ratio = (heart.x_max - heart.x_min) / (thorax.x_max - thorax.x_min)
    if not PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1]:
        return Measurement(NAME, None, "ratio", reason=IMPLAUSIBLE)
    return Measurement(NAME, ratio, "ratio", (heart, thorax))


def contradicts(ratio: Measurement, polarity: Polarity | None, limits: RatioLimits, ap: float | None = None) -> bool:
    """Whether "the heart is enlarged" (or is not) cannot stand beside the measured ratio; False where none was measured.

    `ap` is the probability of an AP projection, which widens the heart: from PROJECTED on, a wide heart denies nothing.
    """
    if ratio.value is None:
        return False
    if polarity is Polarity.POSITIVE:
        return ratio.value < limits.normal_below
    projected = ap is not None and ap >= PROJECTED
    return polarity is Polarity.NEGATIVE and ratio.value >= limits.enlarged_from and not projected


def _refused(structures: StructureMasks) -> str | None:
    """Why no ratio may be taken from these masks; None when it may."""
    right, left, heart = (structures.hull(s) for s in ANATOMY)
    if right is None or left is None or heart is None or min(map(structures.area, ANATOMY)) < LEAST_AREA:
        return NOT_SEEN
    heights = sorted((right.y_max - right.y_min, left.y_max - left.y_min))
    apart = max(right.y_min, left.y_min) >= min(right.y_max, left.y_max)
    if apart or heights[0] < LEAST_EVEN * heights[1]:
        return NOT_WHOLE
    middles = [float(np.nonzero(structures.mask(s))[1].mean()) for s in (_RIGHT, _HEART, _LEFT)]
    return None if middles == sorted(middles) else OUT_OF_ORDER


def _reach(heart: Masks) -> Segment:
    """From the heart's farthest column on the right to that on the left, at the height of its middle row."""
    rows, columns = np.flatnonzero(heart.any(1)), np.flatnonzero(heart.any(0))
    side = len(heart)
    return Segment("heart", int(columns[0]) / side, int(columns[-1] + 1) / side, float(rows.mean() + 0.5) / side)


def _widest(right: Masks, left: Masks) -> Segment:
    """The row where the outer edges of both lungs lie farthest apart, of those that both lungs reach."""
    side = len(right)
    shared = np.flatnonzero(right.any(1) & left.any(1))
    starts = right[shared].argmax(1)
    ends = side - left[shared][:, ::-1].argmax(1)
    at = int((ends - starts).argmax())
    return Segment("thorax", int(starts[at]) / side, int(ends[at]) / side, float(shared[at] + 0.5) / side)
