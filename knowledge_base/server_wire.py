"""How the port's values look to qdrant-client, and how its failures look to us."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import grpc
import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from qdrant_client import models
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from knowledge_base.errors import CollectionMissing, DiskLow, StoreProtocolError, StoreUnavailable
from knowledge_base.schema import WITHDRAWN, CollectionSchema
from knowledge_base.store import Between, Condition, Filter, HasId, Match, MatchAny, Nearest, Point, Scope, SparseVector

_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504, 507})
_BARRED: Final = frozenset({401, 403})
_CODES: Final = grpc.StatusCode
_GRPC_BUSY: Final = frozenset(
    {
        _CODES.UNAVAILABLE,
        _CODES.DEADLINE_EXCEEDED,
        _CODES.RESOURCE_EXHAUSTED,
        _CODES.ABORTED,
        _CODES.CANCELLED,
        _CODES.INTERNAL,
        _CODES.UNKNOWN,
    }
)
_GRPC_BARRED: Final = frozenset({_CODES.UNAUTHENTICATED, _CODES.PERMISSION_DENIED})
_OVERSAMPLING: Final = 4.0
"""How many times the limit is found by the copies, then scored again on the originals."""
_BREADTH: Final = 128
"""Candidates kept while a graph is walked (ef)."""
_DISTANCES: Final = {"Cosine": models.Distance.DOT, "Euclid": models.Distance.EUCLID}


@contextmanager
def mapped_errors(collection: str | None = None) -> Iterator[None]:
    """Turn each way qdrant-client fails into an error of ours; the server's own words stay in the cause."""
    try:
        yield
    except ResourceExhaustedResponse as error:
        raise StoreUnavailable("the store is overloaded", max(1, error.retry_after_s)) from error
    except UnexpectedResponse as error:
        raise _unexpected(error, collection) from error
    except ResponseHandlingException as error:
        if isinstance(error.source, httpx.HTTPError | OSError):
            raise StoreUnavailable("the store does not answer") from error
        raise StoreProtocolError("the store's answer has the wrong form") from error
    except grpc.RpcError as error:
        raise _grpc_failure(error, collection) from error
    except (QdrantException, httpx.HTTPError) as error:
        raise StoreUnavailable("the store does not answer") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AssertionError) as error:
        raise StoreProtocolError("the store's answer has the wrong form") from error


def _grpc_failure(error: Any, collection: str | None) -> Exception:
    """A failure over gRPC, by its status code (grpc.github.io/grpc/core/md_doc_statuscodes.html)."""
    code = error.code()
    if "No space left" in str(error.details()) or "OutOfDisk" in str(error.details()):
        return DiskLow("the store's disk is full")
    if code is grpc.StatusCode.NOT_FOUND and collection is not None:
        return CollectionMissing(collection)
    if code in _GRPC_BARRED:
        return StoreUnavailable("the store refuses this key")
    if code in _GRPC_BUSY:
        return StoreUnavailable("the store does not answer")
    return StoreProtocolError(f"the store answers {code.name}")


def _unexpected(error: UnexpectedResponse, collection: str | None) -> Exception:
    if b"No space left" in error.content or b"OutOfDisk" in error.content:
        return DiskLow("the store's disk is full")
    if error.status_code == 404 and collection is not None:
        return CollectionMissing(collection)
    if error.status_code in _BARRED:
        return StoreUnavailable("the store refuses this key")
    if error.status_code in _BUSY:
        wait = error.headers.get("Retry-After", "")
        return StoreUnavailable(f"the store answers {error.status_code}", int(wait) if wait.isdecimal() else 2)
    return StoreProtocolError(f"the store answers {error.status_code}")


def vector_params(schema: CollectionSchema) -> dict[str, models.VectorParams]:
    """The dense vectors of a collection to be made: originals on the disk, copies of 8 bits a value in memory."""
    copies = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    return {
        n: models.VectorParams(
            size=v.size,
            distance=_DISTANCES[v.distance],
            on_disk=True,
            quantization_config=models.ScalarQuantization(scalar=copies),
        )
        for n, v in schema.dense.items()
    }


