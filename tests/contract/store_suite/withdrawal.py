"""Withdrawal: gone at once, and not back by accident."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from knowledge_base.cases import VectorNames
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import Filter, Match, Point, Scope
from knowledge_base.withdrawals import WITHDRAWALS, withdrawn_among
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import MANIFEST, PUBLIC_ONLY, a_point, many

IN_USE = Filter(must_not=(Match("withdrawn", 1),))
WITHDRAWN = Filter(must=(Match("withdrawn", 1),))


class WithdrawalSuite(StoreSuite):
    """What every store promises."""

    def test_a_withdrawal_outlives_being_indexed_again_and_can_be_taken_back(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(3)]
        rig.store.upsert(rig.name, points)
        rig.store.set_withdrawn(rig.name, [points[1].id], "public")
        rig.store.upsert(rig.name, points)
        assert rig.store.ids(rig.name, PUBLIC_ONLY, IN_USE) == sorted([points[0].id, points[2].id])
        fetched = rig.store.get(rig.name, [points[1].id], PUBLIC_ONLY)
        assert fetched.damaged == ()
        assert fetched.points[0].payload["withdrawn"] == 1
        rig.store.set_withdrawn(rig.name, [points[1].id], "public", withdrawn=False)
        assert rig.store.count(rig.name, PUBLIC_ONLY, IN_USE) == 3

    def test_a_withdrawn_case_is_gone_from_the_next_search(self, rig: Rig) -> None:
        points = many(rig.schema, 12)
        rig.store.upsert(rig.name, points)
        search = CaseSearch(rig.store, VectorNames.of(rig.schema), collection=rig.name)
        query = CaseQuery("isle", text="effusion heart clear", text_vector=np.ones(6, np.float32), limit=8)
        before = [h.case.id for h in search.search(query).hits]
        gone = next(p for p in points if p.id == before[0])
        rig.store.set_withdrawn(rig.name, [gone.id], str(gone.payload["tenant"]))
        after = [h.case.id for h in search.search(query).hits]
        assert len(before) == 8
        assert set(after) == set(before[1:])
        assert sum(search.coverage("isle").values()) < 8


class TombstoneSuite(StoreSuite):
    """What the product's store promises beyond: `WithdrawalKeeper`."""

    def withdrawn(self, rig: Rig) -> list[Point]:
        """Two cases of isle and one public one; the first of isle withdrawn."""
        points = [a_point(n, rig.schema, tenant=t) for n, t in enumerate(("isle", "isle", "public"))]
        rig.store.upsert(rig.name, points)
        rig.store.set_withdrawn(rig.name, [points[0].id], "isle")
        return points

    def test_a_deleted_case_that_is_indexed_again_is_withdrawn(self, rig: Rig) -> None:
        points = self.withdrawn(rig)
        rig.store.delete(rig.name, [p.id for p in points], "isle")
        rig.store.upsert(rig.name, points)
        assert rig.store.ids(rig.name, Scope("isle"), WITHDRAWN) == [points[0].id]
        rig.store.set_withdrawn(rig.name, [points[0].id], "isle", withdrawn=False)
        rig.store.delete(rig.name, [points[0].id], "isle")
        rig.store.upsert(rig.name, points)
        assert rig.store.ids(rig.name, Scope("isle"), WITHDRAWN) == []

    def test_an_index_made_anew_remembers(self, rig: Rig) -> None:
        points = self.withdrawn(rig)
        rig.store.drop(rig.name)
        rig.store.open(rig.schema, MANIFEST)
        rig.store.upsert(rig.name, points)
        assert rig.store.ids(rig.name, Scope("isle"), WITHDRAWN) == [points[0].id]

    def test_what_was_withdrawn_while_a_new_index_was_filled_is_withdrawn_there(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema, tenant="isle") for n in range(300)]
        rig.store.upsert(rig.name, points)
        beside = replace(rig.schema, name=f"{rig.name}.next")
        rig.store.open(beside, MANIFEST)
        rig.store.upsert(beside.name, points)
        rig.store.set_withdrawn(rig.name, [p.id for p in points[:280]], "isle")
        rig.store.swap([(rig.name, beside.name)])
        rig.store.open(rig.schema, MANIFEST)
        assert rig.store.ids(rig.name, Scope("isle"), IN_USE) == sorted(p.id for p in points[280:])

    def test_a_case_may_be_withdrawn_before_it_comes(self, rig: Rig) -> None:
        point = a_point(9, rig.schema, tenant="isle")
        rig.store.set_withdrawn(rig.name, [point.id], "isle")
        rig.store.upsert(rig.name, [point])
        assert rig.store.count(rig.name, Scope("isle"), IN_USE) == 0

    def test_a_case_that_comes_withdrawn_leaves_a_tombstone(self, rig: Rig) -> None:
        point = a_point(9, rig.schema, tenant="isle")
        rig.store.upsert(rig.name, [replace(point, payload={**point.payload, "withdrawn": 1})])
        rig.store.delete(rig.name, [point.id], "isle")
        rig.store.upsert(rig.name, [point])
        assert rig.store.ids(rig.name, Scope("isle"), WITHDRAWN) == [point.id]

    def test_a_tombstone_is_its_tenants_alone(self, rig: Rig) -> None:
        points = self.withdrawn(rig)
        rig.store.set_withdrawn(rig.name, [points[0].id], "coast")
        rig.store.set_withdrawn(rig.name, [points[0].id], "coast", withdrawn=False)
        every = [p.id for p in points]
        assert withdrawn_among(rig.store, every, Scope("isle")) == {points[0].id}
        assert withdrawn_among(rig.store, every, Scope("coast")) == set()
        rig.store.set_withdrawn(rig.name, [points[2].id], "coast")
        assert rig.store.ids(rig.name, PUBLIC_ONLY, WITHDRAWN) == []
        assert rig.store.tenants(WITHDRAWALS) == {"coast": 1, "isle": 1}

    def test_a_tombstone_holds_ids_only_and_is_no_case(self, rig: Rig) -> None:
        points = self.withdrawn(rig)
        (stone,) = rig.store.scroll(WITHDRAWALS, Scope("isle")).points
        assert {k: v for k, v in stone.payload.items() if "sha256" not in k} == {
            "tenant": "isle", "case": str(points[0].id), "withdrawn": 0,
        }  # fmt: skip
        assert rig.store.health().collections == {rig.name: 3}
