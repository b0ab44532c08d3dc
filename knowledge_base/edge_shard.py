"""One collection of the embedded engine: a Qdrant shard with its layout beside it. Runs inside the engine process.

On disk, under PATH/<collection>/:  `shard/` (Qdrant's own files, write-ahead log included) and `collection.json`
({"schema", "manifest"}). Both appear at once, by a rename, or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import qdrant_edge as qe

from knowledge_base import edge_layout
from knowledge_base.edge_optimizer import SHARD, Rebuild, exchange, recover
from knowledge_base.frames import Words, float_words, hit_words
from knowledge_base.fusion import cut_ties
from knowledge_base.places import LAYOUT
from knowledge_base.schema import WITHDRAWN

MAKING: Final = ".making-"
FLUSH_AFTER: Final = 4096
"""Points written, and safe in the write-ahead log, before the engine's files are flushed although it is not idle."""

Header: TypeAlias = dict[str, Any]
Answer: TypeAlias = tuple[Header, bytes]


class Refused(Exception):
    """A request the engine does not understand."""


def condition(spec: list[Any]) -> qe.FieldCondition | qe.HasIdCondition:
    """Build one condition from its wire form: [kind, key or ids, ...]."""
    match spec:
        case ["match", str(key), value]:
            return qe.FieldCondition(key, match=qe.MatchValue(value))
        case ["any", str(key), list(values)]:
            return qe.FieldCondition(key, match=qe.MatchAny(values))
        case ["between", str(key), low, high]:
            return qe.FieldCondition(key, range=qe.RangeFloat(gte=low, lte=high))
        case ["ids", list(ids)]:
            return qe.HasIdCondition({UUID(i) for i in ids})
    raise Refused(f"no condition of kind {spec[:1]}")


def make_filter(spec: dict[str, list[list[Any]]]) -> qe.Filter:
    """Build a filter from its wire form {"must": [...], "must_not": [...]}."""
    return qe.Filter(must=[condition(c) for c in spec["must"]], must_not=[condition(c) for c in spec["must_not"]])


def _point_ids(ids: list[str]) -> list[qe.PointId]:
    return [UUID(i) for i in ids]


def _hits(found: list[qe.ScoredPoint]) -> list[tuple[UUID, float]]:
    """Ids and scores; the ids of a collection of ours are UUIDs."""
    return [(cast(UUID, hit.id), hit.score) for hit in found]


def sweep(path: Path) -> None:
    """Remove collections whose making was cut short."""
    for left in path.glob(f"{MAKING}*"):
        shutil.rmtree(left)


