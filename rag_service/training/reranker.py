"""Fits the re-ranker to questions on calibration studies, and measures the weights of the lists and the trade of diversity there.

LambdaRank (Burges, MSR-TR-2010-82) with a linear model: each pair of candidates of unequal grade weighs as much as nDCG@10
would change if they were swapped. No feature may count against likeness. The strength of the ridge is chosen by
cross-validation over patients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from tqdm import tqdm

from knowledge_base.cases import VectorNames
from knowledge_base.diversity import TRADE, diversified, similarity
from knowledge_base.findings import Polarity
from knowledge_base.fusion import BY_BOX, BY_REGION, BY_TEXT, BY_WORDS, RRF_K, WEIGHTS
from knowledge_base.rerank import FEATURES, Reranker, stated_findings
from knowledge_base.search import RERANKED, CaseSearch
from rag_service.calibration import load_calibration
from rag_service.datasets import nih, openi
from rag_service.models import text
from rag_service.models.encoder import load_encoder
from rag_service.models.starter import load_starter
from rag_service.models.text import load_text_encoder
from rag_service.report.labeler import Labeler
from rag_service.reranker import FeatureWeight, RerankerRecord, fusion_in_use
from rag_service.training.questions import BY_FILM, Gallery, Question, Questioner, gallery
from rag_service.wiring import layout

TOP: Final = 10
FOLDS: Final = 5
ROUNDS: Final = 4
"""Times the pairs are weighed anew by the order that the fit so far gives."""
RIDGES: Final = (0.003, 0.03, 0.3)
CHOICES: Final = (0.5, 1.0, 2.0)
"""Weights tried for each list, the box's being 1."""
TRADES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
_BLANK: Final = Reranker(np.zeros(len(FEATURES)), np.ones(len(FEATURES)), np.zeros(len(FEATURES)))
"""Orders nothing anew: the search makes the features all the same."""
_SIGNS: Final = np.where([f == "w2" for f in FEATURES], -1.0, 1.0)
_FUSED: Final = FEATURES.index("fused")
_DEEPER: Final = 8
"""Times the prefetch that is asked for, so that every candidate of every list is among the hits, whatever its weight."""
_COPIES: Final = 0.95
"""Reports whose vectors have a greater cosine count as copies of each other."""

Floats = NDArray[np.float64]
Scorer = Callable[["Judged"], Floats]


@dataclass(frozen=True, eq=False)
class Judged:
    """The n candidates of a question in fused order: gallery rows, reciprocal ranks 1 / (k + rank) by list (0 where a list
    lacks them), features (n, len(FEATURES)) and gains (n,). `best` is the DCG@10 of the whole gallery in the best order.
    """

    kind: str
    patient: tuple[str, str]
    rows: NDArray[np.int64]
    lists: Mapping[str, Floats]
    features: Floats
    gains: Floats
    best: float

    def fused(self, weights: Mapping[str, float]) -> Judged:
        """The candidates that these weights of the lists bring to the re-ranker."""
        score = sum((weights[name] * ranks for name, ranks in self.lists.items()), np.zeros(len(self.rows)))
        order = np.argsort(-score, kind="stable")[:RERANKED]
        features = self.features[order]
        features[:, _FUSED] = score[order]
        lists = {name: ranks[order] for name, ranks in self.lists.items()}
        return replace(self, rows=self.rows[order], lists=lists, features=features, gains=self.gains[order])

    def ndcg(self, order: Sequence[int] | NDArray[np.int64]) -> float:
        """nDCG@10 of candidates in this order, over the whole gallery."""
        return float(_dcg(self.gains[order[:TOP]]) / self.best) if self.best else 0.0


@dataclass(frozen=True)
class Fit:
    """A fitted re-ranker, the ridge chosen, nDCG@10 by kind of question under cross-validation, and lines for the operator."""

    reranker: Reranker
    ridge: float
    figures: Mapping[str, float]
    lines: tuple[str, ...]


