"""What an exact search would have answered: every list in float64 over the arrays the store was filled from.

The store is asked once through `Recorder`, which remembers each list asked for; `exact_lists` computes them all in one pass
over the arrays, chunk by chunk; and `Answered` gives them to the same `CaseSearch`. So fusion and everything after it are those
that ship, and recall compares the lists alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from eval.store_speed.synthetic import Arrays
from knowledge_base.cases import VectorNames
from knowledge_base.store import Hit, KnowledgeStore, Nearest, Scope, SparseVector
from knowledge_base.zones import ZONES

CHUNK: Final = 25_000

Floats = NDArray[np.float64]
Low = NDArray[np.float32]
"""Lower is nearer."""
Key = tuple[str, bytes]
Score = Callable[[int, int], Low]
"""Rows start..stop -> (questions, rows)."""


@dataclass(frozen=True, eq=False)
class Words:
    """n cases' `ids` (n, 16), UUIDs as bytes, and their BM25 vectors: `terms` (v,) ascending; `columns` into them and
    `weights` of all cases one after the other; `starts` (n + 1,) where each case's begin.
    """

    ids: NDArray[np.uint8]
    terms: NDArray[np.uint32]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]

    def matrix(self, start: int, stop: int) -> csr_array:
        """(stop - start, v), float64."""
        low, high = self.starts[start], self.starts[stop]
        parts = (self.weights[low:high].astype(np.float64), self.columns[low:high], self.starts[start : stop + 1] - low)
        return csr_array(parts, shape=(stop - start, len(self.terms)))

    def idf(self, n: int) -> Floats:
        """(v,): the inverse document frequency of each term over the first `n` cases, as `knowledge_base.bm25.idf`."""
        holding = np.bincount(self.columns[: self.starts[n]], minlength=len(self.terms)).astype(np.float64)
        return np.asarray(np.log((n - holding + 0.5) / (holding + 0.5) + 1.0))


class WordsWriter:
    """Appends cases' ids and BM25 vectors to files in `folder`, for `load_words`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids, self._terms, self._weights = (
            (folder / n).open("wb") for n in ("ids.u8", "terms.u32", "weights.f32")
        )
        self._lengths: list[int] = []

    def add(self, cases: Iterable[tuple[UUID, SparseVector | None]]) -> None:
        """The next cases."""
        for identity, vector in cases:
            self._ids.write(identity.bytes)
            self._lengths.append(0 if vector is None else len(vector.indices))
            if vector is not None:
                self._terms.write(vector.indices.tobytes())
                self._weights.write(vector.values.tobytes())

    def close(self) -> None:
        """Write what `load_words` reads."""
        for file in (self._ids, self._terms, self._weights):
            file.close()
        starts = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])
        every = np.memmap(self._folder / "terms.u32", np.uint32, "r")
        terms = np.unique(every)
        np.save(self._folder / "columns.npy", np.searchsorted(terms, every).astype(np.int32))
        np.save(self._folder / "terms.npy", terms)
        np.save(self._folder / "starts.npy", starts)


def load_words(folder: Path) -> Words:
    """The BM25 vectors that a `WordsWriter` wrote."""

    def read(name: str) -> NDArray[Any]:
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

    ids = np.memmap(folder / "ids.u8", np.uint8, "r").reshape(-1, 16)
    weights = np.memmap(folder / "weights.f32", np.float32, "r")
    return Words(ids, read("terms"), read("columns"), weights, read("starts"))