class Shard:
    """An open collection. Requests and answers are header and block of words; `layout` is {"schema", "manifest"}."""

    def __init__(self, folder: Path) -> None:
        self.layout: dict[str, Any] = json.loads((folder / LAYOUT).read_text("utf-8"))
        self._dense: dict[str, Any] = self.layout["schema"]["dense"]
        self._folder = folder
        self._rebuild: Rebuild | None = None
        recover(folder)
        self._load()

    def _load(self) -> None:
        self._shard = qe.EdgeShard.load(str(self._folder / SHARD), edge_layout.config(self.layout["schema"]))
        self._rewritten = False
        self._unflushed = 0
        self._complete: dict[str, bool] = {}

    @classmethod
    def make(cls, folder: Path, layout: dict[str, Any]) -> Shard:
        """Create the collection on disk and open it."""
        making = folder.with_name(MAKING + folder.name)
        shutil.rmtree(making, ignore_errors=True)
        (making / SHARD).mkdir(parents=True)
        schema = layout["schema"]
        shard = qe.EdgeShard.create(str(making / SHARD), edge_layout.config(schema))
        for key, kind in schema["payload_indexes"].items():
            shard.update(qe.UpdateOperation.create_field_index(key, edge_layout.KINDS[kind]))
        shard.flush()
        shard.close()
        with (making / LAYOUT).open("w", encoding="utf-8") as file:
            json.dump(layout, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        making.rename(folder)
        return cls(folder)

    def upsert(self, request: Header, block: bytes) -> Answer:
        """Store points; a withdrawal already on disk stays."""
        words = Words(block)
        ids = [p["id"] for p in request["points"]]
        held = self._withdrawals(ids)
        self._before_write(ids, rewritten=bool(held))
        points = []
        for spec in request["points"]:
            vector: dict[str, Any] = {n: words.floats(self._dense[n]["size"]) for n in spec["dense"]}
            for name, count in spec["sparse"]:
                vector[name] = qe.SparseVector(words.integers(count), words.floats(count))
            payload = spec["payload"] | ({WITHDRAWN: 1} if held.get(spec["id"]) else {})
            points.append(qe.Point(UUID(spec["id"]), vector, payload))
        self._shard.update(qe.UpdateOperation.upsert_points(points))
        self._unflushed += len(points)
        if self._unflushed >= FLUSH_AFTER:
            self.flush()
        return {}, b""

    def flush(self) -> None:
        """Bring what the write-ahead log holds into the engine's own files, and those to the disk."""
        if self._unflushed:
            self._shard.flush()
            self._unflushed = 0

    def _withdrawals(self, ids: list[str]) -> dict[str, bool]:
        """Of the points already there, whether each is withdrawn."""
        found = self._shard.retrieve(_point_ids(ids), with_payload=[WITHDRAWN], with_vector=False)
        return {str(r.id): bool((r.payload or {}).get(WITHDRAWN)) for r in found}

    def get(self, request: Header, _: bytes) -> Answer:
        """Points by id whose tenant is one of `tenants`."""
        names, tenants = request["vectors"], set(request["tenants"])
        found = self._shard.retrieve(_point_ids(request["ids"]), with_payload=True, with_vector=names or False)
        return self._records([r for r in found if (r.payload or {}).get("tenant") in tenants], names)

    def ranked(self, request: Header, block: bytes) -> Answer:
        """How long the list of each prefetch is, and the lists in the block, ties in order of id."""
        words, corpus = Words(block), self._corpus(request["scope"])
        questions = [self._question(spec, words, corpus) for spec in request["prefetches"]]
        asked = [question(spec["limit"] + 1) for question, spec in zip(questions, request["prefetches"], strict=True)]
        answers = self._shard.query_batch(qe.QueryBatchRequest(asked)) if asked else []
        lists = [self._cut(*part) for part in zip(request["prefetches"], questions, answers, strict=True)]
        return {"counts": [len(found) for found in lists]}, b"".join(map(hit_words, lists))

    def _question(self, spec: Header, words: Words, corpus: qe.Filter | None) -> Callable[[int], qe.QueryRequest]:
        """The request for a prefetch, whose vector comes next in the block, by how many points it asks for."""
        name, count, wanted = spec["using"], spec["count"], make_filter(spec["filter"])
        if name in self._dense:
            nearest, params = qe.Query.Nearest(words.floats(count), using=name), edge_layout.dense_params()
        else:
            sparse = qe.SparseVector(words.integers(count), words.floats(count))
            nearest, params = qe.Query.Nearest(sparse, using=name), qe.SearchParams(idf=qe.IdfParams(corpus=corpus))
        return lambda limit: qe.QueryRequest(limit=limit, query=nearest, filter=wanted, params=params)

    def _cut(
        self, spec: Header, question: Callable[[int], qe.QueryRequest], answer: list[qe.ScoredPoint]
    ) -> list[tuple[UUID, float]]:
        name = spec["using"]
        low_first = name in self._dense and self._dense[name]["distance"] == "Euclid"
        found = _hits(answer)
        return cut_ties(
            found, lambda limit: _hits(self._shard.query(question(limit))), spec["limit"], low_first=low_first
        )

    def _corpus(self, scope: list[Any]) -> qe.Filter | None:
        """The points whose words count for the inverse document frequency; None for all, which is many times faster.

        Qdrant's figures over all points still hold what was deleted or replaced since the last load or optimisation: they are
        used only while that is nothing.
        """
        within = make_filter({"must": [scope], "must_not": []})
        key = json.dumps(scope)
        if key not in self._complete:
            inside = self._shard.count(qe.CountRequest(exact=True, filter=within))
            self._complete[key] = inside == self.points()
        return None if self._complete[key] and not self._rewritten else within

    def scroll(self, request: Header, _: bytes) -> Answer:
        """A page of points after an id; `next` is the id that would come next, or None."""
        start = UUID(int=UUID(request["after"]).int + 1) if request["after"] else None
        names = request["vectors"]
        found, following = self._shard.scroll(
            qe.ScrollRequest(
                offset=start,
                limit=request["limit"],
                filter=make_filter(request["filter"]),
                with_payload=request["payload"],
                with_vector=names or False,
            )
        )
        header, block = self._records(found, names)
        return header | {"more": following is not None}, block

    def _records(self, found: list[Any], names: list[str]) -> Answer:
        """Wire form of records: which of the named vectors each has, in the header; their words in the block."""
        points, block = [], bytearray()
        for record in found:
            vectors = record.vector if names and isinstance(record.vector, dict) else {}
            present = [n for n in names if n in vectors]
            for name in present:
                block += float_words(vectors[name])
            points.append({"id": str(record.id), "dense": present, "payload": record.payload or {}})
        return {"points": points}, bytes(block)

    def count(self, request: Header, _: bytes) -> Answer:
        """Exact number of points that pass the filter."""
        wanted = make_filter(request["filter"])
        return {"count": self._shard.count(qe.CountRequest(exact=True, filter=wanted))}, b""

    def facet(self, request: Header, _: bytes) -> Answer:
        """Exact number of points for each value of an indexed key."""
        wanted = make_filter(request["filter"]) if request["filter"] else None
        asked = qe.FacetRequest(request["key"], limit=request["limit"], exact=True, filter=wanted)
        return {"values": [[hit.value, hit.count] for hit in self._shard.facet(asked)]}, b""

    def set_withdrawn(self, request: Header, _: bytes) -> Answer:
        """Set the withdrawal flag of one tenant's points."""
        if ids := self._owned(request):
            flag = {WITHDRAWN: 1 if request["withdrawn"] else 0}
            self._before_write([str(i) for i in ids], rewritten=False)
            self._shard.update(qe.UpdateOperation.set_payload(ids, flag))
            self._shard.flush()
        return {}, b""

    def delete(self, request: Header, _: bytes) -> Answer:
        """Remove one tenant's points."""
        if ids := self._owned(request):
            self._before_write([str(i) for i in ids], rewritten=True)
            self._shard.update(qe.UpdateOperation.delete_points(ids))
            self._shard.flush()
        return {}, b""

    def _owned(self, request: Header) -> list[qe.PointId]:
        found = self._shard.retrieve(_point_ids(request["ids"]), with_payload=["tenant"], with_vector=False)
        return [r.id for r in found if (r.payload or {}).get("tenant") == request["tenant"]]

    def _before_write(self, ids: list[str], *, rewritten: bool) -> None:
        self._rewritten |= rewritten
        self._complete.clear()
        if self._rebuild is not None:
            self._rebuild.touch(ids)

    def optimize(self, _request: Header, _: bytes) -> Answer:
        """Begin to merge segments and build graphs, on a copy in a process of its own."""
        if self._rebuild is None:
            self._shard.flush()
            self._rebuild = Rebuild(self._folder)
        return {}, b""

    def optimized(self, _request: Header, _: bytes) -> Answer:
        """Whether the optimisation has ended: then the copy takes this shard's place. `Refused` when there is none or it failed."""
        if self._rebuild is None:
            raise Refused("nothing is being optimised")
        status = self._rebuild.status()
        if status is None:
            return {"done": False}, b""
        if status == 0 and not self._rebuild.carried:  # in two steps, so that reads get their turn between
            self._rebuild.carry_over(self._folder, self._shard)
            return {"done": False}, b""
        rebuild, self._rebuild = self._rebuild, None
        rebuild.stop()
        if status != 0:
            raise Refused(f"the optimiser ended with status {status}; the index is as it was")
        rebuild.carry_over(self._folder, self._shard)
        self._shard.close()
        exchange(self._folder)
        self._load()
        return {"done": True}, b""

    def points(self) -> int:
        """How many points the shard holds."""
        return int(self._shard.info().points_count)

    def close(self) -> None:
        """Flush and release; an optimisation under way is given up."""
        if self._rebuild is not None:
            self._rebuild.stop()
        self._shard.flush()
        self._shard.close()
