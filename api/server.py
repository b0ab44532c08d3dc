"""Uvicorn around the app: what the settings of the house become, and how it stops."""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn

from api.app import create_app
from api.logs import configure
from api.settings import ANY_HOST, LOOPBACK_HOSTS, ApiSettings, is_loopback

if TYPE_CHECKING:
    from api.ports import ReportService
    from rag_service.settings import Settings

_SWITCH_SECONDS: Final = 0.0005
"""Python's own 5 ms let two busy workers hold the event loop up: p99 of a refusal 79 ms, with this 21 ms (2 cores)."""


class Server(uvicorn.Server):
    """Uvicorn, but a second signal of any kind ends the wait for running requests."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: refuse and finish. Second: leave."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)


def api_settings(settings: Settings, host: str) -> ApiSettings:
    """The API's part of the settings; ValueError naming RAG_API_KEY when others could reach it without a key."""
    if settings.api_key is None and not is_loopback(host):
        raise ValueError(f"RAG_API_KEY must be set to listen on {host}, which other machines can reach (RAG_HOST)")
    return ApiSettings(
        workers=settings.workers,
        queue=settings.queue,
        deadline_seconds=settings.deadline_seconds,
        max_upload_bytes=settings.max_upload_mib * 2**20,
        api_key=settings.api_key,
        tenant=settings.tenant,
        # Without a key the Host header is what keeps a web page from reaching a loopback service by DNS rebinding.
        allowed_hosts=LOOPBACK_HOSTS if settings.api_key is None else (ANY_HOST,),
    )


def serve(settings: Settings, limits: ApiSettings, host: str, port: int) -> bool:
    """Serve until a signal; False when the socket could not be had."""
    configure()
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = Server(_config(settings, limits, host, port))
    try:
        server.run()
    except SystemExit:  # uvicorn's answer to an address in use, once it has logged it
        return False
    return server.started


def _config(settings: Settings, limits: ApiSettings, host: str, port: int) -> uvicorn.Config:
    def build() -> ReportService:
        from rag_service.wiring import build_service

        return build_service(settings)

    return uvicorn.Config(
        create_app(build, limits),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=int(limits.deadline_seconds) + 1,
    )
