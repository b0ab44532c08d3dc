"""What is measured of the region queries: prompts for either side, structures, boxes that are pointed at."""

from __future__ import annotations

import argparse
from typing import Final

from eval.commands.command import Command, Result, at_least_one, of_films
from rag_service.settings import Settings


def _prompts(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import prompted
    from rag_service.models.text import load_text_encoder
    from rag_service.wiring import build_reader

    reader, text = build_reader(settings), load_text_encoder()
    result = prompted.measure(options.folder, options.split, options.limit, reader, text, options.seed)
    return result, prompted.table(result)


def _dialogue(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import dialogue
    from rag_service.models.text import load_text_encoder
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    answered = dialogue.ask(options.folder, options.split, options.limit, reader, load_text_encoder())
    result = dialogue.measure(answered, reader.encoder.record.id, options.seed)
    return result, dialogue.table(result)


def _of_prompts(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--limit", type=at_least_one, help="at most so many films, the first ones")


COMMANDS: Final = (
    Command(
        "prompts", "prompts for either side; structures of outlined films and boxes on them", _prompts, _of_prompts
    ),
    Command("dialogue", "phrases grounded and regions named, against readers' boxes", _dialogue, _of_prompts),
)
