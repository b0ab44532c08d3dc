"""Similar prior studies by film, by words, or both: filtered lists from the store, fused, read back and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from knowledge_base.bm25 import query_vector
from knowledge_base.cases import VectorNames, from_payload, patient_key
from knowledge_base.errors import DamagedRecordError
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.fusion import RRF_K, Fused, reciprocal_rank_fusion
from knowledge_base.records import BoxLatent, Case, RecordError, case_id
from knowledge_base.schema import CASES, WITHDRAWN
from knowledge_base.store import Filter, HasId, KnowledgeStore, Match, Nearest, Point, Scope

BY_BOX: Final = "box"
BY_TEXT: Final = "text"
BY_WORDS: Final = "bm25"


@dataclass(frozen=True, eq=False)
class CaseQuery:
    """What to look for, and what must not come back.

    At least one of `box`, `text_vector` (shape of the text encoder) and `text` is given. `exclude_patient` and
    `exclude_study` are (source, patient) and (source, study); `finding` keeps the cases that state it so.
    """

    tenant: str
    box: BoxLatent | None = None
    text_vector: NDArray[np.float32] | None = None
    text: str | None = None
    exclude_patient: tuple[str, str] | None = None
    exclude_study: tuple[str, str] | None = None
    finding: tuple[str, Polarity] | None = None
    limit: int = 10
    prefetch: int = 50

    def __post_init__(self) -> None:
        if self.box is None and self.text_vector is None and not self.text:
            raise ValueError("a case query needs a box, a text vector or a text")
        if not 1 <= self.limit <= self.prefetch:
            raise ValueError(f"1 <= limit <= prefetch, got {self.limit} and {self.prefetch}")
        if self.finding is not None and self.finding[0] not in FINDINGS:
            raise ValueError(f"unknown finding {self.finding[0]!r}")

    @property
    def scope(self) -> Scope:
        """The tenant's own cases and the public ones."""
        return Scope(self.tenant)

    def filter(self) -> Filter:
        """What every list is filtered by: in use, not this patient, not this study, the finding asked for."""
        must_not: list[Match | HasId] = [Match(WITHDRAWN, 1)]
        if self.exclude_patient is not None:
            must_not.append(Match("patient_key", patient_key(*self.exclude_patient)))
        if self.exclude_study is not None:
            tenants = self.scope.condition().values
            must_not.append(HasId(tuple(case_id(*self.exclude_study, tenant) for tenant in tenants)))
        if self.finding is None:
            return Filter(must_not=tuple(must_not))
        finding, polarity = self.finding
        return Filter(must=(Match(f"labels_{polarity.value}", finding),), must_not=tuple(must_not))


@dataclass(frozen=True, eq=False)
class CaseHit:
    """A case found: its fused score, its rank (from 1) in each list that has it, and its box beside the one asked for.

    `w2` is the 2-Wasserstein distance between the boxes, `box_overlap` their mean interval IoU in [0, 1], `box` the case's;
    all are None when the query or the case has no box.
    """

    case: Case
    score: float
    ranks: Mapping[str, int]
    w2: float | None
    box_overlap: float | None
    box: BoxLatent | None = None


@dataclass(frozen=True, eq=False)
class CaseHits:
    """Hits by score, best first, equal scores by id; and how many records were passed over as damaged."""

    hits: tuple[CaseHit, ...]
    damaged: int = 0


