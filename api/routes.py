"""The use cases over HTTP, and the few routes that watch over the process."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypedDict, TypeVar, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import State

from api import documents, examples, schemas
from api.auth import key_guard
from api.errors import NotReady, UnsupportedUpload
from api.gate import Gate, unless_gone
from api.metrics import CONTENT_TYPE, Metrics
from api.ports import ReportService
from api.problems import Problem, request_id_of
from api.settings import ApiSettings
from api.startup import OK, Startup
from api.uploads import (
    FILM_PART,
    FORM,
    JSON,
    LATERAL_PART,
    PRIOR_PART,
    RAW_FILMS,
    Form,
    media_type_of,
    read_form,
    read_json,
    read_raw,
)
from knowledge_base.findings import FINDINGS
from rag_service.errors import BadRequest
from rag_service.explain_request import ExplainRequest, read_methods
from rag_service.requests import (
    MAX_LIMIT,
    DraftRequest,
    Format,
    Language,
    QueryRequest,
    SearchRequest,
    SteerRequest,
    read_boxes,
    read_format,
    read_language,
    read_patient,
    read_region,
)
from rag_service.verify_request import VerifyRequest, read_verify_request

Asked = TypeVar("Asked")
OPERATIONS_TAG: Final = "operations"
_DRAFT_FILMS: Final = frozenset({FILM_PART, LATERAL_PART, PRIOR_PART})
_DRAFT_ASKED: Final = frozenset({"prompt", "box"})
_DRAFT_TEXTS: Final = _DRAFT_ASKED | {
    "indication", "technique", "comparison", "prior_report", "language", "patient", "format", "prior_patient",
}  # fmt: skip
_SEARCH_FILMS: Final = frozenset({FILM_PART})
_QUERY_FILMS: Final = frozenset({FILM_PART})
_QUERY_TEXTS: Final = frozenset({"prompt", "box", "language", "patient"})
_STEER_FILMS: Final = frozenset({FILM_PART})
_NUMBER: Final = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")
_SEARCH_TEXTS: Final = frozenset({"text", "finding", "limit", "region", "include_same", "diverse"})
_STEER_TEXTS: Final = frozenset({"concept", "alpha"})
_EXPLAIN_FILMS: Final = frozenset({FILM_PART})
_EXPLAIN_TEXTS: Final = frozenset({"finding", "methods", "picture"})
_OK: Final[dict[int | str, dict[str, Any]]] = {200: documents.answer("As described.")}


class Answer(Protocol):
    """What a use case answers."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        ...


class ApiState(TypedDict):
    """What lives as long as the app. `models` gates drafts and searches, `lookups` what only asks the store."""

    startup: Startup
    models: Gate
    lookups: Gate


def use_cases(settings: ApiSettings, metrics: Metrics) -> APIRouter:
    """The /v1 routes. Every one asks for the key where one is set, before anything else is looked at."""
    guards = [Depends(key_guard(settings.api_key))] if settings.api_key else []
    router = APIRouter(prefix="/v1", dependencies=[*guards, Depends(_no_query)], tags=["reports"])
    unauthorised = (401,) if settings.api_key else ()
    failures = (*unauthorised, 422, 429, 500, 503)

    @router.post(
        "/reports",
        summary="Draft a report for one film, with a lateral and a prior film where there are any",
        response_model=schemas.Draft,
        responses={200: documents.answer("A draft, or an abstention with its reasons."),
                   **documents.problems(*failures, 413, 415)},
        openapi_extra={"requestBody": documents.DRAFT_BODY},
    )  # fmt: skip
    async def draft_report(request: Request) -> Response:
        """The film comes as the `film` part of a form, with the study's lateral as `lateral` and the patient's earlier frontal as
        `prior`, or alone as the body. Without a prior film nothing is said of any change.
        """
        state = _state(request)
        service = state["startup"].service()
        async with state["models"].admit() as ticket:
            asked, chosen = await _draft_request(request, settings)
            draft, text = await unless_gone(request.receive, ticket.run(lambda: _drafted(service, asked, chosen)))
        metrics.drafted(draft)
        if chosen is None:
            return JSONResponse(draft)
        return Response(text, media_type="text/plain" if chosen is Format.MAIRA_2 else "application/json")

    @router.post(
        "/search",
        summary="Find similar cases and guideline passages",
        response_model=schemas.SearchAnswer,
        responses={200: documents.answer("The nearest first."),
                   **documents.problems(*failures, 413, 415)},
        openapi_extra={"requestBody": documents.SEARCH_BODY},
    )  # fmt: skip
    async def search(request: Request) -> Response:
        """By a film, by a region of it, by words, or by film and words."""
        return await _answered(
            request, lambda: _search_request(request, settings), lambda service, asked: service.search(asked)
        )

    _add_querying(router, settings, failures)
    _add_steering(router, settings, failures)
    _add_explaining(router, settings, failures)
    _add_verifying(router, settings, failures)
    _add_cases(router, settings, failures)
    return router


