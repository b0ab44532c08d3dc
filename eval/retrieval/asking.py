"""What is asked for a film, as the service would ask: its box, and words for the text lists; and what it really shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.readings import Readings
from eval.retrieval.measures import DEPTH
from knowledge_base.findings import FINDINGS, NO_FINDING
from knowledge_base.records import BoxLatent
from knowledge_base.search import CaseQuery
from knowledge_base.store import PUBLIC
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow
from rag_service.datasets.relevance import traits
from rag_service.film_words import film_words, shown
from rag_service.models.text import TextEncoder

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Asked:
    """q films: rows, box vectors (q, 2d), text vectors (q, 384), words, calibrated probabilities (q, 14), `traits` (q, 14, 6)."""

    rows: tuple[FilmRow, ...]
    boxes: Floats
    texts: Floats
    words: tuple[str, ...]
    probabilities: Floats
    traits: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def patients(self) -> list[str]:
        """Of each film, across sources."""
        return [f"{r.source}/{r.patient}" for r in self.rows]

    @property
    def labels(self) -> Floats:
        """(q, 14): 1, 0, or NaN where the source does not say."""
        return np.array([[float(r.labels[f]) if f in r.labels else np.nan for f in FINDINGS] for r in self.rows])

    @property
    def abnormal(self) -> NDArray[np.int64]:
        """Films that are not called normal."""
        return np.flatnonzero(self.traits[:, FINDINGS.index(NO_FINDING), 0] == 0)

    def query(self, row: int, *, diverse: bool = False) -> CaseQuery:
        """What the service would search with; the patient's own studies left out."""
        film = self.rows[row]
        return CaseQuery(
            PUBLIC,
            box=BoxLatent.from_vector(self.boxes[row].astype(np.float32)),
            text_vector=self.texts[row].astype(np.float32),
            text=self.words[row],
            exclude_patient=(film.source, film.patient),
            limit=DEPTH,
            prefetch=DEPTH,
            probabilities=dict(zip(FINDINGS, self.probabilities[row].tolist(), strict=True)),
            diverse=diverse,
        )


def queries(rows: Sequence[FilmRow]) -> list[FilmRow]:
    """The first film of each study that has a finding (No Finding is one)."""
    first: dict[str, FilmRow] = {}
    for row in rows:
        if any(row.labels.values()):
            first.setdefault(row.study, row)
    return list(first.values())


def asked(
    rows: Sequence[FilmRow], read: Readings, calibration: Calibration, text: TextEncoder, told: Mapping[str, str]
) -> Asked:
    """Films with what the service asks for them (see `film_words`), joined by the indication where `told` has one for the study."""
    names = dict(zip(FINDINGS, text.encode(FINDINGS), strict=True))
    chances = calibration.probabilities(read.scores)
    words, vectors = [], []
    for row, probabilities in zip(rows, chances, strict=True):
        said, asking = film_words(shown(calibration, probabilities), names, told.get(row.study, ""))
        words.append(said)
        vectors.append(asking)
    boxes = [BoxLatent(c, r).vector() for c, r in zip(_single(read.centre), _single(read.radius), strict=True)]
    return Asked(
        rows=tuple(rows),
        boxes=np.stack(boxes).astype(np.float64),
        texts=np.stack(vectors).astype(np.float64),
        words=tuple(words),
        probabilities=chances,
        traits=np.stack([traits_of(r) for r in rows]),
    )


def traits_of(row: FilmRow) -> Floats:
    """(14, 6) of a film: from its hand-coded tags, else from its labels, which name no place."""
    if row.tags is not None:
        return traits(row.tags)
    found = traits(())
    found[:, 0] = [float(row.labels.get(f, False)) for f in FINDINGS]
    return found


def _single(values: Floats) -> NDArray[np.float32]:
    return values.astype(np.float32)
