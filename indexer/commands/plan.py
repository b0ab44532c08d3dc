"""python -m indexer plan: machines for so many cases, from bytes measured here."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from indexer import capacity
from indexer.capacity import Footprint, Plan
from indexer.commands.command import Command, Running, held_store, say, watch
from indexer.starter import add_starter
from indexer.summary import Summary
from knowledge_base.schema import CASES
from rag_service.datasets.films import DatasetError
from rag_service.datasets.openi import bundled_archive
from rag_service.models.starter import load_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.settings import Settings

_GIB: Final = 1 << 30


def _plan(settings: Settings, options: argparse.Namespace) -> int:
    if not 1 <= options.cases <= capacity.MAX_CASES:
        raise DatasetError(f"--cases takes 1 to {capacity.MAX_CASES}")
    if options.replicas < 1 or options.node_memory_gib <= 0:
        raise DatasetError("--replicas and --node-memory-gib are positive")
    with tempfile.TemporaryDirectory() as folder:
        footprint = _measured(settings, Path(folder), options)
    node_memory = int(options.node_memory_gib * _GIB)
    plan = capacity.plan_for(footprint, options.cases, replicas=options.replicas, node_memory=node_memory)
    if options.json:
        say({"measured": asdict(footprint), "plan": plan.as_json()}, options)
    else:
        print(_table(footprint, plan))
    return 0


def _measured(settings: Settings, folder: Path, options: argparse.Namespace) -> Footprint:
    """Bytes per case of an index of the starter cases and their likenesses, built in `folder`."""
    running = Running.of(settings)
    schema, manifest = running.plan.cases, running.plan.cases_manifest
    starter = load_starter(Path(settings.model_folder), running.encoder.record.id, TEXT_MODEL)
    with held_store(_at(settings, folder / "empty")) as store:
        store.open(schema, manifest)
    with held_store(_at(settings, folder / "filled")) as store:
        store.open(schema, manifest)
        watch(add_starter(store, schema, starter, bundled_archive(), Summary()), 0, "starter cases", options)
        watch(capacity.enlarge(store, schema, capacity.SAMPLE), 0, "likenesses", options)
        store.optimize(CASES)
        cases = sum(store.tenants(CASES).values())
    return capacity.footprint(folder / "filled" / CASES, folder / "empty" / CASES, cases)


def _at(settings: Settings, folder: Path) -> Settings:
    return replace(settings, store=str(folder), audit_log=None)


def _table(footprint: Footprint, plan: Plan) -> str:
    told = plan.as_json()
    parts = ", ".join(f"{part} {size:.0f}" for part, size in footprint.per_case.items())
    return "\n".join(
        [
            f"measured on {footprint.cases} cases: {footprint.disk:.0f} bytes a case on the disk ({parts}),",
            f"{footprint.memory:.0f} of them searched; {footprint.log / 2**20:.0f} MiB of log a shard",
            f"{plan.cases} cases, {plan.replicas} copies: {plan.nodes} nodes, {plan.shards} shards",
            f"memory {plan.memory / _GIB:.1f} GiB in all, {told['memory_per_node'] / _GIB:.1f} GiB a node",
            f"disk {plan.disk / _GIB:.1f} GiB in all, {told['disk_per_node'] / _GIB:.1f} GiB a node",
        ]
    )


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, required=True, metavar="N", help="how many, up to 100 million")
    parser.add_argument("--replicas", type=int, default=2, help="copies of each shard (2); 1 is a single server")
    parser.add_argument("--node-memory-gib", type=float, default=32.0, help="memory of a node that cases may fill (32)")


PLAN: Final = Command("plan", "shards, memory and disk for so many cases", _plan, _configure)
