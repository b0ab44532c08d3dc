"""One store's records brought to another: resumable, the same however often it runs, checked at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from knowledge_base.archive import words_of
from knowledge_base.errors import StoreError, StoreUnavailable
from knowledge_base.pages import all_pages, check_page
from knowledge_base.schema import CASES, WITHDRAWN, CollectionSchema
from knowledge_base.store import SHA256, VECTORS_SHA256, KnowledgeStore, Point, Scope, vectors_digest
from knowledge_base.withdrawals import tombstones

_ATTEMPTS: Final = 6

T = TypeVar("T")


class PushIncomplete(StoreError):
    """The target does not hold what was sent: run the push again."""

    def __init__(self, collection: str, ids: Sequence[UUID]) -> None:
        super().__init__(f"{len(ids)} records of {collection!r} did not arrive as they were sent (first: {ids[0]})")
        self.ids = tuple(ids)


@dataclass
class Pushed:
    """Records sent, those the target held already, and those found right at the end, by tenant."""

    sent: int = 0
    present: int = 0
    verified: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Push:
    """From `source` to `target`, both with the collections opened. `wait` sleeps while the target is out of reach.

    The target keeps what it has besides: nothing is removed there, and what is withdrawn there stays withdrawn.
    """

    source: KnowledgeStore
    target: KnowledgeStore
    wait: Callable[[float], None] = time.sleep

    def send(self, schema: CollectionSchema, pushed: Pushed) -> Iterator[int]:
        """Send what the target lacks, every tenant's; yields the size of each page once it is stored there.

        Raises `DamagedRecordError` at a record that fails its checksum, `StoreUnavailable` when the target stays out
        of reach, and what either store raises.
        """
        for tenant, page in all_pages(self.source, schema):
            check_page(page)
            held = self._held(schema, tenant, page.points)
            fresh = [p for p in page.points if not _same(p, held.get(p.id))]
            sparse = [replace(p, sparse=words_of(schema, p.payload)) for p in fresh]
            if sparse:
                self._patiently(partial(self.target.upsert, schema.name, sparse))
            pushed.sent += len(fresh)
            pushed.present += len(page.points) - len(fresh)
            yield len(page.points)

    def withdraw(self) -> None:
        """Take over every withdrawal, those of cases that are no longer stored too."""
        for tenant, cases in tombstones(self.source):
            self._patiently(partial(self.target.set_withdrawn, CASES, cases, tenant))

    def verify(self, schema: CollectionSchema, pushed: Pushed) -> Iterator[int]:
        """Read everything back from the target, vectors included; raises `PushIncomplete` when it is not the same."""
        for tenant, page in all_pages(self.source, schema):
            held = self._held(schema, tenant, page.points, list(schema.dense))
            wrong = [p.id for p in page.points if not _arrived(p, held.get(p.id))]
            if wrong:
                raise PushIncomplete(schema.name, wrong)
            pushed.verified[tenant] = pushed.verified.get(tenant, 0) + len(page.points)
            yield len(page.points)

    def _held(
        self, schema: CollectionSchema, tenant: str, points: Sequence[Point], vectors: Sequence[str] = ()
    ) -> dict[UUID, Point]:
        ids, scope = [p.id for p in points], Scope(tenant, also_public=False)
        fetched = self._patiently(partial(self.target.get, schema.name, ids, scope, vectors))
        return {p.id: p for p in fetched.points}

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until the target answers, waiting longer each time, at most _ATTEMPTS times."""
        for attempt in range(1, _ATTEMPTS):
            try:
                return ask()
            except StoreUnavailable as error:
                self.wait(error.retry_after_seconds * attempt)
        return ask()


def _same(point: Point, held: Point | None) -> bool:
    """Whether the target's record says the same, and is withdrawn if ours is."""
    if held is None or held.payload.get(SHA256) != point.payload[SHA256]:
        return False
    return bool(held.payload[WITHDRAWN] or not point.payload[WITHDRAWN])


def _arrived(point: Point, held: Point | None) -> bool:
    return held is not None and _same(point, held) and vectors_digest(held.vectors) == point.payload[VECTORS_SHA256]
