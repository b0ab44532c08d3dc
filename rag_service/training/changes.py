"""Fits the measure of change and its cut-offs to follow-up films of training and calibration patients.

A finding's change may be said only where its direction can be told: at least LEAST_PAIRS pairs with a known change, and an area
under the ROC curve whose lower bound (Hanley & McNeil, Radiology 1982) is above chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from knowledge_base.findings import FINDINGS, NO_FINDING
from rag_service.calibration import Calibration
from rag_service.changes import FEATURES, NO_WEIGHTS, ChangeRule, FindingChange, amounts
from rag_service.datasets.films import FilmRow, Split
from rag_service.datasets.follow_ups import FollowUp, follow_ups
from rag_service.models.encoder import FilmEncoder
from rag_service.training.corpus import stored_film

SOURCES: Final = ("nih", "cohen")
LEAST_PAIRS: Final = 15
RIGHT: Final = 0.8
"""Share of the pairs from `changed` on that changed the way it says; those that did not change are among the others."""
UNCHANGED: Final = 0.5
"""Share of the pairs up to `still` that did not change; labels come and go with the words of a report, on films alike too."""
LEAST_BEYOND: Final = 10
"""A share of fewer pairs says nothing."""
_BATCH: Final = 16
_Z: Final = 1.96

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Differences:
    """n pairs of one finding: `features` (n, 2) later less earlier, and `change` (n,) in {-1, 0, 1}."""

    features: Floats
    change: NDArray[np.int64]


def make_changes(data: Path, encoder: FilmEncoder, calibration: Calibration) -> ChangeRule:
    """The rule for `encoder`, from what of SOURCES lies under `data`."""
    pairs = [
        p for s in SOURCES if (data / s).is_dir() for p in follow_ups(data / s) if p.earlier.split is not Split.TEST
    ]
    rows = {r.path: r for p in pairs for r in (p.earlier, p.later)}
    shown = dict(zip(rows, film_amounts(list(rows.values()), encoder, calibration), strict=True))
    patients = len({(p.earlier.source, p.earlier.patient) for p in pairs})
    sample = f"{'+'.join(SOURCES)}/train+calibration: {len(pairs)} pairs of {patients} patients"
    return fit(encoder.record.id, {f: differences(pairs, shown, f) for f in FINDINGS if f != NO_FINDING}, sample)


def film_amounts(rows: Sequence[FilmRow], encoder: FilmEncoder, calibration: Calibration) -> list[Floats]:
    """`changes.amounts` of films."""
    found: list[Floats] = []
    for start in tqdm(range(0, len(rows), _BATCH), desc="reading follow-up films", unit="batch"):
        stored = np.stack([stored_film(r.path) for r in rows[start : start + _BATCH]])
        found += [amounts(reading, calibration) for reading in encoder.read_stored(stored)]
    return found


def differences(pairs: Sequence[FollowUp], shown: dict[Path, Floats], finding: str) -> Differences:
    """What of a finding differs in the pairs that show it and whose change of it is known; `shown` has the amounts by film."""
    index = FINDINGS.index(finding)
    known = [p for p in pairs if finding in p.change and finding in p.present]
    moved = [shown[p.later.path][index] - shown[p.earlier.path][index] for p in known]
    return Differences(
        np.array(moved).reshape(-1, len(FEATURES)), np.array([p.change[finding] for p in known], np.int64)
    )


def fit(model: str, by_finding: dict[str, Differences], sample: str) -> ChangeRule:
    """The rule from what is known of each finding."""
    return ChangeRule(model, {f: fit_finding(d) for f, d in by_finding.items()}, sample)


def fit_finding(known: Differences) -> FindingChange:
    """One finding's measure, and its cut-offs where the measure tells more from less."""
    moved = known.change != 0
    more = known.change[moved] > 0
    pairs = len(more)
    if pairs < LEAST_PAIRS or not 0 < more.sum() < pairs:
        return FindingChange(NO_WEIGHTS, None, None, pairs, None)
    weights = _weights(known.features[moved], more)
    measured = known.features @ np.asarray(weights)
    auroc = float(roc_auc_score(more, measured[moved]))
    size = np.abs(measured)
    changed = _least(size, np.sign(measured) == known.change, RIGHT)
    if changed is None or lower_bound(auroc, int(more.sum()), int(pairs - more.sum())) <= 0.5:
        return FindingChange(weights, None, None, pairs, auroc)
    unchanged = _least(-size, ~moved, UNCHANGED)
    return FindingChange(weights, changed, 0.0 if unchanged is None else min(-unchanged, changed), pairs, auroc)


def _weights(features: Floats, more: NDArray[np.bool_]) -> tuple[float, float]:
    """Of a regression without an intercept, as exchanged films change the other way; none negative: more is never less."""
    scale = features.std(0)
    fitted = LogisticRegression(fit_intercept=False).fit(features / scale, more).coef_[0] / scale
    log_odds, log_extent = np.maximum(fitted, 0.0).tolist()
    return log_odds, log_extent


def lower_bound(auroc: float, positives: int, negatives: int) -> float:
    """The lower end of the 95 % interval of an area under the ROC curve."""
    one, two = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (positives - 1) * (one - auroc**2) + (negatives - 1) * (two - auroc**2)
    return float(auroc - _Z * np.sqrt(variance / (positives * negatives)))


def _least(size: Floats, right: NDArray[np.bool_], share: float) -> float | None:
    """The least size from which on at least a share are right; None when no LEAST_BEYOND are."""
    order = np.argsort(-size, kind="stable")
    so_far = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero((so_far >= share) & (np.arange(len(order)) >= LEAST_BEYOND - 1))
    return float(size[order][good[-1]]) if len(good) else None
