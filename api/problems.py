"""Every error as RFC 9457 application/problem+json: one table, one handler, no `str(exc)` but of our own tree."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.errors import DeadlineExceeded, NotReady, Unauthorised
from rag_service.errors import ServiceError, StoreProtocol

MEDIA_TYPE: Final = "application/problem+json"
REQUEST_ID_HEADER: Final = "x-request-id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9\-_.]{1,64}")
_RETRY_AFTER_SECONDS: Final[Mapping[type[ServiceError], int]] = {StoreProtocol: 2, NotReady: 2, DeadlineExceeded: 5}
_FRAMEWORK: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("malformed_request", "The request cannot be read", "the request is not well-formed HTTP"),
    404: ("not_found", "Not found", "nothing is served at this path"),
    405: ("method_not_allowed", "Method not allowed", "the Allow header lists the methods of this path"),
    413: ("film_too_large", "The film is too large", "the body is larger than this service accepts"),
    415: ("unsupported_media_type", "This media type is not accepted", "the body's media type is not accepted"),
    422: ("bad_request", "The request is not acceptable", "the request is not acceptable"),
}
"""Status of an error the framework raises -> code, title, detail; its own text is not passed on."""
_INTERNAL: Final = ("internal", "The service failed", "the failure is recorded under this request id")


class Problem(JSONResponse):
    """One problem: `code` is stable, `type` is derived from it, `detail` is fit for the client."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        request_id: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        body = {"type": f"urn:problem-type:{code}", "title": title, "status": status, "code": code}
        super().__init__({**body, "detail": detail, "request_id": request_id, **extensions}, status, headers)


def problem_for(error: Exception, request_id: str) -> Problem:
    """The answer to an error of any kind; only a `ServiceError` speaks for itself."""
    if isinstance(error, ServiceError):
        headers = _headers(error)
        return Problem(error.status, error.code, error.title, str(error) or error.title, request_id, headers=headers)
    if isinstance(error, RequestValidationError):
        code, title, _ = _FRAMEWORK[422]
        return Problem(422, code, title, _places(error), request_id)
    if isinstance(error, HTTPException):
        code, title, detail = _FRAMEWORK.get(error.status_code, (f"http_{error.status_code}", "Refused", "refused"))
        return Problem(error.status_code, code, title, detail, request_id, headers=error.headers)
    return Problem(500, *_INTERNAL, request_id)


def new_or_given_request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The client's X-Request-ID where it is 1 to 64 of A-Z a-z 0-9 - _ . and nothing else, or a new one."""
    given = [value.decode("latin-1") for name, value in headers if name == REQUEST_ID_HEADER.encode()]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid4().hex


def request_id_of(scope: MutableMapping[str, Any]) -> str:
    """The id the envelope gave this request."""
    return str(scope["state"]["request_id"])


def add_handlers(app: FastAPI) -> None:
    """Answer every error raised behind the router; what no handler knows is left to the envelope."""
    for kind in (ServiceError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_for(error, request_id_of(request.scope))
    if isinstance(error, ServiceError):
        request.scope["state"]["code"] = error.code
    return problem


def _headers(error: ServiceError) -> dict[str, str]:
    if isinstance(error, Unauthorised):
        return {"WWW-Authenticate": 'Bearer realm="reports"'}
    seconds = getattr(error, "retry_after_seconds", _RETRY_AFTER_SECONDS.get(type(error)))
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _places(error: RequestValidationError) -> str:
    """Which declared parameters are at fault, by our own names for them; never what was sent."""
    names = sorted({".".join(str(step) for step in fault["loc"][:2]) for fault in error.errors()})
    return f"not acceptable: {', '.join(names)}"
