"""The same lists from other engines, each in a process of its own so that its memory can be told apart.

Every engine answers one question at a time, after a pass over the same questions that warms it: faiss with exact and with
HNSW indexes (M = 32), box and text lists only; qdrant-client's local mode and numpy in float64, all three lists; and our own
engine without the process between, box and text lists. What they find is fused alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import numpy as np
import psutil
from numpy.typing import NDArray

from eval.store_speed.exact import Exact, key, load_words
from eval.store_speed.searches import DENSE, fused, recall, summary
from eval.store_speed.synthetic import TENANT, Arrays, size
from knowledge_base.cases import VectorNames
from knowledge_base.frames import Words
from knowledge_base.schema import CASES, WITHDRAWN
from knowledge_base.store import Nearest, SparseVector

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

LINKS: Final = 32
BEAMS: Final = (16, 32, 64, 128, 256, 512)
_MIB: Final = 1 << 20
_BATCH: Final = 500

Found = list[list[UUID]]
Lists = Mapping[str, Nearest]


@dataclass(frozen=True, eq=False)
class Job:
    """`n` cases of the arrays in `folder`, the lists to ask for, the exact answers, and the least recall worth timing."""

    folder: Path
    names: VectorNames
    n: int
    asked: Sequence[Lists]
    wanted: Sequence[Sequence[UUID]]
    least_recall: float = 0.0

    def uuids(self) -> list[UUID]:
        """The cases' ids by row."""
        return [UUID(bytes=row.tobytes()) for row in load_words(self.folder).ids[: self.n]]


