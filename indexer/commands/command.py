"""What a command is, and what several of them share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from knowledge_base.errors import CollectionMissing
from knowledge_base.store import KnowledgeStore
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.text import TextEncoder, load_text_encoder
from rag_service.settings import Settings
from rag_service.wiring import Layout, build_store, discard_index, layout, open_collections


def _nothing_more(_: argparse.ArgumentParser) -> None:
    return


@dataclass(frozen=True)
class Command:
    """A command: its name and its line of help, the arguments it takes, and what it does; `run` returns the exit code."""

    name: str
    help: str
    run: Callable[[Settings, argparse.Namespace], int]
    configure: Callable[[argparse.ArgumentParser], None] = _nothing_more


@dataclass(frozen=True, eq=False)
class Running:
    """The running film model and the layout of the index it needs."""

    encoder: FilmEncoder
    plan: Layout

    @classmethod
    def of(cls, settings: Settings) -> Running:
        """Load the model of the settings; raises `ServiceError` when its files are bad."""
        encoder = load_encoder(Path(settings.model_folder))
        return cls(encoder, layout(encoder.record.id, encoder.axes))


@contextmanager
def held_store(settings: Settings) -> Iterator[KnowledgeStore]:
    """The store of the settings, closed afterwards; no collection is opened."""
    store = build_store(settings)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def opened_index(settings: Settings, plan: Layout) -> Iterator[KnowledgeStore]:
    """The store with both collections opened, closed afterwards; `CollectionMissing` when nothing was ever indexed."""
    with held_store(settings) as store:
        for schema in (plan.cases, plan.guidelines):
            if store.manifest(schema.name) is None:
                raise CollectionMissing(schema.name)
        open_collections(store, plan)
        yield store


@contextmanager
def filled_index(settings: Settings, plan: Layout, *, rebuild: bool) -> Iterator[KnowledgeStore]:
    """The store with both collections opened, made if absent and with `rebuild` made anew; closed afterwards."""
    if rebuild:
        discard_index(settings)
    with held_store(settings) as store:
        open_collections(store, plan)
        yield store


class LazyEmbedder:
    """The text encoder, loaded when a text is first embedded and kept."""

    @cached_property
    def _encoder(self) -> TextEncoder:
        return load_text_encoder()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (n, 384) of the texts."""
        return self._encoder.encode(texts)


def watch(batches: Iterator[int], total: int, unit: str, options: argparse.Namespace) -> None:
    """Run through the batches behind a progress bar."""
    with tqdm(total=total or None, unit=f" {unit}", desc=options.command, disable=options.quiet) as bar:
        for size in batches:
            bar.update(size)


def say(found: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Print a result: on one line with --json, indented without."""
    print(json.dumps(found, indent=None if options.json else 1))
