"""python -m indexer migrate: the index brought over to the running models, while searching goes on."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from indexer.commands.command import Command, LazyEmbedder, Running, held_store, say, watch
from indexer.migration import (
    BESIDE,
    Films,
    FolderFilms,
    Migration,
    Moved,
    StarterFilms,
    open_as_made,
    open_beside,
    switch,
)
from indexer.sources import NAMES, read
from indexer.starter import add_passages
from indexer.summary import Summary
from knowledge_base.schema import CASES, GUIDELINES, CollectionSchema, IndexManifest
from knowledge_base.store import KnowledgeStore
from rag_service.datasets.films import DatasetError
from rag_service.errors import BadWeights
from rag_service.models.starter import load_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.report.labeler import Labeler
from rag_service.settings import Settings


def _migrate(settings: Settings, options: argparse.Namespace) -> int:
    running = Running.of(settings)
    films = [*_folders(running, settings, options), *_starter(running, settings)]
    with held_store(settings) as store:
        moved, names = Moved(), _outdated(store, running)
        if CASES in names:
            plan = running.plan
            before = open_as_made(store, CASES)
            work = Migration(
                store, before, plan.cases, plan.cases_manifest, films, LazyEmbedder(), Labeler(), options.without_films
            )
            total = sum(store.tenants(CASES).values())
            watch(work.fill(moved), total, "cases", options)
            store.optimize(work.beside.name)
        if GUIDELINES in names:
            _fill_guidelines(store, running)
        switch(store, names)
        if CASES in names:
            watch(work.catch_up(moved), total, "cases looked at again", options)
        if options.finish or not settings.on_server:
            for name in (CASES, GUIDELINES):
                store.drop(name + BESIDE)
    say(_told(names, moved), options)
    return 0


def _told(names: list[str], moved: Moved) -> dict[str, object]:
    return {
        "migrated": names,
        "moved": moved.added,
        "without_film": [str(i) for i in moved.filmless],
        "damaged": [str(i) for i in moved.damaged],
    }


def _outdated(store: KnowledgeStore, running: Running) -> list[str]:
    """The collections that other models than the running ones made, or in another layout."""
    plan = running.plan
    wanted = [(plan.cases, plan.cases_manifest), (plan.guidelines, plan.guidelines_manifest)]
    return [schema.name for schema, manifest in wanted if not _current(store, schema, manifest)]


def _current(store: KnowledgeStore, schema: CollectionSchema, manifest: IndexManifest) -> bool:
    stored, made_by = open_as_made(store, schema.name)
    return made_by == manifest and stored.as_json() == schema.as_json()


def _fill_guidelines(store: KnowledgeStore, running: Running) -> None:
    schema = replace(running.plan.guidelines, name=GUIDELINES + BESIDE)
    open_beside(store, schema, running.plan.guidelines_manifest)
    for _ in add_passages(store, schema, LazyEmbedder(), Summary()):
        pass


def _folders(running: Running, settings: Settings, options: argparse.Namespace) -> list[Films]:
    found: list[Films] = []
    for source, folder in options.source:
        if source not in NAMES or not Path(folder).is_dir():
            raise DatasetError(f"--source takes one of {', '.join(NAMES)} and its folder")
        studies = read(source, Path(folder), settings.pseudonym_key)
        found.append(FolderFilms.of(running.encoder, studies, None))
    return found


def _starter(running: Running, settings: Settings) -> list[Films]:
    """The starter cases' films; none when the model folder ships no starter of this model."""
    try:
        cases = load_starter(Path(settings.model_folder), running.encoder.record.id, TEXT_MODEL)
    except BadWeights:
        return []
    return [StarterFilms(cases)]


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "DIR"),
        help="where films are read from again",
    )
    parser.add_argument(
        "--without-films", action="store_true", help="keep cases whose films are not found by their words alone"
    )
    parser.add_argument(
        "--finish", action="store_true", help="remove the old index of a server, once no service runs the old model"
    )


MIGRATE: Final = Command("migrate", "bring the index over to the running models", _migrate, _configure)
