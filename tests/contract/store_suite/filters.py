"""Filters of every kind."""

from __future__ import annotations

from itertools import product

from knowledge_base.store import EVERYTHING, Between, Condition, Filter, HasId, Match, MatchAny, Nearest
from tests.contract.store_suite.rigs import Rig, StoreSuite
from tests.contract.store_suite.samples import BOX, PUBLIC_ONLY, a_point, values

FILTERS = [
    (EVERYTHING, 6),
    (Filter(must=(Match("labels_positive", "Edema"),)), 2),
    (Filter(must=(MatchAny("labels_positive", ("Edema", "Pneumothorax")),)), 4),
    (Filter(must_not=(Match("labels_positive", "Edema"),)), 4),
    (Filter(must=(Match("labels_positive", "Edema"), Match("study", "s0"))), 1),
    (Filter(must=(Between("withdrawn", 1.0, None),)), 0),
    (Filter(must=(Between("withdrawn", None, 0.0),)), 6),
    (Filter(must=(Between("withdrawn", 0.0, 0.5),)), 6),
    (Filter(must_not=(Between("withdrawn", 0.0, 0.5),)), 0),
    (Filter(must=(Match("withdrawn", 0),)), 6),
    (Filter(must=(Match("view", "AP"),)), 0),
    (Filter(must_not=(Match("patient_key", '["openi", "p0"]'),)), 4),
    (Filter(must_not=(Match("labels_positive", "Edema"), MatchAny("study", ("s1", "s2")))), 2),
]


class FilterSuite(StoreSuite):
    """Conditions, alone and together."""

    def test_filters_count_alike(self, rig: Rig) -> None:
        findings = ["Edema", "Pneumothorax", None, "Edema", "Pneumothorax", None]
        rig.store.upsert(rig.name, [a_point(n, rig.schema, finding=f) for n, f in enumerate(findings)])
        for wanted, count in FILTERS:
            assert rig.store.count(rig.name, PUBLIC_ONLY, wanted) == count, wanted
            assert len(rig.store.ids(rig.name, PUBLIC_ONLY, wanted)) == count, wanted
            assert len(rig.store.scroll(rig.name, PUBLIC_ONLY, wanted=wanted).points) == count, wanted
            asked = Nearest(BOX, values(*[1.0] * 8), 10, wanted)
            assert len(rig.store.ranked(rig.name, [asked], PUBLIC_ONLY)[0]) == count, wanted

    def test_ids_are_a_filter_too(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(4)]
        rig.store.upsert(rig.name, points)
        chosen = HasId((points[0].id, points[2].id))
        assert rig.store.ids(rig.name, PUBLIC_ONLY, Filter(must=(chosen,))) == sorted(chosen.ids)
        assert rig.store.count(rig.name, PUBLIC_ONLY, Filter(must_not=(chosen,))) == 2

    def test_every_pair_of_conditions_means_the_same_to_every_read(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema, finding=("Edema", "Fracture", None)[n % 3]) for n in range(9)]
        rig.store.upsert(rig.name, points)
        rig.store.set_withdrawn(rig.name, [p.id for p in points[:4]], "public")
        kinds: list[tuple[Condition, set[int]]] = [
            (Match("labels_positive", "Edema"), {0, 3, 6}),
            (MatchAny("study", ("s0", "s1", "s8", "s99")), {0, 1, 8}),
            (Between("withdrawn", 1, 1), {0, 1, 2, 3}),
            (HasId(tuple(p.id for p in points[2:7])), {2, 3, 4, 5, 6}),
        ]
        for (one, has), (other, lacks) in product(kinds, kinds):
            wanted = Filter(must=(one,), must_not=(other,))
            expected = sorted(points[n].id for n in has - lacks)
            assert rig.store.ids(rig.name, PUBLIC_ONLY, wanted) == expected, wanted
            asked = Nearest(BOX, values(*[1.0] * 8), 9, wanted)
            (found,) = rig.store.ranked(rig.name, [asked], PUBLIC_ONLY)
            assert sorted(h.id for h in found) == expected, wanted

    def test_every_list_is_filtered_before_it_is_cut(self, rig: Rig) -> None:
        points = [a_point(n, rig.schema) for n in range(40)]
        rig.store.upsert(rig.name, points)
        rare = Filter(must=(Match("study", "s33"),))
        asked = [Nearest(name, vector, 1, rare) for name, vector in points[0].vectors.items()]
        lists = rig.store.ranked(rig.name, asked, PUBLIC_ONLY)
        assert [[h.id for h in found] for found in lists] == [[points[33].id], [points[33].id]]