def _add_cases(router: APIRouter, settings: ApiSettings, failures: tuple[int, ...]) -> None:
    @router.get(
        "/cases/{case_id}",
        summary="Read a cited case",
        response_model=schemas.Case,
        responses={200: documents.answer("The case."), **documents.problems(*failures, 404, 410)},
    )  # fmt: skip
    async def read_case(request: Request, case_id: UUID) -> Response:
        """By the id a citation gives."""
        state = _state(request)
        service = state["startup"].service()
        async with state["lookups"].admit() as ticket:
            case = await unless_gone(request.receive, ticket.run(lambda: service.case(case_id, settings.tenant)))
        return JSONResponse(schemas.Case.of(case).model_dump(mode="json"))


def _add_querying(router: APIRouter, settings: ApiSettings, failures: tuple[int, ...]) -> None:
    @router.post(
        "/query",
        summary="Ask a film by words, or point at it",
        response_model=schemas.QueryAnswer,
        responses={200: documents.answer("The answer, or the reasons why the film is turned away."),
                   **documents.problems(*failures, 413, 415)},
        openapi_extra={"requestBody": documents.QUERY_BODY},
    )  # fmt: skip
    async def query(request: Request) -> Response:
        """Where what is asked about lies, how likely it is there, and the cited sentence that answers; words that are about nothing
        on a chest film are answered with a reason.
        """
        return await _answered(
            request, lambda: _query_request(request, settings), lambda service, asked: service.query(asked)
        )


def _add_steering(router: APIRouter, settings: ApiSettings, failures: tuple[int, ...]) -> None:
    @router.post(
        "/explain/steer",
        summary="Move a film along a concept and see its findings change",
        response_model=schemas.SteerAnswer,
        responses={200: documents.answer("What changed, or the reasons why the film is turned away."),
                   **documents.problems(*failures, 413, 415)},
        openapi_extra={"requestBody": documents.STEER_BODY},
    )  # fmt: skip
    async def steer(request: Request) -> Response:
        """The concept by the index that a draft gives it; an unknown one is refused."""
        return await _answered(
            request,
            lambda: _steer_request(request, settings),
            lambda service, asked: service.steer(asked),
        )


def _add_verifying(router: APIRouter, settings: ApiSettings, failures: tuple[int, ...]) -> None:
    @router.post(
        "/verify",
        summary="Verify a draft or a report against the index",
        response_model=schemas.VerifyAnswer,
        responses={200: documents.answer("Every sentence with its verdict."), **documents.problems(*failures, 415)},
        openapi_extra={"requestBody": documents.VERIFY_BODY},
    )
    async def verify(request: Request) -> Response:
        """Nothing is written: citations are read again, evidence is looked for where there is none, faults are named."""
        return await _answered(
            request, lambda: _verify_request(request, settings), lambda service, asked: service.verify(asked)
        )


