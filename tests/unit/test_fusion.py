"""Reciprocal rank fusion and ties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_base.fusion import RRF_K, WEIGHTS, cut_ties, reciprocal_rank_fusion


def test_scores_are_sums_of_reciprocal_ranks() -> None:
    fused = reciprocal_rank_fusion({"box": ["a", "b", "c"], "text": ["c", "a"]}, k=60)
    assert [(f.id, f.ranks) for f in fused] == [
        ("a", {"box": 1, "text": 2}),
        ("c", {"box": 3, "text": 1}),
        ("b", {"box": 2}),
    ]
    assert [f.score for f in fused] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62])


def test_a_list_counts_its_weight() -> None:
    lists = {"box": ["a", "b"], "text": ["b", "a"]}
    fused = reciprocal_rank_fusion(lists, k=60, weights={"box": 1.0, "text": 2.0})
    assert [(f.id, f.score) for f in fused] == [
        ("b", pytest.approx(1 / 62 + 2 / 61)),
        ("a", pytest.approx(1 / 61 + 2 / 62)),
    ]
    with pytest.raises(KeyError, match="text"):
        reciprocal_rank_fusion(lists, weights={"box": 1.0})


def test_the_weights_of_a_case_search() -> None:
    assert (RRF_K, dict(WEIGHTS)) == (60, {"box": 1.0, "region": 1.0, "text": 2.0, "bm25": 0.5})


def test_equal_scores_come_by_id() -> None:
    assert [f.id for f in reciprocal_rank_fusion({"x": ["b"], "y": ["a"], "z": ["c"]})] == ["a", "b", "c"]


def test_nothing_fuses_to_nothing_and_doubles_are_an_error() -> None:
    assert reciprocal_rank_fusion({}) == []
    assert reciprocal_rank_fusion({"x": []}) == []
    with pytest.raises(ValueError, match="names a twice"):
        reciprocal_rank_fusion({"x": ["a", "b", "a"]})


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=4))
def test_one_list_keeps_its_order_and_all_lists_keep_all_ids(lists: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion({str(i): ranking for i, ranking in enumerate(lists)})
    assert sorted(f.id for f in fused) == list(range(6))
    assert [f.score for f in fused] == sorted((f.score for f in fused), reverse=True)
    assert [f.id for f in reciprocal_rank_fusion({"only": lists[0]})] == lists[0]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 12), st.booleans(), st.randoms(use_true_random=False))
def test_cutting_is_exact_whatever_order_the_engine_gives_equals(
    scores: list[int], limit: int, low_first: bool, rng: object
) -> None:
    stored = [(i, float(s)) for i, s in enumerate(scores)]

    def engine(asked: int) -> list[tuple[int, float]]:
        shuffled = stored.copy()
        rng.shuffle(shuffled)  # type: ignore[attr-defined]
        return sorted(shuffled, key=lambda hit: hit[1] if low_first else -hit[1])[:asked]

    best = sorted(stored, key=lambda hit: (hit[1] if low_first else -hit[1], hit[0]))[:limit]
    assert cut_ties(engine(limit + 1), engine, limit, low_first=low_first) == best


def test_an_engine_is_asked_again_only_while_the_cut_is_amid_equals() -> None:
    asked: list[int] = []

    def again(limit: int) -> list[tuple[str, float]]:
        asked.append(limit)
        return [("c", 1.0), ("b", 1.0), ("a", 1.0)][:limit]

    assert cut_ties([("b", 2.0), ("c", 1.0)], again, 1, low_first=False) == [("b", 2.0)]
    assert asked == []
    assert cut_ties([("c", 1.0), ("b", 1.0)], again, 1, low_first=False) == [("a", 1.0)]
    assert asked == [8]
