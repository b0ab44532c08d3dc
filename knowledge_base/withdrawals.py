"""Withdrawn cases stay withdrawn: a tombstone for each, in a collection of its own that no rebuilding touches.

The flag in a case's payload takes it out of every search; it goes when the case is deleted or the index is made anew.
The tombstone does not: it holds a tenant and the case's id, nothing else, and whatever is stored under that id later
arrives withdrawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID, uuid5

import numpy as np

from knowledge_base.forwarding import ForwardingStore
from knowledge_base.pages import all_pages
from knowledge_base.schema import WITHDRAWN, CollectionSchema, IndexKind, IndexManifest, TermWeights
from knowledge_base.store import Health, KnowledgeStore, Point, Scope, SparseVector

WITHDRAWALS: Final = "withdrawals"
_CASE: Final = "case"
_MARK: Final = "mark"
SCHEMA: Final = CollectionSchema(
    name=WITHDRAWALS,
    dense={},
    sparse={_MARK: TermWeights()},
    payload_indexes={"tenant": IndexKind.KEYWORD, WITHDRAWN: IndexKind.INTEGER},
)
MANIFEST: Final = IndexManifest(None, "none@1", None, None, None, 1, schema_version=1)
"""Bound to no model: tombstones outlive every change of one."""


def tombstone_id(case: UUID, tenant: str) -> UUID:
    """UUIDv5 of the tenant under the case's id: no tenant can overwrite another's tombstone."""
    return uuid5(case, tenant)


def withdrawn_among(store: KnowledgeStore, cases: Iterable[UUID], scope: Scope) -> set[UUID]:
    """Those of the cases that have a tombstone of a tenant in scope; a tombstone that is damaged counts."""
    stones = {tombstone_id(case, tenant): case for case in cases for tenant in scope.condition().values}
    fetched = store.get(WITHDRAWALS, list(stones), scope)
    return {stones[i] for i in (*(p.id for p in fetched.points), *fetched.damaged)}


def tombstones(store: KnowledgeStore) -> Iterator[tuple[str, list[UUID]]]:
    """The withdrawn cases of every tenant, page by page; none where no tombstone was ever kept."""
    if store.manifest(WITHDRAWALS) is None:
        return
    store.open(SCHEMA, MANIFEST)
    for tenant, page in all_pages(store, SCHEMA):
        yield tenant, [UUID(p.payload[_CASE]) for p in page.points]


class WithdrawalKeeper(ForwardingStore):
    """`KnowledgeStore` whose withdrawals outlive deletion, re-indexing, import and a new index.

    `set_withdrawn` may name cases that are not there yet. Tombstones are written before the flag and removed before it:
    cut short, a withdrawal or a restoration leaves the case withdrawn.
    """

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """See `KnowledgeStore.open`."""
        self._inner.open(schema, manifest)
        self._inner.open(SCHEMA, MANIFEST)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `KnowledgeStore.upsert`. A point that comes with its flag set leaves a tombstone, too."""
        by_tenant = _by_tenant(points)
        dead = {
            case
            for tenant, some in by_tenant.items()
            for case in withdrawn_among(self._inner, (p.id for p in some), Scope(tenant, also_public=False))
        }
        self._inner.upsert(collection, [_flagged(p) if p.id in dead else p for p in points])
        for tenant, some in by_tenant.items():
            self._bury([p.id for p in some if p.payload.get(WITHDRAWN) and p.id not in dead], tenant)

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """See `KnowledgeStore.set_withdrawn`."""
        if withdrawn:
            self._bury(ids, tenant)
        else:
            self._inner.delete(WITHDRAWALS, [tombstone_id(i, tenant) for i in ids], tenant)
        self._inner.set_withdrawn(collection, ids, tenant, withdrawn)

    def swap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """See `KnowledgeStore.swap`. What was withdrawn while a newcomer was being filled is withdrawn there first."""
        for _, newcomer in pairs:
            self._mark(newcomer)
        self._inner.swap(pairs)

    def health(self) -> Health:
        """See `KnowledgeStore.health`; the tombstones are not counted among the collections."""
        health = self._inner.health()
        return replace(health, collections={n: c for n, c in health.collections.items() if n != WITHDRAWALS})

    def _bury(self, cases: Sequence[UUID], tenant: str) -> None:
        if cases:
            self._inner.upsert(WITHDRAWALS, [_tombstone(case, tenant) for case in cases])

    def _mark(self, collection: str) -> None:
        """Set the flag of every case of a collection that has a tombstone."""
        for tenant, cases in tombstones(self._inner):
            self._inner.set_withdrawn(collection, cases, tenant)


def _by_tenant(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points by tenant, those that name none left out: the store refuses them."""
    found: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        tenant = point.payload.get("tenant")
        if isinstance(tenant, str) and tenant:
            found[tenant].append(point)
    return found


def _flagged(point: Point) -> Point:
    return replace(point, payload={**point.payload, WITHDRAWN: 1})


def _tombstone(case: UUID, tenant: str) -> Point:
    mark = SparseVector(np.zeros(1, np.uint32), np.ones(1, np.float32))
    return Point(tombstone_id(case, tenant), {}, {_MARK: mark}, {"tenant": tenant, _CASE: str(case)})
