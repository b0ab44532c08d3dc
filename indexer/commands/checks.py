"""python -m indexer verify | stats | optimize: an index looked over, counted, and got ready for searching."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from indexer.commands.command import Command, Running, held_store, opened_index, say
from knowledge_base.cases import from_payload
from knowledge_base.census import Census, take_census
from knowledge_base.errors import CollectionMissing, StoreError
from knowledge_base.findings import Polarity
from knowledge_base.pages import all_pages
from knowledge_base.passages import load_passages
from knowledge_base.places import bytes_on_disk, strays
from knowledge_base.records import case_id
from knowledge_base.schema import CASES, CollectionSchema, IndexManifest
from knowledge_base.store import PUBLIC, KnowledgeStore, Scope
from knowledge_base.verification import Verification, verify
from rag_service.datasets import openi
from rag_service.errors import BadWeights
from rag_service.models.starter import load_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.settings import Settings
from rag_service.wiring import Layout

DAMAGED: Final = 3
_FACETS: Final = ("source", *(f"labels_{p}" for p in Polarity))
_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], object]]] = {CASES: from_payload}


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    """Every record, both manifests, and what no record accounts for; exit code 3 and the ids when something is wrong."""
    left = [] if settings.on_server else strays(Path(settings.store))
    running = Running.of(settings)
    plan = running.plan
    with held_store(settings) as store:
        made = {s.name: _as_made(store, s, m) for s, m in _collections(plan)}
        if all(schema is None for schema, _ in made.values()):
            raise CollectionMissing(CASES)
        results = {n: _checked(store, schema) for n, (schema, _) in made.items() if schema is not None}
        notes = _notes(store, running, settings) if all(state == "ok" for _, state in made.values()) else {}
    manifests = {name: state for name, (_, state) in made.items()}
    found = {
        "manifest": manifests,
        "checked": {n: r.checked for n, r in results.items()},
        "damaged": [str(i) for r in results.values() for i in r.damaged],
        "orphans": {k: [str(i) for i in ids] for r in results.values() for k, ids in r.orphans.items()},
        "unreachable": sum(r.unreachable for r in results.values()),
        "strays": left,
        **notes,
    }
    say(found, options)
    sound = all(r.intact for r in results.values()) and set(manifests.values()) == {"ok"} and not left
    return 0 if sound else DAMAGED


def _collections(plan: Layout) -> list[tuple[CollectionSchema, IndexManifest]]:
    return [(plan.cases, plan.cases_manifest), (plan.guidelines, plan.guidelines_manifest)]


def _as_made(
    store: KnowledgeStore, schema: CollectionSchema, manifest: IndexManifest
) -> tuple[CollectionSchema | None, str]:
    """The collection's own layout, opened by it, None when there is none; and "ok" or how it differs from the running."""
    try:
        stored, made_by = store.schema(schema.name), store.manifest(schema.name)
    except StoreError as error:
        return None, f"unreadable: {error}"
    if stored is None or made_by is None:
        return None, "absent"
    stored = replace(stored, name=schema.name)
    store.open(stored, made_by)
    try:
        made_by.check(manifest, schema.name)
        schema.check(stored.as_json())
    except StoreError as error:
        return stored, str(error)
    return stored, "ok"


def _checked(store: KnowledgeStore, schema: CollectionSchema) -> Verification:
    return verify(store, schema, _READERS.get(schema.name, dict))


def _notes(store: KnowledgeStore, running: Running, settings: Settings) -> dict[str, Any]:
    """What is no damage and yet not as it ships: passages the package no longer has, starter cases that are absent."""
    current, public = {p.id for p in load_passages()}, Scope(PUBLIC)
    stale = [str(i) for i in store.ids(running.plan.guidelines.name, public) if i not in current]
    try:
        starter = load_starter(Path(settings.model_folder), running.encoder.record.id, TEXT_MODEL)
    except BadWeights:
        return {"stale_passages": stale}
    ids = set(store.ids(CASES, public))
    return {
        "stale_passages": stale,
        "starter_missing": [s for s in starter.studies if case_id(openi.SOURCE, s) not in ids],
    }


def _stats(settings: Settings, options: argparse.Namespace) -> int:
    plan = Running.of(settings).plan
    with opened_index(settings, plan) as store:
        cases, guidelines = take_census(store, plan.cases, _FACETS), take_census(store, plan.guidelines)
        damaged = {s.name: _damaged(store, s) for s, _ in _collections(plan)}
    say({**_told(cases, guidelines, damaged, plan), **_bytes(settings, cases)}, options)
    return 0


def _damaged(store: KnowledgeStore, schema: CollectionSchema) -> int:
    """Records whose payload fails its checksum; vectors are not read for that."""
    return sum(len(page.damaged) for _, page in all_pages(store, schema, vectors=False))


def _told(cases: Census, guidelines: Census, damaged: Mapping[str, int], plan: Layout) -> dict[str, Any]:
    return {
        "cases": cases.points,
        "passages": guidelines.points,
        "tenants": cases.tenants,
        "sources": cases.facets["source"],
        "findings": cases.findings(),
        "withdrawn": cases.withdrawn,
        "damaged": damaged,
        "manifest": {s.name: m.as_json() for s, m in _collections(plan)},
    }


def _bytes(settings: Settings, cases: Census) -> dict[str, int | None]:
    """Bytes of the files of an embedded index; what a server occupies is the server's to tell."""
    if settings.on_server:
        return {"bytes_on_disk": None, "bytes_per_case": None}
    occupied = bytes_on_disk(Path(settings.store))
    return {"bytes_on_disk": occupied, "bytes_per_case": occupied // cases.points if cases.points else None}


def _optimize(settings: Settings, options: argparse.Namespace) -> int:
    """Build the graphs over what was added, one collection after the other."""
    plan = Running.of(settings).plan
    seconds = {}
    with opened_index(settings, plan) as store:
        for schema, _ in _collections(plan):
            began = time.monotonic()
            store.optimize(schema.name)
            seconds[schema.name] = round(time.monotonic() - began, 1)
            if not (options.quiet or options.json):
                print(f"{schema.name}: {sum(store.tenants(schema.name).values())} records, {seconds[schema.name]} s")
    if options.json:
        say({"seconds": seconds}, options)
    return 0


VERIFY: Final = Command("verify", "check every record, the manifests and what no record accounts for", _verify)
STATS: Final = Command("stats", "what the index holds, all tenants", _stats)
OPTIMIZE: Final = Command("optimize", "build the graphs over what was added", _optimize)
