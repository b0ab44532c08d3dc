"""One run: make the cases, fill the store, ask, ask the others, compare with the targets."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from eval.store_speed import baselines, synthetic
from eval.store_speed.baselines import Job, apart
from eval.store_speed.embedded import Place, fill, memory_mb, reopen_seconds
from eval.store_speed.exact import Exact, Key, WordsWriter, key, load_words
from eval.store_speed.searches import DENSE, figures, fused, lists_of, ways
from eval.store_speed.synthetic import Arrays, Query
from knowledge_base.rerank import Reranker
from knowledge_base.store import Hit
from rag_service.datasets import openi
from rag_service.datasets.films import Split
from rag_service.models.starter import StarterCases
from rag_service.reranker import load_reranker
from rag_service.settings import Settings
from rag_service.wiring import Layout

LOCAL_AT_MOST: Final = 20_000
"""Cases given to qdrant-client's local mode: it advises against more."""
ASKED: Final = 250
LOCAL_ASKED: Final = 50
NUMPY_ASKED: Final = 5
OTHERS: Final = ("qdrant_local", "faiss_hnsw", "faiss_flat", "numpy_exact")
WHOLE: Final = ("box", "text", "bm25")
FILLED: Final = "filled.json"
"""File in a finished store: what it was filled with, and what that cost."""


