"""The knowledge store as lists in memory: exact, for tests and for proving the other adapters against."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np

from knowledge_base.bm25 import idf
from knowledge_base.errors import CollectionMissing, StoreUnavailable
from knowledge_base.schema import WITHDRAWN, CollectionSchema, Distance, IndexManifest
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


@dataclass
class _Collection:
    schema: CollectionSchema
    manifest: IndexManifest
    points: dict[UUID, Point] = field(default_factory=dict)


class MemoryStore:
    """`KnowledgeStore` without an engine. Nothing outlives the process."""

    def __init__(self) -> None:
        self._collections: dict[str, _Collection] = {}
        self._opened: dict[str, _Collection] = {}
        self._lock = threading.RLock()
        self._closed = False

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """See `KnowledgeStore.open`."""
        with self._lock:
            self._check_open()
            stored = self._collections.setdefault(schema.name, _Collection(schema, manifest))
            stored.manifest.check(manifest, schema.name)
            schema.check(stored.schema.as_json())
            self._opened[schema.name] = stored

    def manifest(self, collection: str) -> IndexManifest | None:
        """See `KnowledgeStore.manifest`."""
        with self._lock:
            self._check_open()
            stored = self._collections.get(collection)
            return stored.manifest if stored else None

    def schema(self, collection: str) -> CollectionSchema | None:
        """See `KnowledgeStore.schema`."""
        with self._lock:
            self._check_open()
            stored = self._collections.get(collection)
            return stored.schema if stored else None

    def swap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """See `KnowledgeStore.swap`."""
        with self._lock:
            self._check_open()
            for _, second in pairs:
                if second not in self._collections:
                    raise CollectionMissing(second)
            for one, other in pairs:
                held = self._collections.pop(one, None), self._collections.pop(other)
                self._collections |= {n: c for n, c in zip((other, one), held, strict=True) if c is not None}

    def drop(self, collection: str) -> None:
        """See `KnowledgeStore.drop`."""
        with self._lock:
            self._check_open()
            gone = self._collections.pop(collection, None)
            self._opened = {n: c for n, c in self._opened.items() if c is not gone}

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """See `KnowledgeStore.upsert`."""
        with self._lock:
            stored = self._collection(collection)
            for point in [checked_point(p, stored.schema) for p in points]:
                known = stored.points.get(point.id)
                if known is not None and known.payload[WITHDRAWN]:
                    stored.points[point.id] = replace(point, payload={**point.payload, WITHDRAWN: 1})
                else:
                    stored.points[point.id] = point

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """See `KnowledgeStore.get`."""
        with self._lock:
            within = self._within(collection, scope, EVERYTHING, vectors)
            return Fetched(*sound([_with(within[i], vectors) for i in dict.fromkeys(ids) if i in within], scope))

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        with self._lock:
            schema = self._collection(collection).schema
            checked = [checked_nearest(n, schema) for n in prefetches]
            return [self._nearest(collection, n, scope) for n in checked]

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
        with self._lock:
            within = self._within(collection, scope, wanted, vectors)
            rest = [within[i] for i in sorted(within) if after is None or i > after]
            page = [_with(p, vectors) for p in rest[:limit]]
            return Page(*sound(page, scope), next_after=page[-1].id if len(rest) > limit else None)

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """See `KnowledgeStore.ids`."""
        with self._lock:
            return sorted(self._within(collection, scope, wanted))

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """See `KnowledgeStore.count`."""
        return len(self.ids(collection, scope, wanted))

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """See `KnowledgeStore.facet`."""
        with self._lock:
            self._collection(collection).schema.check_facet(key)
            return _tally(key, self._within(collection, scope, wanted).values())

    def tenants(self, collection: str) -> dict[str, int]:
        """See `KnowledgeStore.tenants`."""
        with self._lock:
            return _tally("tenant", self._collection(collection).points.values())

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """See `KnowledgeStore.set_withdrawn`."""
        with self._lock:
            points = self._collection(collection).points
            for point in self._owned(collection, ids, tenant):
                points[point.id] = replace(point, payload={**point.payload, WITHDRAWN: int(withdrawn)})

    def delete(self, collection: str, ids: Sequence[UUID], tenant: str) -> None:
        """See `KnowledgeStore.delete`."""
        with self._lock:
            points = self._collection(collection).points
            for point in self._owned(collection, ids, tenant):
                del points[point.id]

    def optimize(self, collection: str) -> None:
        """See `KnowledgeStore.optimize`: there is no graph to build."""
        with self._lock:
            self._collection(collection)

    def health(self) -> Health:
        """See `KnowledgeStore.health`."""
        with self._lock:
            if self._closed:
                return Health(ready=False, reason="this store has been closed")
            return Health(ready=True, collections={n: len(c.points) for n, c in self._opened.items()})

    def close(self) -> None:
        """See `KnowledgeStore.close`."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("this store has been closed")

    def _collection(self, name: str) -> _Collection:
        self._check_open()
        if name not in self._opened:
            raise CollectionMissing(name)
        return self._opened[name]

    def _owned(self, collection: str, ids: Iterable[UUID], tenant: str) -> list[Point]:
        points = self._collection(collection).points
        return [points[i] for i in dict.fromkeys(ids) if i in points and points[i].payload["tenant"] == tenant]

    def _within(self, collection: str, scope: Scope, wanted: Filter, vectors: Sequence[str] = ()) -> dict[UUID, Point]:
        stored = self._collection(collection)
        stored.schema.check_dense(vectors)
        passes = _predicate(confined(stored.schema, scope, wanted))
        return {i: p for i, p in stored.points.items() if passes(p)}

    def _nearest(self, collection: str, nearest: Nearest, scope: Scope) -> list[Hit]:
        """Exact scores over the points that pass, as float32 like the engine's."""
        name, asked = nearest.vector_name, nearest.vector
        points = self._within(collection, scope, nearest.filter).values()
        if isinstance(asked, SparseVector):
            weighted = self._weighted(collection, name, asked, scope)
            dots = {p.id: _dot(weighted, p.sparse[name]) for p in points if name in p.sparse}
            scored = [(-score, i) for i, score in dots.items() if score is not None]
            return [Hit(i, -low) for low, i in sorted(scored)[: nearest.limit]]
        euclid = self._collection(collection).schema.dense[name].distance is Distance.EUCLID
        scored = []
        for point in points:
            if name in point.vectors:
                stored, wanted = point.vectors[name].astype(np.float64), asked.astype(np.float64)
                low = np.linalg.norm(stored - wanted) if euclid else -(stored @ wanted)
                scored.append((float(np.float32(low)), point.id))
        return [Hit(i, low if euclid else -low) for low, i in sorted(scored)[: nearest.limit]]

    def _weighted(self, collection: str, name: str, asked: SparseVector, scope: Scope) -> dict[int, float]:
        """The question's weights times the inverse document frequency over the points in scope with that vector."""
        corpus = [p.sparse[name] for p in self._within(collection, scope, EVERYTHING).values() if name in p.sparse]
        holding = Counter(int(i) for vector in corpus for i in vector.indices)
        pairs = zip(asked.indices.tolist(), asked.values.tolist(), strict=True)
        return {i: value * idf(len(corpus), holding[i]) for i, value in pairs}


