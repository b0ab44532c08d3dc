"""The knowledge store in a folder: embedded Qdrant in a process of its own, behind a pipe."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np

from knowledge_base.edge_pipe import EngineDied, EnginePipe
from knowledge_base.errors import CollectionMissing, StoreError, StoreInUse, StoreProtocolError, StoreUnavailable
from knowledge_base.frames import FrameError, Words
from knowledge_base.schema import CollectionSchema, IndexManifest
from knowledge_base.store import (
    EVERYTHING,
    FACET_LIMIT,
    Between,
    Condition,
    Fetched,
    Filter,
    HasId,
    Health,
    Hit,
    Match,
    MatchAny,
    Nearest,
    Page,
    Point,
    Scope,
    SparseVector,
    checked_nearest,
    checked_point,
    confined,
    sound,
)

_BATCH: Final = 256
_IDS_PAGE: Final = 10_000
_OPEN_SECONDS: Final = 60.0
_WRITE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class _Opened:
    """A collection as this client opened it: names may change places afterwards, this does not."""

    schema: CollectionSchema
    place: str


class EdgeStore:
    """`KnowledgeStore` over the folder `path`, one opener at a time.

    A read whose engine died is asked once more of a new engine; a write is not, since nobody knows whether it took
    effect: it raises `StoreUnavailable`, and the next call of any kind starts a new engine. Reads wait at most
    `read_seconds`, the queue before them included. While less than
    `reserve_bytes` are free, writing stops with `DiskLow`.
    """

    def __init__(self, path: Path, *, read_seconds: float = 2.0, reserve_bytes: int = 1 << 30) -> None:
        self._path = Path(path)
        self._read_seconds = read_seconds
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._opened: dict[str, _Opened] = {}
        self._closed = False
        self._pipe: EnginePipe | None = EnginePipe(self._path, reserve_bytes)

    @property
    def engine_pid(self) -> int | None:
        """Process id of the engine; None when it has ended and no call has started a new one."""
        return self._pipe.pid if self._pipe else None

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """See `KnowledgeStore.open`."""
        layout = {"schema": schema.as_json(), "manifest": manifest.as_json()}
        request = {"op": "open", "collection": schema.name, "layout": layout}
        found = self._call(request, b"", _OPEN_SECONDS, retry=True)[0]
        stored = found["layout"]
        IndexManifest.from_json(stored["manifest"]).check(manifest, schema.name)
        schema.check(stored["schema"])
        self._opened[schema.name] = _Opened(schema, found["place"])

    def manifest(self, collection: str) -> IndexManifest | None:
        """See `KnowledgeStore.manifest`."""
        layout = self._layout(collection)
        return IndexManifest.from_json(layout["manifest"]) if layout else None

    def schema(self, collection: str) -> CollectionSchema | None:
        """See `KnowledgeStore.schema`."""
        layout = self._layout(collection)
        return CollectionSchema.from_json(layout["schema"]) if layout else None

    def swap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """See `KnowledgeStore.swap`: one file that says where each name leads is renamed into place."""
        missing = self._call({"op": "swap", "pairs": list(pairs)}, b"", _WRITE_SECONDS, retry=False)[0]["missing"]
        if missing is not None:
            raise CollectionMissing(missing)

    def drop(self, collection: str) -> None:
        """See `KnowledgeStore.drop`."""
        place = self._call({"op": "drop", "collection": collection}, b"", _WRITE_SECONDS, retry=False)[0]["place"]
        self._opened = {n: o for n, o in self._opened.items() if o.place != place}

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `KnowledgeStore.upsert`. Points are in the write-ahead log when it returns, and flushed within seconds."""
        schema = self._schema(collection)
        checked = [checked_point(p, schema) for p in points]
        for start in range(0, len(checked), _BATCH):
            batch = checked[start : start + _BATCH]
            wire = [_wire_point(p) for p in batch]
            request = {"op": "upsert", "place": self._place(collection), "points": wire}
            self._call(request, b"".join(_words(p) for p in batch), _WRITE_SECONDS, retry=False)

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """See `KnowledgeStore.get`."""
        schema = self._schema(collection, vectors)
        request = {
            "op": "get",
            "place": self._place(collection),
            "ids": [str(i) for i in ids],
            "vectors": list(vectors),
        }
        answer, block = self._read(request | {"tenants": list(scope.condition().values)})
        points = {p.id: p for p in _points(answer, block, schema)}
        found = [points[i] for i in dict.fromkeys(ids) if i in points]
        return Fetched(*sound(found, scope))

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        schema = self._schema(collection)
        checked = [checked_nearest(n, schema) for n in prefetches]
        request = {
            "op": "ranked",
            "place": self._place(collection),
            "scope": _wire_condition(scope.condition()),
            "prefetches": [
                {
                    "using": n.vector_name,
                    "limit": n.limit,
                    "count": len(n.vector.indices if isinstance(n.vector, SparseVector) else n.vector),
                    "filter": _wire_filter(confined(schema, scope, n.filter)),
                }
                for n in checked
            ],
        }
        answer, block = self._read(request, b"".join(_vector_words(n.vector) for n in checked))
        try:
            return [[Hit(i, score) for i, score in found] for found in Words(block).hits(answer["counts"])]
        except FrameError as error:
            raise StoreProtocolError(f"the embedded engine sent other hits than it announced: {error}") from error

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
        answer, block = self._page(collection, within, after, limit, vectors, payload=True)
        points = _points(answer, block, schema)
        return Page(*sound(points, scope), next_after=points[-1].id if answer["more"] else None)

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """See `KnowledgeStore.ids`."""
        within = confined(self._schema(collection), scope, wanted)
        found: list[UUID] = []
        while True:
            after = found[-1] if found else None
            answer, _ = self._page(collection, within, after, _IDS_PAGE, (), payload=False)
            found.extend(UUID(p["id"]) for p in answer["points"])
            if not answer["more"]:
                return found

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """See `KnowledgeStore.count`."""
        within = confined(self._schema(collection), scope, wanted)
        request = {"op": "count", "place": self._place(collection), "filter": _wire_filter(within)}
        return int(self._read(request)[0]["count"])

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """See `KnowledgeStore.facet`."""
        schema = self._schema(collection)
        schema.check_facet(key)
        return self._facet(collection, key, _wire_filter(confined(schema, scope, wanted)))

    def tenants(self, collection: str) -> dict[str, int]:
        """See `KnowledgeStore.tenants`."""
        self._schema(collection)
        return self._facet(collection, "tenant", None)

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """See `KnowledgeStore.set_withdrawn`."""
        self._change("set_withdrawn", collection, ids, tenant, {"withdrawn": withdrawn})

    def delete(self, collection: str, ids: Sequence[UUID], tenant: str) -> None:
        """See `KnowledgeStore.delete`."""
        self._change("delete", collection, ids, tenant, {})

    def optimize(self, collection: str) -> None:
        """See `KnowledgeStore.optimize`. Reads and writes go on meanwhile; they wait only while the new files are opened."""
        self._schema(collection)
        place = self._place(collection)
        self._call({"op": "optimize", "place": place}, b"", _WRITE_SECONDS, retry=False)
        while not self._call({"op": "optimized", "place": place}, b"", _OPEN_SECONDS, retry=False)[0]["done"]:
            time.sleep(_POLL_SECONDS)

    def health(self) -> Health:
        """See `KnowledgeStore.health`."""
        try:
            points = self._read({"op": "health"})[0]["points"]
            return Health(ready=True, collections={n: points[o.place] for n, o in self._opened.items()})
        except StoreError as error:
            return Health(ready=False, reason=str(error))

    def close(self) -> None:
        """See `KnowledgeStore.close`."""
        with self._lock:
            self._closed = True
            if self._pipe is not None and os.getpid() == self._owner:
                self._pipe.stop()
            self._pipe = None

    def _schema(self, collection: str, vectors: Iterable[str] = ()) -> CollectionSchema:
        schema = self._held(collection).schema
        schema.check_dense(vectors)
        return schema

    def _place(self, collection: str) -> str:
        return self._held(collection).place

    def _held(self, collection: str) -> _Opened:
        held = self._opened.get(collection)
        if held is None:
            raise CollectionMissing(collection)
        return held

    def _layout(self, collection: str) -> dict[str, Any] | None:
        request = {"op": "layout", "collection": collection}
        layout: dict[str, Any] | None = self._call(request, b"", _OPEN_SECONDS, retry=True)[0]["layout"]
        return layout

    def _page(
        self, collection: str, wanted: Filter, after: UUID | None, limit: int, vectors: Sequence[str], *, payload: bool
    ) -> tuple[dict[str, Any], bytes]:
        return self._read(
            {
                "op": "scroll",
                "place": self._place(collection),
                "after": str(after) if after else None,
                "limit": limit,
                "filter": _wire_filter(wanted),
                "vectors": list(vectors),
                "payload": payload,
            }
        )

    def _facet(self, collection: str, key: str, wanted: dict[str, Any] | None) -> dict[str, int]:
        request = {"op": "facet", "place": self._place(collection), "key": key, "limit": FACET_LIMIT, "filter": wanted}
        return dict(sorted((str(v), int(n)) for v, n in self._read(request)[0]["values"] if n))

    def _change(self, op: str, collection: str, ids: Sequence[UUID], tenant: str, more: dict[str, Any]) -> None:
        self._schema(collection)
        request = {"op": op, "place": self._place(collection), "ids": [str(i) for i in ids], "tenant": tenant}
        self._call(request | more, b"", _WRITE_SECONDS, retry=False)

    def _read(self, request: dict[str, Any], block: bytes = b"") -> tuple[dict[str, Any], bytes]:
        return self._call(request, block, self._read_seconds, retry=True)

    def _call(
        self, request: dict[str, Any], block: bytes, seconds: float, *, retry: bool
    ) -> tuple[dict[str, Any], bytes]:
        """One exchange with the engine, started anew when it has died."""
        if os.getpid() != self._owner:
            raise StoreInUse(str(self._path), self._owner)
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise StoreUnavailable("the embedded engine is busy")
        try:
            try:
                return self._engine().call(request, block, deadline)
            except StoreError as error:
                if self._pipe is None or self._pipe.running:
                    raise
                self._discard()
                if not (retry and isinstance(error, EngineDied)):
                    raise
                return self._engine().call(request, block, time.monotonic() + seconds)
        finally:
            self._lock.release()

    def _engine(self) -> EnginePipe:
        """The running engine, or a new one with the collections this client had opened."""
        if self._closed:
            raise StoreUnavailable("this store has been closed")
        if self._pipe is None:
            pipe = EnginePipe(self._path, self._reserve_bytes)
            try:
                for place in {o.place for o in self._opened.values()}:
                    pipe.call({"op": "load", "place": place}, b"", time.monotonic() + _OPEN_SECONDS)
            except StoreError:
                pipe.stop()
                raise
            self._pipe = pipe
        return self._pipe

    def _discard(self) -> None:
        if self._pipe is not None:
            self._pipe.stop()
        self._pipe = None


