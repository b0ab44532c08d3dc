"""python -m indexer quarantine list | retry: the studies that could not be indexed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Final

from indexer.commands.add import Run, add_engine, quarantine_of
from indexer.commands.command import Command
from indexer.sources import NAMES
from rag_service.datasets.films import DatasetError
from rag_service.settings import Settings


def _quarantine(settings: Settings, options: argparse.Namespace) -> int:
    placed = options.source is not None and options.folder is not None
    if options.act == "retry" and placed:
        return Run(settings, options, retry=True).go()
    if options.act == "retry" or options.source is not None:
        raise DatasetError("`quarantine retry` takes a source and its folder, `quarantine list` takes neither")
    return _list(settings, options)


def _list(settings: Settings, options: argparse.Namespace) -> int:
    """Every study on the list, one a line."""
    entries = list(quarantine_of(settings, options))
    if options.json:
        print(json.dumps([asdict(e) for e in entries]))
        return 0
    for entry in entries:
        print(f"{entry.source} {entry.study}: {entry.reason} ({entry.error}) {entry.film or 'no film'}, {entry.time}")
    print(f"{len(entries)} quarantined")
    return 0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "act", choices=("list", "retry"), help="say what failed, or try a folder's again, changed or not"
    )
    parser.add_argument("source", nargs="?", choices=NAMES)
    parser.add_argument("folder", nargs="?")
    add_engine(parser)
    parser.set_defaults(limit=0, since=None, rebuild=False)


QUARANTINE: Final = Command("quarantine", "the studies that could not be indexed", _quarantine, _configure)
