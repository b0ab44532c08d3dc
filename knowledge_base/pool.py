"""Candidates of a search: read from the store once, compared with the query, and put in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from knowledge_base.cases import case_of
from knowledge_base.diversity import diversified, similarity
from knowledge_base.errors import DamagedRecordError
from knowledge_base.fusion import Fused
from knowledge_base.records import Case, RecordError
from knowledge_base.rerank import Candidates
from knowledge_base.store import KnowledgeStore, Point, Scope


@dataclass(frozen=True, eq=False)
class Pool:
    """n candidates in fused order with what they were compared by: features (n, len(FEATURES)), re-ranked scores (n,) if any."""

    entries: Sequence[Fused[UUID]]
    cases: Candidates
    features: NDArray[np.float64]
    reranked: NDArray[np.float64] | None

    def order(self, limit: int, *, diverse: bool) -> Sequence[int]:
        """Rows, best first, equal scores in fused order; of a diverse answer the chosen `limit`."""
        scores = self.cases.fused if self.reranked is None else self.reranked
        order = np.argsort(-scores, kind="stable")
        if not diverse:
            return [int(row) for row in order]
        texts = None if self.cases.texts is None else self.cases.texts[order]
        chosen = diversified(scores[order], similarity(self.cases.stated[order], texts), limit)
        return [int(order[i]) for i in chosen]


class Records:
    """The points of some ids, each read once, and their cases, each parsed once when wanted; and the ids of the damaged."""

    def __init__(self, store: KnowledgeStore, collection: str, scope: Scope, vectors: Sequence[str]) -> None:
        self._store, self._collection, self._scope, self._vectors = store, collection, scope, vectors
        self._asked: set[UUID] = set()
        self._cases: dict[UUID, Case] = {}
        self.points: dict[UUID, Point] = {}
        self.damaged: set[UUID] = set()

    def read(self, ids: Iterable[UUID]) -> None:
        """Fetch those not asked for before."""
        missing = [i for i in dict.fromkeys(ids) if i not in self._asked]
        if not missing:
            return
        self._asked.update(missing)
        fetched = self._store.get(self._collection, missing, self._scope, self._vectors)
        self.damaged.update(fetched.damaged)
        self.points.update({p.id: p for p in fetched.points})

    def case(self, identity: UUID) -> Case | None:
        """The case of a point that was read; None, and counted as damaged, when it is no case or lies under another's id."""
        if identity not in self._cases:
            try:
                case = case_of(self.points[identity].payload)
            except (DamagedRecordError, RecordError):
                case = None
            if case is None or case.id != identity:
                self.damaged.add(identity)
                return None
            self._cases[identity] = case
        return self._cases[identity]


def rows(points: Sequence[Point], name: str) -> NDArray[np.float32] | None:
    """(n, size) of a named vector, rows of NaN for points without it; None when none has it."""
    vectors = [p.vectors.get(name) for p in points]
    size = next((len(v) for v in vectors if v is not None), None)
    if size is None:
        return None
    return np.stack([np.full(size, np.nan, np.float32) if v is None else v for v in vectors])