def _wire_condition(wanted: Condition) -> list[Any]:
    match wanted:
        case Match(key=key, value=value):
            return ["match", key, value]
        case MatchAny(key=key, values=values):
            return ["any", key, list(values)]
        case Between(key=key, low=low, high=high):
            return ["between", key, low, high]
        case HasId(ids=ids):
            return ["ids", [str(i) for i in ids]]


def _wire_filter(wanted: Filter) -> dict[str, Any]:
    return {
        "must": [_wire_condition(c) for c in wanted.must],
        "must_not": [_wire_condition(c) for c in wanted.must_not],
    }


def _wire_point(point: Point) -> dict[str, Any]:
    return {
        "id": str(point.id),
        "payload": point.payload,
        "dense": list(point.vectors),
        "sparse": [[name, len(vector.indices)] for name, vector in point.sparse.items()],
    }


def _words(point: Point) -> bytes:
    """Dense vectors, then sparse ones, in the order `_wire_point` lists them."""
    dense = b"".join(_vector_words(v) for v in point.vectors.values())
    return dense + b"".join(_vector_words(v) for v in point.sparse.values())


def _vector_words(vector: np.ndarray[Any, Any] | SparseVector) -> bytes:
    if isinstance(vector, SparseVector):
        return vector.indices.tobytes() + vector.values.tobytes()
    return vector.tobytes()


def _points(answer: Mapping[str, Any], block: bytes, schema: CollectionSchema) -> list[Point]:
    """Points of an answer; raises `StoreProtocolError` when header and block do not fit."""
    words, at, points = np.frombuffer(block, np.float32), 0, []
    for record in answer["points"]:
        vectors = {}
        for name in record["dense"]:
            size = schema.dense[name].size
            vectors[name] = words[at : at + size]
            at += size
        points.append(Point(UUID(record["id"]), vectors, {}, record["payload"]))
    if at != len(words):
        raise StoreProtocolError("the embedded engine sent more or fewer vectors than it announced")
    return points
