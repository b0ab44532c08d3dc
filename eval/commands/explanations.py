"""What is measured of explanations."""

from __future__ import annotations

import argparse
from typing import Final

from eval.commands.command import Command, Result, at_least_one, of_films
from rag_service.settings import Settings


def _explanations(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import explanation_table, explanations
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    result = explanations.measure(options.folder, reader, options.split, options.limit, options.seed)
    return result, explanation_table.table(result)


def _arguments(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--limit", type=at_least_one, help="at most so many findings with boxes, drawn by seed")


COMMANDS: Final = (
    Command("explanations", "explanations against boxes and against each other", _explanations, _arguments),
)
