"""The 14 observations of a report, read from its sentences, and how well those of one set of reports agree with another's.

No Finding is not what a text says of itself: a report has it when none of the twelve pathologies is stated (CheXbert's rule).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import scores
from knowledge_base.findings import FINDINGS, NO_FINDING, PATHOLOGIES, Polarity
from knowledge_base.records import Mention
from rag_service.report.labeler import overall, shared_labeler

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_NORMAL: Final = FINDINGS.index(NO_FINDING)
_DISEASE: Final = [FINDINGS.index(f) for f in PATHOLOGIES]
_CLAIMS: Final = [i for i in range(len(FINDINGS)) if i != _NORMAL]


def mentions(texts: Iterable[str]) -> list[Mention]:
    """What the labeler reads in the sentences or sections of a report."""
    return [m for t in texts for m in shared_labeler().read_report(t)]


def stated(texts: Iterable[str]) -> dict[str, Polarity]:
    """One polarity per observation that is spoken of."""
    return overall(mentions(texts))


def present(polarities: Mapping[str, Polarity], *, hedged: bool = True) -> Bools:
    """(14,) what a report states; what it hedges counts with `hedged`."""
    counted = {Polarity.POSITIVE, *([Polarity.UNCERTAIN] if hedged else [])}
    return with_normal(np.array([polarities.get(f) in counted for f in FINDINGS]))


def with_normal(found: Bools) -> Bools:
    """(..., 14) with No Finding where no pathology is."""
    found = found.copy()
    found[..., _NORMAL] = ~found[..., _DISEASE].any(-1)
    return found


def measure(truth: Floats, called: Bools, patients: Sequence[str], seed: int) -> dict[str, Any]:
    """F1 of `called` (n, 14) against `truth` (n, 14; NaN for unknown): macro over the findings that either side has, micro, mean
    over studies, all with intervals; the same of abnormal studies; and the share of stated findings that the truth lacks.
    """
    abnormal = np.flatnonzero(truth[:, _NORMAL] == 0)
    return {
        **_f1(truth, called),
        "label_f1_macro_ci": scores.interval(patients, lambda r: scores.macro_f1(truth[r], called[r]), seed),
        "label_f1_micro_ci": scores.interval(patients, lambda r: micro_f1(truth[r], called[r]), seed),
        "label_f1_example_ci": scores.interval(patients, lambda r: example_f1(truth[r], called[r]), seed),
        "abnormal": {**_f1(truth[abnormal], called[abnormal]), "studies": len(abnormal)},
        "hallucinated": hallucinated(truth, called),
        "studies": len(truth),
    }


def per_finding(truth: Floats, called: Bools) -> dict[str, dict[str, Any]]:
    """Of each finding F1, and the shares missed (of those who have it) and falsely said (of those who do not)."""
    return {f: _finding(truth[:, i], called[:, i]) for i, f in enumerate(FINDINGS)}


def micro_f1(truth: Floats, called: Bools) -> float | None:
    """F1 of all known elements pooled."""
    known = ~np.isnan(truth)
    return scores.f1(truth[known], called[known].astype(np.float64))


def example_f1(truth: Floats, called: Bools) -> float | None:
    """Mean over studies of the F1 of a study's own set; one without any label on either side is left out."""
    found = np.where(np.isnan(truth), 0.0, called.astype(np.float64))
    known = np.nan_to_num(truth)
    total = known.sum(1) + found.sum(1)
    shared = (known * found).sum(1)
    return float(np.mean(2.0 * shared[total > 0] / total[total > 0])) if (total > 0).any() else None


def hallucinated(truth: Floats, called: Bools) -> dict[str, Any]:
    """Of the findings said, No Finding apart, how many the truth denies or does not have."""
    known = ~np.isnan(truth[:, _CLAIMS]) & called[:, _CLAIMS]
    wrong = known & (truth[:, _CLAIMS] == 0)
    return {"wrong": int(wrong.sum()), "said": int(known.sum()), "rate": _share(int(wrong.sum()), int(known.sum()))}


def _f1(truth: Floats, called: Bools) -> dict[str, float | None]:
    return {
        "label_f1_macro": scores.macro_f1(truth, called),
        "label_f1_micro": micro_f1(truth, called),
        "label_f1_example": example_f1(truth, called),
    }


def _finding(truth: Floats, called: Bools) -> dict[str, Any]:
    known = ~np.isnan(truth)
    has, said = truth[known] == 1, called[known]
    positives, negatives = int(has.sum()), int((~has).sum())
    return {
        "f1": scores.f1(has.astype(np.float64), said.astype(np.float64)),
        "missed": _share(int((has & ~said).sum()), positives),
        "falsely_said": _share(int((~has & said).sum()), negatives),
        "positives": positives,
        "negatives": negatives,
        "said": int(said.sum()),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
