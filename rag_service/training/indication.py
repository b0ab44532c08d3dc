"""Learns what an indication's words add to what the film shows, on training studies, beside the film's own score.

log odds of a finding = slope * (logit of the film's score + weights . words) + offset, with a ridge on the weights: what the film
tells already is not learned again. The ridge is the one of least log loss on the calibration split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from knowledge_base.findings import FINDINGS
from rag_service.datasets import openi
from rag_service.datasets.films import Split
from rag_service.indication import IndicationShift, words_of
from rag_service.training.calibrate import CorpusReader
from rag_service.training.starter import starter_rows
from rag_service.views import logit

LEAST_STUDIES: Final = 5
"""Training indications that must have a word."""
PERSONAL: Final = frozenset("year years old yo male female man woman boy girl patient pt".split())
"""Words of who was filmed: a finding is not to be likelier for them."""
RIDGES: Final = (8.0, 4.0, 2.0, 1.0, 0.5)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Told:
    """Studies of a split: `logits` (n, 14) of the film's scores, `labels` (n, 14) with -1 for unknown, and indications (n,)."""

    logits: Floats
    labels: NDArray[np.int8]
    indications: tuple[str, ...]


def make_indication(reader: CorpusReader, data: Path, folder: Path) -> tuple[str, ...]:
    """Fit and write the shift of `reader`'s encoder; the lines are those of `fit_shift`."""
    train, held = (_told(reader, data, split) for split in (Split.TRAIN, Split.CALIBRATION))
    shift, lines = fit_shift(reader.encoder.record.id, train, held)
    shift.save(folder)
    return lines


def fit_shift(model: str, train: Told, held: Told) -> tuple[IndicationShift, tuple[str, ...]]:
    """The shift of the ridge that does best on `held`; the lines say what each ridge gave there."""
    base = _vocabulary(model, train.indications)
    fitted = [_fit(base, train, ridge) for ridge in RIDGES]
    losses = [_loss(shift, maps, held) for shift, maps in fitted]
    alone = _loss(base, fitted[0][1], held)
    lines = [f"log loss on {len(held.labels)} calibration studies, the film alone: {alone:.4f}"]
    lines += [f"ridge {ridge:g}: {loss:.4f}" for ridge, loss in zip(RIDGES, losses, strict=True)]
    return fitted[int(np.argmin(losses))][0], tuple(lines)


def _told(reader: CorpusReader, data: Path, split: Split) -> Told:
    corpus = reader.corpus
    rows = np.array(
        [r for r in starter_rows(corpus) if corpus.split[r] == split.value and (corpus.labels[r] >= 0).any()]
    )
    reports = openi.reports(data / "openi" / openi.ARCHIVE)
    scores = np.stack([r.probabilities for r in reader.read(rows)])
    return Told(logit(scores), corpus.labels[rows], tuple(reports[corpus.studies[r]].indication for r in rows))


def _vocabulary(model: str, indications: Sequence[str]) -> IndicationShift:
    """The words worth weighing, with no weight yet."""
    having = Counter(w for text in indications for w in set(words_of(text)))
    dropped = PERSONAL | ENGLISH_STOP_WORDS
    words = tuple(sorted(w for w, n in having.items() if n >= LEAST_STUDIES and w not in dropped))
    rarity = np.array([1.0 + np.log(len(indications) / having[w]) for w in words])
    sample = f"openi/train: {len(indications)} studies"
    blank = IndicationShift(model, words, rarity, np.zeros(len(words)), np.zeros((len(FINDINGS), len(words))), sample)
    vectors = [v for text in indications if (v := blank.vector(text)) is not None]
    return IndicationShift(model, words, rarity, np.mean(vectors, axis=0), blank.weights, sample)


def _fit(base: IndicationShift, train: Told, ridge: float) -> tuple[IndicationShift, Floats]:
    """The shift, and slope and offset (14, 2) of each finding."""
    words = _words(base, train.indications)
    found = [_one(train.logits[:, i], words, train.labels[:, i], ridge) for i in range(len(FINDINGS))]
    weights = np.stack([w for w, _ in found])
    shift = IndicationShift(base.model, base.words, base.rarity, base.usual, weights, base.sample)
    return shift, np.stack([m for _, m in found])


def _words(shift: IndicationShift, indications: Sequence[str]) -> Floats:
    """Centred vectors (n, V), zeros where no word is known."""
    vectors = [shift.vector(text) for text in indications]
    return np.stack([np.zeros(len(shift.words)) if v is None else v - shift.usual for v in vectors])


def _one(film: Floats, words: Floats, labels: NDArray[np.int8], ridge: float) -> tuple[Floats, Floats]:
    known = labels >= 0
    x, w, y = film[known], words[known], labels[known].astype(np.float64)

    def loss(theta: Floats) -> tuple[float, Floats]:
        slope, offset, weights = theta[0], theta[1], theta[2:]
        moved = x + w @ weights
        z = slope * moved + offset
        miss = np.exp(-np.logaddexp(0.0, -z)) - y
        value = float(np.sum(np.logaddexp(0.0, z) - y * z) + ridge * weights @ weights)
        return value, np.concatenate([[miss @ moved, miss.sum()], slope * (w.T @ miss) + 2 * ridge * weights])

    start = np.concatenate([[1.0, 0.0], np.zeros(words.shape[1])])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(0.1, None)] + [(None, None)] * (len(start) - 1)
    ).x
    return np.asarray(found[2:]), np.asarray(found[:2])


def _loss(shift: IndicationShift, maps: Floats, held: Told) -> float:
    """Mean log loss over the findings of studies that were not fitted to."""
    moved = held.logits + np.stack([shift.shift(text) for text in held.indications])
    z = maps[:, 0] * moved + maps[:, 1]
    known = held.labels >= 0
    return float(np.mean((np.logaddexp(0.0, z) - (held.labels == 1) * z)[known]))
