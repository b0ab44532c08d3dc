"""The store port: what a knowledge base promises, whichever engine keeps it, and the values that pass through it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from knowledge_base.records import RecordError, digest
from knowledge_base.schema import WITHDRAWN, CollectionSchema, DenseVector, Distance, IndexManifest

PUBLIC: Final = "public"
SHA256: Final = "sha256"
VECTORS_SHA256: Final = "vectors_sha256"
_NOT_SEALED: Final = frozenset({SHA256, WITHDRAWN})
FACET_LIMIT: Final = 10_000
MAX_LIMIT: Final = 10_000
_UNIT: Final = 1e-6
"""How far rounding to float32 leaves a normalised vector's length from 1: dividing again would change its last bits."""


@dataclass(frozen=True, eq=False)
class SparseVector:
    """Ids of the terms present, uint32, strictly ascending, and their finite weights, float32, both of shape (n,)."""

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.indices.ndim != 1 or self.indices.shape != self.values.shape or not len(self.indices):
            raise RecordError("a sparse vector has as many indices as values, at least one")
        if self.indices.dtype != np.uint32 or self.values.dtype != np.float32:
            raise RecordError("a sparse vector is uint32 indices and float32 values")
        if not np.isfinite(self.values).all():
            raise RecordError("a sparse vector must be finite")
        if (np.diff(self.indices.astype(np.int64)) <= 0).any():
            raise RecordError("the indices of a sparse vector ascend")


@dataclass(frozen=True, eq=False)
class Point:
    """A record in a collection: dense vectors of shape (size,), sparse vectors, and a JSON payload with its tenant."""

    id: UUID
    vectors: Mapping[str, NDArray[np.float32]]
    sparse: Mapping[str, SparseVector]
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Match:
    """The payload value under `key`, or one element of it when it is an array, equals `value`. No booleans."""

    key: str
    value: str | int

    def __post_init__(self) -> None:
        if isinstance(self.value, bool):
            raise TypeError("store a flag as 0 or 1: the embedded engine matches no boolean")


@dataclass(frozen=True)
class MatchAny:
    """The payload value under `key`, or one element of it, equals one of `values` (never empty)."""

    key: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"a filter on {self.key!r} that no value passes")


@dataclass(frozen=True)
class Between:
    """The number under `key` lies in [low, high]; a bound that is None is open."""

    key: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise ValueError(f"a range on {self.key!r} without bounds")


@dataclass(frozen=True)
class HasId:
    """The point is one of `ids`."""

    ids: tuple[UUID, ...]


Condition: TypeAlias = Match | MatchAny | Between | HasId


@dataclass(frozen=True)
class Filter:
    """Points that meet every condition of `must` and none of `must_not`."""

    must: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()


EVERYTHING: Final = Filter()


@dataclass(frozen=True)
class Scope:
    """Whose records a read may see: one tenant's, and the public ones unless told otherwise."""

    tenant: str
    also_public: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.tenant, str) or not self.tenant:
            raise ValueError("a scope needs a tenant")

    def condition(self) -> MatchAny:
        """The one condition that every read of every adapter carries."""
        return MatchAny("tenant", tuple(sorted({self.tenant, PUBLIC} if self.also_public else {self.tenant})))


@dataclass(frozen=True, eq=False)
class Nearest:
    """One ranked list: the `limit` points nearest to `vector` under the named vector, within `filter`."""

    vector_name: str
    vector: NDArray[np.float32] | SparseVector
    limit: int
    filter: Filter = EVERYTHING

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"a limit is in 1..{MAX_LIMIT}, got {self.limit}")


@dataclass(frozen=True)
class Hit:
    """A point in a ranked list. `score` is the engine's own: cosine, sum of term weights, or Euclidean distance."""

    id: UUID
    score: float


@dataclass(frozen=True, eq=False)
class Fetched:
    """Intact points, and the ids of those whose checksum failed: those are withheld."""

    points: tuple[Point, ...]
    damaged: tuple[UUID, ...] = ()


@dataclass(frozen=True, eq=False)
class Page:
    """A page of a scroll in ascending order of id; `next_after` continues it, None when this was the last."""

    points: tuple[Point, ...]
    damaged: tuple[UUID, ...]
    next_after: UUID | None


