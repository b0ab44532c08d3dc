"""Packs the starter cases: one box and one text vector for every Open-i study that has a frontal film in the folder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rag_service.models import text
from rag_service.models.network import PRESENTATIONS
from rag_service.models.regions import RegionAxes
from rag_service.models.starter import StarterCases
from rag_service.training.calibrate import CorpusReader
from rag_service.training.corpus import SOURCES, Corpus
from rag_service.training.regions import region_vectors


def starter_rows(corpus: Corpus) -> NDArray[np.int64]:
    """Rows of the films that stand for the starter cases, by study.

    Of several frontal films the first stands for the study; studies without a report are left out.
    """
    frontal = (corpus.source == SOURCES.index("openi")) & (corpus.presentation == PRESENTATIONS.index("frontal"))
    first: dict[str, int] = {}
    for row in np.flatnonzero(frontal).tolist():
        if corpus.texts[row]:
            first.setdefault(corpus.studies[row], row)
    return np.array([first[s] for s in sorted(first)])


def starter_cases(
    reader: CorpusReader, text_vectors: NDArray[np.float32], axes: RegionAxes | None = None
) -> StarterCases:
    """Studies in order of id, with their rows of `text_vectors` (N, t), and region vectors where there are axes for them."""
    corpus, rows = reader.corpus, starter_rows(reader.corpus)
    return StarterCases(
        box_model=reader.encoder.record.id,
        text_model=text.NAME,
        studies=tuple(corpus.studies[r] for r in rows),
        boxes=np.stack([r.box.vector() for r in reader.read(rows)]),
        texts=text_vectors[rows],
        regions=None if axes is None else region_vectors(reader.encoder, axes, corpus.films[rows]),
    )