def _add_explaining(router: APIRouter, settings: ApiSettings, failures: tuple[int, ...]) -> None:
    @router.post(
        "/explain/finding",
        summary="Explain one finding of a film",
        response_model=schemas.ExplainAnswer,
        responses={200: documents.answer("Each method's answer, or the reasons why the film is turned away."),
                   **documents.problems(*failures, 413, 415)},
        openapi_extra={"requestBody": documents.EXPLAIN_BODY},
    )  # fmt: skip
    async def explain_finding(request: Request) -> Response:
        """Which parts of the film speak for it, by Grad-CAM, occlusion Shapley, LIME and the attention of the region query."""
        return await _answered(
            request,
            lambda: _explain_request(request, settings),
            lambda service, asked: service.explain(asked),
        )


async def _answered(
    request: Request, read: Callable[[], Awaitable[Asked]], use: Callable[[ReportService, Asked], Answer]
) -> Response:
    """What is asked is read, and the use case run, both behind the gate of the models."""
    state = _state(request)
    service = state["startup"].service()
    async with state["models"].admit() as ticket:
        asked = await read()
        answer = await unless_gone(request.receive, ticket.run(lambda: use(service, asked).to_json()))
    return JSONResponse(answer)


def operations(metrics: Metrics) -> APIRouter:
    """The routes that need no key: they tell nothing of any request."""
    router = APIRouter(tags=[OPERATIONS_TAG])

    @router.get("/", summary="Index", response_model=schemas.Index, responses=_OK)
    async def index() -> Response:
        """What is served here."""
        return JSONResponse(examples.INDEX)

    @router.get("/livez", summary="Is the process alive", response_model=schemas.Alive, responses=_OK)
    async def livez() -> Response:
        """Always 200 while the event loop turns."""
        return JSONResponse(examples.ALIVE)

    @router.get(
        "/readyz",
        summary="Can it work",
        response_model=schemas.Ready,
        responses={**_OK, 503: documents.not_ready()},
    )
    async def readyz(request: Request) -> Response:
        """200 when the service is built and every component is ok."""
        components = await _state(request)["startup"].components()
        if all(state == OK for state in components.values()):
            return JSONResponse({"status": "ready", "components": components})
        why = "not every component is ok"
        request_id = request_id_of(request.scope)
        headers = {"Retry-After": "2"}
        return Problem(503, NotReady.code, NotReady.title, why, request_id, headers=headers, components=components)

    @router.get(
        "/metrics",
        summary="Metrics",
        response_class=Response,
        responses={200: documents.answer("Prometheus text format 0.0.4.", "text/plain")},
    )
    async def expose() -> Response:
        """Counts and latencies."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router


def _state(request: Request[State]) -> ApiState:
    return cast(ApiState, request.scope["state"])


async def _no_query(request: Request) -> None:
    if request.url.query:
        raise BadRequest("this operation takes no query parameters")


def _drafted(service: ReportService, asked: DraftRequest, chosen: Format | None) -> tuple[dict[str, Any], str]:
    """A draft as JSON, and as text in the format that was chosen, "" where none was."""
    draft = service.draft(asked)
    return draft.to_json(), "" if chosen is None else service.written(asked, draft, chosen)


async def _draft_request(request: Request, settings: ApiSettings) -> tuple[DraftRequest, Format | None]:
    media_type = media_type_of(request)
    if media_type in RAW_FILMS:
        return DraftRequest(film=await read_raw(request, settings.max_upload_bytes), tenant=settings.tenant), None
    if media_type != FORM:
        raise UnsupportedUpload(f"accepted are {', '.join((FORM, *RAW_FILMS))}")
    form = await read_form(request, _DRAFT_FILMS, _DRAFT_TEXTS, settings.max_upload_bytes, _DRAFT_ASKED)
    if FILM_PART not in form.films:
        raise BadRequest("the form has no film part")
    given = form.texts.get
    asked = DraftRequest(
        form.films[FILM_PART],
        given("prompt", ""),
        given("indication", ""),
        settings.tenant,
        _patient(form, "patient"),
        lateral=form.films.get(LATERAL_PART),
        prior=form.films.get(PRIOR_PART),
        prior_report=given("prior_report", ""),
        technique=given("technique", ""),
        comparison=given("comparison", ""),
        boxes=read_boxes(given("box", "")),
        language=read_language(given("language", Language.EN)),
        prior_patient=_patient(form, "prior_patient"),
    )
    return asked, read_format(given("format", "json"))


def _patient(form: Form, name: str) -> tuple[str, str] | None:
    return read_patient(form.texts[name]) if name in form.texts else None


async def _verify_request(request: Request, settings: ApiSettings) -> VerifyRequest:
    if media_type_of(request) != JSON:
        raise UnsupportedUpload(f"accepted is {JSON}")
    return read_verify_request(await read_json(request), settings.tenant)


async def _search_request(request: Request, settings: ApiSettings) -> SearchRequest:
    if media_type_of(request) != FORM:
        raise UnsupportedUpload(f"accepted is {FORM}")
    form = await read_form(request, _SEARCH_FILMS, _SEARCH_TEXTS, settings.max_upload_bytes)
    film, text = form.films.get(FILM_PART), form.texts.get("text", "")
    region = read_region(form.texts["region"]) if "region" in form.texts else None
    same, diverse = _flag(form, "include_same"), _flag(form, "diverse")
    return SearchRequest(
        film,
        text,
        _finding(form),
        _limit(form),
        tenant=settings.tenant,
        region=region,
        include_same=same,
        diverse=diverse,
    )


async def _query_request(request: Request, settings: ApiSettings) -> QueryRequest:
    if media_type_of(request) != FORM:
        raise UnsupportedUpload(f"accepted is {FORM}")
    form = await read_form(request, _QUERY_FILMS, _QUERY_TEXTS, settings.max_upload_bytes)
    if FILM_PART not in form.films:
        raise BadRequest("the form has no film part")
    return QueryRequest(
        form.films[FILM_PART],
        form.texts.get("prompt", ""),
        read_region(form.texts["box"]) if "box" in form.texts else None,
        settings.tenant,
        _patient(form, "patient"),
        read_language(form.texts.get("language", Language.EN)),
    )


async def _steer_request(request: Request, settings: ApiSettings) -> SteerRequest:
    if media_type_of(request) != FORM:
        raise UnsupportedUpload(f"accepted is {FORM}")
    form = await read_form(request, _STEER_FILMS, _STEER_TEXTS, settings.max_upload_bytes)
    if FILM_PART not in form.films:
        raise BadRequest("the form has no film part")
    return SteerRequest(form.films[FILM_PART], _concept(form), _alpha(form))


async def _explain_request(request: Request, settings: ApiSettings) -> ExplainRequest:
    if media_type_of(request) != FORM:
        raise UnsupportedUpload(f"accepted is {FORM}")
    form = await read_form(request, _EXPLAIN_FILMS, _EXPLAIN_TEXTS, settings.max_upload_bytes)
    if FILM_PART not in form.films:
        raise BadRequest("the form has no film part")
    methods = read_methods(form.texts["methods"]) if "methods" in form.texts else ()
    return ExplainRequest(form.films[FILM_PART], form.texts.get("finding", ""), methods, _flag(form, "picture"))


def _concept(form: Form) -> int:
    given = form.texts.get("concept", "")
    if not (given.isascii() and given.isdecimal() and len(given) <= 6):
        raise BadRequest("concept must be the index of a concept")
    return int(given)


def _alpha(form: Form) -> float:
    given = form.texts.get("alpha", "1")
    if not _NUMBER.fullmatch(given):
        raise BadRequest("alpha must be a decimal number")
    return float(given)


def _finding(form: Form) -> str | None:
    finding = form.texts.get("finding")
    if finding is not None and finding not in FINDINGS:
        raise BadRequest(f"finding is not one of {', '.join(FINDINGS)}")
    return finding


def _flag(form: Form, name: str) -> bool:
    given = form.texts.get(name, "false")
    if given not in {"true", "false"}:
        raise BadRequest(f"{name} must be true or false")
    return given == "true"


def _limit(form: Form) -> int:
    given = form.texts.get("limit", "10")
    if not (given.isascii() and given.isdecimal() and len(given) <= 3):
        raise BadRequest(f"limit must be a whole number between 1 and {MAX_LIMIT}")
    return int(given)
