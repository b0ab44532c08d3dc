"""How the re-ranker is fitted: pairs, ridge, folds, and what the command prints of lists and diversity."""

from __future__ import annotations

import math

import numpy as np
import pytest

from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.fusion import WEIGHTS
from knowledge_base.records import Case, CaseSentence, Mention
from knowledge_base.rerank import FEATURES
from rag_service.training import reranker
from rag_service.training.questions import BY_FILM, BY_WORDS, Gallery
from rag_service.training.reranker import Judged, figures, fit, fitted, weights_tried

AGREEMENT, FUSED = FEATURES.index("agreement"), FEATURES.index("fused")
W2, OVERLAP = FEATURES.index("w2"), FEATURES.index("box_overlap")


def a_pool(gains: list[float], kind: str = BY_FILM, patient: str = "p", **columns: list[float]) -> Judged:
    """Candidates in the order of a single list, with these features and no others."""
    count = len(gains)
    found = np.full((count, len(FEATURES)), math.nan)
    for name, values in columns.items():
        found[:, FEATURES.index(name)] = values
    lists = {"box": 1.0 / (60 + np.arange(1.0, count + 1)), "text": np.zeros(count)}
    best = float((np.sort(gains)[::-1][:10] / np.log2(np.arange(2, min(count, 10) + 2))).sum())
    return Judged(kind, ("openi", patient), np.arange(count), lists, found, np.array(gains), best)


def test_ndcg_is_of_the_whole_gallery() -> None:
    pool = a_pool([0.0, 1.0, 0.0], agreement=[0.1, 0.9, 0.2])
    assert pool.ndcg([1, 0, 2]) == 1.0
    assert pool.ndcg([0, 1, 2]) == pytest.approx(1 / math.log2(3))
    assert a_pool([0.0, 0.0]).ndcg([0, 1]) == 0.0


def test_fusion_brings_the_best_under_its_weights() -> None:
    pool = Judged(
        BY_FILM,
        ("openi", "p"),
        np.arange(40),
        {"box": np.linspace(0.4, 0.01, 40), "text": np.eye(40)[39] * 0.3},
        np.full((40, len(FEATURES)), math.nan),
        np.arange(40.0),
        1.0,
    )
    kept = pool.fused({"box": 1.0, "text": 2.0})
    assert kept.rows.tolist() == [39, *range(29)]
    assert kept.features[0, FUSED] == pytest.approx(0.61)
    assert kept.gains[:2].tolist() == [39.0, 0.0]
    assert kept.lists["text"].tolist() == [0.3] + [0.0] * 29
    assert np.isnan(pool.features).all()


def test_what_tells_relevance_is_weighed_and_what_does_not_is_not() -> None:
    rng = np.random.default_rng(3)
    pools = []
    for p in range(20):
        gains = rng.permutation([1.0, 0.5, 0.0, 0.0, 0.0])
        pools.append(
            a_pool(
                gains.tolist(),
                patient=str(p),
                agreement=(gains + rng.normal(0, 0.1, 5)).tolist(),
                w2=(3 - gains + rng.normal(0, 0.1, 5)).tolist(),
                box_overlap=(-gains).tolist(),
                text=rng.normal(0, 1, 5).tolist(),
            )
        )
    model = fitted(pools, 0.03)
    weight = dict(zip(FEATURES, model.weight.tolist(), strict=True))
    assert weight["agreement"] > 0.3
    assert weight["w2"] < -0.3
    assert weight["box_overlap"] == 0.0  # it counts against likeness: never allowed to
    assert abs(weight["text"]) < weight["agreement"] / 3
    assert weight["region"] == 0.0
    assert model.mean[FEATURES.index("region")] == 0.0
    assert figures(pools, lambda j: model.scores(j.features)) == {"film": pytest.approx(1.0, abs=0.02)}
    stiff = fitted(pools, 30.0)
    assert 0 < stiff.weight[AGREEMENT] < weight["agreement"] / 3


def test_pairs_weigh_what_a_swap_would_change() -> None:
    pool = a_pool([1.0, 0.0, 0.0], agreement=[0.3, 0.2, 0.1])
    values = np.nan_to_num(pool.features, nan=0.0)
    apart, worth = reranker._pairs(pool, values, np.eye(len(FEATURES))[AGREEMENT])
    assert apart[:, AGREEMENT] == pytest.approx([0.1, 0.2])
    assert worth == pytest.approx([1 - 1 / math.log2(3), 1 - 1 / 2])


def gallery() -> Gallery:
    cases = []
    for i in range(4):
        said = (Mention("Edema", Polarity.POSITIVE, (0, 1)),)
        cases.append(Case("openi", f"CXR{i}", f"CXR{i}", "edema", (CaseSentence("edema", (0, 5), "findings", said),)))
    return Gallery(tuple(cases), np.arange(4), np.zeros((4, len(FINDINGS), 6)))


def test_a_fit_is_cross_validated_and_says_what_it_tried() -> None:
    pools = []
    for p in range(10):
        gains = np.roll([1.0, 0.0, 0.0, 0.0], p)
        kind = BY_FILM if p % 2 else BY_WORDS
        pools.append(a_pool(gains.tolist(), kind, str(p), agreement=gains.tolist(), text=[0.1, 0.2, 0.3, 0.4]))
    texts = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = fit(pools, gallery(), texts)
    assert found.figures == {"film": 1.0, "words": 1.0}
    assert found.ridge in {0.003, 0.03, 0.3}
    assert found.lines[0].startswith("fused alone: words 0.")
    tried = [line for line in found.lines if line.startswith("weights ")]
    assert len(tried) == 27
    # One list alone: all weights do alike, and equals stay in the order tried.
    assert tried[0].startswith("weights box 1, region 0.5, text 0.5, bm25 0.5: words 0.")
    assert [line.split(":")[0] for line in tried if "in use" in line] == [
        "weights box 1, region 1, text 2, bm25 0.5 (in use)"
    ]
    diverse = [line for line in found.lines if line.startswith("diversity ")]
    assert [line.split(":")[0] for line in diverse] == [
        "diversity 1.0", "diversity 0.95", "diversity 0.9", "diversity 0.85 (in use)", "diversity 0.8", "diversity 0.7",
    ]  # fmt: skip
    assert diverse[0].endswith("nDCG@10 1.000, copies 0.33")


def test_the_weights_in_use_are_among_those_tried() -> None:
    assert dict(WEIGHTS) in [weights for weights, _ in weights_tried([a_pool([1.0, 0.0], agreement=[1.0, 0.0])])]
