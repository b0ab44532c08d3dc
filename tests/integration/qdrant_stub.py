"""An HTTP server that stands in for Qdrant: it answers what a test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from knowledge_base.schema import CollectionSchema, IndexManifest

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """An HTTP server whose answers the test chooses."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str], Answer] = lambda method, path: (500, {}, b"")
        self.asked: list[str] = []
        self.start()

    def start(self, port: int = 0) -> None:
        """Listen at the port, or at one that is free."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append(f"{self.command} {self.path.split('?')[0]}")
                status, headers, body = outer.answer(self.command, self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                self.reply()

            def do_POST(self) -> None:
                self.reply()

            def do_PUT(self) -> None:
                self.reply()

            def log_message(self, *args: Any) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.02])
        self._thread.start()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._http.server_port

    def always(self, status: int, body: bytes = b"", **headers: str) -> None:
        """The same answer to everything."""
        self.answer = lambda method, path: (status, headers, body)

    def stop(self) -> None:
        """No longer listen."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def result(value: object) -> bytes:
    return json.dumps({"time": 0.0, "status": "ok", "result": value}).encode()


NOTHING_THERE = {"/aliases": {"aliases": []}, "/collections": {"collections": []}}


def collection_info(metadata: object, *indexed: str) -> dict[str, Any]:
    optimizer = {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 0}
    config = {
        "params": {},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {**optimizer, "flush_interval_sec": 5},
        "metadata": metadata,
    }
    indexes = {key: {"data_type": "keyword", "points": 0} for key in indexed}
    status = {"status": "green", "optimizer_status": "ok", "segments_count": 1}
    return {**status, "config": config, "payload_schema": indexes}


def holding_nothing(layouts: Sequence[tuple[CollectionSchema, IndexManifest]]) -> Callable[[str, str], Answer]:
    """The answers of a healthy server whose collections are empty."""
    described = {
        f"/collections/{schema.name}": collection_info(
            {"schema": schema.as_json(), "manifest": manifest.as_json()}, *schema.payload_indexes
        )
        for schema, manifest in layouts
    }
    endings = {
        "/exists": {"exists": True},
        "/points/count": {"count": 0},
        "/points/scroll": {"points": [], "next_page_offset": None},
        "/points/query/batch": [{"points": []}] * 2,
    }

    def answer(method: str, path: str) -> Answer:
        plain = path.split("?", maxsplit=1)[0]
        told: Any = NOTHING_THERE.get(plain, described.get(plain))
        ending = next((value for end, value in endings.items() if plain.endswith(end)), None)
        return 200, {}, result(told if told is not None else ending)

    return answer
