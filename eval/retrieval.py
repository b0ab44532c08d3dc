"""python -m eval retrieval DIR: do near boxes mean shared findings? Queries are films of DIR, the gallery the starter cases.

Relevance of a case to a query is the overlap of their positive findings, |A & B| / |A | B| (binary for mAP and P@5: any
shared); "No Finding" is a finding like the others in `all`, and queries that have it are left out of `abnormal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval import films, scores
from knowledge_base.findings import FINDINGS, NO_FINDING
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.imaging.decode import decode
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases
from rag_service.models.text import TextEncoder

TOP: Final = 10
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gallery:
    """m cases: box vectors (m, 2d), text vectors (m, 384), positive findings (m, 14) as 0/1, study ids."""

    boxes: Floats
    texts: Floats
    labels: Floats
    studies: tuple[str, ...]


def gallery(cases: StarterCases, reports: Mapping[str, openi.Report]) -> Gallery:
    """The starter cases that have labels."""
    kept = [i for i, s in enumerate(cases.studies) if s in reports and reports[s].labels]
    return Gallery(
        boxes=cases.boxes[kept].astype(np.float64),
        texts=cases.texts[kept].astype(np.float64),
        labels=np.array([_vector(reports[cases.studies[i]].labels) for i in kept]),
        studies=tuple(cases.studies[i] for i in kept),
    )


def measure(
    rows: Sequence[FilmRow],
    base: Gallery,
    encoder: FilmEncoder,
    text: TextEncoder,
    indications: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """mAP, nDCG@10 and P@5 of box search with baselines: random, text-only (the indication), the centre without its radius."""
    first: dict[str, FilmRow] = {}
    for row in rows:
        if any(row.labels.values()):
            first.setdefault(row.study, row)
    queries = list(first.values())
    if not queries:
        raise DatasetError("no film has a finding to look for")
    boxes = np.stack([_box(r, encoder) for r in tqdm(queries, desc="reading films", unit="film")])
    labels = np.array([_vector(r.labels) for r in queries])
    half = boxes.shape[1] // 2
    ranked = {
        "box": _distances(boxes, base.boxes),
        "point": _distances(boxes[:, :half], base.boxes[:, :half]),
        "random": np.random.default_rng(seed).random((len(queries), len(base.studies))),
    }
    told = np.array([bool(indications.get(r.study)) for r in queries])
    if told.any():
        vectors = text.encode([indications.get(r.study) or "unknown" for r in queries]).astype(np.float64)
        ranked["text"] = np.where(told[:, None], -vectors @ base.texts.T, ranked["random"])
    own = np.array([[s == r.study and r.source == openi.SOURCE for s in base.studies] for r in queries])
    per_query = {name: _score(d, labels, base.labels, own) for name, d in ranked.items()}
    return _result(per_query, labels, queries, len(base.studies), encoder.record.id, seed)


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['n_queries']} queries, {result['n_gallery']} cases, seed {result['seed']}"]
    for part in (p for p in ("all", "abnormal") if p in result):
        lines.append(f"{part} ({result[part]['n']} queries)   mAP    nDCG@10  P@5")
        for name, v in result[part]["methods"].items():
            lines.append(f"  {name:8s} {v['map']:.3f}  {v['ndcg_at_10']:.3f}  {v['p_at_5']:.3f}")
    low, high = result["map_ci"] or (float("nan"), float("nan"))
    lines.append(f"box mAP over all queries {result['map']:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join(lines)


def _result(
    per_query: Mapping[str, Floats], labels: Floats, queries: Sequence[FilmRow], cases: int, model: str, seed: int
) -> dict[str, Any]:
    abnormal = np.flatnonzero(labels[:, FINDINGS.index(NO_FINDING)] == 0)
    parts = {"all": np.arange(len(queries)), "abnormal": abnormal}
    patients = [f"{r.source}/{r.patient}" for r in queries]
    result: dict[str, Any] = {
        part: {"n": len(rows), "methods": {name: _means(v[rows]) for name, v in per_query.items()}}
        for part, rows in parts.items()
        if len(rows)
    }
    box = per_query["box"]
    return (
        result
        | _means(box)
        | {
            "map_ci": scores.interval(patients, lambda rows: float(box[rows, 0].mean()), seed),
            "baselines": {name: _means(v) for name, v in per_query.items() if name != "box"},
            "n_queries": len(queries),
            "n_gallery": cases,
            "seed": seed,
            "signature": {
                "films": films.signature(list(queries)),
                "model": model,
                "relevance": "Jaccard of positive findings",
            },
        }
    )


def _means(values: Floats) -> dict[str, float]:
    return dict(zip(("map", "ndcg_at_10", "p_at_5"), values.mean(0).tolist(), strict=True))


def _score(distance: Floats, wanted: Floats, cases: Floats, own: NDArray[np.bool_]) -> Floats:
    """(q, 3): average precision, nDCG@10, P@5 of each query; its own study is never a result."""
    shared = wanted @ cases.T
    grade = shared / np.maximum(wanted.sum(1)[:, None] + cases.sum(1)[None] - shared, 1.0)
    order = np.argsort(np.where(own, np.inf, distance), axis=1, kind="stable")
    found = np.empty((len(wanted), 3))
    weights = 1.0 / np.log2(np.arange(2, TOP + 2))
    for q, (ranking, left_out) in enumerate(zip(order, own.sum(1), strict=True)):
        gains = grade[q, ranking[: len(ranking) - left_out]]
        hits, discount = gains > 0, weights[: len(gains)]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        ideal = ((2.0 ** np.sort(gains)[::-1][:TOP] - 1) * discount).sum()
        found[q] = (
            precision[hits].mean() if hits.any() else 0.0,
            ((2.0 ** gains[:TOP] - 1) * discount).sum() / ideal if ideal else 0.0,
            hits[:5].mean() if len(hits) else 0.0,
        )
    return found


def _distances(queries: Floats, cases: Floats) -> Floats:
    squares = (queries**2).sum(1)[:, None] + (cases**2).sum(1)[None]
    return np.asarray(squares - 2 * queries @ cases.T)


def _vector(labels: Mapping[str, bool]) -> list[float]:
    return [float(labels.get(f, False)) for f in FINDINGS]


def _box(row: FilmRow, encoder: FilmEncoder) -> Floats:
    return encoder.read(decode(row.path.read_bytes())).box.vector().astype(np.float64)


def indications(folder: Path) -> dict[str, str]:
    """Study -> indication, where the folder has Open-i reports; empty otherwise."""
    archive = folder / openi.ARCHIVE
    return {s: r.indication for s, r in openi.reports(archive).items()} if archive.is_file() else {}
