"""Pushing an index to a server: everything arrives once, faults are waited out, and the end is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient

from knowledge_base.bm25 import query_vector
from knowledge_base.cases import to_point
from knowledge_base.errors import DamagedRecordError, StoreUnavailable
from knowledge_base.forwarding import ForwardingStore
from knowledge_base.memory import MemoryStore
from knowledge_base.push import Push, Pushed, PushIncomplete
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.server import ServerStore
from knowledge_base.store import Filter, KnowledgeStore, Match, Nearest, Point, Scope
from knowledge_base.withdrawals import WithdrawalKeeper, tombstones

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
COUNT = 600
PAGES = [256, 44, 256, 44]
WITHDRAWN = Filter(must=(Match("withdrawn", 1),))


def a_point(number: int, words: str = "small effusion") -> Point:
    rng = np.random.default_rng(number)
    tenant = ("public", "isle")[number % 2]
    case = Case("openi", f"s{number}", f"p{number}", f"report {number} {words}", (), tenant=tenant)
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    return to_point(case, SCHEMA, box=box, text_vector=rng.normal(size=6).astype(np.float32))


@pytest.fixture
def source() -> KnowledgeStore:
    store = WithdrawalKeeper(MemoryStore())
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", [a_point(n) for n in range(COUNT)])
    store.set_withdrawn("cases", [a_point(8).id, a_point(5_000).id], "public")
    return store


@pytest.fixture
def target() -> KnowledgeStore:
    store = WithdrawalKeeper(ServerStore(QdrantClient(":memory:"), local=True))
    store.open(SCHEMA, MANIFEST)
    return store


def run(push: Push) -> Pushed:
    pushed = Pushed()
    list(push.send(SCHEMA, pushed))
    push.withdraw()
    list(push.verify(SCHEMA, pushed))
    return pushed


def test_everything_arrives_and_a_second_push_sends_nothing(source: KnowledgeStore, target: KnowledgeStore) -> None:
    push, pushed = Push(source, target), Pushed()
    assert list(push.send(SCHEMA, pushed)) == PAGES
    assert (pushed.sent, pushed.present) == (COUNT, 0)
    again = run(push)
    assert (again.sent, again.present, again.verified) == (0, COUNT, {"isle": 300, "public": 300})
    assert target.ids("cases", Scope("public"), WITHDRAWN) == [a_point(8).id]
    assert sorted(c for _, cases in tombstones(target) for c in cases) == sorted([a_point(8).id, a_point(5_000).id])
    words = query_vector("report 77 effusion")
    assert words is not None
    asked = [Nearest("bm25", words, 10), Nearest("box.box@1", a_point(3).vectors["box.box@1"], 10)]
    ours, theirs = (s.ranked("cases", asked, Scope("isle")) for s in (source, target))
    assert [[h.id for h in hits] for hits in theirs] == [[h.id for h in hits] for hits in ours]


def test_what_changed_is_sent_and_what_the_server_has_besides_stays(
    source: KnowledgeStore, target: KnowledgeStore
) -> None:
    run(Push(source, target))
    target.upsert("cases", [a_point(9_000)])
    target.set_withdrawn("cases", [a_point(10).id], "public")
    source.upsert("cases", [a_point(3, "clear lungs")])
    source.set_withdrawn("cases", [a_point(7).id], "isle")
    pushed = run(Push(source, target))
    assert (pushed.sent, pushed.present) == (2, COUNT - 2)
    assert target.count("cases", Scope("public")) == 301
    assert target.ids("cases", Scope("isle"), WITHDRAWN) == sorted(a_point(n).id for n in (7, 8, 10))


class Flaky(ForwardingStore):
    """Fails every other call, and for good once `dies_after` records were stored."""

    def __init__(self, inner: KnowledgeStore, dies_after: int = 10**9) -> None:
        super().__init__(inner)
        self.calls, self.stored, self.dies_after = 0, 0, dies_after

    def fail(self) -> None:
        self.calls += 1
        if self.calls % 2 or self.stored >= self.dies_after:
            raise StoreUnavailable("the store does not answer", 3)

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        self.fail()
        super().upsert(collection, points)
        self.stored += len(points)

    def get(self, collection: str, ids: Sequence[UUID], scope: Scope, vectors: Sequence[str] = ()) -> Any:
        self.fail()
        return super().get(collection, ids, scope, vectors)


def test_faults_are_waited_out(source: KnowledgeStore, target: KnowledgeStore) -> None:
    waits: list[float] = []
    assert run(Push(source, Flaky(target), waits.append)).sent == COUNT
    assert waits == [3.0] * 12


def test_a_push_that_was_cut_short_goes_on(source: KnowledgeStore, target: KnowledgeStore) -> None:
    waits: list[float] = []
    with pytest.raises(StoreUnavailable):
        run(Push(source, Flaky(target, 500), waits.append))
    assert waits[-5:] == [3.0, 6.0, 9.0, 12.0, 15.0]
    assert sum(target.tenants("cases").values()) == 556
    pushed = run(Push(source, target))
    assert (pushed.sent, pushed.present, sum(pushed.verified.values())) == (44, 556, COUNT)


def test_what_did_not_arrive_is_found(source: KnowledgeStore, target: KnowledgeStore) -> None:
    push = Push(source, target)
    list(push.send(SCHEMA, Pushed()))
    target.delete("cases", [a_point(11).id], "isle")
    with pytest.raises(PushIncomplete, match=r"1 records of 'cases'") as caught:
        list(push.verify(SCHEMA, Pushed()))
    assert caught.value.ids == (a_point(11).id,)


def test_a_damaged_record_is_not_sent(target: KnowledgeStore) -> None:
    inner = MemoryStore()
    inner.open(SCHEMA, MANIFEST)
    inner.upsert("cases", [a_point(1)])
    points = inner._collections["cases"].points
    points[a_point(1).id] = replace(points[a_point(1).id], vectors={})
    with pytest.raises(DamagedRecordError, match=str(a_point(1).id)):
        run(Push(inner, target))
    assert target.tenants("cases") == {}
