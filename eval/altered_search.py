"""Searches that answer less, or worse, than the knowledge base does: to see what a draft owes to its evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import replace
from uuid import UUID

import numpy as np

from knowledge_base.cases import from_payload
from knowledge_base.records import Case
from knowledge_base.schema import CASES
from knowledge_base.search import CaseHit, CaseHits, CaseQuery, CaseSearch
from knowledge_base.store import KnowledgeStore, Scope


class Without(CaseSearch):
    """A search that never finds some cases."""

    def __init__(self, whole: CaseSearch, hidden: Set[UUID]) -> None:
        self._whole, self._hidden = whole, hidden

    def search_many(self, queries: Sequence[CaseQuery]) -> tuple[CaseHits, ...]:
        """What the whole search finds, less the hidden."""
        answers = self._whole.search_many(queries)
        return tuple(replace(a, hits=tuple(h for h in a.hits if h.case.id not in self._hidden)) for a in answers)

    def coverage(self, tenant: str) -> dict[str, int]:
        """As the whole search counts."""
        return self._whole.coverage(tenant)


class Noisy(CaseSearch):
    """A search in which a share of the cases found is exchanged for cases of `pool`, drawn by seed, that were not looked for.

    A stranger takes the place and the scores of the case it replaces, so that neither rank nor distance gives it away.
    """

    def __init__(self, whole: CaseSearch, pool: Sequence[Case], share: float, seed: int) -> None:
        self._whole, self._strangers, self._share, self._seed = whole, pool, share, seed

    def search_many(self, queries: Sequence[CaseQuery]) -> tuple[CaseHits, ...]:
        """What the whole search finds, a share of it exchanged; nobody's own case comes back that way."""
        answers = self._whole.search_many(queries)
        return tuple(
            replace(a, hits=tuple(e for h in a.hits if (e := self._exchanged(h, q)) is not None))
            for q, a in zip(queries, answers, strict=True)
        )

    def coverage(self, tenant: str) -> dict[str, int]:
        """As the whole search counts."""
        return self._whole.coverage(tenant)

    def _exchanged(self, hit: CaseHit, query: CaseQuery) -> CaseHit | None:
        """The hit itself or a stranger, the same for a case wherever it is found; None where the stranger is the patient's own."""
        drawn = hashlib.sha256(f"{self._seed}/{hit.case.id}".encode()).digest()
        if int.from_bytes(drawn[:4], "big") >= self._share * 2**32:
            return hit
        stranger = self._strangers[int.from_bytes(drawn[4:8], "big") % len(self._strangers)]
        own = (stranger.source, stranger.patient) == query.exclude_patient
        return None if own else replace(hit, case=stranger)


def strangers(store: KnowledgeStore, tenant: str, limit: int, seed: int) -> list[Case]:
    """At most `limit` of the cases that a tenant may see, drawn by seed."""
    scope = Scope(tenant)
    ids = sorted(store.ids(CASES, scope))
    drawn = np.random.default_rng(seed).permutation(len(ids))[:limit].tolist()
    return [from_payload(p.payload) for p in store.get(CASES, [ids[i] for i in drawn], scope).points]
