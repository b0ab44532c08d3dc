"""What a task of `python -m eval` is, and the arguments that several of them take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_service.datasets.films import Split
from rag_service.settings import Settings

Result = tuple[dict[str, Any], str]
"""What --json writes, and the table that is printed."""


def of_films(parser: argparse.ArgumentParser) -> None:
    """A folder of films, and a split of it."""
    parser.add_argument("folder", type=Path, help="laid out as Open-i or NIH ChestX-ray14")
    parser.add_argument("--split", type=Split, choices=tuple(Split), help="only this split of the training program")


@dataclass(frozen=True)
class Command:
    """A task: `run` measures by the settings and the parsed arguments, which `arguments` declares."""

    name: str
    help: str
    run: Callable[[Settings, argparse.Namespace], Result]
    arguments: Callable[[argparse.ArgumentParser], None] = of_films

    def add(self, tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Declare the task on the command line."""
        parser = tasks.add_parser(self.name, help=self.help)
        common(parser)
        self.arguments(parser)


def common(parser: argparse.ArgumentParser) -> None:
    """What every task takes."""
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seed", type=int, default=7, help="seed of the bootstrap and the random baseline")


def with_store(parser: argparse.ArgumentParser) -> None:
    """Which knowledge base is asked."""
    parser.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")


def at_least_one(text: str) -> int:
    """A count of the command line."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def share(text: str) -> float:
    """A share of the command line, above 0."""
    if not 0.0 < float(text) <= 1.0:
        raise ValueError(text)
    return float(text)
