"""Every read that leaves a tenant's own index is written down before it is answered: who read, which ids, how many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from knowledge_base.audit_log import AuditLog
from knowledge_base.forwarding import ForwardingStore
from knowledge_base.schema import GUIDELINES
from knowledge_base.store import (
    EVERYTHING,
    PUBLIC,
    Fetched,
    Filter,
    Hit,
    KnowledgeStore,
    Nearest,
    Page,
    Point,
    Scope,
)
from knowledge_base.withdrawals import WITHDRAWALS

_NO_PATIENTS: Final = frozenset({GUIDELINES, WITHDRAWALS})
"""Collections that hold nothing of a patient: published guidance, and ids."""


@dataclass(frozen=True)
class Asker:
    """On whose behalf a read happens: the program or caller, and the request's id."""

    actor: str | None = None
    request: str | None = None


_NOBODY: Final = Asker()
_ASKER: ContextVar[Asker] = ContextVar("asker", default=_NOBODY)


@contextmanager
def asking(actor: str, request: str | None = None) -> Iterator[None]:
    """Reads inside are written down as this actor's and this request's."""
    token = _ASKER.set(Asker(actor, request))
    try:
        yield
    finally:
        _ASKER.reset(token)


class AuditedStore(ForwardingStore):
    """`KnowledgeStore` that writes an event for each read of a tenant that reaches the public index.

    - `get` and `scroll`, which give records: one event with the ids of those that are not the tenant's own.
    - `ranked`, `ids`, `count` and `facet`, which give no record: one event with how much was answered.
    - ids that `get` was asked for and did not give, whoever asks: one event with outcome "absent". Another tenant's
      record and none at all are the same to it. A scope of the tenant's index alone, as indexing has, is left out.

    Raises what `AuditLog.append` raises: an answer that cannot be written down is not given.
    """

    def __init__(self, inner: KnowledgeStore, log: AuditLog) -> None:
        super().__init__(inner)
        self._log = log

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """See `KnowledgeStore.get`."""
        fetched = self._inner.get(collection, ids, scope, vectors)
        if scope.also_public and collection not in _NO_PATIENTS:
            self._records("get", collection, scope, fetched.points)
            given = {*(p.id for p in fetched.points), *fetched.damaged}
            if absent := [i for i in dict.fromkeys(ids) if i not in given]:
                self._event("get", collection, scope, "absent", absent, len(absent))
        return fetched

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
        page = self._inner.scroll(collection, scope, after=after, limit=limit, wanted=wanted, vectors=vectors)
        self._records("scroll", collection, scope, page.points)
        return page

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        lists = self._inner.ranked(collection, prefetches, scope)
        self._numbers("ranked", collection, scope, sum(map(len, lists)))
        return lists

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """See `KnowledgeStore.ids`."""
        found = self._inner.ids(collection, scope, wanted)
        self._numbers("ids", collection, scope, len(found))
        return found

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """See `KnowledgeStore.count`."""
        found = self._inner.count(collection, scope, wanted)
        self._numbers("count", collection, scope, found)
        return found

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """See `KnowledgeStore.facet`."""
        found = self._inner.facet(collection, key, scope, wanted)
        self._numbers("facet", collection, scope, sum(found.values()))
        return found

    def close(self) -> None:
        """See `KnowledgeStore.close`."""
        self._inner.close()
        self._log.close()

    def _records(self, operation: str, collection: str, scope: Scope, points: Iterable[Point]) -> None:
        if not _leaves(collection, scope):
            return
        if foreign := [p.id for p in points if p.payload.get("tenant") != scope.tenant]:
            self._event(operation, collection, scope, "given", foreign, len(foreign))

    def _numbers(self, operation: str, collection: str, scope: Scope, count: int) -> None:
        if _leaves(collection, scope) and count:
            self._event(operation, collection, scope, "given", (), count)

    def _event(
        self, operation: str, collection: str, scope: Scope, outcome: str, ids: Sequence[UUID], count: int
    ) -> None:
        asker = _ASKER.get()
        event: dict[str, Any] = {
            "tenant": scope.tenant,
            "actor": asker.actor,
            "request": asker.request,
            "operation": operation,
            "collection": collection,
            "outcome": outcome,
            "ids": [str(i) for i in ids],
            "count": count,
        }
        self._log.append(event)


def _leaves(collection: str, scope: Scope) -> bool:
    """Whether a read of this scope can give what is another tenant's."""
    return scope.also_public and scope.tenant != PUBLIC and collection not in _NO_PATIENTS