def make_reranker(data: Path, folder: Path) -> Fit:
    """Fit and write the re-ranker of the models in `folder`, by the calibration studies under `data` (openi/, and nih/ if any)."""
    encoder, words = load_encoder(folder), load_text_encoder()
    model = encoder.record.id
    starter, labeler = load_starter(folder, model, text.NAME), Labeler()
    reports = openi.reports(openi.bundled_archive())
    base = gallery(starter, reports, labeler)
    asker = Questioner(encoder, load_calibration(folder, model), words, base)
    told = {study: report.indication for study, report in reports.items()}
    questions = [*asker.films(openi.films(data / openi.SOURCE), told), *asker.words(reports, labeler)]
    if (drawn := data / nih.SOURCE).is_dir():
        questions += asker.regions(nih.films(drawn), nih.boxes(drawn))
    plan = layout(model, encoder.axes)
    store = base.store(starter, plan.cases, plan.cases_manifest)
    search = CaseSearch(store, VectorNames.of(plan.cases), reranker=_BLANK)
    found = fit(judged(questions, search, base), base, starter.texts[base.rows].astype(np.float64))
    kinds = Counter(q.kind for q in questions)
    asked = ", ".join(f"{count} by {kind}" for kind, count in kinds.items())
    sample = f"calibration: {asked}, against {len(base.cases)} cases"
    _record(found, model, sample).save(folder)
    return found


def judged(questions: Sequence[Question], search: CaseSearch, base: Gallery) -> list[Judged]:
    """Every candidate that any list finds for each question; `search` has a re-ranker, whichever, so that features are made."""
    rows = {case.id: row for row, case in enumerate(base.cases)}
    found = (_judge(q, search, rows) for q in tqdm(questions, desc="searching", unit="question"))
    return [j for j in found if len(j.rows)]


def fit(found: Sequence[Judged], base: Gallery, texts: Floats) -> Fit:
    """The re-ranker for these questions; `texts` (m, t) are the gallery's text vectors."""
    pools = [j.fused(WEIGHTS) for j in found]
    tried = {ridge: _cross_validated(pools, ridge) for ridge in RIDGES}
    ridge = max(tried, key=lambda r: float(np.mean(list(tried[r].values()))))
    reranker = fitted(pools, ridge)
    lines = [f"fused alone: {_shown(figures(pools, lambda j: j.features[:, _FUSED]))}"]
    lines += [f"cross-validated, ridge {r}: {_shown(v)}" for r, v in tried.items()]
    ways = [(f"weights {_shown(w)}{' (in use)' * (w == WEIGHTS)}", v) for w, v in weights_tried(found)]
    ways.sort(key=lambda way: -float(np.mean(list(way[1].values()))))
    lines += [f"{way}: {_shown(values)}" for way, values in ways]
    lines += _diversity(pools, reranker, base, texts)
    return Fit(reranker, ridge, tried[ridge], tuple(lines))


def fitted(pools: Sequence[Judged], ridge: float) -> Reranker:
    """The linear model whose order of these candidates has the best nDCG@10, its weights drawn towards 0 by `ridge`."""
    joined = np.concatenate([p.features for p in pools])
    known = (~np.isnan(joined)).any(0)
    mean, scale = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
    mean[known], scale[known] = np.nanmean(joined[:, known], 0), np.nanstd(joined[:, known], 0)
    scale = np.where(scale > 0, scale, 1.0)
    useful = [p for p in pools if np.ptp(p.gains) > 0]
    values = [np.nan_to_num((p.features - mean) / scale * _SIGNS, nan=0.0) for p in useful]
    weight = np.full(len(FEATURES), 0.1)
    for _ in range(ROUNDS):
        parts = [_pairs(p, v, weight) for p, v in zip(useful, values, strict=True)]
        apart, worth = np.concatenate([d for d, _ in parts]), np.concatenate([w for _, w in parts])
        weight = _solved(apart, worth / len(useful), weight, ridge)
    return Reranker(mean, scale, weight * _SIGNS + 0.0)


def figures(pools: Sequence[Judged], scorer: Scorer) -> dict[str, float]:
    """Mean nDCG@10 by kind of question, of the order that scores give."""
    found: dict[str, list[float]] = {}
    for pool in pools:
        found.setdefault(pool.kind, []).append(pool.ndcg(np.argsort(-scorer(pool), kind="stable")))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def weights_tried(found: Sequence[Judged]) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """Weights of the lists, and nDCG@10 by kind of question of fusion alone."""
    for region, meaning, words in product(CHOICES, repeat=3):
        weights = {BY_BOX: 1.0, BY_REGION: region, BY_TEXT: meaning, BY_WORDS: words}
        yield weights, figures([j.fused(weights) for j in found], lambda j: j.features[:, _FUSED])


