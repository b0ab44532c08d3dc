"""Guideline passages by meaning, by words and by finding: small enough to hold in memory, so exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Plus

from knowledge_base.bm25 import terms
from knowledge_base.findings import FINDINGS
from knowledge_base.fusion import RRF_K, reciprocal_rank_fusion
from knowledge_base.records import Passage, RecordError

BY_MEANING: Final = "text"
BY_WORDS: Final = "bm25"
BY_FINDING: Final = "findings"
_UNIT_TOLERANCE: Final = 1e-3
_SAME_COSINE: Final = 6


@dataclass(frozen=True)
class PassageHit:
    """A passage found: its fused score and its rank (from 1) in each list that found it."""

    passage: Passage
    score: float
    ranks: Mapping[str, int]


class WordIndex:
    """rank-bm25's BM25Plus with its traps closed.

    An empty corpus and one without any term are allowed; a question is a text, tokenised here; documents that share no
    term with it are not found at all (BM25Plus scores them above zero), and every score is positive (BM25Okapi's is
    negative for a term in most documents).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._documents = [terms(text) for text in texts]
        self._index = BM25Plus(self._documents) if any(self._documents) else None

    def ranked(self, text: str) -> list[int]:
        """Positions of the documents that share a term with the text, best first, equal scores by position."""
        words = list(dict.fromkeys(terms(text)))
        if self._index is None or not words:
            return []
        scores = self._index.get_scores(words)
        sharing = [i for i, document in enumerate(self._documents) if not set(words).isdisjoint(document)]
        return sorted(sharing, key=lambda i: (-float(scores[i]), i))


class GuidelineSearch:
    """Finds passages. `vectors` has shape (n, d), row i the unit-length embedding of passage i by text model `model`.

    Raises `RecordError` when passages and vectors do not fit together, or a slug appears twice.
    """

    def __init__(self, passages: Sequence[Passage], vectors: NDArray[np.float32], model: str) -> None:
        if vectors.ndim != 2 or len(vectors) != len(passages):
            raise RecordError(f"{len(passages)} passages, vectors of shape {vectors.shape}")
        if not np.isfinite(vectors).all() or (np.abs(np.linalg.norm(vectors, axis=1) - 1.0) > _UNIT_TOLERANCE).any():
            raise RecordError("the vector of every passage has unit length")
        if len({p.slug for p in passages}) != len(passages):
            raise RecordError("two passages share a slug")
        order = sorted(range(len(passages)), key=lambda i: passages[i].slug)
        self._passages = {passages[i].slug: passages[i] for i in order}
        self._slugs = list(self._passages)
        self._vectors = np.asarray(vectors[order], np.float32)
        self._words = WordIndex([_words_of(p) for p in self._passages.values()])
        self.model = model

    def search(
        self, text: str, vector: NDArray[np.float32] | None, findings: Sequence[str] = (), limit: int = 5
    ) -> list[PassageHit]:
        """The best passages by reciprocal rank fusion, equal scores in the order of their slugs.

        `vector` is the question's embedding by the same model, or None to go by words alone. Passages written for
        one of `findings` form a list of their own, those that share more of them first: a boost, not a filter.
        """
        if unknown := [f for f in findings if f not in FINDINGS]:
            raise ValueError(f"unknown findings {unknown}")
        if limit < 1:
            raise ValueError(f"a limit is at least 1, got {limit}")
        rankings: dict[str, list[str]] = {BY_WORDS: [self._slugs[i] for i in self._words.ranked(text)]}
        cosines = self._cosines(vector)
        if cosines is not None:
            nearest = sorted(range(len(self._slugs)), key=lambda i: (-cosines[i], i))
            rankings[BY_MEANING] = [self._slugs[i] for i in nearest]
        if findings:
            rankings[BY_FINDING] = self._by_finding(frozenset(findings), cosines)
        fused = reciprocal_rank_fusion(rankings, RRF_K)[:limit]
        return [PassageHit(self._passages[f.id], f.score, f.ranks) for f in fused]

    def _cosines(self, vector: NDArray[np.float32] | None) -> list[float] | None:
        """Cosine to each passage, rounded so that equal texts tie on every machine; None without a vector."""
        if vector is None:
            return None
        if vector.shape != self._vectors.shape[1:]:
            raise RecordError(f"a question's vector has shape {vector.shape}, passages have {self._vectors.shape[1:]}")
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0.0:
            raise RecordError("a question's vector is finite and not zero")
        cosines = self._vectors.astype(np.float64) @ (vector.astype(np.float64) / length)
        return [round(float(c), _SAME_COSINE) for c in cosines]

    def _by_finding(self, findings: frozenset[str], cosines: list[float] | None) -> list[str]:
        """Slugs of the passages written for one of `findings`: most shared first, then nearest, then by slug."""
        shared = {i: len(findings & set(self._passages[s].findings)) for i, s in enumerate(self._slugs)}
        near = cosines or [0.0] * len(self._slugs)
        order = sorted((i for i in shared if shared[i]), key=lambda i: (-shared[i], -near[i], i))
        return [self._slugs[i] for i in order]


def _words_of(passage: Passage) -> str:
    """What a passage is found by: title, section, keywords, findings and text."""
    return "\n".join((passage.title, passage.section, *passage.keywords, *passage.findings, passage.text))
