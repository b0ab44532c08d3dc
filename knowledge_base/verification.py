"""Reads a whole collection back and names the records that are no longer what was stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from knowledge_base.schema import CollectionSchema
from knowledge_base.store import VECTORS_SHA256, KnowledgeStore, Scope, vectors_digest


@dataclass(frozen=True)
class Verification:
    """How many records each tenant has, and the ids of those whose payload or dense vectors fail their checksum."""

    checked: Mapping[str, int]
    damaged: tuple[UUID, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged


def verify(store: KnowledgeStore, schema: CollectionSchema) -> Verification:
    """Check every record of an open collection, tenant by tenant. Raises what the store raises."""
    checked: dict[str, int] = {}
    damaged: list[UUID] = []
    for tenant in store.tenants(schema.name):
        seen, bad = _verify_tenant(store, schema, Scope(tenant, also_public=False))
        checked[tenant] = seen
        damaged.extend(bad)
    return Verification(checked, tuple(sorted(damaged)))


def _verify_tenant(store: KnowledgeStore, schema: CollectionSchema, scope: Scope) -> tuple[int, list[UUID]]:
    damaged: list[UUID] = []
    seen, after, more = 0, None, True
    while more:
        page = store.scroll(schema.name, scope, after=after, vectors=list(schema.dense))
        damaged += page.damaged
        damaged += [p.id for p in page.points if p.payload.get(VECTORS_SHA256) != vectors_digest(p.vectors)]
        seen += len(page.points) + len(page.damaged)
        after, more = page.next_after, page.next_after is not None
    return seen, damaged
