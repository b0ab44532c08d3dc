"""python -m rag_service.training record | box-head: another encoder under our box head, in two commands.

`record` writes the digests of a downloaded folder beside its files. `box-head` trains a head on that encoder's features and
writes a model folder for RAG_MODEL_FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rag_service.datasets.films import Split
from rag_service.errors import BadWeights
from rag_service.models.encoder import load_encoder
from rag_service.models.encoders.catalogue import CATALOGUE, NAMES
from rag_service.models.encoders.load import load_extractor
from rag_service.models.encoders.record import write_record
from rag_service.models.text import load_text_encoder
from rag_service.training.box_head import HeadPlan, bank, pack, train_head, whole_bank
from rag_service.training.calibrate import CorpusReader
from rag_service.training.complete import complete
from rag_service.training.corpus import build
from rag_service.training.features import FeatureCache
from rag_service.training.loop import text_vectors
from rag_service.writers.catalogue import CATALOGUE as WRITERS
from rag_service.writers.record import write_record as write_writer_record


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code: 0, or 3 for weights that cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.task == "record" and options.writer and options.sha256:
        parser.error("--sha256 is of an encoder's weights")
    try:
        return _record(options) if options.task == "record" else _box_head(options)
    except BadWeights as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  (the command's own answer)
        return error.exit_code


def _record(options: argparse.Namespace) -> int:
    if options.writer is not None:
        print(write_writer_record(WRITERS[options.writer], options.model).id)  # noqa: T201
        return 0
    stated = replace(CATALOGUE[options.encoder], sha256=options.sha256)
    record = write_record(stated, options.model)
    print(f"{record.id}  sha256 {record.sha256}")  # noqa: T201
    return 0


def _box_head(options: argparse.Namespace) -> int:
    extractor = load_extractor(options.encoder, options.model)
    corpus = build(options.data, options.work / "cache")
    vectors = text_vectors(corpus.texts, load_text_encoder().encode, options.work / "cache")
    cache = FeatureCache(extractor, options.work / "features")
    plan = HeadPlan(seed=options.seed)
    held = bank(cache, corpus, corpus.rows(Split.CALIBRATION, "openi", "frontal"), copies=0)
    head = train_head(whole_bank(cache, corpus, plan), held, plan)
    record = pack(head, extractor.record, options.model, options.version, options.out)
    print(f"{record.id}  sha256 {record.sha256}")  # noqa: T201
    complete(CorpusReader(load_encoder(options.out), corpus), vectors, options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", type=Path, required=True, help="folder with the model's files")
    parser = argparse.ArgumentParser(prog="python -m rag_service.training", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    record = tasks.add_parser("record", parents=[common], help="write the digests of a model's files beside them")
    which = record.add_mutually_exclusive_group(required=True)
    which.add_argument("--encoder", choices=tuple(CATALOGUE))
    which.add_argument("--writer", choices=tuple(WRITERS), help="a model that words findings, for RAG_WRITER_FOLDER")
    record.add_argument("--sha256", help="of an encoder's weight file as its publisher states it; another is refused")
    head = tasks.add_parser("box-head", parents=[common], help="train a box head on the encoder's features")
    head.add_argument("--encoder", choices=NAMES, required=True)
    head.add_argument("--data", type=Path, required=True, help="folder holding openi/, nih/, ...")
    head.add_argument("--out", type=Path, required=True, help="the model folder to write")
    head.add_argument("--work", type=Path, default=Path("build/training"), help="cache of films and features")
    head.add_argument("--version", default="1", help="version of the packed model")
    head.add_argument("--seed", type=int, default=HeadPlan.seed)
    return parser
