"""What is measured of the region queries: prompts for either side, structures, boxes that are pointed at."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result, at_least_one, of_films, with_store
from rag_service.datasets.films import FilmRow, Split
from rag_service.imaging.film import Box
from rag_service.requests import QueryRequest
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
    from eval.drafting import bench

    if options.store:
        settings = replace(settings, store=options.store)
    with bench(settings) as parts:
        service, reader = parts.service(), parts.reader

        def say(row: FilmRow, box: Box) -> str | None:
            asked = QueryRequest(row.path.read_bytes(), box=box, patient=(row.source, row.patient))
            answer = service.query(asked).answer
            return None if answer is None else answer.sentence

        answered = dialogue.ask(options.folder, options.split, options.limit, reader, parts.memory.text, say)
    result = dialogue.measure(answered, reader.encoder.record.id, options.seed)
    return result, dialogue.table(result)


def _of_prompts(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--limit", type=at_least_one, help="at most so many films, the first ones")


def _of_dialogue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="laid out as NIH ChestX-ray14, MS-CXR, VinDr-CXR or Chest ImaGenome")
    parser.add_argument("--split", type=Split, choices=tuple(Split), help="only this split of the training program")
    parser.add_argument("--limit", type=at_least_one, help="at most so many films, the first ones")
    with_store(parser)


COMMANDS: Final = (
    Command(
        "prompts", "prompts for either side; structures of outlined films and boxes on them", _prompts, _of_prompts
    ),
    Command("dialogue", "phrases grounded and regions named, against readers' boxes", _dialogue, _of_dialogue),
)
