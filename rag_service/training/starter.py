"""Packs the starter cases: one box and one text vector for every Open-i study that has a frontal film in the folder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rag_service.models import text
from rag_service.models.network import PRESENTATIONS
from rag_service.models.starter import StarterCases
from rag_service.training.calibrate import CorpusReader
from rag_service.training.corpus import SOURCES


def starter_cases(reader: CorpusReader, text_vectors: NDArray[np.float32]) -> StarterCases:
    """Studies in order of id, with their rows of `text_vectors` (N, t).

    Of several frontal films the first stands for the study; studies without a report are left out.
    """
    corpus = reader.corpus
    frontal = (corpus.source == SOURCES.index("openi")) & (corpus.presentation == PRESENTATIONS.index("frontal"))
    first: dict[str, int] = {}
    for row in np.flatnonzero(frontal).tolist():
        if corpus.texts[row]:
            first.setdefault(corpus.studies[row], row)
    studies = sorted(first)
    rows = np.array([first[s] for s in studies])
    return StarterCases(
        box_model=reader.encoder.record.id,
        text_model=text.NAME,
        studies=tuple(studies),
        boxes=np.stack([r.box.vector() for r in reader.read(rows)]),
        texts=text_vectors[rows],
    )
