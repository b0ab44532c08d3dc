"""How a collection's layout looks to the embedded engine: vectors, their compressed copies, graphs. Runs in its process.

Every dense vector keeps its float32 original on disk and a TurboQuant copy of 8 bits a value (a quarter of the size) that the
graph is built on and walked over; the best OVERSAMPLING times as many candidates are then scored again on the originals. The
copies of boxes and texts stay in memory; those of region vectors, seven a case and seldom asked for, are mapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import qdrant_edge as qe

OVERSAMPLING: Final = 2.0
BREADTH: Final = 256
"""Candidates kept while a graph is walked (ef): wide, since reports resemble each other."""
DISTANCES: Final = {"Cosine": qe.Distance.Dot, "Euclid": qe.Distance.Euclid}
KINDS: Final = {"keyword": qe.PayloadSchemaType.Keyword, "integer": qe.PayloadSchemaType.Integer}
_SHORT: Final = 64
_LIGHT: Final = qe.HnswIndexConfig(m=8, ef_construct=64, full_scan_threshold=10_000)
"""Graph of short vectors, which are region vectors: half the edges, built faster."""
_DELETED_SHARE: Final = 1e-6
_VACUUM_FROM: Final = 1


def config(schema: Mapping[str, Any]) -> qe.EdgeConfig:
    """The engine's configuration for a schema in its JSON form.

    An optimisation throws out whatever was deleted, however little: Qdrant counts deleted points in the term statistics.
    """
    return qe.EdgeConfig(
        vectors={n: _vector(v) for n, v in schema["dense"].items()},
        sparse_vectors={n: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf) for n in schema["sparse"]},
        optimizers=qe.EdgeOptimizersConfig(deleted_threshold=_DELETED_SHARE, vacuum_min_vector_number=_VACUUM_FROM),
        wal_enabled=True,
    )


def _vector(layout: Mapping[str, Any]) -> qe.EdgeVectorParams:
    short = layout["size"] <= _SHORT
    copy = qe.TurboQuantQuantizationConfig(
        bits=qe.TurboQuantBitSize.Bits8, memory=qe.Memory.Cold if short else qe.Memory.Pinned
    )
    return qe.EdgeVectorParams(
        size=layout["size"],
        distance=DISTANCES[layout["distance"]],
        quantization_config=copy,
        hnsw_config=_LIGHT if short else None,
        memory=qe.Memory.Cold,
    )


def dense_params() -> qe.SearchParams:
    """How a dense vector is searched: over the compressed copies, then again on the originals."""
    again = qe.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
    return qe.SearchParams(hnsw_ef=BREADTH, quantization=again)
