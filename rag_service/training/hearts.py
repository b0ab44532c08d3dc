"""Makes what measures the heart: the segmenter, trained, and the limits of its ratio, chosen on calibration films."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import Split
from rag_service.models.encoder import load_encoder
from rag_service.models.segmenter import Segmenter, SegmenterShape
from rag_service.report.cardiothoracic import FILE, FINDING, RatioLimits, cardiothoracic_ratio
from rag_service.training.corpus import UNKNOWN, Corpus
from rag_service.training.segmenter import SegmenterPlan, SegmenterTrainer, save_segmenter
from rag_service.training.structure_targets import marked

MISSED: Final = 0.05
"""Share of the enlarged hearts that may lie below `normal_below`, and of the others that may reach `enlarged_from`."""
LEAST: Final = 20
"""Films of each kind below which nothing is chosen."""
BATCH: Final = 32


def make_segmenter(
    data: Path, corpus: Corpus, out: Path, plan: SegmenterPlan, folder: Path, version: str
) -> tuple[Segmenter, RatioLimits | None]:
    """Train in `folder` and write the segmenter and its limits to `out`, beside the film model there; without limits where
    calibration films are too few.

    ValueError when no training film has outlines.
    """
    shape = SegmenterShape()
    films = marked(data, corpus, load_encoder(out), shape.side)
    network = SegmenterTrainer(corpus, films, plan, shape, folder).run()
    segmenter = save_segmenter(network, films.sample, version, out)
    limits = choose_limits(corpus, segmenter)
    if limits is None:
        (out / FILE).unlink(missing_ok=True)
    else:
        limits.save(out)
    return segmenter, limits


def choose_limits(corpus: Corpus, segmenter: Segmenter) -> RatioLimits | None:
    """The limits for a segmenter from Open-i's calibration frontals; None when too few are labelled either way."""
    rows = corpus.rows(Split.CALIBRATION, "openi", "frontal")
    label = corpus.labels[rows, FINDINGS.index(FINDING)]
    rows, label = rows[label != UNKNOWN], label[label != UNKNOWN]
    return fit_limits(_ratios(corpus, rows, segmenter), label, segmenter.record.id)


def fit_limits(ratios: NDArray[np.float64], label: NDArray[np.int8], segmenter: str) -> RatioLimits | None:
    """The limits from ratios (n,), NaN where none was measured, and labels (n,) of 1 and 0."""
    enlarged, others = (np.sort(ratios[(label == kind) & ~np.isnan(ratios)]) for kind in (1, 0))
    if min(len(enlarged), len(others)) < LEAST:
        return None
    below, above = float(np.quantile(enlarged, MISSED)), float(np.quantile(others, 1 - MISSED))
    sample = f"openi calibration frontals: {len(enlarged)} with and {len(others)} without {FINDING}"
    return RatioLimits(segmenter, min(below, above), max(below, above), sample)


def _ratios(corpus: Corpus, rows: NDArray[np.int64], segmenter: Segmenter) -> NDArray[np.float64]:
    found: list[float] = []
    for start in tqdm(range(0, len(rows), BATCH), desc="measuring hearts", unit="batch"):
        structures = segmenter.read_stored(np.asarray(corpus.films[rows[start : start + BATCH]]))
        values = [cardiothoracic_ratio(s).value for s in structures]
        found += [np.nan if v is None else v for v in values]
    return np.array(found)
