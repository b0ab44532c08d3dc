"""Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): ten hits that are not ten copies of one report."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

TRADE: Final = 0.85
"""Weight of relevance against being unlike the hits before: of those that `python -m rag_service.training reranker --data DIR`
tries on calibration films, the most diverse that costs no more than 0.02 of nDCG@10.
"""
_SUSPECTED: Final = 0.5

Floats = NDArray[np.float64]


def similarity(stated: Floats, texts: NDArray[np.floating] | None) -> Floats:
    """(n, n) in [0, 1] between n cases: the cosine of their reports (at least 0); where either has no text vector, the Jaccard
    index of the findings they affirm or suspect.

    `stated` (n, 14) as `rerank.stated_findings` gives it, `texts` (n, t) unit vectors, rows of NaN where a case has none.
    """
    borne = (np.nan_to_num(stated, nan=0.0) >= _SUSPECTED).astype(np.float64)
    both = borne @ borne.T
    either = borne.sum(1)[:, None] + borne.sum(1)[None] - both
    labels = np.where(either > 0, both / np.maximum(either, 1.0), 1.0)
    if texts is None:
        return labels
    cosine = np.clip(np.asarray(texts @ texts.T, np.float64), 0.0, 1.0)
    return np.where(np.isnan(cosine), labels, cosine)


def diversified(scores: Floats, alike: Floats, limit: int, trade: float = TRADE) -> list[int]:
    """The `limit` cases chosen one by one, each the best by trade * relevance - (1 - trade) * likeness to those chosen.

    `scores` (n,) are brought to [0, 1] over the n cases; `alike` (n, n) is in [0, 1]. Of equals the first in order wins.
    """
    if not 0.0 <= trade <= 1.0:
        raise ValueError(f"a trade lies in [0, 1], got {trade}")
    spread = float(np.ptp(scores)) if len(scores) else 0.0
    relevance = (scores - scores.min()) / spread if spread else np.zeros(len(scores))
    likeness, chosen = np.zeros(len(scores)), list[int]()
    left = np.ones(len(scores), bool)
    for _ in range(min(limit, len(scores))):
        best = int(np.argmax(np.where(left, trade * relevance - (1 - trade) * likeness, -np.inf)))
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, alike[best])
    return chosen
