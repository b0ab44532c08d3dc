"""How right the draft's statements are, tier by tier."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from rag_service.calibration import Calibration, Reliability, Tier, steadiness

Floats = NDArray[np.float64]


def measure(
    labels: Floats, p: Floats, raw: Floats, spread: Floats, radius: Floats, calibration: Calibration
) -> dict[str, dict[str, Any]]:
    """Accuracy and count of what would be stated, called possible or denied, by tier, over the findings spoken of.

    Labels (n, 14), NaN for unknown; calibrated p, raw scores and their BL-TTA deviation (n, 14); mean radius (n,). To call a
    finding possible counts as calling it present.
    """
    hits: dict[Tier, list[bool]] = {t: [] for t in Tier}
    unsteady = steadiness(raw, spread)
    for index, finding in enumerate(FINDINGS):
        entry = calibration.findings[finding]
        if finding == NO_FINDING or entry.reliability is not Reliability.RELIABLE:
            continue
        for row in np.flatnonzero(~np.isnan(labels[:, index])):
            polarity, held = entry.polarity(p[row, index]), entry.conformal.of(raw[row, index])
            if polarity is None:
                continue
            tier = calibration.tiers.of(p[row, index], polarity, held, radius[row], unsteady[row, index])
            hits[tier].append((polarity is not Polarity.NEGATIVE) == bool(labels[row, index]))
    return {str(t): {"accuracy": float(np.mean(h)) if h else None, "statements": len(h)} for t, h in hits.items()}


def monotone(measured: dict[str, dict[str, Any]]) -> bool:
    """Whether accuracy never rises from a tier to the next lower one; tiers without statements are passed over."""
    known = [measured[t]["accuracy"] for t in Tier if measured[t]["accuracy"] is not None]
    return all(a >= b for a, b in pairwise(known))
