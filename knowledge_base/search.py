"""Similar prior studies by film, by a region of it, by words, or all of them: filtered lists from the store, fused by rank, read
back, compared with what was asked and ordered by that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from knowledge_base.bm25 import query_vector
from knowledge_base.cases import VectorNames, patient_key
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.fusion import BY_BOX, BY_REGION, BY_TEXT, BY_WORDS, RRF_K, WEIGHTS, Fused, reciprocal_rank_fusion
from knowledge_base.pool import Pool, Records, rows
from knowledge_base.records import BoxLatent, Case, case_id
from knowledge_base.rerank import FEATURES, Asked, Candidates, Reranker, features, stated_findings
from knowledge_base.schema import CASES, WITHDRAWN
from knowledge_base.store import Filter, HasId, KnowledgeStore, Match, Nearest, Scope
from knowledge_base.zones import ZONES

RERANKED: Final = 30
"""Fused candidates that are compared and put in order; more than these changed nothing on the calibration studies."""
_W2, _OVERLAP = FEATURES.index("w2"), FEATURES.index("box_overlap")


@dataclass(frozen=True, eq=False)
class CaseQuery:
    """What to look for, and what must not come back.

    At least one of `box`, `region`, `text_vector` (shape of the text encoder) and `text` is given. `region` is the zone of a box on
    the film and its unit vector. `probabilities` are calibrated chances of findings on the film, of some or all: a re-ranker
    compares them with what cases state. `exclude_patient` and `exclude_study` are (source, patient) and (source, study);
    `finding` keeps the cases that state it so. `diverse` puts the best first that are unlike each other.
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
    region: tuple[str, NDArray[np.float32]] | None = None
    probabilities: Mapping[str, float] | None = None
    diverse: bool = False

    def __post_init__(self) -> None:
        if self.box is None and self.region is None and self.text_vector is None and not self.text:
            raise ValueError("a case query needs a box, a region, a text vector or a text")
        if self.region is not None and self.region[0] not in ZONES:
            raise ValueError(f"unknown zone {self.region[0]!r}")
        for finding, p in (self.probabilities or {}).items():
            if finding not in FINDINGS or not 0.0 <= p <= 1.0:
                raise ValueError(f"{p} is no probability of a finding called {finding!r}")
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

    @cached_property
    def asked(self) -> Asked:
        """What candidates are compared with."""
        told = self.probabilities
        return Asked(
            box=None if self.box is None else self.box.vector(),
            text=None if self.text_vector is None else _unit(self.text_vector),
            region=None if self.region is None else _unit(self.region[1]),
            chances=np.array([told.get(f, math.nan) for f in FINDINGS]) if told else None,
        )


@dataclass(frozen=True, eq=False)
class CaseHit:
    """A case found: its fused score, its rank (from 1) in each list that has it, and its box beside the one asked for.

    `w2` is the 2-Wasserstein distance between the boxes, `box_overlap` their mean interval IoU in [0, 1], `box` the case's;
    all are None when the query or the case has no box. `reranked` is the re-ranker's score and `features` what it was made from
    (see `rerank.FEATURES`; None for what query or case lacks); both are None without a re-ranker.
    """

    case: Case
    score: float
    ranks: Mapping[str, int]
    w2: float | None
    box_overlap: float | None
    box: BoxLatent | None = None
    reranked: float | None = None
    features: Mapping[str, float | None] | None = None


@dataclass(frozen=True, eq=False)
class CaseHits:
    """Hits, best first; and how many records were passed over as damaged.

    By the re-ranker's score where there is one, else by the fused score, equal ones by id; a diverse answer in the order in
    which maximal marginal relevance chose them.
    """

    hits: tuple[CaseHit, ...]
    damaged: int = 0