class CaseSearch:
    """Hybrid search over a cases collection that `store` has opened.

    Raises what the store raises: no answer is never an empty one.
    """

    def __init__(self, store: KnowledgeStore, names: VectorNames, *, k: int = RRF_K, collection: str = CASES) -> None:
        self._store = store
        self._names = names
        self._k = k
        self._collection = collection

    def search(self, query: CaseQuery) -> CaseHits:
        """The best `query.limit` cases by reciprocal rank fusion over the lists that the query can ask for."""
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[CaseQuery]) -> tuple[CaseHits, ...]:
        """The answers to queries of one tenant, as `search` gives them, with all lists and all records asked for at once."""
        if len({q.tenant for q in queries}) != 1:
            raise ValueError("queries that are asked together have one tenant")
        lists = [self._lists(q) for q in queries]
        wanted = [nearest for some in lists for nearest in some.values()]
        ranked = iter(self._store.ranked(self._collection, wanted, queries[0].scope) if wanted else ())
        rankings = [{name: [hit.id for hit in next(ranked)] for name in some} for some in lists]
        fused = [reciprocal_rank_fusion(r, self._k) for r in rankings]
        vectors = [self._names.box] if any(q.box is not None for q in queries) else []
        records = _Records(self._store, self._collection, queries[0].scope, vectors)
        records.read([f.id for q, found in zip(queries, fused, strict=True) for f in found[: q.limit]])
        return tuple(self._best(q, found, records) for q, found in zip(queries, fused, strict=True))

    def coverage(self, tenant: str) -> dict[str, int]:
        """How many cases in use state each finding as present, in CheXpert order; 0 is an answer too."""
        in_use = Filter(must_not=(Match(WITHDRAWN, 1),))
        counts = self._store.facet(self._collection, "labels_positive", Scope(tenant), in_use)
        return {finding: counts.get(finding, 0) for finding in FINDINGS}

    def _lists(self, query: CaseQuery) -> dict[str, Nearest]:
        """The lists to ask for, each with the whole filter inside."""
        wanted = query.filter()
        lists: dict[str, Nearest] = {}
        if query.box is not None:
            lists[BY_BOX] = Nearest(self._names.box, query.box.vector(), query.prefetch, wanted)
        if query.text_vector is not None:
            lists[BY_TEXT] = Nearest(self._names.text, query.text_vector, query.prefetch, wanted)
        if query.text and (words := query_vector(query.text)) is not None:
            lists[BY_WORDS] = Nearest(self._names.sparse, words, query.prefetch, wanted)
        return lists

    def _best(self, query: CaseQuery, fused: list[Fused[UUID]], records: _Records) -> CaseHits:
        """The first `query.limit` that can be read, and how many were damaged. One deleted meanwhile is neither."""
        hits: list[CaseHit] = []
        damaged = 0
        while fused and len(hits) < query.limit:
            some, fused = fused[: query.limit - len(hits)], fused[query.limit - len(hits) :]
            records.read([entry.id for entry in some])
            damaged += sum(entry.id in records.damaged for entry in some)
            hits += [self._hit(e, *records.cases[e.id], query.box) for e in some if e.id in records.cases]
        return CaseHits(tuple(hits), damaged)

    def _hit(self, entry: Fused[UUID], case: Case, point: Point, box: BoxLatent | None) -> CaseHit:
        vector = point.vectors.get(self._names.box)
        if box is None or vector is None:
            return CaseHit(case, entry.score, entry.ranks, None, None)
        w2 = float(np.linalg.norm(vector.astype(np.float64) - box.vector()))
        own = BoxLatent.from_vector(vector)
        return CaseHit(case, entry.score, entry.ranks, w2, own.overlap(box), own)


class _Records:
    """The cases of some ids with their points, each read and checked once; and the ids whose records are damaged."""

    def __init__(self, store: KnowledgeStore, collection: str, scope: Scope, vectors: Sequence[str]) -> None:
        self._store, self._collection, self._scope, self._vectors = store, collection, scope, vectors
        self._asked: set[UUID] = set()
        self.cases: dict[UUID, tuple[Case, Point]] = {}
        self.damaged: set[UUID] = set()

    def read(self, ids: Sequence[UUID]) -> None:
        """Fetch those not asked for before."""
        missing = [i for i in dict.fromkeys(ids) if i not in self._asked]
        if not missing:
            return
        self._asked.update(missing)
        fetched = self._store.get(self._collection, missing, self._scope, self._vectors)
        self.damaged.update(fetched.damaged)
        for point in fetched.points:
            try:
                self.cases[point.id] = from_payload(point.payload), point
            except (DamagedRecordError, RecordError):
                self.damaged.add(point.id)
