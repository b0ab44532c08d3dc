"""Warm searches through the port: their times, and how much of the exact answer they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import numpy as np

from eval.store_speed.exact import Answered, Exact, Key, Recorder
from eval.store_speed.synthetic import TENANT, Query
from knowledge_base.bm25 import query_vector
from knowledge_base.cases import VectorNames
from knowledge_base.errors import StoreUnavailable
from knowledge_base.fusion import WEIGHTS, reciprocal_rank_fusion
from knowledge_base.records import BoxLatent
from knowledge_base.rerank import Reranker
from knowledge_base.schema import CASES
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import Hit, KnowledgeStore, Nearest, Scope
from rag_service.datasets import openi

TOP: Final = 10
DENSE: Final = ("box", "text")

Search = Callable[[Query], Sequence[UUID]]


@dataclass(frozen=True)
class Way:
    """One way of searching: the search over a store, and the question it is asked."""

    search: Callable[[KnowledgeStore], CaseSearch]
    ask: Callable[[Query], CaseQuery]

    def over(self, store: KnowledgeStore) -> Search:
        """Query -> ids of the best 10 cases."""
        search = self.search(store)
        return lambda query: [hit.case.id for hit in search.search(self.ask(query)).hits]


def hybrid(query: Query) -> CaseQuery:
    """Box, text and words, as a draft asks: withdrawn cases and the patient's own left out."""
    return CaseQuery(
        TENANT,
        box=BoxLatent.from_vector(query.box),
        text_vector=query.text,
        text=query.words,
        exclude_patient=(openi.SOURCE, query.study),
        limit=TOP,
    )


def reranked(query: Query) -> CaseQuery:
    """The same with the film's probabilities, which a re-ranker compares with what cases state."""
    return replace(hybrid(query), probabilities=query.probabilities)


def by_region(query: Query) -> CaseQuery:
    """The same with a region of the film, whose list is the fourth."""
    return replace(reranked(query), region=query.region)


def ways(names: VectorNames, reranker: Reranker | None) -> dict[str, Way]:
    """The ways that are measured, by name: three lists fused, then re-ranked, then with a region beside. No `reranker`, no
    comparing.
    """

    def compared(store: KnowledgeStore) -> CaseSearch:
        return CaseSearch(store, names, reranker=reranker)

    return {
        "hybrid": Way(lambda store: CaseSearch(store, names), hybrid),
        "reranked": Way(compared, reranked),
        "region": Way(compared, by_region),
    }


def dense(names: VectorNames) -> Callable[[KnowledgeStore], Search]:
    """The dense part alone: the box list and the text list, fused, no case read back."""

    def over(store: KnowledgeStore) -> Search:
        def search(query: Query) -> Sequence[UUID]:
            lists = {name: lists_of(names, query)[name] for name in DENSE}
            found = store.ranked(CASES, list(lists.values()), Scope(TENANT))
            return fused({name: [h.id for h in hits] for name, hits in zip(lists, found, strict=True)})

        return search

    return over


def lists_of(names: VectorNames, query: Query) -> dict[str, Nearest]:
    """The three lists that a hybrid search asks for."""
    asked = hybrid(query)
    box = BoxLatent.from_vector(query.box).vector()
    vectors = {"box": (names.box, box), "text": (names.text, query.text)}
    lists = {k: Nearest(name, vector, asked.prefetch, asked.filter()) for k, (name, vector) in vectors.items()}
    if (words := query_vector(query.words)) is not None:
        lists["bm25"] = Nearest(names.sparse, words, asked.prefetch, asked.filter())
    return lists


def fused(rankings: Mapping[str, Sequence[UUID]]) -> list[UUID]:
    """The best 10 of some lists by weighted reciprocal rank."""
    return [f.id for f in reciprocal_rank_fusion(rankings, weights=WEIGHTS)[:TOP]]


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows by search, recall@10 of the single lists by named vector, and the exact lists."""

    rows: Mapping[str, Mapping[str, Any]]
    lists: Mapping[str, float]
    truth: Mapping[Key, list[Hit]]


def figures(
    store: KnowledgeStore, exact: Exact, measured: Mapping[str, Way], warm: Sequence[Query], asked: Sequence[Query]
) -> Measured:
    """Times over `asked`, after `warm`, and recall, of every way of searching and of the dense part alone."""
    names = exact.names
    searches = {name: way.over for name, way in measured.items()} | {"dense": dense(names)}
    timed, recorder = {n: times(over(store), warm, asked) for n, over in searches.items()}, Recorder(store)
    found = {name: [over(recorder)(q) for q in asked] for name, over in searches.items()}
    for query in asked:
        recorder.ranked(CASES, list(lists_of(names, query).values()), Scope(TENANT))
    truth = exact.lists(recorder.asked)
    wanted = {name: [over(Answered(store, truth))(q) for q in asked] for name, over in searches.items()}
    rows = {name: timed[name] | {"recall_at_10": recall(found[name], wanted[name])} for name in searches}
    return Measured(rows, _list_recall(recorder.found, truth), truth)


def times(search: Search, warm: Sequence[Query], asked: Sequence[Query]) -> dict[str, Any]:
    """Milliseconds of each search, one after the other: median, 99th percentile, mean."""
    for query in warm:
        with suppress(StoreUnavailable):  # the first reads of a large index come from the disk
            search(query)
    seconds = []
    for query in asked:
        begun = perf_counter()
        search(query)
        seconds.append(perf_counter() - begun)
    return summary(seconds)


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 99th percentile and mean in milliseconds, and how many were timed."""
    taken = np.array(seconds) * 1000
    return {
        "p50_ms": float(np.median(taken)),
        "p99_ms": float(np.percentile(taken, 99)),
        "mean_ms": float(taken.mean()),
        "queries": len(taken),
    }


def recall(found: Sequence[Sequence[UUID]], wanted: Sequence[Sequence[UUID]]) -> float:
    """Mean share of the exact answer that was found."""
    return float(np.mean([len({*f} & {*w}) / max(len(w), 1) for f, w in zip(found, wanted, strict=True)]))


def _list_recall(found: Mapping[Key, list[Hit]], truth: Mapping[Key, list[Hit]]) -> dict[str, float]:
    """Recall@10 of the lists themselves, by named vector."""
    by_name: dict[str, list[Key]] = {}
    for key in found:
        by_name.setdefault(key[0], []).append(key)
    return {
        name: recall([[h.id for h in found[k][:TOP]] for k in keys], [[h.id for h in truth[k][:TOP]] for k in keys])
        for name, keys in sorted(by_name.items())
    }
