"""The knowledge store on a Qdrant server or cluster, through qdrant-client (whose local mode serves for tests).

Layout and manifest are the collection's own metadata, {"schema", "manifest"}: made with it, in one request. How a
collection is spread over a cluster, and where its name leads, is `server_layout`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from qdrant_client import QdrantClient, models

from knowledge_base.breaker import Breaker
from knowledge_base.errors import CollectionMissing, StoreError, StoreProtocolError, StoreUnavailable
from knowledge_base.fusion import cut_ties
from knowledge_base.places import Places
from knowledge_base.schema import WITHDRAWN, CollectionSchema, Distance, IndexManifest
from knowledge_base.server_layout import (
    Opened,
    ShardKeys,
    Spread,
    divided,
    layout_of,
    make_collection,
    read_places,
    shard_keys,
    write_places,
)
from knowledge_base.server_wire import (
    index_params,
    make_filter,
    make_point,
    make_query,
    mapped_errors,
    read_id,
    read_points,
)
from knowledge_base.store import (
    EVERYTHING,
    FACET_LIMIT,
    PUBLIC,
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
_ONE_SERVER: Final = Spread()

T = TypeVar("T")


def connect(
    url: str,
    api_key: str | None = None,
    *,
    read_seconds: int = 2,
    spread: Spread = _ONE_SERVER,
    grpc_port: int | None = None,
) -> ServerStore:
    """A store on the server or cluster at `url`, over gRPC where its port is given; nothing is asked of it yet."""
    over: dict[str, Any] = {} if grpc_port is None else {"prefer_grpc": True, "grpc_port": grpc_port}
    client = QdrantClient(url=url, api_key=api_key, timeout=read_seconds, check_compatibility=False, **over)
    return ServerStore(client, read_seconds=read_seconds, spread=spread)


class ServerStore:
    """`KnowledgeStore` over a `QdrantClient` whose timeout is `read_seconds`.

    A read that fails at once is asked once more; a write is not. A store that failed five times in a row is left alone for
    two seconds (see `Breaker`). `local` says that the client is qdrant-client's local mode, which has no payload indexes
    and wants one caller at a time. `spread` holds for collections that this store makes.
    """

    def __init__(
        self, client: QdrantClient, *, read_seconds: float = 2.0, local: bool = False, spread: Spread = _ONE_SERVER
    ) -> None:
        self._client = client
        self._spread = spread
        self._read_seconds = read_seconds
        self._local = local
        self._turn: AbstractContextManager[Any] = threading.RLock() if local else nullcontext()
        self._opened: dict[str, Opened] = {}
        self._closed = False
        self._breaker = Breaker()

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """See `KnowledgeStore.open`."""
        found = self._found(schema.name)
        if found is None:
            self._make(schema, manifest)
            found = self._found(schema.name)
        if found is None:
            raise StoreProtocolError(f"the store has not made collection {schema.name!r}")
        place, config = found
        stored = layout_of(config, schema.name)
        IndexManifest.from_json(stored["manifest"]).check(manifest, schema.name)
        schema.check(stored["schema"])
        self._index(schema, place)
        keys = self._read(None, lambda: shard_keys(self._client, place)) if divided(config) else None
        self._opened[schema.name] = Opened(schema, manifest, place, keys)
        if keys is not None:
            self._ensure_shards(schema.name, PUBLIC)

    def manifest(self, collection: str) -> IndexManifest | None:
        """See `KnowledgeStore.manifest`."""
        found = self._found(collection)
        return IndexManifest.from_json(layout_of(found[1], collection)["manifest"]) if found else None

    def schema(self, collection: str) -> CollectionSchema | None:
        """See `KnowledgeStore.schema`."""
        found = self._found(collection)
        return CollectionSchema.from_json(layout_of(found[1], collection)["schema"]) if found else None

    def swap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """See `KnowledgeStore.swap`: all aliases change in one request."""
        for _, second in pairs:
            if self._found(second) is None:
                raise CollectionMissing(second)
        before = self._places()
        after = before.swapped(pairs, self._taken())
        self._write(None, lambda: write_places(self._client, before, after, _WRITE_SECONDS))

    def drop(self, collection: str) -> None:
        """See `KnowledgeStore.drop`: the server removes the aliases of a collection with it."""
        place = self._places().of(collection)
        if place is not None:
            self._write(None, lambda: self._client.delete_collection(place, timeout=_WRITE_SECONDS))
            self._opened = {n: o for n, o in self._opened.items() if o.place != place}

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `KnowledgeStore.upsert`."""
        schema = self._schema(collection)
        checked = [checked_point(p, schema) for p in points]
        for start in range(0, len(checked), _BATCH):
            for keys, batch in self._by_shard(collection, checked[start : start + _BATCH]):
                kept = self._withdrawn(collection, batch, keys)
                structs = [make_point(p, withdrawn=str(p.id) in kept) for p in batch]
                place = self._opened[collection].place
                upsert = partial(self._client.upsert, place, structs, timeout=_WRITE_SECONDS, shard_key_selector=keys)
                self._write(collection, upsert)

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """See `KnowledgeStore.get`: asked for by filter, so that the server holds the tenants apart."""
        schema = self._schema(collection, vectors)
        wanted = list(dict.fromkeys(ids))
        points: dict[UUID, Point] = {}
        for start in range(0, len(wanted), _BATCH):
            batch = Filter(must=(HasId(tuple(wanted[start : start + _BATCH])),))
            found = self._scroll(collection, scope, batch, None, _BATCH, vectors, payload=True)[0]
            points.update((p.id, p) for p in read_points(found, schema, vectors))
        return Fetched(*sound([points[i] for i in wanted if i in points], scope))

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        schema = self._schema(collection)
        checked = [checked_nearest(n, schema) for n in prefetches]
        if not checked:
            return []
        found = self._ask(collection, scope, [(n, n.limit + 1) for n in checked])
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
        found, more = self._scroll(collection, scope, wanted, after, limit, vectors, payload=True)
        points = read_points(found, schema, vectors)
        return Page(*sound(points, scope), next_after=points[-1].id if more and points else None)

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """See `KnowledgeStore.ids`."""
        found: list[UUID] = []
        more = True
        while more:
            after = found[-1] if found else None
            page, more = self._scroll(collection, scope, wanted, after, _IDS_PAGE, (), payload=False)
            found.extend(read_id(r.id) for r in page)
        return found

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """See `KnowledgeStore.count`."""
        within = make_filter(confined(self._schema(collection), scope, wanted))
        place, keys = self._aim(collection, scope.condition().values)
        count = partial(self._client.count, place, within, exact=True, shard_key_selector=keys)
        return int(self._read(collection, count).count)

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """See `KnowledgeStore.facet`."""
        schema = self._schema(collection)
        schema.check_facet(key)
        place, keys = self._aim(collection, scope.condition().values)
        return self._facet(collection, place, key, make_filter(confined(schema, scope, wanted)), keys)

    def tenants(self, collection: str) -> dict[str, int]:
        """See `KnowledgeStore.tenants`."""
        self._schema(collection)
        return self._facet(collection, self._opened[collection].place, "tenant", None, None)

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """See `KnowledgeStore.set_withdrawn`."""
        self._schema(collection)
        flag = {WITHDRAWN: int(withdrawn)}
        if ids:
            place, keys = self._aim(collection, [tenant])
            owned = make_filter(Filter(must=(Match("tenant", tenant), HasId(tuple(ids)))))
            change = partial(self._client.set_payload, place, flag, points=owned, shard_key_selector=keys)
            self._write(collection, partial(change, timeout=_WRITE_SECONDS))

    def delete(self, collection: str, ids: Sequence[UUID], tenant: str) -> None:
        """See `KnowledgeStore.delete`."""
        self._schema(collection)
        if ids:
            place, keys = self._aim(collection, [tenant])
            owned = make_filter(Filter(must=(Match("tenant", tenant), HasId(tuple(ids)))))
            chosen = models.FilterSelector(filter=owned)
            delete = partial(self._client.delete, place, chosen, shard_key_selector=keys)
            self._write(collection, partial(delete, timeout=_WRITE_SECONDS))

    def optimize(self, collection: str) -> None:
        """See `KnowledgeStore.optimize`: a server builds its graphs by itself."""
        self._schema(collection)

    def health(self) -> Health:
        """See `KnowledgeStore.health`."""
        try:
            counts = {name: self._points(name) for name in list(self._opened)}
            if not counts:
                self._read(None, self._client.get_collections)
            return Health(ready=True, collections=counts)
        except StoreError as error:
            return Health(ready=False, reason=str(error))

    def _points(self, name: str) -> int:
        """How many points an opened collection holds; where an import put another in its place, that one is opened."""
        held = self._opened[name]
        try:
            return int(self._read(name, partial(self._client.count, held.place, exact=True)).count)
        except CollectionMissing:
            if self._found(name) is None:
                raise
            self.open(held.schema, held.manifest)
        return int(self._read(name, partial(self._client.count, self._opened[name].place, exact=True)).count)

    def close(self) -> None:
        """See `KnowledgeStore.close`."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _schema(self, collection: str, vectors: Iterable[str] = ()) -> CollectionSchema:
        held = self._opened.get(collection)
        if held is None:
            raise CollectionMissing(collection)
        held.schema.check_dense(vectors)
        return held.schema

    def _aim(self, collection: str, tenants: Sequence[str]) -> tuple[str, ShardKeys]:
        """Where the collection lies, and the shards to ask for these tenants' records (None: all of them).

        A tenant without shards of its own may have got some from another process since: the server is asked.
        """
        held = self._opened[collection]
        if held.keys is not None and not held.keys.issuperset(tenants):
            held = replace(held, keys=self._read(collection, lambda: shard_keys(self._client, held.place)))
            self._opened[collection] = held
        return held.place, held.selector(tenants)

    def _by_shard(self, collection: str, points: Sequence[Point]) -> list[tuple[ShardKeys, list[Point]]]:
        """The points by the shards they belong in; a tenant's first points get it shards of its own."""
        if self._opened[collection].keys is None:
            return [(None, list(points))]
        batches: dict[str, list[Point]] = {}
        for point in points:
            batches.setdefault(str(point.payload["tenant"]), []).append(point)
        for tenant in batches:
            self._ensure_shards(collection, tenant)
        return [([tenant], batch) for tenant, batch in batches.items()]

    def _ensure_shards(self, collection: str, tenant: str) -> None:
        """Shards for a tenant; another process that is quicker is no error."""
        if self._has_shards(collection, tenant):
            return
        place, spread = self._opened[collection].place, self._spread
        create = partial(self._client.create_shard_key, place, tenant, spread.shards, spread.replicas)
        try:
            self._write(collection, partial(create, timeout=_WRITE_SECONDS))
        except StoreProtocolError:
            if not self._has_shards(collection, tenant):
                raise

    def _has_shards(self, collection: str, tenant: str) -> bool:
        self._aim(collection, [tenant])
        return tenant in (self._opened[collection].keys or ())

    def _places(self) -> Places:
        return self._read(None, lambda: read_places(self._client))

    def _taken(self) -> list[str]:
        return [c.name for c in self._read(None, self._client.get_collections).collections]

    def _found(self, collection: str) -> tuple[str, models.CollectionConfig] | None:
        """Where the collection lies, and how it is made; None when there is none of that name."""
        place = self._places().of(collection)
        if place is None or not self._read(None, lambda: self._client.collection_exists(place)):
            return None
        return place, self._read(collection, lambda: self._client.get_collection(place)).config

    def _make(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """Create the collection; another process that is quicker is no error."""
        before = self._places()
        after = before.with_room(schema.name, self._taken())
        place = after.moved.get(schema.name, schema.name)
        make = partial(make_collection, self._client, place, schema, manifest, self._spread, _WRITE_SECONDS)
        try:
            self._write(None, make)
            self._write(None, lambda: write_places(self._client, before, after, _WRITE_SECONDS))
        except StoreProtocolError:
            if self._found(schema.name) is None:
                raise

    def _index(self, schema: CollectionSchema, place: str) -> None:
        """Create the payload indexes that are not there yet: a maker that was killed may have left some out."""
        if self._local:
            return
        present = self._read(schema.name, lambda: self._client.get_collection(place)).payload_schema
        for key in schema.payload_indexes.keys() - present.keys():
            params = index_params(key, schema.payload_indexes[key])
            self._write(schema.name, partial(self._client.create_payload_index, place, key, params))

    def _withdrawn(self, collection: str, points: Sequence[Point], keys: ShardKeys) -> set[str]:
        """Ids, among those of `points`, that are stored as withdrawn."""
        ids, place = [str(p.id) for p in points], self._opened[collection].place
        ask = partial(self._client.retrieve, place, ids, with_payload=[WITHDRAWN], shard_key_selector=keys)
        return {str(r.id) for r in self._read(collection, ask) if (r.payload or {}).get(WITHDRAWN)}

    def _ask(
        self, collection: str, scope: Scope, asked: Sequence[tuple[Nearest, int]]
    ) -> list[list[tuple[UUID, float]]]:
        """For each question and its limit, ids and scores."""
        schema = self._opened[collection].schema
        place, keys = self._aim(collection, scope.condition().values)
        queries = [
            make_query(n, confined(schema, scope, n.filter), scope, limit, keys, exact=self._local)
            for n, limit in asked
        ]
        answers = self._read(collection, lambda: self._client.query_batch_points(place, queries))
        if len(answers) != len(queries):
            raise StoreProtocolError(f"the store answered {len(answers)} of {len(queries)} questions")
        return [[(read_id(p.id), float(p.score)) for p in answer.points] for answer in answers]

    def _cut(self, collection: str, nearest: Nearest, scope: Scope, found: list[tuple[UUID, float]]) -> list[Hit]:
        """The list cut to its limit, ties by id."""
        layout = self._opened[collection].schema.dense.get(nearest.vector_name)
        low_first = layout is not None and layout.distance is Distance.EUCLID

        def again(limit: int) -> list[tuple[UUID, float]]:
            return self._ask(collection, scope, [(nearest, limit)])[0]

        return [Hit(i, score) for i, score in cut_ties(found, again, nearest.limit, low_first=low_first)]

    def _scroll(
        self,
        collection: str,
        scope: Scope,
        wanted: Filter,
        after: UUID | None,
        limit: int,
        vectors: Sequence[str],
        *,
        payload: bool,
    ) -> tuple[list[models.Record], bool]:
        """Records in scope after an id, and whether there are more."""
        within = make_filter(confined(self._schema(collection), scope, wanted))
        place, keys = self._aim(collection, scope.condition().values)
        start = str(UUID(int=after.int + 1)) if after else None
        found, following = self._read(
            collection,
            lambda: self._client.scroll(
                place,
                within,
                limit=limit,
                offset=start,
                with_payload=payload,
                with_vectors=list(vectors) or False,
                shard_key_selector=keys,
            ),
        )
        return found, following is not None

    def _facet(
        self, collection: str, place: str, key: str, wanted: models.Filter | None, keys: ShardKeys
    ) -> dict[str, int]:
        answer = self._read(
            collection,
            lambda: self._client.facet(
                place, key, facet_filter=wanted, limit=FACET_LIMIT, exact=True, shard_key_selector=keys
            ),
        )
        return dict(sorted((str(hit.value), int(hit.count)) for hit in answer.hits if hit.count))

    def _read(self, collection: str | None, ask: Callable[[], T]) -> T:
        """Ask; once more when the failure came so soon that both fit into the budget."""
        began = time.monotonic()
        try:
            return self._write(collection, ask)
        except StoreUnavailable:
            if self._closed or time.monotonic() - began > self._read_seconds / 10:
                raise
            return self._write(collection, ask)

    def _write(self, collection: str | None, ask: Callable[[], T]) -> T:
        """Ask once, errors mapped."""
        if self._closed:
            raise StoreUnavailable("this store has been closed")
        with self._turn, self._breaker.guard(), mapped_errors(collection):
            return ask()
