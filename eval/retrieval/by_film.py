"""Query by film: is what lies near alike? Every way of ranking the gallery, scored on the same films.

A case's grade is `rag_service.datasets.relevance.grades`: a Jaccard index of the observations in which one that both have counts
less when sides or heights differ. The ways: `random`; `label_prior`, cases by how common their set of findings is, the same for
every film; `bm25`, `text` (dense), `point` (the centre without its radius) and `box` alone; `hybrid` (fused), `reranked` and
`diversified`, the case search that ships: its 50 answers come first, the rest of the gallery after them in the order that the
same scores give it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.retrieval.asking import Asked
from eval.retrieval.gallery import Gallery, distances, word_scores
from eval.retrieval.measures import (
    DIVERSIFIED,
    HYBRID,
    SHIPPED,
    VOTERS,
    Resamples,
    differences,
    figures,
    found_first,
    fused,
    scored,
    vote_auroc,
    votes,
)
from eval.retrieval.searches import Searches
from knowledge_base.cases import to_payload
from knowledge_base.rerank import Candidates, Reranker, features, stated_findings
from knowledge_base.search import CaseQuery
from rag_service.datasets.relevance import grades

Floats = NDArray[np.float64]


def rankings(asked: Asked, base: Gallery, searches: Searches, seed: int) -> dict[str, Floats]:
    """Way -> (q, m), lower is nearer."""
    half = base.boxes.shape[1] // 2
    low = {
        "random": np.random.default_rng(seed).random((len(asked), len(base))),
        "label_prior": np.tile(-_commonness(base), (len(asked), 1)),
        "bm25": -word_scores(base, asked.words),
        "text": -asked.texts @ base.texts.T,
        "point": distances(asked.boxes[:, :half], base.boxes[:, :half]),
        "box": distances(asked.boxes, base.boxes),
    }
    together, rows = fused(low, ("box", "text", "bm25")), base.rows()
    for way, search in searches.ways.items():
        asking = [asked.query(q, diverse=way == DIVERSIFIED) for q in range(len(asked))]
        found = [[rows[h.case.id] for h in search.search(query).hits] for query in asking]
        reranker = None if way == HYBRID else searches.reranker
        rest = together if reranker is None else _compared(asking, together, base, reranker)
        low[way] = found_first(found, -rest)
    return low


def _compared(asking: Sequence[CaseQuery], together: Floats, base: Gallery, reranker: Reranker) -> Floats:
    """(q, m): the re-ranker's scores of the whole gallery."""
    stated = stated_findings([to_payload(c) for c in base.cases])
    return np.stack(
        [
            reranker.scores(features(query.asked, Candidates(stated, score, base.boxes, base.texts)))
            for query, score in zip(asking, together, strict=True)
        ]
    )


def measure(low: Mapping[str, Floats], asked: Asked, base: Gallery, seed: int) -> dict[str, Any]:
    """`all` and `abnormal` films apart: every way with its figures, the vote of its nearest, and paired differences."""
    own = base.own([(r.source, r.study) for r in asked.rows])
    grade = grades(list(asked.traits), list(base.traits))
    values = {way: scored(one, grade, own) for way, one in low.items()}
    voted = {way: {k: votes(one, own, base.labels, k) for k in VOTERS} for way, one in low.items()}
    resamples, labels = Resamples.of(asked.patients, seed), asked.labels
    shipped = [way for way in SHIPPED if way in low]
    parts: dict[str, Any] = {}
    for part, rows in {"all": np.arange(len(asked)), "abnormal": asked.abnormal}.items():
        if not len(rows):
            continue
        drawn, of_part = resamples.at(rows), {way: v[rows] for way, v in values.items()}
        parts[part] = {
            "n": len(rows),
            "methods": {
                way: figures(v, drawn)
                | {f"knn_auroc_{k}": vote_auroc(labels[rows], voted[way][k][rows], drawn) for k in VOTERS}
                for way, v in of_part.items()
            },
            "differences": differences(of_part, shipped, tuple(low), drawn),
        }
    return parts


def _commonness(base: Gallery) -> Floats:
    """(m,): how many cases have exactly the findings of each."""
    sets = [tuple(row) for row in base.labels.tolist()]
    counts = Counter(sets)
    return np.array([counts[s] for s in sets], np.float64)