class CaseSearch:
    """Hybrid search over a cases collection that `store` has opened, re-ranked when there is a `reranker`.

    Raises what the store raises: no answer is never an empty one.
    """

    def __init__(
        self,
        store: KnowledgeStore,
        names: VectorNames,
        *,
        reranker: Reranker | None = None,
        k: int = RRF_K,
        weights: Mapping[str, float] = WEIGHTS,
        collection: str = CASES,
    ) -> None:
        self._store = store
        self._names = names
        self._reranker = reranker
        self._k = k
        self._weights = weights
        self._collection = collection

    def search(self, query: CaseQuery) -> CaseHits:
        """The best `query.limit` cases: by weighted reciprocal rank fusion over the lists that the query can ask for, the first
        of them put in order by the re-ranker, and chosen to be unlike each other when the query wants that.
        """
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[CaseQuery]) -> tuple[CaseHits, ...]:
        """The answers to queries of one tenant, as `search` gives them, with all lists and all records asked for at once."""
        if len({q.tenant for q in queries}) != 1:
            raise ValueError("queries that are asked together have one tenant")
        lists = [self._lists(q) for q in queries]
        wanted = [nearest for some in lists for nearest in some.values()]
        ranked = iter(self._store.ranked(self._collection, wanted, queries[0].scope) if wanted else ())
        rankings = [{name: [hit.id for hit in next(ranked)] for name in some} for some in lists]
        fused = [reciprocal_rank_fusion(r, self._k, self._weights) for r in rankings]
        records = Records(self._store, self._collection, queries[0].scope, self._vectors(queries))
        records.read(f.id for q, found in zip(queries, fused, strict=True) for f in found[: self._compared(q)])
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
        if query.region is not None:
            zone, vector = query.region
            lists[BY_REGION] = Nearest(self._names.regions[zone], vector, query.prefetch, wanted)
        if query.text_vector is not None:
            lists[BY_TEXT] = Nearest(self._names.text, query.text_vector, query.prefetch, wanted)
        if query.text and (words := query_vector(query.text)) is not None:
            lists[BY_WORDS] = Nearest(self._names.sparse, words, query.prefetch, wanted)
        return lists

    def _vectors(self, queries: Sequence[CaseQuery]) -> list[str]:
        """The vectors of candidates that some query compares."""
        names: dict[str, None] = {}
        for query in queries:
            if query.box is not None:
                names[self._names.box] = None
            if query.diverse or (self._reranker is not None and query.text_vector is not None):
                names[self._names.text] = None
            if self._reranker is not None and query.region is not None:
                names[self._names.regions[query.region[0]]] = None
        return list(names)

    def _compared(self, query: CaseQuery) -> int:
        """How many fused candidates are put in order together."""
        return max(query.limit, RERANKED) if self._reranker is not None or query.diverse else query.limit

    def _best(self, query: CaseQuery, fused: list[Fused[UUID]], records: Records) -> CaseHits:
        """The first `query.limit` that can be read, and how many were damaged. One deleted meanwhile is neither."""
        hits: list[CaseHit] = []
        damaged, compared = 0, self._compared(query)
        while fused and len(hits) < query.limit:
            some, fused = fused[:compared], fused[compared:]
            records.read(entry.id for entry in some)
            pool = self._pool([e for e in some if e.id in records.points], query, records)
            for row in pool.order(query.limit - len(hits), diverse=query.diverse):
                if (case := records.case(pool.entries[row].id)) is not None:
                    hits.append(self._hit(pool, row, case))
                if len(hits) == query.limit:
                    break
            damaged += sum(entry.id in records.damaged for entry in some)
        return CaseHits(tuple(hits), damaged)

    def _pool(self, entries: list[Fused[UUID]], query: CaseQuery, records: Records) -> Pool:
        """Candidates with all that they are compared by."""
        points = [records.points[e.id] for e in entries]
        cases = Candidates(
            stated=stated_findings([p.payload for p in points]),
            fused=np.array([e.score for e in entries]),
            boxes=rows(points, self._names.box),
            texts=rows(points, self._names.text),
            regions=None if query.region is None else rows(points, self._names.regions[query.region[0]]),
        )
        found = features(query.asked, cases)
        return Pool(entries, cases, found, None if self._reranker is None else self._reranker.scores(found))

    @staticmethod
    def _hit(pool: Pool, row: int, case: Case) -> CaseHit:
        """A candidate as it is answered."""
        entry, found = pool.entries[row], [None if math.isnan(v) else v for v in pool.features[row].tolist()]
        boxes = None if found[_W2] is None else pool.cases.boxes
        return CaseHit(
            case=case,
            score=entry.score,
            ranks=entry.ranks,
            w2=found[_W2],
            box_overlap=found[_OVERLAP],
            box=None if boxes is None else BoxLatent.from_vector(boxes[row]),
            reranked=None if pool.reranked is None else float(pool.reranked[row]),
            features=None if pool.reranked is None else dict(zip(FEATURES, found, strict=True)),
        )


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector as the store compares it."""
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
