"""What a draft would say of each finding before and after a change: flips are counted, with what they are counted of."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, Polarity
from rag_service.calibration import Calibration, Reliability

PRESENT, SILENT, DENIED = 1, 0, -1
COUNTS: Final = ("stated", "flipped", "silenced", "unstated", "raised")
_SIDES: Final = {Polarity.POSITIVE: PRESENT, Polarity.UNCERTAIN: PRESENT, Polarity.NEGATIVE: DENIED, None: SILENT}

Sides = NDArray[np.int8]


def sides(p: NDArray[np.float64], calibration: Calibration) -> Sides:
    """Calibrated probabilities (n, 14) -> PRESENT (stated or possible), DENIED, or SILENT, as the service decides."""
    found = np.zeros(p.shape, np.int8)
    for column, finding in enumerate(FINDINGS):
        entry = calibration.findings[finding]
        if entry.reliability is Reliability.RELIABLE:
            found[:, column] = [_SIDES[entry.polarity(float(v))] for v in p[:, column]]
    return found


def flips(clean: Sides, changed: Sides) -> dict[str, dict[str, int]]:
    """By finding: of `stated` (spoken of on the clean film) how many `flipped` to the opposite and how many were `silenced`;
    of `unstated`, how many were `raised`."""
    return {f: _flips(clean[:, i], changed[:, i]) for i, f in enumerate(FINDINGS)}


def total(by_finding: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The counts over all findings, and the share of statements that flipped; None when nothing was stated."""
    summed = {k: sum(v[k] for v in by_finding.values()) for k in COUNTS}
    return {**summed, "flip_share": summed["flipped"] / summed["stated"] if summed["stated"] else None}


def _flips(clean: Sides, changed: Sides) -> dict[str, int]:
    stated = clean != SILENT
    return {
        "stated": int(stated.sum()),
        "flipped": int((clean * changed == PRESENT * DENIED).sum()),
        "silenced": int((stated & (changed == SILENT)).sum()),
        "unstated": int((~stated).sum()),
        "raised": int((~stated & (changed != SILENT)).sum()),
    }
