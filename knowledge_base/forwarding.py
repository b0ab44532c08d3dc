"""A store that asks another store: the base of those that add one duty to the engine they stand before."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from knowledge_base.schema import CollectionSchema, IndexManifest
from knowledge_base.store import (
    EVERYTHING,
    Fetched,
    Filter,
    Health,
    Hit,
    KnowledgeStore,
    Nearest,
    Page,
    Point,
    Scope,
)


class ForwardingStore:
    """`KnowledgeStore` that hands every call to `inner`, scope and filter as they came."""

    def __init__(self, inner: KnowledgeStore) -> None:
        self._inner = inner

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """See `KnowledgeStore.open`."""
        self._inner.open(schema, manifest)

    def manifest(self, collection: str) -> IndexManifest | None:
        """See `KnowledgeStore.manifest`."""
        return self._inner.manifest(collection)

    def schema(self, collection: str) -> CollectionSchema | None:
        """See `KnowledgeStore.schema`."""
        return self._inner.schema(collection)

    def swap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """See `KnowledgeStore.swap`."""
        self._inner.swap(pairs)

    def drop(self, collection: str) -> None:
        """See `KnowledgeStore.drop`."""
        self._inner.drop(collection)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `KnowledgeStore.upsert`."""
        self._inner.upsert(collection, points)

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """See `KnowledgeStore.get`."""
        return self._inner.get(collection, ids, scope, vectors)

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        return self._inner.ranked(collection, prefetches, scope)

    def scroll(
        self,
        collection: str,
        scope: Scope,
        *,
        after: UUID | None = None,
        limit: int = 256,
        wanted: Filter = EVERYTHING,
        vectors: Sequence[str] = (),
    ) -> Page:
        """See `KnowledgeStore.scroll`."""
        return self._inner.scroll(collection, scope, after=after, limit=limit, wanted=wanted, vectors=vectors)

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """See `KnowledgeStore.ids`."""
        return self._inner.ids(collection, scope, wanted)

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """See `KnowledgeStore.count`."""
        return self._inner.count(collection, scope, wanted)

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """See `KnowledgeStore.facet`."""
        return self._inner.facet(collection, key, scope, wanted)

    def tenants(self, collection: str) -> dict[str, int]:
        """See `KnowledgeStore.tenants`."""
        return self._inner.tenants(collection)

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """See `KnowledgeStore.set_withdrawn`."""
        self._inner.set_withdrawn(collection, ids, tenant, withdrawn)

    def delete(self, collection: str, ids: Sequence[UUID], tenant: str) -> None:
        """See `KnowledgeStore.delete`."""
        self._inner.delete(collection, ids, tenant)

    def optimize(self, collection: str) -> None:
        """See `KnowledgeStore.optimize`."""
        self._inner.optimize(collection)

    def health(self) -> Health:
        """See `KnowledgeStore.health`."""
        return self._inner.health()

    def close(self) -> None:
        """See `KnowledgeStore.close`."""
        self._inner.close()