def sparse_params(schema: CollectionSchema) -> dict[str, models.SparseVectorParams]:
    """The sparse vectors of a collection to be made, weighted by inverse document frequency."""
    return {n: models.SparseVectorParams(modifier=models.Modifier.IDF) for n in schema.sparse}


def index_params(key: str, kind: str) -> models.KeywordIndexParams | models.PayloadSchemaType:
    """The index of a payload key; `tenant` is the key the server lays its storage out by."""
    if key == "tenant":
        return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    return models.PayloadSchemaType(kind)


def make_filter(wanted: Filter) -> models.Filter:
    """A filter for the server."""
    return models.Filter(
        must=[_condition(c) for c in wanted.must] or None, must_not=[_condition(c) for c in wanted.must_not] or None
    )


def _condition(wanted: Condition) -> models.FieldCondition | models.HasIdCondition:
    match wanted:
        case Match(key=key, value=value):
            return models.FieldCondition(key=key, match=models.MatchValue(value=value))
        case MatchAny(key=key, values=values):
            return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
        case Between(key=key, low=low, high=high):
            return models.FieldCondition(key=key, range=models.Range(gte=low, lte=high))
        case HasId(ids=ids):
            return models.HasIdCondition(has_id=[str(i) for i in ids])


def make_query(
    nearest: Nearest,
    within: Filter,
    scope: Scope,
    limit: int,
    keys: list[int | str] | None = None,
    *,
    exact: bool = False,
) -> models.QueryRequest:
    """One ranked list to ask for, `within` its confined filter; sparse weights count over the points in scope.

    `keys` are the shards to ask where a collection is divided by tenant. `exact` says that the client searches without
    graphs and copies, as its local mode does.
    """
    if isinstance(nearest.vector, SparseVector):
        corpus = models.IdfCorpusParams(corpus=make_filter(Filter(must=(scope.condition(),))))
        params = models.SearchParams(idf=corpus)
    elif exact:
        params = None
    else:
        again = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        params = models.SearchParams(hnsw_ef=_BREADTH, quantization=again)
    return models.QueryRequest(
        query=_vector(nearest.vector),
        using=nearest.vector_name,
        filter=make_filter(within),
        params=params,
        limit=limit,
        with_payload=False,
        with_vector=False,
        shard_key=keys,
    )


def make_point(point: Point, *, withdrawn: bool) -> models.PointStruct:
    """A point to be stored, its withdrawal kept."""
    vectors: dict[str, Any] = {n: _vector(v) for n, v in point.vectors.items()}
    vectors.update({n: _vector(v) for n, v in point.sparse.items()})
    payload = {**point.payload, WITHDRAWN: 1} if withdrawn else dict(point.payload)
    return models.PointStruct(id=str(point.id), vector=vectors, payload=payload)


def _vector(vector: NDArray[np.float32] | SparseVector) -> Any:
    if isinstance(vector, SparseVector):
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist()


def read_points(records: Iterable[models.Record], schema: CollectionSchema, names: Iterable[str]) -> list[Point]:
    """Points of an answer; raises `StoreProtocolError` when a vector has another size than its layout."""
    wanted, points = list(names), []
    for record in records:
        held = record.vector if isinstance(record.vector, dict) else {}
        vectors = {n: np.asarray(held[n], np.float32) for n in wanted if n in held}
        for name, vector in vectors.items():
            if vector.shape != (schema.dense[name].size,):
                raise StoreProtocolError(f"the store sent a {name!r} vector of shape {vector.shape}")
        points.append(Point(read_id(record.id), vectors, {}, record.payload or {}))
    return points


def read_id(identity: object) -> UUID:
    """A point's id; raises `StoreProtocolError` when it is none of ours."""
    try:
        return UUID(str(identity))
    except ValueError as error:
        raise StoreProtocolError("the store sent a point id that is no UUID") from error
