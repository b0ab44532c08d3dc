"""What is measured of the knowledge base and of the service on it: retrieval, evidence, kills, speed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result, at_least_one, common, of_films, with_store
from rag_service.datasets.films import Split
from rag_service.models.catalogue import load_record
from rag_service.settings import Settings

_ENGINES: Final = ("qdrant_local", "faiss_hnsw", "faiss_flat", "numpy_exact")


def _retrieval(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import films
    from eval.retrieval import gallery, run
    from eval.retrieval.searches import searches
    from rag_service.datasets import openi
    from rag_service.models.starter import load_starter
    from rag_service.models.text import NAME, load_text_encoder
    from rag_service.wiring import build_reader, layout

    reader, folder, encode = build_reader(settings), Path(settings.model_folder), load_text_encoder()
    cases = load_starter(folder, reader.encoder.record.id, NAME)
    base = gallery.gallery(cases, openi.reports(openi.bundled_archive()))
    rows = films.labelled(films.read(options.folder, options.split or Split.TEST))
    plan = layout(reader.encoder.record.id, reader.encoder.axes)
    with gallery.filled(base, settings, plan) as store:
        found = searches(store, reader, encode, settings)
        result = run.measure(options.folder, rows, base, reader, encode, found, options.seed)
    return result, run.table(result)


def _evidence(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import evidence, films
    from rag_service.models.text import load_text_encoder
    from rag_service.service import RadiographService
    from rag_service.wiring import build_reader, build_store, memory_of

    if options.store:
        settings = replace(settings, store=options.store)
    reader, store = build_reader(settings), build_store(settings)
    try:
        memory = memory_of(settings, store, reader.encoder, load_text_encoder())
        rows = films.labelled(films.read(options.folder, options.split or Split.CALIBRATION))
        free = RadiographService(replace(reader, relevance=None), memory)
        result = evidence.measure(rows, RadiographService(reader, memory), free)
    finally:
        store.close()
    return result, evidence.table(result)


def _faults(_: Settings, options: argparse.Namespace) -> Result:
    from tempfile import TemporaryDirectory

    from eval import kills

    with TemporaryDirectory() as folder:
        result = kills.measure(options.points, options.seed, Path(folder))
    return result, kills.table(result)


def _speed(settings: Settings, options: argparse.Namespace) -> Result:
    if options.part == "store":
        return _store_speed(settings, options)
    from eval import speed
    from rag_service.wiring import build_service

    if options.store:
        settings = replace(settings, store=options.store)
    result = speed.measure(lambda: build_service(settings), options.repeats)
    return result, speed.table(result)


def _store_speed(settings: Settings, options: argparse.Namespace) -> Result:
    from eval.store_speed import run
    from eval.store_speed.table import table
    from rag_service.datasets import openi
    from rag_service.models.starter import load_starter
    from rag_service.models.text import NAME
    from rag_service.wiring import layout

    folder = Path(settings.model_folder)
    cases = load_starter(folder, load_record(folder).id, NAME)
    plan = layout(cases.box_model, cases.boxes.shape[1] // 2)
    reports = openi.reports(openi.bundled_archive())
    with run.workplace(options.folder, options.keep) as place:
        bench = run.bench(place, settings, plan, cases, reports, options.seed)
        result = run.measure(bench, options.cases, options.baselines)
    return result, table(result)


def _of_evidence(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    with_store(parser)


def _of_faults(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("kills",))
    parser.add_argument("--points", type=at_least_one, default=50, help="how often it is killed")


def _of_speed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", type=at_least_one, default=20, help="drafts, and searches by words, that are timed"
    )
    with_store(parser)
    store = parser.add_subparsers(dest="part", help="instead of drafts").add_parser(
        "store", help="the store at any size, beside other engines"
    )
    common(store)
    store.add_argument("--cases", type=at_least_one, required=True, help="synthetic cases to fill it with")
    store.add_argument("--folder", type=Path, help="where everything is written; a temporary folder by default")
    store.add_argument("--keep", action="store_true", help="leave the folder: the next run starts from what it holds")
    store.add_argument(
        "--baselines", nargs="*", choices=_ENGINES, default=_ENGINES, help="other engines to measure beside it"
    )


COMMANDS: Final = (
    Command("retrieval", "are near cases alike?", _retrieval),
    Command("evidence", "what the relevance gate costs and gives", _evidence, _of_evidence),
    Command("faults", "is anything lost when what writes an index is killed?", _faults, _of_faults),
    Command("speed", "time and memory of the running service", _speed, _of_speed),
)
