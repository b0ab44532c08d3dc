"""python -m rag_service: draft a report for a film, explain a finding, or search the knowledge base."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

from knowledge_base.errors import StoreError, StoreInUse
from rag_service import settings as environment
from rag_service.errors import BadRequest, ServiceError
from rag_service.explain_request import EXPLAINED, ExplainRequest, Method, read_methods
from rag_service.report.formats.choose import written
from rag_service.requests import DraftRequest, Format, SearchRequest, read_region
from rag_service.service import RadiographService
from rag_service.settings import SettingsError

IN_USE = 4
"""Exit code when another process holds the embedded index."""


def main(arguments: list[str] | None = None) -> int:
    """Command line. Exit codes: 0 ok (an abstention is an answer), 1 failed, 2 usage, 3 data damaged, 4 index in use."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except StoreInUse as error:
        return _fail(error, IN_USE)
    except ServiceError as error:
        return _fail(error, error.exit_code)
    except SettingsError as error:
        return _fail(error, 2)
    except StoreError as error:
        return _fail(error, 1)


def _run(options: argparse.Namespace) -> int:
    from rag_service.wiring import (
        build_service,
    )  # torch and the engine are loaded only once the arguments are understood

    settings = environment.override(environment.load(), store=options.store, tenant=options.tenant)
    service = build_service(replace(settings, workers=1))
    act = {"draft": _draft, "search": _search, "explain": _explain}[options.command]
    try:
        return act(service, options, settings.tenant)
    finally:
        service.close()


def _draft(service: RadiographService, options: argparse.Namespace, tenant: str) -> int:
    content = _read(options.film)
    lateral = _read(options.lateral) if options.lateral else None
    patient = _patient(options.patient)
    if options.format and options.json:
        raise BadRequest("--json and --format are two formats")
    asked = DraftRequest(content, options.prompt, options.indication, tenant, patient, lateral)
    draft = service.draft(asked)
    if options.picture:
        from rag_service.explain.picture import picture

        _write(Path(options.picture), picture(service.decode(content), draft))
    if options.format:
        film = Path(options.film)
        print(written(draft, Format(options.format), service.decode(content).frame, film.stem, film.name))
    elif options.json:
        print(json.dumps(draft.to_json(), sort_keys=True))
    else:
        from rag_service.report.render import render

        print(render(draft, service.source_name))
    return 0


def _search(service: RadiographService, options: argparse.Namespace, tenant: str) -> int:
    film = _read(options.film) if options.film else None
    asked = SearchRequest(
        film,
        options.text,
        options.finding,
        options.limit,
        tenant=tenant,
        patient=_patient(options.patient),
        region=read_region(options.region) if options.region else None,
        include_same=options.include_same,
        diverse=options.diverse,
    )
    answer = service.search(asked)
    if options.json:
        print(json.dumps(answer.to_json(), sort_keys=True))
        return 0
    for reason in answer.abstain_reasons:
        print(f"the film was not used: {reason}")
    for case in answer.cases:
        overlap = "" if case.box_overlap is None else f"  overlap {case.box_overlap:.2f}"
        print(f"{case.id}  score {case.score:.4f}{overlap}  {', '.join(case.labels)}")
        if case.sentence is not None:
            print(f"    answers with: “{case.sentence.quote}”")
        print(textwrap.indent(case.excerpt, "    "))
    for counted in answer.coverage:
        if counted.warning is not None:
            print(counted.warning)
    for passage in answer.passages:
        print(f"guideline {passage.id}: {passage.quote}")
    return 0


def _explain(service: RadiographService, options: argparse.Namespace, _: str) -> int:
    methods = read_methods(options.methods) if options.methods else ()
    asked = ExplainRequest(_read(options.film), options.finding, methods, picture=bool(options.picture))
    answer = service.explain(asked)
    if answer.picture is not None:
        _write(Path(options.picture), b64decode(answer.picture))
    if options.json:
        print(json.dumps(answer.to_json(), sort_keys=True))
    else:
        from rag_service.report.render_explained import render

        print(render(answer))
    return 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadRequest("the film file cannot be read") from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise BadRequest("the picture cannot be written there") from error


def _patient(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    source, _, patient = text.partition(":")
    if not source or not patient:
        raise BadRequest("--patient is SOURCE:PATIENT")
    return source, patient


def _fail(error: Exception, code: int) -> int:
    print(f"error [{getattr(error, 'code', 'failed')}]: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the answer as JSON")
    common.add_argument("--store", help="folder of the embedded index, or the URL of a Qdrant server")
    common.add_argument("--tenant", help="on whose behalf: its own cases and the public ones are seen (public)")
    common.add_argument("--patient", help="SOURCE:PATIENT whose own cases must not be evidence")
    parser = argparse.ArgumentParser(prog="python -m rag_service", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    draft = commands.add_parser("draft", parents=[common], help="draft an evidence-cited report for a film")
    draft.add_argument("film", help="PNG, JPEG or DICOM")
    draft.add_argument("--lateral", metavar="FILM", help="the lateral film of the same study")
    draft.add_argument("--prompt", default="", help="what the reader asks")
    draft.add_argument("--indication", default="", help="why the film was taken")
    draft.add_argument("--picture", help="write the film with its numbered boxes to this PNG")
    draft.add_argument("--format", choices=tuple(Format), help="print the report as another project writes it")
    search = commands.add_parser("search", parents=[common], help="find similar cases by film, words or both")
    search.add_argument("film", nargs="?", help="PNG, JPEG or DICOM")
    search.add_argument("--text", default="", help="words to search for")
    search.add_argument("--finding", help="only cases that state this finding")
    search.add_argument("--limit", type=int, default=10)
    search.add_argument("--region", metavar="X_MIN,Y_MIN,X_MAX,Y_MAX", help="a box on the film, in fractions of it")
    search.add_argument("--include-same", action="store_true", help="let the film itself be among the answers")
    search.add_argument("--diverse", action="store_true", help="prefer cases that are unlike each other")
    explain = commands.add_parser("explain", parents=[common], help="show which parts of a film speak for a finding")
    explain.add_argument("film", help="PNG, JPEG or DICOM")
    explain.add_argument("--finding", required=True, help=f"one of: {', '.join(EXPLAINED)}")
    explain.add_argument("--methods", help=f"with commas between them, of: {', '.join(Method)}; all by default")
    explain.add_argument("--picture", help="write the maps side by side to this PNG")
    return parser


if __name__ == "__main__":
    sys.exit(main())