def apart(engine: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    """Run an engine in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(engine, job).result()


def faiss_flat(job: Job) -> dict[str, Any]:
    """Exact search by faiss."""
    import faiss

    return _faiss(job, faiss.IndexFlat)


def faiss_hnsw(job: Job) -> dict[str, Any]:
    """Graph search by faiss; of BEAMS, the first beam that finds as much as `least_recall`, else the widest."""
    import faiss

    return _faiss(job, lambda width, metric: faiss.IndexHNSWFlat(width, LINKS, metric))


def _faiss(job: Job, make: Callable[[int, int], Any]) -> dict[str, Any]:
    import faiss

    arrays, ids, before = Arrays(job.folder), job.uuids(), _resident()
    begun = perf_counter()
    indexes = {
        "box": _built(make(arrays.boxes.shape[1], faiss.METRIC_L2), arrays.boxes[: job.n]),
        "text": _built(make(arrays.texts.shape[1], faiss.METRIC_INNER_PRODUCT), arrays.texts[: job.n], unit=True),
    }
    building = perf_counter() - begun
    faiss.omp_set_num_threads(1)

    def search(lists: Lists) -> list[UUID]:
        rows = {k: indexes[k].search(_row(lists[k]), min(lists[k].limit, job.n))[1][0] for k in DENSE}
        return fused({k: [ids[r] for r in found if r >= 0] for k, found in rows.items()})

    row = _timed(job, search)
    for beam in BEAMS if hasattr(indexes["box"], "hnsw") else ():
        for index in indexes.values():
            index.hnsw.efSearch = beam
        row = _timed(job, search) | {"beam": beam}
        if row["recall_at_10"] >= job.least_recall:
            break
    stored = sum(faiss.serialize_index(index).nbytes for index in indexes.values())
    return row | _weight(before, stored / job.n) | {"lists": list(DENSE), "build_seconds": round(building, 2)}


def _built(index: Any, vectors: NDArray[np.float16], *, unit: bool = False) -> Any:
    for start in range(0, len(vectors), 16_384):
        some = vectors[start : start + 16_384].astype(np.float32)
        index.add(some / np.linalg.norm(some, axis=1, keepdims=True) if unit else some)
    return index


def _row(nearest: Nearest) -> NDArray[np.float32]:
    return np.asarray(nearest.vector, np.float32)[None]


def qdrant_local(job: Job) -> dict[str, Any]:
    """All three lists from qdrant-client's local mode, kept in a folder as ours is."""
    from qdrant_client import QdrantClient, models

    arrays, before = Arrays(job.folder), _resident()
    folder = job.folder / "qdrant-local"
    shutil.rmtree(folder, ignore_errors=True)
    client = QdrantClient(path=str(folder))
    begun = perf_counter()
    _fill_local(client, job, arrays)
    building = perf_counter() - begun
    seen = models.Filter(
        must=[models.FieldCondition(key="tenant", match=models.MatchAny(any=[TENANT, "public"]))],
        must_not=[models.FieldCondition(key=WITHDRAWN, match=models.MatchValue(value=1))],
    )

    def search(lists: Lists) -> list[UUID]:
        requests = [
            models.QueryRequest(query=_asked(n), using=n.vector_name, limit=n.limit, filter=seen)
            for n in lists.values()
        ]
        answers = client.query_batch_points(CASES, requests)
        return fused({k: [UUID(str(p.id)) for p in a.points] for k, a in zip(lists, answers, strict=True)})

    row = _timed(job, search) | {"lists": ["box", "text", "bm25"]}
    client.close()
    return row | _weight(before, size(folder) / job.n) | {"build_seconds": round(building, 2)}


def _fill_local(client: QdrantClient, job: Job, arrays: Arrays) -> None:
    from qdrant_client import models

    names, words, ids = job.names, load_words(job.folder), job.uuids()
    client.create_collection(
        CASES,
        vectors_config={
            names.box: models.VectorParams(size=arrays.boxes.shape[1], distance=models.Distance.EUCLID),
            names.text: models.VectorParams(size=arrays.texts.shape[1], distance=models.Distance.COSINE),
        },
        sparse_vectors_config={names.sparse: models.SparseVectorParams(modifier=models.Modifier.IDF)},
    )

    def point(row: int) -> models.PointStruct:
        held = slice(words.starts[row], words.starts[row + 1])
        terms, weights = words.terms[words.columns[held]].tolist(), words.weights[held].tolist()
        vector = {names.box: arrays.boxes[row].tolist(), names.text: arrays.texts[row].tolist()}
        sparse = {names.sparse: models.SparseVector(indices=terms, values=weights)}
        return models.PointStruct(id=str(ids[row]), vector=vector | sparse, payload={"tenant": TENANT, WITHDRAWN: 0})

    for start in range(0, job.n, _BATCH):
        client.upsert(CASES, [point(row) for row in range(start, min(job.n, start + _BATCH))])


def _asked(nearest: Nearest) -> Any:
    from qdrant_client import models

    asked = nearest.vector
    if isinstance(asked, SparseVector):
        return models.SparseVector(indices=asked.indices.tolist(), values=asked.values.tolist())
    return asked.tolist()


def numpy_exact(job: Job) -> dict[str, Any]:
    """All three lists in float64 over the arrays on disk."""
    arrays, before = Arrays(job.folder), _resident()
    exact = Exact(arrays, load_words(job.folder), job.names, job.n)

    def search(lists: Lists) -> list[UUID]:
        answer = exact.lists({key(n): n for n in lists.values()})
        return fused({k: [h.id for h in answer[key(n)]] for k, n in lists.items()})

    stored = sum(p.stat().st_size for p in job.folder.glob("*.npy")) / len(arrays)
    return _timed(job, search) | {"lists": ["box", "text", "bm25"]} | _weight(before, stored)


def engine_alone(job: Job) -> dict[str, Any]:
    """The box and text lists of the embedded engine in this very process: no pipe, no client. `folder` is the store's."""
    from knowledge_base.edge_shard import Shard

    shard = Shard(job.folder / CASES)

    def search(lists: Lists) -> list[UUID]:
        within: dict[str, Any] = {
            "must": [["any", "tenant", [TENANT, "public"]]],
            "must_not": [["match", WITHDRAWN, 1]],
        }
        asked = [
            {
                "using": lists[k].vector_name,
                "limit": lists[k].limit,
                "count": len(_row(lists[k])[0]),
                "filter": within,
            }
            for k in DENSE
        ]
        block = b"".join(_row(lists[k]).tobytes() for k in DENSE)
        answer, found = shard.ranked({"scope": within["must"][0], "prefetches": asked}, block)
        hits = Words(found).hits(answer["counts"])
        return fused({k: [i for i, _ in some] for k, some in zip(DENSE, hits, strict=True)})

    row = _timed(job, search) | {"lists": list(DENSE)}
    shard.close()
    return row


def _timed(job: Job, search: Callable[[Lists], list[UUID]]) -> dict[str, Any]:
    found = [search(lists) for lists in job.asked]
    seconds = []
    for lists in job.asked:
        begun = perf_counter()
        search(lists)
        seconds.append(perf_counter() - begun)
    timed = summary(seconds)
    return {
        "hybrid_p50_ms": timed["p50_ms"],
        "hybrid_p99_ms": timed["p99_ms"],
        "hybrid_mean_ms": timed["mean_ms"],
        "queries": timed["queries"],
        "cases": job.n,
        "recall_at_10": recall(found, job.wanted),
    }


def _weight(before: float, bytes_per_case: float) -> dict[str, float]:
    return {"bytes_per_case": round(bytes_per_case, 1), "rss_mb": round(_resident() - before, 1)}


def _resident() -> float:
    return float(psutil.Process().memory_info().rss / _MIB)
