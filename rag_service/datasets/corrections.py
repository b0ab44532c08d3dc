"""Films whose source says one presentation and whose picture shows another: each was looked at.

They came to light as the films listed as frontal that the presentation head was surest were not. Left as listed, they teach
the head that laterals are frontal, and they alone set the gate's thresholds, which one frontal in a hundred may pass.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

_LATERALS = (
    "CXR2836_IM-1252-2001", "CXR2359_IM-0923-2001", "CXR1553_IM-0360-2001", "CXR1883_IM-0572-2001", "CXR1745_IM-0489-1001",
    "CXR782_IM-2324-2001", "CXR562_IM-2163-2001", "CXR3076_IM-1437-1001", "CXR3001_IM-1387-2001", "CXR346_IM-1680-2001",
    "CXR538_IM-2144-1001", "CXR921_IM-2423-2001", "CXR2261_IM-0852-2001", "CXR3500_IM-1706-2001", "CXR2807_IM-1237-2001",
    "CXR2014_IM-0664-2001", "CXR3819_IM-1926-2001", "CXR3004_IM-1388-2001", "CXR3854_IM-1950-2001",
    "CXR2484_IM-1012-2001",
)  # fmt: skip
_TURNED = ("CXR2280_IM-0867-1001-0003", "CXR1339_IM-0218-1001")
_NEGATIVES = ("00017625_000",)

PRESENTATIONS: Final = MappingProxyType(
    dict.fromkeys(_LATERALS, "lateral") | dict.fromkeys(_TURNED, "rotated") | dict.fromkeys(_NEGATIVES, "inverted")
)
"""Name of the film's file without its ending -> what it shows."""


def presentation(path: Path, listed: str | None) -> str | None:
    """What a film shows, where that was looked at; what its source lists, everywhere else."""
    return PRESENTATIONS.get(path.stem, listed)
