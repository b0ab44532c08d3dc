"""`python -m api`: serve on 127.0.0.1:8000, or where RAG_HOST and RAG_PORT or the options say.

Kept light: the store's and the decoder's child processes import this module again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal. Exit codes: 0 stopped, 1 could not listen, 2 refused to start (the setting is named)."""
    from api.server import api_settings, serve
    from rag_service.settings import load

    options = _parser().parse_args(arguments)
    try:
        settings = load()
        host, port = options.host or settings.host, options.port or settings.port
        limits = api_settings(settings, host)
    except ValueError as refusal:
        print(f"api: {refusal}", file=sys.stderr)
        return USAGE
    return OK if serve(settings, limits, host, port) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the report drafts over HTTP.")
    parser.add_argument("--host", help="address to listen on (default: RAG_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=_port, help="port to listen on (default: RAG_PORT or 8000)")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port lies between 1 and 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
