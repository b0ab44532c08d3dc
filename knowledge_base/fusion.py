"""Reciprocal rank fusion (Cormack, Clarke & Buettcher, SIGIR 2009), computed here so that every store fuses alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

RRF_K: Final = 60
BY_BOX: Final = "box"
BY_REGION: Final = "region"
BY_TEXT: Final = "text"
BY_WORDS: Final = "bm25"
WEIGHTS: Final[Mapping[str, float]] = {BY_BOX: 1.0, BY_REGION: 1.0, BY_TEXT: 2.0, BY_WORDS: 0.5}
"""What each list of a case search counts: of the weights that `python -m rag_service.training reranker --data DIR` tries on
calibration studies, those with the best nDCG@10 over the kinds of questions (docs/decisions/0018).
"""
_TIES_AT_MOST: Final = 8192


class Ordered(Hashable, Protocol):
    """An id that can be compared, so that equal scores have one order."""

    def __lt__(self, other: Any, /) -> bool:
        """Whether this id comes first."""
        ...


K = TypeVar("K", bound=Ordered)


@dataclass(frozen=True)
class Fused(Generic[K]):
    """An id with its fused score and the rank (from 1) it had in each list that found it."""

    id: K
    score: float
    ranks: Mapping[str, int]


def reciprocal_rank_fusion(
    rankings: Mapping[str, Sequence[K]], k: int = RRF_K, weights: Mapping[str, float] | None = None
) -> list[Fused[K]]:
    """Sum of weight / (k + rank) over the lists, best first; equal scores in the order of their ids.

    A list names each id at most once. The sum runs in the order of `rankings`, so the result is the same to the bit. Without
    `weights` every list counts 1; with them each list must have one.
    """
    scores: dict[K, float] = {}
    ranks: dict[K, dict[str, int]] = {}
    for name, ranking in rankings.items():
        weight = 1.0 if weights is None else weights[name]
        for rank, identity in enumerate(ranking, start=1):
            if name in ranks.setdefault(identity, {}):
                raise ValueError(f"ranking {name!r} names {identity} twice")
            ranks[identity][name] = rank
            scores[identity] = scores.get(identity, 0.0) + weight / (k + rank)
    order = sorted(scores, key=lambda i: (-scores[i], i))
    return [Fused(i, scores[i], ranks[i]) for i in order]


def cut_ties(
    found: list[tuple[K, float]],
    again: Callable[[int], list[tuple[K, float]]],
    limit: int,
    *,
    low_first: bool,
) -> list[tuple[K, float]]:
    """The `limit` best (id, score) by score, then id, though the engine breaks ties as it likes.

    `found` was asked for with limit + 1. While it ends amid scores equal to the last one kept, `again` asks for more,
    up to 8,192: the same words in many reports give the same scores. `low_first` for distances.
    """
    asked = limit + 1
    while len(found) == asked and asked < _TIES_AT_MOST and found[-1][1] == found[limit - 1][1]:
        asked = min(asked * 4, _TIES_AT_MOST)
        found = again(asked)
    return sorted(found, key=lambda hit: (hit[1] if low_first else -hit[1], hit[0]))[:limit]