def _dot(weights: Mapping[int, float], document: SparseVector) -> float | None:
    """Sum over the shared terms; None when there is none: such a document is not found."""
    pairs = zip(document.indices.tolist(), document.values.tolist(), strict=True)
    shared = [weights[i] * value for i, value in pairs if i in weights]
    return float(np.float32(sum(shared))) if shared else None


def _with(point: Point, vectors: Sequence[str]) -> Point:
    """The point as reads give it: only the vectors asked for."""
    return Point(point.id, {n: point.vectors[n] for n in vectors if n in point.vectors}, {}, dict(point.payload))


def _tally(key: str, points: Iterable[Point]) -> dict[str, int]:
    counts = Counter(str(v) for p in points for v in set(_values(p.payload, key)))
    return dict(sorted(counts.most_common(FACET_LIMIT)))


def _values(payload: Mapping[str, Any], key: str) -> list[Any]:
    value = payload.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]


def _predicate(wanted: Filter) -> Callable[[Point], bool]:
    def passes(point: Point) -> bool:
        met = all(_meets(c, point) for c in wanted.must)
        return met and not any(_meets(c, point) for c in wanted.must_not)

    return passes


def _meets(wanted: Condition, point: Point) -> bool:
    match wanted:
        case Match(key=key, value=value):
            return value in _values(point.payload, key)
        case MatchAny(key=key, values=values):
            return not set(values).isdisjoint(_values(point.payload, key))
        case Between(key=key, low=low, high=high):
            numbers = [v for v in _values(point.payload, key) if isinstance(v, (int, float))]
            return any((low is None or v >= low) and (high is None or v <= high) for v in numbers)
        case HasId(ids=ids):
            return point.id in ids
