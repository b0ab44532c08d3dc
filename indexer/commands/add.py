"""python -m indexer add: a folder of studies indexed; again, what is new or has changed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from indexer.builder import Embedder
from indexer.checkpoint import Checkpoint
from indexer.commands.command import Command, LazyEmbedder, Running, filled_index
from indexer.engines import local_engine
from indexer.pipeline import Engine, Indexing
from indexer.progress import progress
from indexer.quarantine import Quarantine
from indexer.ray_engine import ray_engine
from indexer.since import Since
from indexer.sources import NAMES, read
from indexer.starter import add_passages
from indexer.stopping import Stop, stoppable
from indexer.studies import Skipped, Study
from indexer.summary import Summary
from knowledge_base.errors import DiskLow
from knowledge_base.schema import CASES
from knowledge_base.store import Filter, KnowledgeStore, Match, Scope
from rag_service.datasets.films import DatasetError
from rag_service.settings import Settings

LAST: Final = "last"
_GO_ON: Final = "what was stored is kept, and the same command goes on from there"


def _add(settings: Settings, options: argparse.Namespace) -> int:
    return Run(settings, options).go()


@dataclass(frozen=True, eq=False)
class Run:
    """One run over a folder; `retry` takes the quarantined studies and no others, changed or not."""

    settings: Settings
    options: argparse.Namespace
    retry: bool = False

    def go(self) -> int:
        """Index, print what was done, and give the exit code."""
        folder, began, summary = Path(self.options.folder), time.time(), Summary()
        if not folder.is_dir():
            raise DatasetError(f"{folder.name}/ is no folder")
        running, embedder = Running.of(self.settings), LazyEmbedder()
        with (
            filled_index(self.settings, running.plan, rebuild=self.options.rebuild) as store,
            closing(Checkpoint(Path(self.settings.state_folder))) as checkpoint,
        ):
            if self.options.rebuild:
                checkpoint.forget(self.settings.store)
            with self._engine(running, embedder) as engine, stoppable() as stop, summary.clock():
                self._index(store, checkpoint, engine, summary, stop)
            if not stop.asked():
                with summary.clock(), summary.stage("passages"):
                    deque(add_passages(store, running.plan.guidelines, embedder, summary), maxlen=0)
                self._finish(store, checkpoint, summary, began)
        return self._say(summary, stop)

    def _engine(self, running: Running, embedder: Embedder) -> AbstractContextManager[Engine]:
        models, workers = Path(self.settings.model_folder), self.options.workers
        if self.options.engine == "ray":
            return ray_engine(models, workers, self.settings.tenant)
        return local_engine(models, running.encoder, running.plan.cases, embedder, workers, self.settings.tenant)

    def _index(
        self, store: KnowledgeStore, checkpoint: Checkpoint, engine: Engine, summary: Summary, stop: Stop
    ) -> None:
        since, quarantine = self._since(store, checkpoint), quarantine_of(self.settings, self.options)
        listed = self._items(since, quarantine, Summary())
        with progress(summary, listed, quiet=self.options.quiet) as told:
            indexing = Indexing(
                store=store,
                engine=engine,
                checkpoint=checkpoint,
                quarantine=quarantine,
                folder=Path(self.options.folder),
                summary=summary,
                tenant=self.settings.tenant,
                retry=self.retry or self.options.rebuild,
                stopping=stop.asked,
                told=told,
            )
            try:
                indexing.run(self._items(since, quarantine, summary))
            except DiskLow as error:
                raise DiskLow(f"{error}: {_GO_ON}") from error

    def _items(self, since: Since | None, quarantine: Quarantine, summary: Summary) -> Iterator[Study | Skipped]:
        """The studies of this run, up to the limit; `summary` counts those that `--since` leaves out."""
        return islice(self._chosen(since, quarantine, summary), self.options.limit or None)

    def _chosen(self, since: Since | None, quarantine: Quarantine, summary: Summary) -> Iterator[Study | Skipped]:
        for item in read(self.options.source, Path(self.options.folder), self.settings.pseudonym_key):
            study = item if isinstance(item, Study) else None
            if self.retry and (study is None or not quarantine.names(study)):
                continue
            if since and study and not since.admits(study):
                summary.earlier += 1
                continue
            yield item

    def _since(self, store: KnowledgeStore, checkpoint: Checkpoint) -> Since | None:
        given = self.options.since
        if given is None:
            return None
        if given != LAST:
            try:
                return Since.of_day(given)
            except ValueError:
                raise DatasetError(f"--since takes a day, YYYY-MM-DD, or {LAST!r}") from None
        source = self.options.source
        moment = checkpoint.last(self.settings.store, source, Path(self.options.folder))
        stored = store.count(
            CASES, Scope(self.settings.tenant, also_public=False), Filter(must=(Match("source", source),))
        )
        if moment is None or not stored:
            raise DatasetError(f"no run over all of this folder is on record: leave out --since {LAST}")
        return Since.of_moment(moment)

    def _finish(self, store: KnowledgeStore, checkpoint: Checkpoint, summary: Summary, began: float) -> None:
        """Optimize what was added, now or by a run that did not come so far; note a run that left out nothing but the old."""
        of = (self.settings.store, self.options.source, Path(self.options.folder))
        if summary.added or checkpoint.last(*of) is None:
            with summary.clock(), summary.stage("optimize"):
                store.optimize(CASES)
        if not (self.retry or self.options.limit):
            checkpoint.finished(*of, began)

    def _say(self, summary: Summary, stop: Stop) -> int:
        report(summary, self.options)
        if stop.signal:
            print(f"stopped by {stop.signal.name}: {_GO_ON}", file=sys.stderr)
        return stop.exit_code


def quarantine_of(settings: Settings, options: argparse.Namespace) -> Quarantine:
    """The list of studies that failed, where `--quarantine` says or beside the index."""
    return Quarantine(Path(options.quarantine or Path(settings.state_folder) / "quarantine"))


def report(summary: Summary, options: argparse.Namespace) -> None:
    """Print what a run did."""
    if options.json:
        print(json.dumps(summary.to_json()))
        return
    failed = summary.quarantined.total() + summary.still_quarantined
    counts = f"{summary.added} added, {summary.unchanged} unchanged, {summary.skipped.total()} skipped"
    print(f"{counts}, {failed} quarantined" if failed else counts)
    for reason, count in (summary.skipped + summary.quarantined).most_common():
        print(f"  {count} x {reason} (first: {summary.examples[reason]})")
    if summary.inconsistent:
        print(f"  {summary.inconsistent} added whose report contradicts the film: kept, marked")
    if summary.seconds and summary.store_share is not None:
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary.seconds.items())
        print(f"  {summary.elapsed:.1f} s: {stages}; store share {summary.store_share:.1%}")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", choices=NAMES)
    parser.add_argument("folder")
    add_engine(parser)
    parser.add_argument("--limit", type=int, default=0, help="stop after this many studies")
    parser.add_argument(
        "--since", metavar="DATE", help=f"only studies or films from this day on, or since the {LAST!r} run"
    )
    parser.add_argument("--rebuild", action="store_true", help="throw the index away first")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Arguments on how studies are worked on."""
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processors to use, or actors of the cluster (all)"
    )
    parser.add_argument("--quarantine", metavar="DIR", help="where studies that fail are listed (beside the index)")


ADD: Final = Command("add", "index a folder of studies; again to add what is new", _add, _configure)
