"""Where on a chest film a region lies: six thirds of lung and the mediastinum, by the patient's own sides."""

from __future__ import annotations

from typing import Final

ZONES: Final = (
    "right-upper",
    "right-middle",
    "right-lower",
    "left-upper",
    "left-middle",
    "left-lower",
    "mediastinum",
)
"""The zones a case keeps a region vector for, in the order of their arrays; the heart counts as mediastinum."""
REGION_WIDTH: Final = 64
"""Values of a region vector."""
