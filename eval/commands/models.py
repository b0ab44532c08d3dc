"""What is measured of models side by side, and the table of everything."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result, at_least_one
from rag_service.settings import Settings


def _ablations(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import ablations
    from rag_service.models.encoders.load import load_extractor

    extractor = load_extractor(options.encoder, options.model or Path(settings.model_folder))
    result = ablations.measure(options.folder, extractor, options.seeds, options.seed, options.limit)
    return result, ablations.table(result)


def _trunks(_: Settings, options: argparse.Namespace) -> Result:
    from eval import trunks

    seeds = range(options.seed, options.seed + options.seeds)
    result = trunks.measure(options.folder, options.pretrained, tuple(seeds), options.steps)
    return result, trunks.table(result)


def _sources(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import sources
    from rag_service.wiring import build_reader

    encoder = build_reader(settings).encoder
    found = sources.load(options.folder, encoder, options.limit, options.seed)
    result = sources.measure(found, encoder.record.id, options.seed)
    return result, sources.table(result)


def _table(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import table
    from eval.program import main
    from rag_service.wiring import build_reader

    encoder = build_reader(settings).encoder
    figures = table.gather(options.folder, options.runs, encoder.record.id, options.seed, main)
    result = table.measure(figures, encoder, Path(settings.model_folder) / encoder.record.file)
    return result, table.table(result)


def _of_ablations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds openi/, nih/, cohen/")
    parser.add_argument("--seeds", type=at_least_one, default=5, help="heads of each variant: --seed, --seed + 1, ...")
    parser.add_argument("--limit", type=at_least_one, help="at most so many films of each source and split")
    parser.add_argument("--encoder", default="box-latent", help="name of a recorded encoder; ours by default")
    parser.add_argument("--model", type=Path, help="folder of that encoder; ours by default")


def _of_trunks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds openi/, nih/, ...")
    parser.add_argument("--pretrained", type=Path, required=True, help="checkpoint of rag_service.training pretrain")
    parser.add_argument("--seeds", type=at_least_one, default=1, help="runs of each variant: --seed, --seed + 1, ...")
    parser.add_argument("--steps", type=at_least_one, default=200, help="of each run")


def _of_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds openi/, nih/, rocov2/, cohen/, jsrt/, paediatric/")
    parser.add_argument("--limit", type=at_least_one, help="at most so many films of each split, drawn by seed")


def _of_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds openi/, nih/, not_chest/, ...")
    parser.add_argument("--runs", type=Path, default=Path("build/figures"), help="JSON of the single measurements")


COMMANDS: Final = (
    Command("sources", "does the overlap of hulls say what transfers?", _sources, _of_sources),
    Command("ablations", "what each part of the box head is worth", _ablations, _of_ablations),
    Command("trunks", "short training runs: pretraining, sources, trunk", _trunks, _of_trunks),
    Command("table", "the published table beside ours; measures what is missing", _table, _of_table),
)
