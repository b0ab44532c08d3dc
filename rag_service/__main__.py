"""python -m rag_service: draft a report, ask a film, explain a finding, verify a report, or search the knowledge base."""

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
from rag_service.requests import DraftRequest, Format, Language, QueryRequest, SearchRequest, read_boxes, read_region
from rag_service.service import RadiographService
from rag_service.settings import SettingsError
from rag_service.verify_request import read_verify_request

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
    act = {"draft": _draft, "query": _query, "search": _search, "explain": _explain, "verify": _verify}[options.command]
    try:
        return act(service, options, settings.tenant)
    finally:
        service.close()


def _draft(service: RadiographService, options: argparse.Namespace, tenant: str) -> int:
    content = _read(options.film)
    if options.format and options.json:
        raise BadRequest("--json and --format are two formats")
    draft = service.draft(_draft_request(content, options, tenant))
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


def _draft_request(content: bytes, options: argparse.Namespace, tenant: str) -> DraftRequest:
    return DraftRequest(
        content,
        "\n".join(options.prompt),
        options.indication,
        tenant,
        _patient(options.patient),
        _read(options.lateral) if options.lateral else None,
        prior=_read(options.prior) if options.prior else None,
        prior_report=_read_text(options.prior_report) if options.prior_report else "",
        technique=options.technique,
        comparison=options.comparison,
        boxes=read_boxes(";".join(options.box)),
        language=Language(options.language),
        prior_patient=_patient(options.prior_patient),
    )


def _query(service: RadiographService, options: argparse.Namespace, tenant: str) -> int:
    asked = QueryRequest(
        _read(options.film),
        options.prompt,
        read_region(options.box) if options.box else None,
        tenant,
        _patient(options.patient),
        Language(options.language),
    )
    found = service.query(asked)
    if options.json:
        print(json.dumps(found.to_json(), sort_keys=True))
    else:
        from rag_service.report.render_query import render_query

        print(render_query(found, service.source_name))
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


def _verify(service: RadiographService, options: argparse.Namespace, tenant: str) -> int:
    try:
        body = json.loads(Path(options.draft).read_bytes())
    except OSError as error:
        raise BadRequest("the file cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest("the file is no JSON") from error
    answer = service.verify(read_verify_request(body, tenant))
    if options.json:
        print(json.dumps(answer.to_json(), sort_keys=True))
    else:
        from rag_service.verified_text import render_verified

        print(render_verified(answer))
    return 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadRequest("the film file cannot be read") from error


def _read_text(path: str) -> str:
    try:
        return _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest("the prior report is not UTF-8") from error


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
    draft.add_argument("--prior", metavar="FILM", help="an earlier frontal film of the same patient")
    draft.add_argument("--prior-report", metavar="FILE", help="that film's report, as text")
    draft.add_argument("--prior-patient", help="SOURCE:PATIENT of the earlier film")
    draft.add_argument("--prompt", action="append", default=[], help="what the reader asks; may be given several times")
    draft.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="X_MIN,Y_MIN,X_MAX,Y_MAX",
        help="a place asked about, in fractions",
    )
    draft.add_argument("--indication", default="", help="why the film was taken")
    draft.add_argument("--technique", default="", help="how the films were taken")
    draft.add_argument("--comparison", default="", help="what the study is compared with")
    draft.add_argument("--language", choices=tuple(Language), default=Language.EN, help="what the draft is written in")
    draft.add_argument("--picture", help="write the film with its numbered boxes to this PNG")
    draft.add_argument("--format", choices=tuple(Format), help="print the report as another project writes it")
    query = commands.add_parser("query", parents=[common], help="ask a film by words, or point at it")
    query.add_argument("film", help="PNG, JPEG or DICOM")
    query.add_argument("--prompt", default="", help="what is asked")
    query.add_argument(
        "--box", metavar="X_MIN,Y_MIN,X_MAX,Y_MAX", help="the place asked about, in fractions of the film"
    )
    query.add_argument("--language", choices=tuple(Language), default=Language.EN, help="what the answer is written in")
    verify = commands.add_parser("verify", parents=[common], help="verify a draft or a report against the index")
    verify.add_argument("draft", help="JSON: a draft as it was answered, or an object with `text` or `sentences`")
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