@dataclass(frozen=True)
class Health:
    """Whether the store answers, and how many points each open collection holds."""

    ready: bool
    collections: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None


class KnowledgeStore(Protocol):
    """Keeps collections of points and finds the nearest.

    Contract:
    - `open` makes the collection when it is absent; otherwise it compares layout and manifest and raises
      `ManifestMismatch` naming the remedy. Every other operation on a collection nobody opened raises
      `CollectionMissing`.
    - `upsert` returns once the points survive a kill of every process. Points already there (same id) are replaced;
      a withdrawal outlives being indexed again. A NaN, infinite or zero vector, a wrong size, an unknown vector name or
      a missing tenant raises `RecordError` and nothing of the call is stored.
    - Every read takes a `Scope` and sees no other tenant's points; every write but `upsert` takes one tenant and
      touches only that tenant's points (the public ones only when the tenant is `public`).
    - A point whose checksum fails is never returned: its id is listed as damaged.
    - `ranked` gives one list per `Nearest`, best first, equal scores in ascending order of id, at the cut too.
      Sparse scores carry the inverse document frequency over the points the scope may see.
    - `scroll` and `ids` are ordered by id; `get` keeps the order asked and passes over ids it does not hold.
    - A vector name the layout lacks, a filter on a key without an index and a facet over a key that is no keyword index
      raise `ValueError`.
    - `facet` and `count` are exact. `tenants` tells names and counts, no content.
    - A store that does not answer within its budget raises `StoreUnavailable`; an answer that cannot be read raises
      `StoreProtocolError`; a closed store raises `StoreUnavailable`.
    - Whoever opened a collection keeps reading the same points when `swap` gives its name to others, until it opens the
      name again.
    - A unit vector is stored as it is: points read and stored again (export, import, push) keep every bit.
    - All operations may be called from several threads at once.
    """

    def open(self, schema: CollectionSchema, manifest: IndexManifest) -> None:
        """Make or check the collection `schema.name`."""
        ...

    def manifest(self, collection: str) -> IndexManifest | None:
        """The manifest the collection was made with; None when there is no such collection."""
        ...

    def schema(self, collection: str) -> CollectionSchema | None:
        """The layout the collection was made with; None when there is no such collection."""
        ...

    def swap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Let the collections of each pair exchange their names, all in one step that a kill leaves done or not done.

        The first of a pair may be absent: then the second takes its name. `CollectionMissing` when the second is.
        """
        ...

    def drop(self, collection: str) -> None:
        """Remove the collection of that name, opened or not; nothing when there is none."""
        ...

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Store points durably."""
        ...

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Fetched:
        """The points with these ids, with the named dense vectors."""
        ...

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """One ranked list for each prefetch."""
        ...

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
        """Up to `limit` points with an id greater than `after`."""
        ...

    def ids(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> list[UUID]:
        """Ids of all points in scope, ascending."""
        ...

    def count(self, collection: str, scope: Scope, wanted: Filter = EVERYTHING) -> int:
        """How many points are in scope and wanted."""
        ...

    def facet(self, collection: str, key: str, scope: Scope, wanted: Filter = EVERYTHING) -> dict[str, int]:
        """For each value of an indexed keyword, how many points carry it; in the order of the values."""
        ...

    def tenants(self, collection: str) -> dict[str, int]:
        """How many points each tenant has: for the operator, who may see no record."""
        ...

    def set_withdrawn(self, collection: str, ids: Sequence[UUID], tenant: str, withdrawn: bool = True) -> None:
        """Mark a tenant's points as withdrawn, or no longer; ids it does not hold are passed over."""
        ...

    def delete(self, collection: str, ids: Sequence[UUID], tenant: str) -> None:
        """Remove a tenant's points; ids it does not hold are passed over."""
        ...

    def optimize(self, collection: str) -> None:
        """Build the graph index over what was added; worth minutes on a large collection."""
        ...

    def health(self) -> Health:
        """Whether the store answers; raises nothing."""
        ...

    def close(self) -> None:
        """Release everything; closing twice is harmless."""
        ...


def seal(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with the SHA-256 of itself; the withdrawal flag, which changes later, is not part of it."""
    kept = {k: v for k, v in payload.items() if k not in _NOT_SEALED}
    return {**kept, WITHDRAWN: int(payload.get(WITHDRAWN, 0)), SHA256: digest(kept)}


def intact(payload: Mapping[str, Any]) -> bool:
    """Whether the payload still has the checksum it was sealed with."""
    kept = {k: v for k, v in payload.items() if k not in _NOT_SEALED}
    return payload.get(SHA256) == digest(kept)


def sound(points: Sequence[Point], scope: Scope) -> tuple[tuple[Point, ...], tuple[UUID, ...]]:
    """The points whose payload is intact, and the ids of the damaged.

    A payload that names a tenant outside the scope is damage, too: then a bit of the engine's own index is wrong.
    """
    tenants = scope.condition().values
    checked = [(p, intact(p.payload) and p.payload["tenant"] in tenants) for p in points]
    return tuple(p for p, good in checked if good), tuple(p.id for p, good in checked if not good)


def vectors_digest(vectors: Mapping[str, NDArray[np.float32]]) -> str:
    """SHA-256 (hex) of the dense vectors, by name, as little-endian float32."""
    sha = hashlib.sha256()
    for name in sorted(vectors):
        sha.update(name.encode() + b"\0" + vectors[name].astype("<f4").tobytes())
    return sha.hexdigest()


def confined(schema: CollectionSchema, scope: Scope, wanted: Filter) -> Filter:
    """`wanted` within the scope; raises `ValueError` for a key without an index, which would be read off the disk."""
    for condition in (*wanted.must, *wanted.must_not):
        if not isinstance(condition, HasId) and condition.key not in schema.payload_indexes:
            raise ValueError(f"collection {schema.name!r} has no index on {condition.key!r} to filter by")
    return Filter(must=(scope.condition(), *wanted.must), must_not=wanted.must_not)


def checked_vector(vector: NDArray[np.float32], layout: DenseVector, name: str) -> NDArray[np.float32]:
    """The vector as it may be stored or asked for: float32, finite, not zero, of unit length under cosine."""
    values = np.ascontiguousarray(vector, dtype=np.float32)
    if values.shape != (layout.size,):
        raise RecordError(f"vector {name!r} has the shape {values.shape}, its collection wants ({layout.size},)")
    if not np.isfinite(values).all():
        raise RecordError(f"vector {name!r} is not finite")
    length = float(np.linalg.norm(values.astype(np.float64)))
    if length == 0.0:
        raise RecordError(f"vector {name!r} is zero")
    if layout.distance is Distance.COSINE and abs(length - 1.0) > _UNIT:
        return np.asarray(values / length, dtype=np.float32)
    return values


def checked_point(point: Point, schema: CollectionSchema) -> Point:
    """The point as it may be stored: vectors checked and normalised, payload sealed. Raises `RecordError`."""
    if unknown := (set(point.vectors) - set(schema.dense)) | (set(point.sparse) - set(schema.sparse)):
        raise RecordError(f"collection {schema.name!r} has no vectors named {sorted(unknown)}")
    if not (point.vectors or point.sparse):
        raise RecordError(f"point {point.id} has no vector")
    if not isinstance(point.payload.get("tenant"), str) or not point.payload["tenant"]:
        raise RecordError(f"point {point.id} names no tenant")
    vectors = {n: checked_vector(v, schema.dense[n], n) for n, v in point.vectors.items()}
    try:
        payload = seal({**point.payload, VECTORS_SHA256: vectors_digest(vectors)})
    except (TypeError, ValueError) as error:
        raise RecordError(f"the payload of point {point.id} is not JSON: {error}") from error
    return replace(point, vectors=vectors, payload=payload)


def checked_nearest(nearest: Nearest, schema: CollectionSchema) -> Nearest:
    """The prefetch as it may be asked: a known vector of the right kind and size. Raises `RecordError`."""
    if isinstance(nearest.vector, SparseVector):
        if nearest.vector_name not in schema.sparse:
            raise RecordError(f"collection {schema.name!r} has no sparse vector {nearest.vector_name!r}")
        return nearest
    if nearest.vector_name not in schema.dense:
        raise RecordError(f"collection {schema.name!r} has no dense vector {nearest.vector_name!r}")
    layout = schema.dense[nearest.vector_name]
    return replace(nearest, vector=checked_vector(nearest.vector, layout, nearest.vector_name))
