"""python -m indexer: fill, check and describe the knowledge base."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from indexer.builder import Builder, Summary
from indexer.commands import OPERATIONS
from indexer.sources import NAMES, read
from indexer.starter import add_passages, add_starter
from indexer.studies import Skipped, Study
from knowledge_base.errors import BadArchive, DamagedRecordError, ManifestMismatch, StoreError, StoreInUse
from knowledge_base.schema import CASES
from knowledge_base.store import PUBLIC, KnowledgeStore, Scope
from rag_service import settings as environment
from rag_service.datasets.films import DatasetError
from rag_service.datasets.openi import bundled_archive
from rag_service.errors import ServiceError
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.starter import load_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.models.text import load_text_encoder
from rag_service.report.labeler import Labeler
from rag_service.settings import Settings, SettingsError
from rag_service.wiring import Layout, build_store, discard_index, layout, open_collections

IN_USE = 4
"""Exit code when another process holds the embedded index."""


def main(arguments: list[str] | None = None) -> int:
    """Command line. Exit codes: 0 ok, 1 failed, 2 usage, 3 data damaged, 4 index in use."""
    options = _parser().parse_args(arguments)
    try:
        settings = environment.load()
        if options.store:
            settings = replace(settings, store=options.store)
        return _COMMANDS[options.command](settings, options)
    except StoreInUse as error:
        return _fail(error, IN_USE)
    except (BadArchive, DamagedRecordError, ManifestMismatch, ServiceError) as error:
        return _fail(error, getattr(error, "exit_code", 3))
    except (SettingsError, DatasetError) as error:
        return _fail(error, 2)
    except StoreError as error:
        return _fail(error, 1)


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _add(settings: Settings, options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder.name}/ is no folder")
    studies = read(options.source, folder, settings.pseudonym_key)
    total = sum(1 for _ in read(options.source, folder, settings.pseudonym_key))
    encoder, plan, store = _opened(settings, options.rebuild)
    summary = Summary()
    try:
        builder = Builder(store, plan.cases, encoder, load_text_encoder(), Labeler())
        chosen = _limited(studies, options.limit)
        _progress(builder.add(chosen, summary), min(total, options.limit or total), "studies", options.quiet)
        _progress(add_passages(store, plan.guidelines, load_text_encoder(), summary), 0, "passages", options.quiet)
        store.optimize(CASES)
    finally:
        store.close()
    _report(summary, options)
    return 0


def _starter(settings: Settings, options: argparse.Namespace) -> int:
    encoder, plan, store = _opened(settings, options.rebuild)
    summary = Summary()
    try:
        cases = load_starter(Path(settings.model_folder), encoder.record.id, TEXT_MODEL)
        added = add_starter(store, plan.cases, cases, bundled_archive(), summary)
        _progress(added, len(cases.studies), "starter cases", options.quiet)
        passages = add_passages(store, plan.guidelines, _Lazy(), summary)
        _progress(passages, 0, "guideline passages", options.quiet)
        if summary.added:
            store.optimize(CASES)
    finally:
        store.close()
    _report(summary, options)
    return 0


class _Lazy:
    """A text encoder loaded only when a text is to be embedded: an unchanged index opens without it."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts."""
        return load_text_encoder().encode(texts)


def _opened(settings: Settings, rebuild: bool) -> tuple[FilmEncoder, Layout, KnowledgeStore]:
    encoder = load_encoder(Path(settings.model_folder))
    plan = layout(encoder.record.id, encoder.axes)
    if rebuild:
        discard_index(settings)
    store = build_store(settings)
    try:
        open_collections(store, plan)
    except BaseException:
        store.close()
        raise
    return encoder, plan, store


def _ids(settings: Settings, options: argparse.Namespace) -> int:
    """Study ids of all public cases, one a line."""
    _, _, store = _opened(settings, rebuild=False)
    try:
        studies = [str(payload["study"]) for payload in _payloads(store)]
    finally:
        store.close()
    print(json.dumps(studies) if options.json else "\n".join(studies))
    return 0


def _payloads(store: KnowledgeStore) -> Iterator[dict[str, object]]:
    after: UUID | None = None
    while True:
        page = store.scroll(CASES, Scope(PUBLIC), after=after)
        yield from (dict(p.payload) for p in page.points)
        if page.next_after is None:
            return
        after = page.next_after


def _limited(studies: Iterator[Study | Skipped], limit: int) -> Iterator[Study | Skipped]:
    for number, study in enumerate(studies):
        if limit and number >= limit:
            return
        yield study


def _progress(batches: Iterator[int], total: int, unit: str, quiet: bool) -> None:
    with tqdm(total=total or None, unit=f" {unit}", desc="indexing", disable=quiet) as bar:
        for size in batches:
            bar.update(size)


def _report(summary: Summary, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(summary.to_json()))
        return
    print(f"{summary.added} added, {summary.unchanged} unchanged, {sum(summary.skipped.values())} skipped")
    for reason, count in summary.skipped.most_common():
        print(f"  {count} x {reason} (first: {summary.examples[reason]})")


_COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    "add": _add,
    "starter": _starter,
    "ids": _ids,
    **{command.name: command.run for command in OPERATIONS},
}


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", help="no progress bar")
    parser = argparse.ArgumentParser(prog="python -m indexer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", parents=[common], help="index a folder of studies")
    add.add_argument("source", choices=NAMES)
    add.add_argument("folder")
    add.add_argument("--limit", type=int, default=0, help="stop after this many studies")
    starter = commands.add_parser(
        "starter", parents=[common], help="index the cases and passages that ship with the package"
    )
    for filling in (add, starter):
        filling.add_argument("--rebuild", action="store_true", help="throw the index away first")
    commands.add_parser("ids", parents=[common], help="indexed study ids, one a line")
    for command in OPERATIONS:
        command.configure(commands.add_parser(command.name, parents=[common], help=command.help))
    return parser


if __name__ == "__main__":
    sys.exit(main())