@contextmanager
def workplace(folder: Path | None, keep: bool) -> Iterator[Path]:
    """The folder given (made if absent), or a temporary one; gone afterwards unless it is to be kept."""
    place = folder or Path(tempfile.mkdtemp(prefix="store-speed-"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class Target:
    """A bound on a figure: at most, or at least."""

    figure: str
    bound: float
    most: bool = True

    def met(self, value: float) -> bool:
        """Whether the figure keeps the bound."""
        return value <= self.bound if self.most else value >= self.bound


COMMON: Final = (Target("times_faster_than_qdrant_local", 50, most=False), Target("dense_times_faiss_hnsw", 3))
TARGETS: Final[Mapping[int, tuple[Target, ...]]] = {
    100_000: (Target("hybrid_p50_ms", 8), Target("hybrid_p99_ms", 25), Target("recall_at_10", 0.98, most=False)),
    1_000_000: (Target("hybrid_p50_ms", 15), Target("rss_mb", 3072), Target("recall_at_10", 0.97, most=False)),
}
"""For up to so many cases."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Where everything lies, what the cases are made from, and what is asked."""

    folder: Path
    settings: Settings
    layout: Layout
    real: synthetic.Originals
    warm: Sequence[Query]
    asked: Sequence[Query]
    seed: int
    reranker: Reranker | None

    def place(self, n: int) -> Place:
        """The store of the first `n` cases."""
        return Place(self.folder / f"store-{n}", self.layout, self.settings)


def bench(
    folder: Path,
    settings: Settings,
    layout: Layout,
    starter: StarterCases,
    reports: Mapping[str, openi.Report],
    seed: int,
) -> Bench:
    """Cases come from the starter set's training studies, warming questions from calibration, timed ones from test."""
    warm, asked = (synthetic.queries(starter, reports, s, ASKED) for s in (Split.CALIBRATION, Split.TEST))
    reranker = load_reranker(Path(settings.model_folder), starter.box_model, starter.text_model)
    return Bench(folder, settings, layout, synthetic.originals(starter, reports), warm, asked, seed, reranker)


def measure(plan: Bench, n: int, wanted: Sequence[str] = OTHERS) -> dict[str, Any]:
    """Everything at `n` cases beside the other engines wanted; qdrant-client's local mode at 20,000 at most."""
    arrays = _arrays(plan, n)
    ours = _ours(plan, arrays, n)
    dense = ours.job(plan, arrays, ASKED, DENSE)
    others: dict[str, dict[str, Any]] = {}
    ratios: dict[str, Any] = {}
    if "qdrant_local" in wanted:
        beside = ours if n <= LOCAL_AT_MOST else _ours(plan, arrays, LOCAL_AT_MOST)
        others["qdrant_local"] = apart(baselines.qdrant_local, beside.job(plan, arrays, LOCAL_ASKED, WHOLE))
        ratio = others["qdrant_local"]["hybrid_p50_ms"] / beside.figures["hybrid_p50_ms"]
        ratios |= {"times_faster_than_qdrant_local": ratio, "beside_qdrant_local": beside.figures}
    if "faiss_hnsw" in wanted:
        others["faiss_hnsw"] = apart(baselines.faiss_hnsw, dense)
        alone = apart(baselines.engine_alone, replace(dense, folder=plan.place(n).folder))
        theirs = others["faiss_hnsw"]["hybrid_p50_ms"]
        ratios |= {
            "dense_times_faiss_hnsw": ours.figures["searches"]["dense"]["p50_ms"] / theirs,
            "engine_alone_times_faiss_hnsw": alone["hybrid_p50_ms"] / theirs,
            "engine_alone": alone,
        }
    if "faiss_flat" in wanted:
        others["faiss_flat"] = apart(baselines.faiss_flat, dense)
    if "numpy_exact" in wanted:
        others["numpy_exact"] = apart(baselines.numpy_exact, ours.job(plan, arrays, NUMPY_ASKED, WHOLE))
    result = ours.figures | ratios | {"baselines": others}
    return result | {"targets": against(result, n), "seed": plan.seed, "layout": plan.layout.digest}


def against(result: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """Each target for so many cases, with the figure and whether it is met; those on engines left out have none."""
    most = next((m for m in TARGETS if n <= m), max(TARGETS))
    return [
        {
            "figure": t.figure,
            "bound": t.bound,
            "at_most": t.most,
            "value": result[t.figure],
            "met": t.met(result[t.figure]),
        }
        for t in (*TARGETS[most], *COMMON)
        if t.figure in result
    ]


@dataclass(frozen=True, eq=False)
class _Ours:
    """The embedded store at `n` cases: figures, and the exact lists."""

    n: int
    figures: dict[str, Any]
    truth: Mapping[Key, list[Hit]]

    def job(self, plan: Bench, arrays: Arrays, limit: int, lists: Sequence[str]) -> Job:
        """The first `limit` questions for another engine, with the exact answers fused from `lists`."""
        names = plan.place(self.n).names
        asked = [lists_of(names, q) for q in plan.asked[:limit]]
        wanted = [fused({k: [h.id for h in self.truth[key(n)]] for k, n in a.items() if k in lists}) for a in asked]
        least = self.figures["searches"]["dense"]["recall_at_10"]
        return Job(arrays.folder, names, self.n, asked, wanted, least)


def _arrays(plan: Bench, n: int) -> Arrays:
    """The cases, drawn unless a finished run of the same size and seed left them in the folder."""
    made, wanted = plan.folder / "made.json", {"cases": n, "seed": plan.seed}
    if not made.is_file() or json.loads(made.read_text("utf-8")) != wanted:
        synthetic.make(plan.folder, plan.real, n, plan.seed)
        made.write_text(json.dumps(wanted), "utf-8")
    return Arrays(plan.folder)


def _ours(plan: Bench, arrays: Arrays, n: int) -> _Ours:
    place = plan.place(n)
    indexing = _filled(plan, place, arrays, n)
    reopening = reopen_seconds(place)
    exact = Exact(arrays, load_words(plan.folder), place.names, n)
    with place.opened() as store:
        found = figures(store, exact, ways(place.names, plan.reranker), plan.warm, plan.asked)
        weight = memory_mb()
    hybrid = found.rows["hybrid"]
    return _Ours(
        n,
        indexing
        | {
            "hybrid_p50_ms": hybrid["p50_ms"],
            "hybrid_p99_ms": hybrid["p99_ms"],
            "recall_at_10": hybrid["recall_at_10"],
            "rss_mb": weight["engine"],
            "memory_mb": weight,
            "reopen_seconds": reopening,
            "searches": found.rows,
            "list_recall_at_10": found.lists,
        },
        found.truth,
    )


def _filled(plan: Bench, place: Place, arrays: Arrays, n: int) -> dict[str, Any]:
    """What indexing cost: now, or when an earlier run filled the same store."""
    done = place.folder / FILLED
    wanted = {"seed": plan.seed, "layout": plan.layout.digest}
    if done.is_file() and (kept := json.loads(done.read_text("utf-8")))["of"] == wanted:
        return dict(kept["indexing"])
    shutil.rmtree(place.folder, ignore_errors=True)
    words = WordsWriter(plan.folder) if n == len(arrays) else None
    indexing = fill(place, arrays, plan.real.sentences, n, words)
    done.write_text(json.dumps({"of": wanted, "indexing": indexing}), "utf-8")
    return indexing
