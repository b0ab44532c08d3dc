"""One run of `python -m eval retrieval DIR`: every question of every kind over the same gallery, and the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval import films, readings
from eval.retrieval import by_film, by_region, by_text
from eval.retrieval.asking import asked, queries
from eval.retrieval.gallery import Gallery
from eval.retrieval.measures import RESAMPLES, SHIPPED
from eval.retrieval.searches import Searches
from eval.scores import shown
from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.models.text import TextEncoder
from rag_service.reader import Reader


def measure(
    folder: Path,
    rows: Sequence[FilmRow],
    base: Gallery,
    reader: Reader,
    text: TextEncoder,
    searches: Searches,
    seed: int,
) -> dict[str, Any]:
    """By film (asked as a film alone, and again with the indication where there is one), by words, by region.

    `map`, `ndcg_at_10`, `p_at_5` with `baselines` are those of the fullest search over all films asked alone. DatasetError when
    no film has a finding.
    """
    of_films = queries(rows)
    if not of_films:
        raise DatasetError("no film has a finding to look for")
    read = readings.read(of_films, reader.encoder)
    alone = asked(of_films, read, reader.calibration, text, {})
    parts = by_film.measure(by_film.rankings(alone, base, searches, seed), alone, base, seed)
    methods = dict(parts["all"]["methods"])
    best = next(way for way in SHIPPED if way in methods)
    told = indications(folder)
    result: dict[str, Any] = parts | methods.pop(best) | {"method": best, "baselines": methods}
    if any(told.get(r.study) for r in of_films):
        hinted = asked(of_films, read, reader.calibration, text, told)
        result["with_indication"] = by_film.measure(by_film.rankings(hinted, base, searches, seed), hinted, base, seed)
    result["by_text"] = by_text.measure(base, searches, text, seed)
    if base.regions is not None and (boxes := by_region.regions(folder, rows, reader)):
        result["by_region"] = by_region.measure(boxes, base, searches, seed)
    return result | {
        "n_queries": len(of_films),
        "n_gallery": len(base),
        "seed": seed,
        "resamples": RESAMPLES,
        "signature": {
            "films": films.signature(of_films),
            "model": reader.encoder.record.id,
            "relevance": "rag_service.datasets.relevance",
        },
    }


def indications(folder: Path) -> dict[str, str]:
    """Study -> indication, where the folder has Open-i reports; empty otherwise."""
    archive = folder / openi.ARCHIVE
    return {s: r.indication for s, r in openi.reports(archive).items()} if archive.is_file() else {}


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['n_queries']} queries, {result['n_gallery']} cases, seed {result['seed']}"]
    for kind, parts in {
        "film": result,
        "film and indication": result.get("with_indication", {}),
        "words": result["by_text"],
        "region": result.get("by_region", {}),
    }.items():
        for part in (p for p in parts if isinstance(parts[p], dict) and "methods" in parts[p]):
            lines += _part(f"by {kind}, {part}", parts[part])
    low, high = result["map_ci"] or (float("nan"), float("nan"))
    lines.append(f"{result['method']} mAP over all queries {result['map']:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join(lines)


def _part(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield f"{name} ({part['n']} queries)"
    yield f"  {'':12s} {'mAP':>21s} {'mAP@50':>6s} {'nDCG@10':>21s} {'P@1':>6s} {'P@5':>6s} {'P@10':>6s} {'kNN-AUROC':>21s}"
    for way, v in part["methods"].items():
        voted = v.get("knn_auroc_20")
        numbers = " ".join(f"{v[k]:6.3f}" for k in ("p_at_1", "p_at_5", "p_at_10"))
        area = _with(voted["macro"], voted["macro_ci"]) if voted else ""
        gain = _with(v["ndcg_at_10"], v["ndcg_at_10_ci"])
        yield f"  {way:12s} {_with(v['map'], v['map_ci'])} {v['map_at_50']:6.3f} {gain} {numbers} {area}"
    best = next(way for way in SHIPPED if way in part["methods"])
    for pair, gaps in part["differences"].items():
        if not pair.startswith(f"{best} - "):
            continue
        yield f"  {pair}: " + ", ".join(f"{k} {shown(g['difference'])} (p {shown(g['p'])})" for k, g in gaps.items())


def _with(value: float | None, interval: tuple[float, float] | None) -> str:
    low, high = interval or (None, None)
    return f"{shown(value)} [{shown(low)}, {shown(high)}]".rjust(21)
