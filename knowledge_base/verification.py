"""Reads a whole collection back, every tenant, and names the records that are not what they should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from knowledge_base.errors import DamagedRecordError
from knowledge_base.pages import all_pages
from knowledge_base.schema import WITHDRAWN, CollectionSchema
from knowledge_base.store import VECTORS_SHA256, Filter, HasId, KnowledgeStore, Match, Point, Scope, vectors_digest
from knowledge_base.withdrawals import tombstones

NO_TEXT_VECTOR: Final = "no_text_vector"
REGIONS_WITHOUT_BOX: Final = "regions_without_box"
WITHDRAWN_YET_RANKED: Final = "withdrawn_yet_ranked"
_GONE: Final = Match(WITHDRAWN, 1)


@dataclass(frozen=True)
class Verification:
    """How many records each tenant has, and what is wrong with which.

    `damaged`: payload or dense vectors fail their checksum, or the payload is no record, or that of another id.
    `orphans`: by reason, records that lack a vector their collection requires, or that a search would still find
    although they are withdrawn.
    `unreachable`: records of no tenant, which no read can see.
    """

    checked: Mapping[str, int]
    damaged: tuple[UUID, ...]
    orphans: Mapping[str, tuple[UUID, ...]] = field(default_factory=dict)
    unreachable: int = 0

    @property
    def intact(self) -> bool:
        """Whether nothing is damaged, orphaned or out of reach."""
        return not self.damaged and not self.orphans and not self.unreachable


def verify(
    store: KnowledgeStore, schema: CollectionSchema, read: Callable[[Mapping[str, Any]], object] = dict
) -> Verification:
    """Check every record of an open collection, tenant by tenant.

    `read` makes the collection's noun of a payload and raises `DamagedRecordError` when it is none. Raises what the
    store raises.
    """
    checked: dict[str, int] = dict.fromkeys(store.tenants(schema.name), 0)
    damaged: list[UUID] = []
    orphans: dict[str, set[UUID]] = defaultdict(set)
    for tenant, page in all_pages(store, schema):
        checked[tenant] += len(page.points) + len(page.damaged)
        damaged += [*page.damaged, *(p.id for p in page.points if not _sound(p, read))]
        for reason, identity in _orphans(page.points, schema):
            orphans[reason].add(identity)
        withdrawn = [p.id for p in page.points if p.payload[WITHDRAWN]]
        orphans[WITHDRAWN_YET_RANKED].update(_ranked(store, schema, tenant, withdrawn))
    for tenant, cases in tombstones(store):
        orphans[WITHDRAWN_YET_RANKED].update(_ranked(store, schema, tenant, cases))
    held = store.health().collections.get(schema.name, 0)
    return Verification(
        checked,
        tuple(sorted(damaged)),
        {reason: tuple(sorted(ids)) for reason, ids in orphans.items() if ids},
        max(0, held - sum(checked.values())),
    )


def _sound(point: Point, read: Callable[[Mapping[str, Any]], object]) -> bool:
    if point.payload.get(VECTORS_SHA256) != vectors_digest(point.vectors):
        return False
    try:
        noun = read(point.payload)
    except DamagedRecordError:
        return False
    return getattr(noun, "id", point.id) == point.id


def _orphans(points: Sequence[Point], schema: CollectionSchema) -> Iterator[tuple[str, UUID]]:
    """Points without a vector that their layout or another of their vectors requires."""
    requires_text = any(_kind(n) == "text" for n in schema.dense)
    for point in points:
        kinds = {_kind(n) for n in point.vectors}
        if requires_text and "text" not in kinds:
            yield NO_TEXT_VECTOR, point.id
        if "region" in kinds and "box" not in kinds:
            yield REGIONS_WITHOUT_BOX, point.id


def _kind(vector_name: str) -> str:
    return vector_name.split(".", 1)[0]


def _ranked(store: KnowledgeStore, schema: CollectionSchema, tenant: str, withdrawn: Sequence[UUID]) -> list[UUID]:
    """Those of the withdrawn points that the filter of every search would let through."""
    if not withdrawn:
        return []
    passing = Filter(must=(HasId(tuple(withdrawn)),), must_not=(_GONE,))
    return store.ids(schema.name, Scope(tenant, also_public=False), passing)
