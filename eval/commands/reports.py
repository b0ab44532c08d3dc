"""What is measured of reports: the labeler, what contradicts a film, boxes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from eval.commands.command import Command, Result, at_least_one, of_films, with_store
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

    result = grounding.measure(options.folder, build_reader(settings), options.split, options.seed, options.limit)
    return result, grounding.table(result)


def _of_grounding(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--limit", type=at_least_one, help="at most so many films, drawn by seed")


def _drafts(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import drafting, drafts

    found = drafting.studies(options.folder, options.split, options.limit, options.seed)
    if options.store:
        settings = replace(settings, store=options.store)
    with drafting.bench(settings) as bench:
        result = drafts.measure(
            bench, found, settings.tenant, laterals=options.laterals, seed=options.seed, samples=options.samples
        )
    return result, drafts.table(result)


def _citations(settings: Settings, options: argparse.Namespace) -> Result:
    from eval import citations, drafting

    found = drafting.studies(options.folder, options.split, options.limit, options.seed)
    if options.store:
        settings = replace(settings, store=options.store)
    with drafting.bench(settings) as bench:
        result = citations.measure(bench, found, settings.tenant, options.seed)
    return result, citations.table(result)


def _radfact(_: Settings, options: argparse.Namespace) -> Result:
    from eval import radfact
    from rag_service.report.entailment import judge

    result = radfact.measure(radfact.read(options.samples), judge, options.seed)
    return result, radfact.table(result)


def _entailment(_: Settings, options: argparse.Namespace) -> Result:
    from eval import entailment
    from rag_service.report.entailment import judge

    if options.judge is not None:
        from rag_service.langchain_judge import load_judge

        judge = load_judge(options.judge)
    result = entailment.measure(judge, options.folder, options.limit, options.seed)
    return result, entailment.table(result)


def _of_entailment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, nargs="?", help="holds Open-i's reports, for pairs of reports and their tags"
    )
    parser.add_argument("--limit", type=at_least_one, help="at most so many reports, drawn by seed")
    parser.add_argument("--judge", metavar="PROVIDER:MODEL", help="a chat model of LangChain instead of the rules")


def _of_radfact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "samples", type=Path, help="JSON as RadFact reads it: predictions and targets, phrase by phrase"
    )


def _of_citations(parser: argparse.ArgumentParser) -> None:
    of_films(parser)
    parser.add_argument("--limit", type=at_least_one, help="at most so many studies, drawn by seed")
    with_store(parser)


def _of_drafts(parser: argparse.ArgumentParser) -> None:
    _of_citations(parser)
    parser.add_argument("--laterals", action="store_true", help="read the lateral too, where a study has one")
    parser.add_argument("--samples", type=Path, help="write drafts and reports to this file as RadFact reads them")


def _of_labeler(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds NLMCXR_reports.tgz")


COMMANDS: Final = (
    Command("labeler", "the labeler against MeSH tags and a second labeler", _labeler, _of_labeler),
    Command("consistency", "do reports contradict their films?", _consistency),
    Command("drafts", "drafts against the reports that were written", _drafts, _of_drafts),
    Command("citations", "do citations bear out what drafts say?", _citations, _of_citations),
    Command("entailment", "does the judge tell what follows from what?", _entailment, _of_entailment),
    Command("radfact", "RadFact's six numbers of grounded reports", _radfact, _of_radfact),
    Command("grounding", "boxes against radiologists' boxes", _grounding, _of_grounding),
)
