"""python -m indexer export | import: the whole index as one file, and back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from indexer.commands.command import Command, Running, held_store, opened_index, say, watch
from knowledge_base.archive import export
from knowledge_base.archive_reading import open_archive
from knowledge_base.restore import Restored, restore
from knowledge_base.schema import CollectionSchema, IndexManifest
from rag_service.datasets.films import DatasetError
from rag_service.settings import Settings
from rag_service.wiring import Layout


def _export(settings: Settings, options: argparse.Namespace) -> int:
    plan, path = Running.of(settings).plan, Path(options.file)
    if not path.parent.is_dir():
        raise DatasetError(f"{path.parent.name}/ is no folder")
    with opened_index(settings, plan) as store:
        counts = {s.name: sum(store.tenants(s.name).values()) for s in (plan.cases, plan.guidelines)}
        collections = [(plan.cases, plan.cases_manifest), (plan.guidelines, plan.guidelines_manifest)]
        watch(export(store, collections, path), sum(counts.values()), "records", options)
    say({"exported": counts, "bytes": path.stat().st_size}, options)
    return 0


def _import(settings: Settings, options: argparse.Namespace) -> int:
    archive = open_archive(Path(options.file))
    running, done = _by_name(Running.of(settings).plan), Restored()
    with held_store(settings) as store:
        watch(restore(store, archive, running, done), sum(p.points for p in archive.parts), "records", options)
    say({"imported": done.points, "withdrawals": done.withdrawals, "words_remade": done.words_remade}, options)
    return 0


def _by_name(plan: Layout) -> dict[str, tuple[CollectionSchema, IndexManifest]]:
    return {
        plan.cases.name: (plan.cases, plan.cases_manifest),
        plan.guidelines.name: (plan.guidelines, plan.guidelines_manifest),
    }


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the archive, a zip file")


EXPORT: Final = Command("export", "write the whole index, all tenants, to one file", _export, _file)
IMPORT: Final = Command(
    "import", "put the index of such a file in the place of this one, once all of it is checked", _import, _file
)
