"""Tenants: whose points a read sees and a write touches."""

from __future__ import annotations

from uuid import uuid4

import numpy as np

from knowledge_base.store import Filter, HasId, Match, MatchAny, Nearest, Scope
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, REGIONS, TEXT, many, words

ASKED = [
    Nearest(BOX, np.ones(8, np.float32), 60),
    Nearest(TEXT, np.ones(6, np.float32), 60),
    Nearest(REGIONS["mediastinum"], np.ones(5, np.float32), 60),
    Nearest("bm25", words("effusion heart"), 60),
]


class TenantSuite(StoreSuite):
    """Nobody sees, counts, withdraws or deletes what is another's."""

    def test_a_tenant_sees_its_own_and_the_public_points_only(self, rig: Rig) -> None:
        points = many(rig.schema, regions=True)
        rig.store.upsert(rig.name, points)
        by_tenant = {t: sorted(p.id for p in points if p.payload["tenant"] == t) for t in ("public", "isle", "coast")}
        isle, lone, nobody = Scope("isle"), Scope("isle", also_public=False), Scope("nobody", also_public=False)
        everything = [p.id for p in points]
        assert rig.store.ids(rig.name, isle) == sorted(by_tenant["isle"] + by_tenant["public"])
        assert rig.store.ids(rig.name, lone) == by_tenant["isle"]
        assert rig.store.ids(rig.name, nobody) == []
        assert {p.id for p in rig.store.get(rig.name, everything, lone).points} == set(by_tenant["isle"])
        assert rig.store.count(rig.name, lone) == 20
        assert rig.store.facet(rig.name, "tenant", isle) == {"isle": 20, "public": 20}
        assert rig.store.tenants(rig.name) == {"coast": 20, "isle": 20, "public": 20}
        for found in rig.store.ranked(rig.name, ASKED, lone):
            assert found
            assert {h.id for h in found} <= set(by_tenant["isle"])

    def test_another_tenants_filter_finds_nothing(self, rig: Rig) -> None:
        points = many(rig.schema)
        rig.store.upsert(rig.name, points)
        foreign = tuple(p.id for p in points if p.payload["tenant"] == "coast")
        for condition in (Match("tenant", "coast"), MatchAny("tenant", ("coast", "nobody")), HasId(foreign)):
            stolen = Filter(must=(condition,))
            assert rig.store.count(rig.name, Scope("isle"), stolen) == 0
            assert rig.store.ids(rig.name, Scope("isle"), stolen) == []
            assert rig.store.facet(rig.name, "study", Scope("isle"), stolen) == {}
            (found,) = rig.store.ranked(rig.name, [Nearest(BOX, np.ones(8, np.float32), 60, stolen)], Scope("isle"))
            assert found == []
        denied = Filter(must_not=(MatchAny("tenant", ("isle", "public")),))
        assert rig.store.count(rig.name, Scope("isle"), denied) == 0
        assert rig.store.get(rig.name, foreign, Scope("isle")).points == ()

    def test_a_tenant_cannot_withdraw_or_delete_for_another(self, rig: Rig) -> None:
        points = many(rig.schema, 6)
        rig.store.upsert(rig.name, points)
        everything = [p.id for p in points]
        rig.store.set_withdrawn(rig.name, everything, "isle")
        rig.store.delete(rig.name, everything, "coast")
        assert rig.store.tenants(rig.name) == {"isle": 2, "public": 2}
        withdrawn = Filter(must=(Match("withdrawn", 1),))
        assert rig.store.ids(rig.name, Scope("isle"), withdrawn) == sorted([points[1].id, points[4].id])
        rig.store.set_withdrawn(rig.name, [], "isle")
        rig.store.delete(rig.name, [], "isle")
        rig.store.delete(rig.name, [uuid4()], "isle")
        assert rig.store.tenants(rig.name) == {"isle": 2, "public": 2}
