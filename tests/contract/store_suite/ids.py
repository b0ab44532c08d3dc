"""Points by their id: what comes back, in which order, and what storing twice does."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import numpy as np

from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, PUBLIC_ONLY, REGIONS, TEXT, a_point


class IdSuite(StoreSuite):
    """Reading by id."""

    def test_a_point_comes_back_as_it_was_stored(self, rig: Rig) -> None:
        point = a_point(1, rig.schema)
        rig.store.upsert(rig.name, [point])
        fetched = rig.store.get(rig.name, [point.id], PUBLIC_ONLY, [BOX, TEXT])
        assert fetched.damaged == ()
        (found,) = fetched.points
        assert found.id == point.id
        assert found.vectors[BOX].tolist() == point.vectors[BOX].tolist()
        length = float(np.linalg.norm(point.vectors[TEXT].astype(np.float64)))
        assert found.vectors[TEXT].tolist() == (point.vectors[TEXT] / length).astype(np.float32).tolist()
        assert found.payload["text"] == "small left effusion"
        assert found.payload["labels_positive"] == ["Edema"]

    def test_region_vectors_come_back_to_the_bit_and_only_those_a_case_has(self, rig: Rig) -> None:
        whole, bare = a_point(1, rig.schema, regions=True), a_point(2, rig.schema)
        part = a_point(3, rig.schema, regions=True)
        gone = REGIONS["left-lower"]
        part = replace(part, vectors={n: v for n, v in part.vectors.items() if n != gone})
        rig.store.upsert(rig.name, [whole, bare, part])
        asked = list(REGIONS.values())
        found = rig.store.get(rig.name, [whole.id, bare.id, part.id], PUBLIC_ONLY, asked).points
        assert [set(p.vectors) for p in found] == [set(asked), set(), set(asked) - {gone}]
        rig.store.upsert(rig.name, found[:1])
        again = rig.store.get(rig.name, [whole.id], PUBLIC_ONLY, asked).points[0]
        assert {n: v.tolist() for n, v in again.vectors.items()} == {n: v.tolist() for n, v in found[0].vectors.items()}

    def test_vectors_nobody_asked_for_are_not_sent(self, rig: Rig) -> None:
        point = a_point(1, rig.schema)
        rig.store.upsert(rig.name, [point])
        assert dict(rig.store.get(rig.name, [point.id], PUBLIC_ONLY).points[0].vectors) == {}

    def test_get_keeps_the_order_asked_and_passes_over_the_unknown(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(5)]
        rig.store.upsert(rig.name, points)
        asked = [points[3].id, uuid4(), points[0].id, points[3].id]
        assert [p.id for p in rig.store.get(rig.name, asked, PUBLIC_ONLY).points] == [points[3].id, points[0].id]
        assert rig.store.get(rig.name, [], PUBLIC_ONLY).points == ()


class UpsertSuite(StoreSuite):
    """Storing again."""

    def test_storing_twice_changes_nothing_and_the_later_record_wins(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(4)]
        rig.store.upsert(rig.name, points)
        rig.store.upsert(rig.name, points)
        rig.store.upsert(rig.name, [a_point(2, rig.schema, words="heart enlarged")])
        assert rig.store.count(rig.name, PUBLIC_ONLY) == 4
        assert rig.store.ids(rig.name, PUBLIC_ONLY) == sorted(p.id for p in points)
        assert rig.store.get(rig.name, [points[2].id], PUBLIC_ONLY).points[0].payload["text"] == "heart enlarged"
        rig.store.upsert(rig.name, [])

    def test_one_id_twice_in_a_call_is_one_point_and_the_later_record_wins(self, rig: Rig) -> None:
        rig.store.upsert(rig.name, [a_point(1, rig.schema), a_point(1, rig.schema, words="heart enlarged")])
        assert rig.store.count(rig.name, PUBLIC_ONLY) == 1
        (point,) = rig.store.scroll(rig.name, PUBLIC_ONLY).points
        assert point.payload["text"] == "heart enlarged"

    def test_a_replaced_point_has_only_its_new_vectors(self, rig: Rig) -> None:
        point = a_point(1, rig.schema, regions=True)
        rig.store.upsert(rig.name, [point])
        rig.store.upsert(rig.name, [replace(point, vectors={TEXT: point.vectors[TEXT]})])
        (found,) = rig.store.get(rig.name, [point.id], PUBLIC_ONLY, [BOX, TEXT, *REGIONS.values()]).points
        assert set(found.vectors) == {TEXT}

    def test_what_is_deleted_is_gone_from_every_read_and_may_come_again(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(4)]
        rig.store.upsert(rig.name, points)
        rig.store.delete(rig.name, [points[1].id], "public")
        left = sorted(p.id for n, p in enumerate(points) if n != 1)
        assert rig.store.ids(rig.name, PUBLIC_ONLY) == left
        assert rig.store.get(rig.name, [points[1].id], PUBLIC_ONLY).points == ()
        assert [p.id for p in rig.store.scroll(rig.name, PUBLIC_ONLY).points] == left
        rig.store.upsert(rig.name, points)
        assert rig.store.ids(rig.name, PUBLIC_ONLY) == sorted(p.id for p in points)
