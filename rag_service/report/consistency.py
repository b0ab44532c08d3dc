"""Whether a report and its film contradict each other: a pair that was mixed up must not become evidence.

A case that fails is kept and marked (`Case.consistent`); it is never lost for being unusual. Two contradictions count, for
findings that the calibration calls reliable:

- denied yet seen: the report denies the finding, or calls the film normal, and its calibrated probability is at least
  SEEN;
- stated yet unseen: the report states the finding, and its calibrated probability is at most UNSEEN times the share of the
  calibration films that have it.

Both bounds are far out: `python -m eval consistency DIR` says how many pairs fail, and how many of the same films with one
another's reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, PATHOLOGIES, Polarity
from knowledge_base.records import Case
from rag_service.calibration import Calibration, Reliability

SEEN: Final = 0.9
UNSEEN: Final = 0.1


def consistent(case: Case, scores: NDArray[np.float64], calibration: Calibration) -> bool:
    """Whether the case's words and its film's raw scores (14,) can both be right."""
    probabilities = dict(zip(FINDINGS, calibration.probabilities(scores), strict=True))
    reliable = [f for f in PATHOLOGIES if calibration.findings[f].reliability is Reliability.RELIABLE]
    stated, denied = case.labels(Polarity.POSITIVE), _denied(case)
    seen = any(probabilities[f] >= SEEN for f in reliable if f in denied)
    rates = _rates(calibration)
    unseen = any(probabilities[f] <= UNSEEN * rates[f] for f in reliable if f in stated)
    return not (seen or unseen)


def _denied(case: Case) -> frozenset[str]:
    """Findings that the report denies: all of them when it calls the film normal and names none."""
    stated, possible = case.labels(Polarity.POSITIVE), case.labels(Polarity.UNCERTAIN)
    named = any(f in PATHOLOGIES for f in (*stated, *possible))
    normal = NO_FINDING in stated and not named
    return frozenset(PATHOLOGIES if normal else case.labels(Polarity.NEGATIVE))


def _rates(calibration: Calibration) -> Mapping[str, float]:
    """The share of calibration films that have each finding."""
    return {f: entry.positives / entry.films for f, entry in calibration.findings.items()}
