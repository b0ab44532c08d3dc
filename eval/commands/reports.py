"""What is measured of reports: the labeler, what contradicts a film, boxes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result
from rag_service.settings import Settings


def _labeler(_: Settings, options: argparse.Namespace) -> Result:
    from eval import labeler

    measured = labeler.measure(labeler.load(options.folder), options.seed)
    return measured.to_json(), measured.table()


def _consistency(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import consistency, films, readings
    from rag_service.wiring import build_reader

    reader = build_reader(settings)
    rows = [r for r in films.read(options.folder, options.split) if r.text]
    scores = readings.read(rows, reader.encoder).scores
    result = consistency.measure(rows, scores, reader.calibration, options.seed)
    return result, consistency.table(result)


def _grounding(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import grounding
    from rag_service.wiring import build_reader

    result = grounding.measure(options.folder, build_reader(settings), options.split, options.seed)
    return result, grounding.table(result)


def _of_labeler(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds NLMCXR_reports.tgz")


COMMANDS: Final = (
    Command("labeler", "the labeler against MeSH tags and a second labeler", _labeler, _of_labeler),
    Command("consistency", "do reports contradict their films?", _consistency),
    Command("grounding", "boxes against radiologists' boxes", _grounding),
)
