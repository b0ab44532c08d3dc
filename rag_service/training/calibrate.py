"""Fits on the calibration split what turns scores into probabilities, and names the axes of the box on the training split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration, Tiers, steadiness
from rag_service.datasets.films import Split
from rag_service.finding_fit import fit
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.training.corpus import Corpus

USUAL_SHARE: Final = 0.9
"""Share of calibration films, and of their scores, that count as usual in radius and in steadiness."""


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
    scores, spread = (np.stack([getattr(r, part) for r in readings]) for part in ("probabilities", "spread"))
    radius = np.array([r.box.radius.mean() for r in readings])
    return Calibration(
        model=encoder.record.id,
        # An Open-i study is a patient.
        findings=fit(scores, corpus.labels[rows], [corpus.studies[r] for r in rows], FINDINGS),
        tiers=tiers(scores, spread, radius),
        axis_names=_axis_names(reader),
        sample=f"openi/calibration: {len(rows)} frontal films",
    )


def tiers(scores: NDArray[np.float64], spread: NDArray[np.float64], radius: NDArray[np.float64]) -> Tiers:
    """Cut-offs from calibration films: scores (n, 14), spread (n, 14) and mean radius (n,)."""
    return Tiers(
        high=0.9,
        low=0.6,
        radius_high=float(np.quantile(radius, USUAL_SHARE)),
        radius_bound=float(radius.max()),
        spread_high=float(np.quantile(steadiness(scores, spread), USUAL_SHARE)),
    )


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
