"""python -m eval speed: how long a draft and a search take on this machine, by stage, and what the service weighs.

Films are the project's own phantoms, so the command runs anywhere; the store is the one the settings name.
"""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from eval.phantom.cases import CASES
from eval.phantom.files import png
from eval.phantom.thorax import render
from rag_service.requests import DraftRequest, SearchRequest
from rag_service.service import RadiographService, Stopwatch

PHANTOMS: Final = ("demo", "normal", "edema")


def measure(build: Callable[[], RadiographService], repeats: int) -> dict[str, Any]:
    """Seconds to ready, milliseconds of warm drafts and searches (p50, p95), by stage, and resident memory in MiB."""
    films = [png(render(c.anatomy, c.pathologies, c.devices, seed=0)) for c in map(CASES.__getitem__, PHANTOMS)]
    started = perf_counter()
    service = build()
    ready = perf_counter() - started
    try:
        for film in films:
            service.draft(DraftRequest(film))
        stages: dict[str, list[float]] = {}
        drafts, drafted = [], 0
        for turn in range(repeats):
            watch = Stopwatch()
            begun = perf_counter()
            answer = service.draft(DraftRequest(films[turn % len(films)]), watch)
            drafts.append(perf_counter() - begun)
            drafted += answer.status == "draft"
            for stage, seconds in watch.seconds.items():
                stages.setdefault(stage, []).append(seconds)
        searches = [_timed(service, SearchRequest(film, limit=10)) for film in films for _ in range(3)]
        words = [_timed(service, SearchRequest(text="right pleural effusion")) for _ in range(repeats)]
    finally:
        service.close()
    return {
        "ready_seconds": round(ready, 2),
        "draft_ms": _summary(drafts),
        "drafted": drafted,
        "draft_stages_p50_ms": {k: round(statistics.median(v) * 1000, 1) for k, v in stages.items()},
        "search_film_ms": _summary(searches),
        "search_text_ms": _summary(words),
        "memory_mib": {
            "service_peak": _peak_mib(resource.RUSAGE_SELF),
            "largest_child_peak": _peak_mib(resource.RUSAGE_CHILDREN),
        },
        "processor": _processor(),
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"ready in {result['ready_seconds']} s on {result['processor']}"]
    for name in ("draft_ms", "search_film_ms", "search_text_ms"):
        v = result[name]
        lines.append(f"{name:16s} p50 {v['p50']:7.1f}  p95 {v['p95']:7.1f}  ({v['n']} calls)")
    lines.append("  by stage, p50 ms: " + ", ".join(f"{k} {v}" for k, v in result["draft_stages_p50_ms"].items()))
    memory = result["memory_mib"]
    lines.append(f"peak memory: service {memory['service_peak']} MiB, largest child {memory['largest_child_peak']} MiB")
    return "\n".join(lines)


def _timed(service: RadiographService, request: SearchRequest) -> float:
    begun = perf_counter()
    service.search(request)
    return perf_counter() - begun


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(s * 1000 for s in seconds)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "n": len(ordered),
    }


def _peak_mib(who: int) -> int:
    return resource.getrusage(who).ru_maxrss // 1024


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else "an unknown processor"
