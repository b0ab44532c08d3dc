"""The cases that are searched: the starter cases that have labels, as arrays and in a store filled for the occasion."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from knowledge_base.bm25 import document_vector, idf, query_vector
from knowledge_base.cases import to_point
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import CASES, TermWeights
from knowledge_base.store import KnowledgeStore, Point
from knowledge_base.zones import ZONES
from rag_service.datasets import openi
from rag_service.datasets.relevance import traits
from rag_service.models.starter import StarterCases
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.settings import Settings
from rag_service.wiring import Layout, build_store

BATCH: Final = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gallery:
    """m cases: their reports, box vectors (m, 2d), text vectors (m, 384), region vectors (m, 7, R) or None, zones in the order
    of ZONES, and `traits` (m, 14, 6), see `rag_service.datasets.relevance`.
    """

    cases: tuple[Case, ...]
    boxes: Floats
    texts: Floats
    regions: Floats | None
    traits: Floats

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def labels(self) -> Floats:
        """(m, 14): 1 where a case has the finding, by its hand-coded tags."""
        return np.asarray(self.traits[:, :, 0])

    def rows(self) -> dict[UUID, int]:
        """The row of each case."""
        return {case.id: row for row, case in enumerate(self.cases)}

    def own(self, studies: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
        """(q, m): whether a case is the very study, (source, study), that asks."""
        return np.array([[(c.source, c.study) == study for c in self.cases] for study in studies])


def gallery(cases: StarterCases, reports: Mapping[str, openi.Report]) -> Gallery:
    """The starter cases that have labels."""
    kept = [i for i, s in enumerate(cases.studies) if s in reports and reports[s].labels]
    labeler = Labeler()
    return Gallery(
        cases=tuple(_case(reports[cases.studies[i]], labeler) for i in kept),
        boxes=cases.boxes[kept].astype(np.float64),
        texts=cases.texts[kept].astype(np.float64),
        regions=None if cases.regions is None else cases.regions[kept].astype(np.float64),
        traits=np.stack([traits(reports[cases.studies[i]].tags) for i in kept]),
    )


@contextmanager
def filled(base: Gallery, settings: Settings, layout: Layout) -> Iterator[KnowledgeStore]:
    """An embedded store that holds the gallery and nothing else, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="retrieval-") as folder:
        store = build_store(replace(settings, store=str(Path(folder) / "store")))
        try:
            store.open(layout.cases, layout.cases_manifest)
            for start in range(0, len(base), BATCH):
                rows = range(start, min(len(base), start + BATCH))
                store.upsert(CASES, [_point(base, row, layout) for row in rows])
            yield store
        finally:
            store.close()


def distances(queries: Floats, cases: Floats) -> Floats:
    """(q, m) squared Euclidean distances."""
    squares = (queries**2).sum(1)[:, None] + (cases**2).sum(1)[None]
    return np.asarray(squares - 2 * queries @ cases.T)


def word_scores(base: Gallery, asked: Sequence[str]) -> Floats:
    """(q, m) BM25 scores of the cases' reports, the inverse document frequency over the gallery."""
    documents = [document_vector(c.text, TermWeights()) for c in base.cases]
    holding: dict[int, list[tuple[int, float]]] = {}
    for row, vector in enumerate(documents):
        if vector is not None:
            for term, weight in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
                holding.setdefault(term, []).append((row, weight))
    found = np.zeros((len(asked), len(base)))
    for q, text in enumerate(asked):
        words = query_vector(text)
        for term in () if words is None else words.indices.tolist():
            for row, weight in holding.get(term, ()):
                found[q, row] += weight * idf(len(base), len(holding[term]))
    return found


def _point(base: Gallery, row: int, layout: Layout) -> Point:
    regions = None if base.regions is None else dict(zip(ZONES, base.regions[row].astype(np.float32), strict=True))
    box = BoxLatent.from_vector(base.boxes[row].astype(np.float32))
    text = base.texts[row].astype(np.float32)
    return to_point(base.cases[row], layout.cases, box=box, text_vector=text, regions=regions)


def _case(report: openi.Report, labeler: Labeler) -> Case:
    sentences = read_case_sentences(report.text, labeler)
    return Case(openi.SOURCE, report.study, report.study, report.text, sentences, view="frontal")
