"""The result of `python -m eval speed store` for a reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def table(result: Mapping[str, Any]) -> str:
    """Indexing, searches, the other engines with ratios, and the targets."""
    return "\n".join((*_ours(result), *_others(result), *_targets(result)))


def _ours(result: Mapping[str, Any]) -> Iterator[str]:
    memory = result["memory_mb"]
    yield f"{result['cases']} synthetic cases, seed {result['seed']}"
    yield (
        f"indexed at {result['cases_per_second']} cases/s (store {result['upsert_seconds']} s, making points"
        f" {result['points_seconds']} s); optimised in {result['optimize_seconds']} s; opened in {result['reopen_seconds']} s"
    )
    yield (
        f"{result['bytes_per_case']:.0f} bytes a case on disk; resident {memory['engine']:.0f} MiB (anonymous"
        f" {memory['engine_anonymous']:.0f}, files {memory['engine_files']:.0f}), client {memory['client']:.0f} MiB"
    )
    yield f"{'search':24s} {'p50 ms':>9s} {'p99 ms':>9s} {'recall@10':>9s} {'queries':>8s}"
    for name, row in result["searches"].items():
        yield f"{name:24s} {row['p50_ms']:9.2f} {row['p99_ms']:9.2f} {row['recall_at_10']:9.4f} {row['queries']:8d}"
    yield "recall@10 of the lists: " + ", ".join(
        f"{name} {value:.4f}" for name, value in result["list_recall_at_10"].items()
    )


def _others(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{'other engines':24s} {'p50 ms':>9s} {'p99 ms':>9s} {'recall@10':>9s} {'queries':>8s} {'cases':>8s}"
        f" {'bytes/case':>10s} {'MiB':>7s}  lists"
    )
    alone = {"engine without its pipe": result["engine_alone"]} if "engine_alone" in result else {}
    for name, row in {**result["baselines"], **alone}.items():
        weight = f" {row['bytes_per_case']:10.0f} {row['rss_mb']:7.0f}" if "rss_mb" in row else f" {'-':>10s} {'-':>7s}"
        yield (
            f"{name:24s} {row['hybrid_p50_ms']:9.2f} {row['hybrid_p99_ms']:9.2f} {row['recall_at_10']:9.4f}"
            f" {row['queries']:8d} {row['cases']:8d}{weight}  {'+'.join(row['lists'])}"
        )
    if "beside_qdrant_local" in result:
        beside = result["beside_qdrant_local"]
        yield (
            f"ours beside qdrant local, {beside['cases']} cases: p50 {beside['hybrid_p50_ms']:.2f} ms,"
            f" {result['times_faster_than_qdrant_local']:.1f} times faster"
        )
    if "dense_times_faiss_hnsw" in result:
        yield (
            f"dense part: {result['dense_times_faiss_hnsw']:.2f} times faiss HNSW through the port,"
            f" {result['engine_alone_times_faiss_hnsw']:.2f} times without the pipe"
        )


def _targets(result: Mapping[str, Any]) -> Iterator[str]:
    for target in result["targets"]:
        sign = "<=" if target["at_most"] else ">="
        said = "met" if target["met"] else "missed"
        yield f"{said:6s} {target['figure']} {target['value']:.4g} {sign} {target['bound']:g}"
