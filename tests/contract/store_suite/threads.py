"""Several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from knowledge_base.store import Nearest, Scope
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, PUBLIC_ONLY, a_point, many, words


class ThreadSuite(StoreSuite):
    """Readers and writers side by side."""

    def test_several_threads_may_ask_and_write_at_once(self, rig: Rig) -> None:
        points = many(rig.schema)
        rig.store.upsert(rig.name, points)
        asked = [Nearest(BOX, points[5].vectors[BOX], 10), Nearest("bm25", words("heart effusion"), 10)]
        expected = rig.store.ranked(rig.name, asked, Scope("isle"))
        wrong: list[object] = []

        def ask() -> None:
            for _ in range(10):
                if (found := rig.store.ranked(rig.name, asked, Scope("isle"))) != expected:
                    wrong.append(found)

        def write() -> None:
            for number in range(5):
                rig.store.upsert(rig.name, [a_point(200 + number, rig.schema, tenant="third")])

        threads = [threading.Thread(target=t) for t in (ask, ask, ask, write)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert rig.store.tenants(rig.name)["third"] == 5

    def test_the_same_study_stored_by_several_at_once_is_one_whole_case(self, rig: Rig) -> None:
        texts = [f"effusion number {n}" for n in range(6)]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda text: rig.store.upsert(rig.name, [a_point(1, rig.schema, words=text)]), texts))
        page = rig.store.scroll(rig.name, PUBLIC_ONLY)
        assert page.damaged == ()
        assert [p.payload["text"] in texts for p in page.points] == [True]
