"""Pages, counts, facets and batches."""

from __future__ import annotations

from uuid import UUID

import pytest

from knowledge_base.store import Filter, Match, Nearest, Scope
from knowledge_base.verification import verify
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, PUBLIC_ONLY, TEXT, a_point, many, words


class PagingSuite(StoreSuite):
    """Scrolling."""

    def test_scrolling_visits_every_point_once_in_order(self, rig: Rig) -> None:
        rig.store.upsert(rig.name, many(rig.schema, 31))
        seen: list[UUID] = []
        after, pages = None, 0
        while pages == 0 or after is not None:
            page = rig.store.scroll(rig.name, Scope("isle"), after=after, limit=7, vectors=[BOX])
            assert all(p.vectors[BOX].shape == (8,) for p in page.points)
            seen += [p.id for p in page.points]
            after, pages = page.next_after, pages + 1
        assert seen == rig.store.ids(rig.name, Scope("isle"))
        assert (len(seen), pages) == (21, 3)

    def test_a_page_that_takes_the_last_point_is_the_last(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(4)]
        rig.store.upsert(rig.name, points)
        assert rig.store.scroll(rig.name, PUBLIC_ONLY, limit=4).next_after is None
        first = rig.store.scroll(rig.name, PUBLIC_ONLY, limit=3)
        assert first.next_after == sorted(p.id for p in points)[2]
        assert rig.store.scroll(rig.name, Scope("nobody", also_public=False)).points == ()


class CountSuite(StoreSuite):
    """Counts and facets."""

    def test_facets_count_points_not_words(self, rig: Rig) -> None:
        rig.store.upsert(rig.name, many(rig.schema))
        assert rig.store.facet(rig.name, "labels_positive", PUBLIC_ONLY) == {"Edema": 8, "Pneumothorax": 8}
        sixth = Filter(must=(Match("study", "s6"),))
        assert rig.store.facet(rig.name, "labels_positive", PUBLIC_ONLY, sixth) == {"Pneumothorax": 1}
        with pytest.raises(ValueError, match="does not index 'text'"):
            rig.store.facet(rig.name, "text", PUBLIC_ONLY)

    def test_facets_come_in_the_order_of_their_values(self, rig: Rig) -> None:
        rig.store.upsert(rig.name, many(rig.schema, 33))
        found = rig.store.facet(rig.name, "study", PUBLIC_ONLY)
        assert list(found) == sorted(f"s{n}" for n in range(0, 33, 3))
        assert set(found.values()) == {1}

    def test_counts_follow_every_write(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(5)]
        counts = [rig.store.count(rig.name, PUBLIC_ONLY)]
        rig.store.upsert(rig.name, points)
        counts.append(rig.store.count(rig.name, PUBLIC_ONLY))
        rig.store.delete(rig.name, [points[0].id], "public")
        counts.append(rig.store.count(rig.name, PUBLIC_ONLY))
        rig.store.optimize(rig.name)
        counts.append(rig.store.count(rig.name, PUBLIC_ONLY))
        assert counts == [0, 5, 4, 4]
        assert rig.store.health().collections == {rig.name: 4}


class BatchSuite(StoreSuite):
    """Many at once."""

    def test_a_batch_larger_than_any_page_is_stored_whole(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(600)]
        rig.store.upsert(rig.name, points)
        fetched = rig.store.get(rig.name, [p.id for p in points], PUBLIC_ONLY, [TEXT])
        assert [p.id for p in fetched.points] == [p.id for p in points]
        assert rig.store.ids(rig.name, PUBLIC_ONLY) == sorted(p.id for p in points)
        report = verify(rig.store, rig.schema)
        assert (report.checked, report.damaged) == ({"public": 600}, ())

    def test_a_batch_of_questions_is_answered_as_one_by_one(self, rig: Rig) -> None:
        points = many(rig.schema)
        rig.store.upsert(rig.name, points)
        rare = Filter(must=(Match("labels_positive", "Edema"),))
        asked = [Nearest(BOX, points[n].vectors[BOX], 3 + n, rare if n % 2 else Filter()) for n in range(8)]
        asked += [Nearest(TEXT, points[n].vectors[TEXT], 5) for n in range(4)]
        asked += [Nearest("bm25", words(text), 6) for text in ("effusion", "heart clear", "xylophone")]
        alone = [rig.store.ranked(rig.name, [one], Scope("isle"))[0] for one in asked]
        assert rig.store.ranked(rig.name, asked, Scope("isle")) == alone
        assert [len(found) for found in alone[:8]] == [3, 4, 5, 6, 7, 8, 9, 10]
