"""What is measured of the lungs and the heart: masks, the cardiothoracic ratio, mask tokens."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result, at_least_one
from rag_service.datasets.films import Split
from rag_service.errors import BadWeights
from rag_service.settings import Settings


def _anatomy(settings: Settings, options: argparse.Namespace) -> Result:
    from eval.anatomy import run
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    if reader.segmenter is None:
        raise BadWeights("the model folder has no segmenter.json: this model outlines no lungs and no heart")
    models = run.Models(reader.segmenter, reader.ratio_limits, reader.encoder)
    result = run.measure(options.folder, models, options.split, options.limit, options.seed)
    return result, run.table(result)


def _of_anatomy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds jsrt/, anatomy_devices/, cohen/, openi/, or is JSRT itself")
    parser.add_argument("--split", type=Split, choices=tuple(Split), help="only this split of the training program")
    parser.add_argument("--limit", type=at_least_one, help="at most so many films of each set and split, drawn by seed")


COMMANDS: Final = (
    Command("anatomy", "lungs and heart against drawn outlines; the cardiothoracic ratio", _anatomy, _of_anatomy),
)
