"""A patient's own cases are never evidence for that patient, in any list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knowledge_base.cases import VectorNames
from knowledge_base.forwarding import ForwardingStore
from knowledge_base.records import BoxLatent
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import Hit, Match, Nearest, Scope
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import a_point, words

MINE = Match("patient_key", '["openi", "p3"]')
GONE = Match("withdrawn", 1)


class Listening(ForwardingStore):
    """Remembers the lists that were asked for."""

    asked: list[Nearest]

    def ranked(self, collection: str, prefetches: Sequence[Nearest], scope: Scope) -> list[list[Hit]]:
        """See `KnowledgeStore.ranked`."""
        self.asked = [*getattr(self, "asked", ()), *prefetches]
        return super().ranked(collection, prefetches, scope)


class PatientSuite(StoreSuite):
    """The exclusion is part of each list's filter, so that nothing of the patient takes up a place."""

    def test_no_list_of_any_vector_names_the_patient(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema, tenant=("isle", "public")[n % 2], regions=True) for n in range(20)]
        rig.store.upsert(rig.name, points)
        own = [p for p in points if p.payload["patient"] == "p3"]
        query = CaseQuery("isle", text="effusion", exclude_patient=("openi", "p3"))
        asked = [Nearest(name, own[0].vectors[name], 3, query.filter()) for name in rig.schema.dense]
        asked.append(Nearest("bm25", words("effusion"), 20, query.filter()))
        lists = rig.store.ranked(rig.name, asked, query.scope)
        assert [len(found) for found in lists] == [3] * len(rig.schema.dense) + [18]
        assert {h.id for found in lists for h in found}.isdisjoint(p.id for p in own)
        without = rig.store.ranked(rig.name, [Nearest(n.vector_name, n.vector, 3) for n in asked], query.scope)
        assert all(found[0].id == own[0].id for found in without[:-1])

    def test_every_list_that_a_search_asks_for_carries_the_exclusion(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema, regions=True) for n in range(12)]
        rig.store.upsert(rig.name, points)
        listening = Listening(rig.store)
        box = BoxLatent.from_vector(points[6].vectors[VectorNames.of(rig.schema).box])
        query = CaseQuery(
            "isle", box=box, text_vector=np.ones(6, np.float32), text="effusion", exclude_patient=("openi", "p3")
        )
        found = CaseSearch(listening, VectorNames.of(rig.schema), collection=rig.name).search(query).hits
        assert len(listening.asked) >= 3
        assert all({MINE, GONE} <= set(n.filter.must_not) for n in listening.asked)
        assert {h.case.patient for h in found}.isdisjoint({"p3"})
        assert len(found) == 10
