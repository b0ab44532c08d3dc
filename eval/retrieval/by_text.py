"""Query by words: a finding phrase should find cases that state the finding, with that polarity and on that side.

Phrases are made from the findings: denied ("no pneumothorax"), affirmed ("pneumothorax"), and where a finding has a side, left,
right and both. A case is relevant when a sentence of it states the finding so, as the labeler reads it; a case that names both
sides is relevant to either. Phrases with fewer than 10 relevant cases are counted apart: they cannot reach a P@10 of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from eval.retrieval.gallery import Gallery, word_scores
from eval.retrieval.measures import (
    DEPTH,
    DIVERSIFIED,
    FIGURES,
    SERVICE,
    SHIPPED,
    TOP,
    Resamples,
    differences,
    figures,
    found_first,
    fused,
    scored,
)
from eval.retrieval.searches import Searches
from knowledge_base.findings import Laterality, Polarity
from knowledge_base.records import Mention
from knowledge_base.search import CaseQuery
from knowledge_base.store import PUBLIC
from rag_service.explain.anatomy import SIDED
from rag_service.models.text import TextEncoder
from rag_service.requests import SearchRequest

FEWEST: Final = 10
WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "Enlarged Cardiomediastinum": ("widened mediastinum", "widened mediastinum"),
    "Cardiomegaly": ("cardiomegaly", "cardiomegaly"),
    "Lung Opacity": ("airspace opacity", "airspace opacities"),
    "Lung Lesion": ("lung nodule", "lung nodules"),
    "Edema": ("pulmonary edema", "pulmonary edema"),
    "Consolidation": ("consolidation", "consolidations"),
    "Pneumonia": ("pneumonia", "pneumonia"),
    "Atelectasis": ("atelectasis", "atelectasis"),
    "Pneumothorax": ("pneumothorax", "pneumothoraces"),
    "Pleural Effusion": ("pleural effusion", "pleural effusions"),
    "Pleural Other": ("pleural thickening", "pleural thickening"),
    "Fracture": ("rib fracture", "rib fractures"),
    "Support Devices": ("central venous catheter", "central venous catheters"),
}
"""Finding -> a radiologist's words for one, and for one on each side."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Phrase:
    """Words to search by, and what a relevant case states."""

    text: str
    finding: str
    polarity: Polarity
    side: Laterality | None = None


def phrases() -> tuple[Phrase, ...]:
    """Every finding denied and affirmed, and affirmed on each side where it has sides."""
    made = []
    for finding, (one, both) in WORDS.items():
        made.append(Phrase(f"no {one}", finding, Polarity.NEGATIVE))
        made.append(Phrase(one, finding, Polarity.POSITIVE))
        if finding in SIDED:
            made += [
                Phrase(f"{side} {one}", finding, Polarity.POSITIVE, side)
                for side in (Laterality.LEFT, Laterality.RIGHT)
            ]
            made.append(Phrase(f"bilateral {both}", finding, Polarity.POSITIVE, Laterality.BILATERAL))
    return tuple(made)


def relevant(base: Gallery, phrase: Phrase) -> Floats:
    """(m,): 1 for the cases that state the finding as the phrase does."""
    return np.array([float(any(_states(phrase, m) for s in c.sentences for m in s.mentions)) for c in base.cases])


def rankings(
    asked: tuple[Phrase, ...], base: Gallery, searches: Searches, text: TextEncoder, seed: int
) -> dict[str, Floats]:
    """Way -> (q, m), lower is nearer: random, words alone, dense text alone, and the searches, whose answers come first.

    `service` is `RadiographService.search`, which also reads what the words ask for; it is asked for 10.
    """
    vectors = text.encode([p.text for p in asked])
    low = {
        "random": np.random.default_rng(seed).random((len(asked), len(base))),
        "bm25": -word_scores(base, [p.text for p in asked]),
        "text": -vectors.astype(np.float64) @ base.texts.T,
    }
    rest, rows = -fused(low, ("text", "bm25")), base.rows()
    for way, search in searches.ways.items():
        asking = [
            CaseQuery(PUBLIC, text_vector=v, text=p.text, limit=DEPTH, prefetch=DEPTH, diverse=way == DIVERSIFIED)
            for p, v in zip(asked, vectors, strict=True)
        ]
        low[way] = found_first([[rows[h.case.id] for h in search.search(q).hits] for q in asking], rest)
    answers = [searches.service.search(SearchRequest(text=p.text, limit=TOP)).cases for p in asked]
    low[SERVICE] = found_first([[rows[UUID(c.id)] for c in cases] for cases in answers], rest)
    return low


def measure(base: Gallery, searches: Searches, text: TextEncoder, seed: int) -> dict[str, Any]:
    """Every way over the phrases that 10 cases or more answer, the same over the rarer ones, and P@5 of each phrase."""
    every = phrases()
    truth = np.stack([relevant(base, p) for p in every])
    low = rankings(every, base, searches, text, seed)
    nothing = np.zeros(truth.shape, bool)
    values = {way: scored(one, truth, nothing) for way, one in low.items()}
    resamples = Resamples.of([p.text for p in every], seed)
    answered = truth.sum(1)
    parts = {"common": answered >= FEWEST, "rare": (answered > 0) & (answered < FEWEST)}
    return {
        "never_stated": [p.text for p, n in zip(every, answered, strict=True) if not n],
        **{part: _part(values, np.flatnonzero(rows), resamples) for part, rows in parts.items() if rows.any()},
        "phrases": {
            p.text: {"cases": int(n)} | {way: float(v[q, FIGURES.index("p_at_5")]) for way, v in values.items()}
            for q, (p, n) in enumerate(zip(every, answered, strict=True))
            if n
        },
    }


def _part(values: Mapping[str, Floats], rows: NDArray[np.int64], resamples: Resamples) -> dict[str, Any]:
    drawn, of_part = resamples.at(rows), {way: v[rows] for way, v in values.items()}
    return {
        "n": len(rows),
        "methods": {way: figures(v, drawn) for way, v in of_part.items()},
        "differences": differences(of_part, [w for w in SHIPPED if w in of_part], tuple(of_part), drawn),
    }


def _states(phrase: Phrase, mention: Mention) -> bool:
    if (mention.finding, mention.polarity) != (phrase.finding, phrase.polarity):
        return False
    return phrase.side is None or mention.laterality in {phrase.side, Laterality.BILATERAL}
