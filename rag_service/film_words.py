"""What a film asks the text lists of the case search: the names of what it shows, and what its reader says besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from rag_service.calibration import Calibration, Reliability

Floats = NDArray[np.floating]


def shown(calibration: Calibration, chances: Floats) -> tuple[str, ...]:
    """The findings that calibrated probabilities (14,) flag or call possible, in CheXpert order; "No Finding" when none."""
    found = tuple(f for f, p in zip(FINDINGS, chances.tolist(), strict=True) if _may_be(calibration, f, p))
    return found or (NO_FINDING,)


def film_words(findings: Sequence[str], names: Mapping[str, Floats], told: str = "") -> tuple[str, NDArray[np.float32]]:
    """Words, and a unit vector: the findings' names joined by what the reader told, and the mean of the names' vectors.

    What was told is looked for as words alone. In the vector it drew the search to reports with the same reason for the film,
    whatever they show (docs/decisions/0018-weighted-fusion-a-learned-re-ranker-and-diversity.md).
    """
    mean = np.mean([names[f] for f in findings], axis=0)
    return ", ".join((*findings, told) if told else findings), np.asarray(mean / np.linalg.norm(mean), np.float32)


def _may_be(calibration: Calibration, finding: str, p: float) -> bool:
    entry = calibration.findings[finding]
    if finding == NO_FINDING or entry.reliability is not Reliability.RELIABLE:
        return False
    return entry.polarity(p) in {Polarity.POSITIVE, Polarity.UNCERTAIN}
