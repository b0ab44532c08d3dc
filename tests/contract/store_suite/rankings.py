"""Ranked lists: box, dense, region and sparse; their scores, their order, their ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from knowledge_base.bm25 import document_vector, term_id
from knowledge_base.schema import TermWeights
from knowledge_base.store import Nearest, Point
from knowledge_base.zones import ZONES
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, PUBLIC_ONLY, REGIONS, TEXT, a_point, values, words


class BoxSuite(StoreSuite):
    """Euclidean lists: the 2-Wasserstein distance between boxes."""

    def test_the_nearest_comes_first_with_its_distance(self, rig: Rig) -> None:
        near, far = a_point(1, rig.schema), a_point(2, rig.schema)
        points = [
            replace(point, vectors={**point.vectors, BOX: values(shift, 0, 0, 0, 0, 0, 0, 0)})
            for point, shift in ((near, 1.0), (far, 3.0))
        ]
        rig.store.upsert(rig.name, points)
        (found,) = rig.store.ranked(rig.name, [Nearest(BOX, values(0.5, 0, 0, 0, 0, 0, 0, 0), 5)], PUBLIC_ONLY)
        assert [(h.id, h.score) for h in found] == [(near.id, 0.5), (far.id, 2.5)]

    def test_the_same_box_twice_comes_in_order_of_id_even_at_the_cut(self, rig: Rig) -> None:
        points = [
            replace(a_point(n, rig.schema), vectors={BOX: values(float(n // 10), 0, 0, 0, 0, 0, 0, 1)})
            for n in range(40)
        ]
        rig.store.upsert(rig.name, points[::-1])
        (found,) = rig.store.ranked(rig.name, [Nearest(BOX, values(0, 0, 0, 0, 0, 0, 0, 1), 13)], PUBLIC_ONLY)
        expected = sorted(p.id for p in points[:10]) + sorted(p.id for p in points[10:20])[:3]
        assert [h.id for h in found] == expected


class DenseSuite(StoreSuite):
    """Cosine lists."""

    def test_the_most_alike_comes_first_whatever_the_length(self, rig: Rig) -> None:
        vectors = [values(0, 2, 0, 0, 0, 0), values(3, 4, 0, 0, 0, 0), values(-1, 0, 0, 0, 0, 0)]
        points = [replace(a_point(n, rig.schema), vectors={TEXT: v}) for n, v in enumerate(vectors)]
        rig.store.upsert(rig.name, points)
        (found,) = rig.store.ranked(rig.name, [Nearest(TEXT, values(7, 0, 0, 0, 0, 0), 5)], PUBLIC_ONLY)
        assert [h.id for h in found] == [points[1].id, points[0].id, points[2].id]
        assert [h.score for h in found] == pytest.approx([0.6, 0.0, -1.0], abs=1e-6)

    def test_a_point_without_a_vector_is_in_the_other_lists_only(self, rig: Rig) -> None:
        point = a_point(0, rig.schema)
        rig.store.upsert(rig.name, [replace(point, vectors={TEXT: point.vectors[TEXT]})])
        lists = [Nearest(BOX, np.ones(8, np.float32), 5), Nearest(TEXT, np.ones(6, np.float32), 5)]
        by_box, by_text = rig.store.ranked(rig.name, lists, PUBLIC_ONLY)
        assert by_box == []
        assert [h.id for h in by_text] == [point.id]
        assert rig.store.ranked(rig.name, [], PUBLIC_ONLY) == []


class RegionSuite(StoreSuite):
    """A zone of a film finds cases by how that zone looks, and by no other zone."""

    def test_each_zone_has_a_list_of_its_own(self, rig: Rig) -> None:
        axes = np.eye(5, dtype=np.float32)
        points: list[Point] = []
        for number, zone in enumerate(ZONES):
            looks = {REGIONS[z]: axes[1] for z in ZONES} | {REGIONS[zone]: axes[0]}
            points.append(replace(a_point(number, rig.schema), vectors=looks))
        rig.store.upsert(rig.name, [*points, a_point(50, rig.schema)])
        asked = [Nearest(REGIONS[zone], axes[0], 8) for zone in ZONES]
        lists = rig.store.ranked(rig.name, asked, PUBLIC_ONLY)
        assert [found[0].id for found in lists] == [p.id for p in points]
        assert [[round(h.score, 6) for h in found] for found in lists] == [[1.0] + [0.0] * 6] * 7


class SparseSuite(StoreSuite):
    """Lists by words."""

    def test_words_weigh_by_rarity_among_the_points_in_scope(self, rig: Rig) -> None:
        rig.store.upsert(
            rig.name,
            [
                a_point(0, rig.schema, words="effusion"),
                a_point(1, rig.schema, words="effusion edema"),
                a_point(2, rig.schema, words="clear"),
                *(a_point(n, rig.schema, words="edema", tenant="coast") for n in range(3, 9)),
            ],
        )
        (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("edema and effusion"), 9)], PUBLIC_ONLY)
        common, rare = np.log((3 - 2 + 0.5) / 2.5 + 1), np.log((3 - 1 + 0.5) / 1.5 + 1)
        one, two = 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / 30)), 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 30))
        assert [h.score for h in found] == pytest.approx([two * (rare + common), one * common], rel=1e-5)
        assert [h.id for h in found] == [a_point(1, rig.schema).id, a_point(0, rig.schema).id]

    def test_what_was_deleted_or_replaced_weighs_no_more(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema, words="effusion" if n else "effusion edema") for n in range(6)]
        rig.store.upsert(rig.name, points)
        rig.store.delete(rig.name, [p.id for p in points[3:]], "public")
        rig.store.upsert(rig.name, [a_point(2, rig.schema, words="clear")])
        (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("edema"), 9)], PUBLIC_ONLY)
        weight = np.log((3 - 1 + 0.5) / 1.5 + 1)
        assert [h.score for h in found] == pytest.approx([weight * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 30))], rel=1e-5)

    def test_a_word_no_report_has_finds_nothing(self, rig: Rig) -> None:
        rig.store.upsert(rig.name, [a_point(0, rig.schema)])
        (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("xylophone"), 5)], PUBLIC_ONLY)
        assert found == []

    def test_equal_scores_come_in_order_of_id_even_at_the_cut(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema, words="lungs clear") for n in range(40)]
        rig.store.upsert(rig.name, points[::-1])
        (found,) = rig.store.ranked(rig.name, [Nearest("bm25", words("clear"), 7)], PUBLIC_ONLY)
        assert [h.id for h in found] == sorted(p.id for p in points)[:7]

    def test_a_word_has_the_stable_id_the_store_keeps(self) -> None:
        vector = document_vector("effusions", TermWeights())
        assert vector is not None
        assert vector.indices.tolist() == [term_id("effusion")]
