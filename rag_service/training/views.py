"""Fits how a lateral's scores join the frontal's, on calibration studies that have both films."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from knowledge_base.findings import FINDINGS
from rag_service.calibrators import Platt
from rag_service.datasets.films import Split
from rag_service.training.calibrate import CorpusReader
from rag_service.training.corpus import Corpus
from rag_service.views import FindingFusion, ViewFusion, logit

PULL: Final = 4.0
"""Weight of the pull towards the frontal alone, in studies: a handful of positives cannot overturn it."""

Floats = NDArray[np.float64]


def fit_views(reader: CorpusReader) -> ViewFusion:
    """The fusion of an encoder. Of several films of a view the first stands for the study."""
    corpus = reader.corpus
    frontals = corpus.rows(Split.CALIBRATION, "openi", "frontal")
    pairs = paired(corpus, frontals, corpus.rows(Split.CALIBRATION, "openi", "lateral"))
    alone, frontal, lateral = (_scores(reader, rows) for rows in (frontals, pairs[:, 0], pairs[:, 1]))
    labels = corpus.labels
    found = {
        name: fit(
            frontal[:, i],
            lateral[:, i],
            labels[pairs[:, 0], i],
            link(alone[:, i], labels[frontals, i]),
        )
        for i, name in enumerate(FINDINGS)
    }
    return ViewFusion(reader.encoder.record.id, found, f"openi/calibration: {len(pairs)} studies with both views")


def paired(corpus: Corpus, frontals: NDArray[np.int64], laterals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (m, 2) of the first frontal and the first lateral of each study that has both, in the order of the frontals."""
    first: dict[str, dict[str, int]] = {"frontal": {}, "lateral": {}}
    for view, rows in (("frontal", frontals), ("lateral", laterals)):
        for row in rows.tolist():
            first[view].setdefault(corpus.studies[row], row)
    both = [(row, first["lateral"][s]) for s, row in first["frontal"].items() if s in first["lateral"]]
    return np.array(both, np.int64).reshape(-1, 2)


def link(scores: Floats, labels: NDArray[np.int8]) -> Platt:
    """What a frontal's score means: its Platt map over all frontals (n,), so that a fused score can mean the same."""
    known = labels >= 0
    return Platt.fit(scores[known], labels[known].astype(np.float64))


def fit(frontal: Floats, lateral: Floats, labels: NDArray[np.int8], meaning: Platt) -> FindingFusion:
    """One finding from the scores of both views (m,) and labels (m,), -1 for unknown.

    Minimises the log loss of `meaning`(fused) and PULL times the squared distance from the frontal alone, the logits of both
    views centred so that the pull does not depend on how rare the finding is.
    """
    known = labels >= 0
    outcome = labels[known].astype(np.float64)
    raw = np.stack([logit(frontal[known]), logit(lateral[known]), np.zeros(int(known.sum()))])
    centre = raw.mean(1, keepdims=True) if len(outcome) else np.zeros((3, 1))
    columns = raw - centre
    columns[2] = 1.0

    def loss(theta: Floats) -> tuple[float, Floats]:
        moved = theta - (1.0, 0.0, 0.0)
        z = meaning.slope * (raw[0] + moved @ columns) + meaning.offset
        miss = np.exp(-np.logaddexp(0.0, -z)) - outcome
        value = float(np.sum(np.logaddexp(0.0, z) - outcome * z) + PULL * moved @ moved)
        return value, meaning.slope * (columns @ miss) + 2 * PULL * moved

    bounds = [(0.0, None), (0.0, None), (None, None)]
    weights = minimize(loss, np.array([1.0, 0.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    offset = float(weights[2] - (weights - (1.0, 0.0, 0.0))[:2] @ centre[:2, 0])
    return FindingFusion(float(weights[0]), float(weights[1]), offset, len(outcome), int(outcome.sum()))


def _scores(reader: CorpusReader, rows: NDArray[np.int64]) -> Floats:
    found = [r.probabilities for r in reader.read(rows)]
    return np.stack(found) if found else np.zeros((0, len(FINDINGS)))
