"""python -m indexer starter | ids: the cases that ship with the package, and which studies an index holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from indexer.commands.add import report
from indexer.commands.command import Command, LazyEmbedder, Running, filled_index, watch
from indexer.starter import add_passages, add_starter
from indexer.summary import Summary
from knowledge_base.pages import pages_of
from knowledge_base.schema import CASES
from rag_service.datasets.openi import bundled_archive
from rag_service.models.starter import load_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.settings import Settings


def _starter(settings: Settings, options: argparse.Namespace) -> int:
    running, summary = Running.of(settings), Summary()
    plan = running.plan
    with filled_index(settings, plan, rebuild=options.rebuild) as store:
        cases = load_starter(Path(settings.model_folder), running.encoder.record.id, TEXT_MODEL)
        added = add_starter(store, plan.cases, cases, bundled_archive(), summary)
        watch(added, len(cases.studies), "starter cases", options)
        watch(add_passages(store, plan.guidelines, LazyEmbedder(), summary), 0, "guideline passages", options)
        if summary.added:
            store.optimize(CASES)
    report(summary, options)
    return 0


def _ids(settings: Settings, options: argparse.Namespace) -> int:
    """Study ids of the tenant's own cases, one a line."""
    with filled_index(settings, Running.of(settings).plan, rebuild=False) as store:
        studies = [str(p.payload["study"]) for page in pages_of(store, CASES, settings.tenant) for p in page.points]
    print(json.dumps(studies) if options.json else "\n".join(studies))
    return 0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rebuild", action="store_true", help="throw the index away first")


STARTER: Final = Command("starter", "index the cases and passages that ship with the package", _starter, _configure)
IDS: Final = Command("ids", "indexed study ids, one a line", _ids)
