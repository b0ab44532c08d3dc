"""The knowledge store on a Qdrant server or cluster, through qdrant-client (whose local mode serves for tests).

Layout and manifest are the collection's own metadata, {"schema", "manifest"}: made with it, in one request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from qdrant_client import QdrantClient, models

from knowledge_base.errors import CollectionMissing, StoreError, StoreProtocolError, StoreUnavailable
from knowledge_base.fusion import cut_ties
from knowledge_base.schema import WITHDRAWN, CollectionSchema, Distance, IndexManifest
from knowledge_base.server_wire import (
    index_params,
    make_filter,
    make_point,
    make_query,
    mapped_errors,
    read_id,
    read_points,
    sparse_params,
    vector_params,
)
from knowledge_base.store import (
    EVERYTHING,
    FACET_LIMIT,
    Fetched,
    Filter,
    HasId,
    Health,
    Hit,
    Match,
    Nearest,
    Page,
    Point,
    Scope,
    checked_nearest,
    checked_point,
    confined,
    sound,
)

_BATCH: Final = 256
_IDS_PAGE: Final = 10_000
_WRITE_SECONDS: Final = 60

T = TypeVar("T")


def connect(url: str, api_key: str | None = None, *, read_seconds: int = 2) -> ServerStore:
    """A store on the server or cluster at `url`; nothing is asked of it yet."""
    client = QdrantClient(url=url, api_key=api_key, timeout=read_seconds, check_compatibility=False)
    return ServerStore(client, read_seconds=read_seconds)


class ServerStore:
    """`KnowledgeStore` over a `QdrantClient` whose timeout is `read_seconds`.

    A read that fails within half its budget is asked once more; a write is not. `local` says that the client is
    qdrant-client's local mode, which has no payload indexes and wants one caller at a time.
    """

    def __init__(self, client: QdrantClient, *, read_seconds: float = 2.0, local: bool = False) -> None:
        self._client = client
        self._read_seconds = read_seconds
        self._local = local
        self._turn: AbstractContextManager[Any] = threading.RLock() if local else nullcontext()
        self._opened: dict[str, CollectionSchema] = {}
        self._closed = False

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """See `KnowledgeStore.open`."""
        stored = self._layout(schema.name)
        if stored is None:
            self._make(schema, manifest)
            stored = self._layout(schema.name)
        if stored is None:
            raise StoreProtocolError(f"the store has not made collection {schema.name!r}")
        IndexManifest.from_json(stored["manifest"]).check(manifest, schema.name)
        schema.check(stored["schema"])
        self._index(schema)
        self._opened[schema.name] = schema

    def manifest(self, collection: str) -> IndexManifest | None:
        """See `KnowledgeStore.manifest`."""
        stored = self._layout(collection)
        return IndexManifest.from_json(stored["manifest"]) if stored else None

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `KnowledgeStore.upsert`."""
        schema = self._schema(collection)
        checked = [checked_point(p, schema) for p in points]
        for start in range(0, len(checked), _BATCH):
            batch = checked[start : start + _BATCH]
            kept = self._withdrawn(collection, batch)
            structs = [make_point(p, withdrawn=str(p.id) in kept) for p in batch]
            self._write(collection, partial(self._client.upsert, collection, structs, timeout=_WRITE_SECONDS))

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """See `KnowledgeStore.get`: asked for by filter, so that the server holds the tenants apart."""
        schema = self._schema(collection, vectors)
        wanted = list(dict.fromkeys(ids))
        points: dict[UUID, Point] = {}
        for start in range(0, len(wanted), _BATCH):
            batch = Filter(must=(HasId(tuple(wanted[start : start + _BATCH])),))
            within = confined(schema, scope, batch)
            found = self._scroll(collection, within, None, _BATCH, vectors, payload=True)[0]
            points.update((p.id, p) for p in read_points(found, schema, vectors))
        return Fetched(*sound([points[i] for i in wanted if i in points]))

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        schema = self._schema(collection)
        checked = [checked_nearest(n, schema) for n in prefetches]
        if not checked:
            return []
        found = self._ask(
            collection, [make_query(n, confined(schema, scope, n.filter), scope, n.limit + 1) for n in checked]
        )
        return [self._cut(collection, n, scope, hits) for n, hits in zip(checked, found, strict=True)]

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
        schema = self._schema(collection, vectors)
        within = confined(schema, scope, wanted)
        found, more = self._scroll(collection, within, after, limit, vectors, payload=True)
        points = read_points(found, schema, vectors)
        return Page(*sound(points), next_after=points[-1].id if more and points else None)

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """See `KnowledgeStore.ids`."""
        within = confined(self._schema(collection), scope, wanted)
        found: list[UUID] = []
        more = True
        while more:
            after = found[-1] if found else None
            page, more = self._scroll(collection, within, after, _IDS_PAGE, (), payload=False)
            found.extend(read_id(r.id) for r in page)
        return found

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """See `KnowledgeStore.count`."""
        within = make_filter(confined(self._schema(collection), scope, wanted))
        return int(self._read(collection, lambda: self._client.count(collection, within, exact=True)).count)

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """See `KnowledgeStore.facet`."""
        schema = self._schema(collection)
        schema.check_facet(key)
        return self._facet(collection, key, make_filter(confined(schema, scope, wanted)))

    def tenants(self, collection: str) -> dict[str, int]:
        """See `KnowledgeStore.tenants`."""
        self._schema(collection)
        return self._facet(collection, "tenant", None)

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """See `KnowledgeStore.set_withdrawn`."""
        self._schema(collection)
        owned = make_filter(Filter(must=(Match("tenant", tenant), HasId(tuple(ids)))))
        flag = {WITHDRAWN: int(withdrawn)}
        if ids:
            self._write(
                collection,
                lambda: self._client.set_payload(collection, flag, points=owned, timeout=_WRITE_SECONDS),
            )

    def delete(self, collection: str, ids: Sequence[UUID], tenant: str) -> None:
        """See `KnowledgeStore.delete`."""
        self._schema(collection)
        owned = make_filter(Filter(must=(Match("tenant", tenant), HasId(tuple(ids)))))
        chosen = models.FilterSelector(filter=owned)
        if ids:
            self._write(collection, lambda: self._client.delete(collection, chosen, timeout=_WRITE_SECONDS))

    def optimize(self, collection: str) -> None:
        """See `KnowledgeStore.optimize`: a server builds its graphs by itself."""
        self._schema(collection)

    def health(self) -> Health:
        """See `KnowledgeStore.health`."""
        try:
            counts = {n: self._read(n, partial(self._client.count, n, exact=True)).count for n in self._opened}
            if not counts:
                self._read(None, self._client.get_collections)
            return Health(ready=True, collections=counts)
        except StoreError as error:
            return Health(ready=False, reason=str(error))

    def close(self) -> None:
        """See `KnowledgeStore.close`."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _schema(self, collection: str, vectors: Iterable[str] = ()) -> CollectionSchema:
        if collection not in self._opened:
            raise CollectionMissing(collection)
        self._opened[collection].check_dense(vectors)
        return self._opened[collection]

    def _layout(self, collection: str) -> dict[str, Any] | None:
        """The collection's metadata; None when there is no such collection."""
        if not self._read(None, lambda: self._client.collection_exists(collection)):
            return None
        stored = self._read(collection, lambda: self._client.get_collection(collection)).config.metadata or {}
        if set(stored) != {"schema", "manifest"}:
            raise StoreProtocolError(f"collection {collection!r} was not made by this program")
        return stored

    def _make(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """Create the collection; another process that is quicker is no error."""
        try:
            self._write(
                None,
                lambda: self._client.create_collection(
                    schema.name,
                    vectors_config=vector_params(schema),
                    sparse_vectors_config=sparse_params(schema),
                    metadata={"schema": schema.as_json(), "manifest": manifest.as_json()},
                    timeout=_WRITE_SECONDS,
                ),
            )
        except StoreProtocolError:
            if self._layout(schema.name) is None:
                raise

    def _index(self, schema: CollectionSchema) -> None:
        """Create the payload indexes that are not there yet: a maker that was killed may have left some out."""
        if self._local:
            return
        present = self._read(schema.name, lambda: self._client.get_collection(schema.name)).payload_schema
        for key in schema.payload_indexes.keys() - present.keys():
            params = index_params(key, schema.payload_indexes[key])
            self._write(schema.name, partial(self._client.create_payload_index, schema.name, key, params))

    def _withdrawn(self, collection: str, points: Sequence[Point]) -> set[str]:
        """Ids, among those of `points`, that are stored as withdrawn."""
        ids = [str(p.id) for p in points]
        held = self._read(collection, lambda: self._client.retrieve(collection, ids, with_payload=[WITHDRAWN]))
        return {str(r.id) for r in held if (r.payload or {}).get(WITHDRAWN)}

    def _ask(self, collection: str, queries: list[models.QueryRequest]) -> list[list[tuple[UUID, float]]]:
        answers = self._read(collection, lambda: self._client.query_batch_points(collection, queries))
        if len(answers) != len(queries):
            raise StoreProtocolError(f"the store answered {len(answers)} of {len(queries)} questions")
        return [[(read_id(p.id), float(p.score)) for p in answer.points] for answer in answers]

    def _cut(self, collection: str, nearest: Nearest, scope: Scope, found: list[tuple[UUID, float]]) -> list[Hit]:
        """The list cut to its limit, ties by id."""
        schema = self._opened[collection]
        layout, within = schema.dense.get(nearest.vector_name), confined(schema, scope, nearest.filter)
        low_first = layout is not None and layout.distance is Distance.EUCLID

        def again(limit: int) -> list[tuple[UUID, float]]:
            return self._ask(collection, [make_query(nearest, within, scope, limit)])[0]

        return [Hit(i, score) for i, score in cut_ties(found, again, nearest.limit, low_first=low_first)]

    def _scroll(
        self, collection: str, wanted: Filter, after: UUID | None, limit: int, vectors: Sequence[str], *, payload: bool
    ) -> tuple[list[models.Record], bool]:
        """Records after an id, and whether there are more."""
        start = str(UUID(int=after.int + 1)) if after else None
        found, following = self._read(
            collection,
            lambda: self._client.scroll(
                collection,
                make_filter(wanted),
                limit=limit,
                offset=start,
                with_payload=payload,
                with_vectors=list(vectors) or False,
            ),
        )
        return found, following is not None

    def _facet(self, collection: str, key: str, wanted: models.Filter | None) -> dict[str, int]:
        answer = self._read(
            collection,
            lambda: self._client.facet(collection, key, facet_filter=wanted, limit=FACET_LIMIT, exact=True),
        )
        return dict(sorted((str(hit.value), int(hit.count)) for hit in answer.hits if hit.count))

    def _read(self, collection: str | None, ask: Callable[[], T]) -> T:
        """Ask; once more when the failure came quickly enough to leave time for it."""
        began = time.monotonic()
        try:
            return self._write(collection, ask)
        except StoreUnavailable:
            if self._closed or time.monotonic() - began > self._read_seconds / 2:
                raise
            return self._write(collection, ask)

    def _write(self, collection: str | None, ask: Callable[[], T]) -> T:
        """Ask once, errors mapped."""
        if self._closed:
            raise StoreUnavailable("this store has been closed")
        with self._turn, mapped_errors(collection):
            return ask()
