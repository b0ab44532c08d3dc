"""Fits on the calibration split what turns scores into probabilities, and names the axes of the box on the training split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.datasets.films import Split
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.training.corpus import Corpus

MIN_POSITIVES: Final = 5
MIN_AUROC: Final = 0.65
DENY_MISSED_SHARE: Final = 0.10
STATE_FLOOR: Final = 0.5
SLOPE_PRIOR: Final = 4.0
"""Weight of the pull of the Platt slope towards 1, in films: a handful of positives cannot overturn the network."""


class CorpusReader:
    """Readings of a corpus by row, each film read once; the early maps are not kept."""

    def __init__(self, encoder: FilmEncoder, corpus: Corpus, batch: int = 16) -> None:
        self.encoder, self.corpus, self._batch = encoder, corpus, batch
        self._known: dict[int, FilmReading] = {}

    def read(self, rows: NDArray[np.int64]) -> list[FilmReading]:
        """Readings of the rows, in order."""
        missing = [r for r in rows.tolist() if r not in self._known]
        for start in tqdm(range(0, len(missing), self._batch), desc="reading films", unit="batch", disable=not missing):
            some = missing[start : start + self._batch]
            for row, reading in zip(some, self.encoder.read_stored(self.corpus.films[some]), strict=True):
                self._known[row] = replace(reading, maps=reading.maps[:0])
        return [self._known[r] for r in rows.tolist()]


def calibrate(reader: CorpusReader) -> Calibration:
    """The calibration of an encoder."""
    encoder, corpus = reader.encoder, reader.corpus
    rows = corpus.rows(Split.CALIBRATION, "openi", "frontal")
    readings = reader.read(rows)
    scores = np.stack([r.probabilities for r in readings])
    radius = np.array([r.box.radius.mean() for r in readings])
    return Calibration(
        model=encoder.record.id,
        findings={f: fit(scores[:, i], corpus.labels[rows, i]) for i, f in enumerate(FINDINGS)},
        tiers=Tiers(high=0.9, low=0.6, radius_high=float(np.quantile(radius, 0.9))),
        axis_names=_axis_names(reader),
        sample=f"openi/calibration: {len(rows)} frontal films",
    )


def fit(scores: NDArray[np.float64], labels: NDArray[np.int8]) -> FindingCalibration:
    """One finding from raw scores (n,) and labels (n,), -1 for unknown."""
    known = labels >= 0
    order = np.argsort(scores[known], kind="stable")
    score, outcome = scores[known][order], labels[known][order].astype(np.float64)
    slope, offset = platt(score, outcome)
    p = 1.0 / (1.0 + np.exp(-(slope * _logit(score) + offset)))
    positives = int(outcome.sum())
    auroc = float(roc_auc_score(outcome, score)) if 0 < positives < len(outcome) else None
    flag = expected_f1_threshold(p)
    return FindingCalibration(
        slope=slope,
        offset=offset,
        state=max(STATE_FLOOR, flag),
        flag=flag,
        deny=min(flag, float(np.quantile(p[outcome == 1], DENY_MISSED_SHARE)) if positives else 0.0),
        reliability=_reliability(positives, auroc),
        positives=positives,
        films=len(outcome),
        auroc=auroc,
        scores=tuple(np.round(score, 6).tolist()),
        outcomes=tuple(int(o) for o in outcome),
    )


def platt(score: NDArray[np.float64], outcome: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of the logit that minimise the log loss, the slope drawn to 1 and kept positive."""
    logit = _logit(score)

    def loss(parameters: NDArray[np.float64]) -> float:
        z = np.exp(parameters[0]) * logit + parameters[1]
        return float(np.sum(np.logaddexp(0.0, z) - outcome * z) + SLOPE_PRIOR * parameters[0] ** 2)

    found = minimize(loss, np.zeros(2), method="BFGS").x
    return float(np.exp(found[0])), float(found[1])


def expected_f1_threshold(p: NDArray[np.float64]) -> float:
    """The threshold with the best F1 expected if the calibrated probabilities are right; steadier than counting few positives."""
    ordered = np.sort(p)[::-1]
    f1 = 2 * np.cumsum(ordered) / (np.arange(1, len(p) + 1) + p.sum())
    return float(ordered[int(np.argmax(f1))])


def _reliability(positives: int, auroc: float | None) -> Reliability:
    if positives < MIN_POSITIVES or auroc is None:
        return Reliability.TOO_FEW
    return Reliability.RELIABLE if auroc >= MIN_AUROC else Reliability.TOO_WEAK


def _logit(score: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _axis_names(reader: CorpusReader) -> tuple[str, ...]:
    """Each axis by the label or MeSH heading its centre correlates with most on training films, with the sign."""
    corpus = reader.corpus
    rows = corpus.rows(Split.TRAIN, "openi", "frontal")
    rows = rows[(corpus.labels[rows] >= 0).all(1)]
    centres = np.stack([r.box.centre for r in reader.read(rows)])
    names: Sequence[str] = (*FINDINGS, *corpus.tag_names)
    targets = np.concatenate([corpus.labels[rows], corpus.tags[rows]], 1).astype(np.float64)
    together = _standard(centres).T @ _standard(targets) / len(rows)
    best = np.abs(together).argmax(1)
    return tuple(f"{names[b]} ({'+' if together[j, b] > 0 else '-'})" for j, b in enumerate(best))


def _standard(values: NDArray[np.floating]) -> NDArray[np.float64]:
    centred = np.asarray(values, np.float64) - values.mean(0)
    return np.asarray(centred / np.maximum(centred.std(0), 1e-9))