def _record(found: Fit, model: str, sample: str) -> RerankerRecord:
    parts = (found.reranker.mean, found.reranker.scale, found.reranker.weight)
    rows = zip(*(part.tolist() for part in parts), strict=True)
    features = {name: FeatureWeight(*row) for name, row in zip(FEATURES, rows, strict=True)}
    return RerankerRecord(model, text.NAME, features, fusion_in_use(), sample)


def _judge(question: Question, search: CaseSearch, rows: Mapping[UUID, int]) -> Judged:
    deep = _DEEPER * question.query.prefetch
    hits = search.search(replace(question.query, limit=deep, prefetch=deep)).hits
    hits = tuple(h for h in hits if min(h.ranks.values()) <= question.query.prefetch)
    kept = np.array([rows[h.case.id] for h in hits], np.int64)
    names = dict.fromkeys(name for h in hits for name in h.ranks)
    gains = 2.0**question.grade - 1.0
    return Judged(
        kind=question.kind,
        patient=question.patient,
        rows=kept,
        lists={n: np.array([_reciprocal(h.ranks.get(n), question.query.prefetch) for h in hits]) for n in names},
        features=np.array([[np.nan if v is None else v for v in (h.features or {}).values()] for h in hits]),
        gains=gains[kept],
        best=_dcg(np.sort(gains)[::-1][:TOP]),
    )


def _reciprocal(rank: int | None, prefetch: int) -> float:
    return 0.0 if rank is None or rank > prefetch else 1.0 / (RRF_K + rank)


def _pairs(pool: Judged, values: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Differences (p, F) of pairs whose first is the more relevant, and by how much nDCG@10 would change if they swapped."""
    better, worse = np.nonzero(pool.gains[:, None] > pool.gains[None] + 1e-9)
    place = np.empty(len(values))
    place[np.argsort(-(values @ weight), kind="stable")] = np.arange(len(values))
    discount = np.where(place < TOP, 1.0 / np.log2(place + 2.0), 0.0)
    worth = (pool.gains[better] - pool.gains[worse]) * np.abs(discount[better] - discount[worse]) / pool.best
    return values[better] - values[worse], worth


def _solved(apart: Floats, worth: Floats, start: Floats, ridge: float) -> Floats:
    """Weights >= 0 with the least sum of worth * log(1 + exp(-margin)) + ridge / 2 * |weights|^2."""

    def loss(weight: Floats) -> tuple[float, Floats]:
        margin = apart @ weight
        wrong = worth / (1.0 + np.exp(margin))
        value = float(worth @ np.logaddexp(0.0, -margin) + ridge / 2 * weight @ weight)
        return value, ridge * weight - wrong @ apart

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start))
    return np.asarray(found.x, np.float64)


def _cross_validated(pools: Sequence[Judged], ridge: float) -> dict[str, float]:
    """nDCG@10 by kind of question, each patient's ordered by a model that was fitted to the others'."""
    patients = sorted({p.patient for p in pools})
    drawn = np.random.default_rng(0).permutation(len(patients)) % FOLDS
    fold = dict(zip(patients, drawn.tolist(), strict=True))
    models = [fitted([p for p in pools if fold[p.patient] != f], ridge) for f in range(FOLDS)]
    return figures(pools, lambda j: models[fold[j.patient]].scores(j.features))


def _diversity(pools: Sequence[Judged], reranker: Reranker, base: Gallery, texts: Floats) -> Iterator[str]:
    """nDCG@10, and the share of pairs among the first ten that are copies, for each trade; film questions."""
    stated = stated_findings([{f"labels_{p}": c.labels(p) for p in Polarity} for c in base.cases])
    films = [p for p in pools if p.kind == BY_FILM]
    for trade in TRADES:
        worth, copies = [], []
        for pool in films:
            alike = similarity(stated[pool.rows], texts[pool.rows])
            chosen = diversified(reranker.scores(pool.features), alike, TOP, trade)
            worth.append(pool.ndcg(chosen))
            copies.append(_share_of_copies(texts[pool.rows[chosen]]))
        mark = " (in use)" if trade == TRADE else ""
        yield f"diversity {trade}{mark}: nDCG@10 {np.mean(worth):.3f}, copies {np.mean(copies):.2f}"


def _share_of_copies(texts: Floats) -> float:
    above = np.triu_indices(len(texts), 1)
    return float(((texts @ texts.T)[above] > _COPIES).mean()) if len(texts) > 1 else 0.0


def _dcg(gains: Floats) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


def _shown(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
