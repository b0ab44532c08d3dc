"""What outlives the process that stored it."""

from __future__ import annotations

from knowledge_base.store import Filter, Match, Nearest, Scope
from knowledge_base.verification import verify
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, MANIFEST, PUBLIC_ONLY, many, words


class LastingSuite(StoreSuite):
    """For every store but the one in memory."""

    def test_what_was_stored_is_there_after_closing_and_opening(self, rig: Rig) -> None:
        points = many(rig.schema, regions=True)
        rig.store.upsert(rig.name, points)
        rig.store.set_withdrawn(rig.name, [points[0].id], "public")
        asked = [Nearest(BOX, points[5].vectors[BOX], 10), Nearest("bm25", words("heart effusion"), 10)]
        before = rig.store.ranked(rig.name, asked, Scope("isle"))
        store = rig.reopen()
        store.open(rig.schema, MANIFEST)
        assert store.tenants(rig.name) == {"coast": 20, "isle": 20, "public": 20}
        assert store.ids(rig.name, PUBLIC_ONLY, Filter(must=(Match("withdrawn", 1),))) == [points[0].id]
        assert store.ranked(rig.name, asked, Scope("isle")) == before
        assert verify(store, rig.schema).damaged == ()
