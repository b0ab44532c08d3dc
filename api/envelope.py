"""The envelope of every exchange: request id, host check, security headers, access log, metrics, last error handler."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BadHost
from api.logs import Access, log_access, log_failure
from api.metrics import Metrics
from api.problems import REQUEST_ID_HEADER, new_or_given_request_id, problem_for
from api.settings import ANY_HOST
from knowledge_base.audit import asking
from rag_service.errors import ServiceError

CLIENT_LEFT: Final = 499
"""Status recorded when nobody is there to be answered (nginx's convention)."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass
class _Exchange:
    """What has been answered so far."""

    request_id: str
    began: float = field(default_factory=time.perf_counter)
    status: int | None = None
    bytes: int = 0
    seconds: float | None = None


class Envelope:
    """ASGI middleware around everything else; nothing raised inside it reaches the server's own log."""

    def __init__(self, app: ASGIApp, metrics: Metrics, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._metrics = metrics
        self._allowed_hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on, and write it down once it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(new_or_given_request_id(scope["headers"]))
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        try:
            with asking("api", exchange.request_id):
                await self._answer(scope, receive, _observed(send, exchange), exchange)
        finally:
            self._record(scope, exchange)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: _Exchange) -> None:
        try:
            self._check_host(scope)
            await self._app(scope, receive, send)
        except ClientDisconnect:
            exchange.status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 (the last handler)
            if not isinstance(error, ServiceError):
                log_failure(error, exchange.request_id)
            scope["state"]["code"] = getattr(error, "code", "internal")
            if exchange.status is None:
                await problem_for(error, exchange.request_id)(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        if ANY_HOST in self._allowed_hosts:
            return
        host = Headers(scope=scope).get("host", "")
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name.lower() not in self._allowed_hosts:
            raise BadHost("this service does not answer to the Host given")

    def _record(self, scope: Scope, exchange: _Exchange) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        seconds = time.perf_counter() - exchange.began if exchange.seconds is None else exchange.seconds
        status = CLIENT_LEFT if exchange.status is None else exchange.status
        self._metrics.answered(method, route, status, seconds)
        code = scope["state"].get("code")
        milliseconds = round(seconds * 1000, 3)
        log_access(Access(exchange.request_id, method, route, status, milliseconds, exchange.bytes, code))


def _observed(send: Send, exchange: _Exchange) -> Send:
    """`send` that adds the envelope's headers to the answer and counts it."""

    async def observed(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_HEADER] = exchange.request_id
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body":
            exchange.bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                exchange.seconds = time.perf_counter() - exchange.began
        await send(message)

    return observed
