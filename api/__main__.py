"""`python -m api`: serve on 127.0.0.1:8000, or where RAG_HOST and RAG_PORT or the options say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn

from api.app import create_app
from api.logs import configure
from api.ports import ReportService
from api.settings import ANY_HOST, LOOPBACK_HOSTS, ApiSettings, is_loopback

if TYPE_CHECKING:
    from rag_service.settings import Settings

USAGE: Final = 2


class Server(uvicorn.Server):
    """Uvicorn, but a second signal of any kind ends the wait for running requests."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: refuse and finish. Second: leave."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal. Exit codes: 0 stopped, 1 could not listen, 2 refused to start (the setting is named)."""
    from rag_service.settings import load

    options = _parser().parse_args(arguments)
    try:
        settings = load()
        host, port = options.host or settings.host, options.port or settings.port
        limits = api_settings(settings, host)
    except ValueError as refusal:
        print(f"api: {refusal}", file=sys.stderr)
        return USAGE
    configure()
    server = Server(_config(settings, limits, host, port))
    server.run()
    return 0 if server.started else 1


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
        # Without a key the Host header is what keeps a web page from reaching a loopback service by DNS rebinding.
        allowed_hosts=LOOPBACK_HOSTS if settings.api_key is None else (ANY_HOST,),
    )


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the report drafts over HTTP.")
    parser.add_argument("--host", help="address to listen on (default: RAG_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: RAG_PORT or 8000)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