class Recorder:
    """A store that answers as `store` does and remembers the lists it was asked for."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store
        self.asked: dict[Key, Nearest] = {}
        self.found: dict[Key, list[Hit]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        lists = self._store.ranked(collection, prefetches, scope)
        for nearest, found in zip(prefetches, lists, strict=True):
            self.asked[key(nearest)], self.found[key(nearest)] = nearest, found
        return lists


class Answered:
    """A store whose lists are known beforehand; everything else comes from `store`."""

    def __init__(self, store: KnowledgeStore, lists: Mapping[Key, list[Hit]]) -> None:
        self._store = store
        self._lists = lists

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def ranked(self, _collection: str, prefetches: Sequence[Nearest], _scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        return [self._lists[key(n)][: n.limit] for n in prefetches]


def key(nearest: Nearest) -> Key:
    """What makes two lists the same question: the named vector and its words."""
    asked = nearest.vector
    content = asked.indices.tobytes() if isinstance(asked, SparseVector) else np.asarray(asked, np.float32).tobytes()
    return nearest.vector_name, content


class Exact:
    """Exact lists over the first `n` rows of the arrays."""

    def __init__(self, arrays: Arrays, words: Words, names: VectorNames, n: int) -> None:
        self._arrays, self._words, self.names, self._n = arrays, words, names, n
        self._idf = words.idf(n)

    def lists(self, asked: Mapping[Key, Nearest]) -> dict[Key, list[Hit]]:
        """Each list asked for: best first, equal scores (as float32) by id. Filters are not applied: every row passes."""
        found: dict[Key, list[Hit]] = {}
        for name in sorted({n for n, _ in asked}):
            some = {k: n for k, n in asked.items() if k[0] == name}
            limit = max(n.limit for n in some.values())
            for k, (rows, lows) in zip(some, self._best(name, list(some.values()), limit), strict=True):
                found[k] = self._hits(name, rows, lows, limit)
        return found

    def _best(self, name: str, asked: list[Nearest], limit: int) -> list[tuple[NDArray[np.int64], Low]]:
        """For each question the rows that can be among the `limit` best, ties at the cut included, and how low each lies."""
        best = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in asked]
        score = self._by_words(asked) if name == self.names.sparse else self._by_vector(name, asked)
        for start in range(0, self._n, CHUNK):
            stop = min(self._n, start + CHUNK)
            for q, low in enumerate(score(start, stop)):
                rows, lows = best[q]
                near = np.flatnonzero(low <= _cut(lows, limit))
                best[q] = _least(np.concatenate([rows, near + start]), np.concatenate([lows, low[near]]), limit)
        return best

    def _by_words(self, asked: list[Nearest]) -> Score:
        """Sum of weight times idf over the shared terms, negated; never found where none is shared."""
        weighted = np.zeros((len(self._words.terms), len(asked)))
        for q, nearest in enumerate(asked):
            if not isinstance(nearest.vector, SparseVector):
                raise TypeError("words are asked for by a sparse vector")
            known = np.isin(nearest.vector.indices, self._words.terms)
            columns = np.searchsorted(self._words.terms, nearest.vector.indices[known])
            weighted[columns, q] = nearest.vector.values[known] * self._idf[columns]

        def score(start: int, stop: int) -> Low:
            sums = (self._words.matrix(start, stop) @ weighted).T
            return np.asarray(np.where(sums > 0.0, -sums, np.inf), np.float32)

        return score

    def _by_vector(self, name: str, asked: list[Nearest]) -> Score:
        """Euclidean distance of boxes, negated cosine of everything else."""
        vectors = np.stack([np.asarray(n.vector, np.float64) for n in asked])
        if name == self.names.box:
            squares = (vectors**2).sum(1)[:, None]

            def distance(start: int, stop: int) -> Low:
                kept = self._arrays.boxes[start:stop].astype(np.float64)
                apart = squares + (kept**2).sum(1)[None] - 2.0 * vectors @ kept.T
                return np.asarray(np.sqrt(np.maximum(apart, 0.0)), np.float32)

            return distance
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

        def cosine(start: int, stop: int) -> Low:
            kept = self._stored(name, start, stop).astype(np.float64)
            kept /= np.linalg.norm(kept, axis=1, keepdims=True)
            return np.asarray(-(vectors @ kept.T), np.float32)

        return cosine

    def _stored(self, name: str, start: int, stop: int) -> NDArray[np.float16]:
        if name == self.names.text:
            return self._arrays.texts[start:stop]
        zone = next(i for i, z in enumerate(ZONES) if self.names.regions[z] == name)
        if self._arrays.regions is None:
            raise ValueError("these cases have no regions")
        return self._arrays.regions[start:stop, zone]

    def _hits(self, name: str, rows: NDArray[np.int64], lows: Low, limit: int) -> list[Hit]:
        ordered = sorted(
            (float(low), UUID(bytes=self._words.ids[row].tobytes())) for row, low in zip(rows, lows, strict=True)
        )
        return [Hit(i, low if name == self.names.box else -low) for low, i in ordered[:limit]]


def _cut(lows: Low, limit: int) -> float:
    """The `limit`-th smallest, infinite while there are fewer: what lies above it is not among the best."""
    return float(np.partition(lows, limit - 1)[limit - 1]) if len(lows) >= limit else float(np.finfo(np.float32).max)


def _least(rows: NDArray[np.int64], lows: Low, limit: int) -> tuple[NDArray[np.int64], Low]:
    kept = lows <= _cut(lows, limit)
    return rows[kept], lows[kept]
