"""A Qdrant server that fails: each way of failing becomes the error the contract names."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from uuid import UUID

import numpy as np
import pytest

from knowledge_base.errors import CollectionMissing, DiskLow, StoreError, StoreProtocolError, StoreUnavailable
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.server import ServerStore, connect
from knowledge_base.server_layout import Opened
from knowledge_base.store import Nearest, Point, Scope
from tests.integration.qdrant_stub import NOTHING_THERE, Answer, Server, collection_info, result

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
PUBLIC = Scope("public")
SOME_ID = UUID("11111111-1111-5111-8111-111111111111")


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def store(server: Server) -> Iterator[ServerStore]:
    """A store that believes its collection open."""
    connected = connect(server.url, read_seconds=1)
    connected._opened["cases"] = Opened(SCHEMA, MANIFEST, "cases")
    yield connected
    connected.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b"", StoreUnavailable),
        (500, b"broken", StoreUnavailable),
        (401, b"", StoreUnavailable),
        (403, b"", StoreUnavailable),
        (404, b"{}", CollectionMissing),
        (400, b"{}", StoreProtocolError),
        (500, b"Service internal error: No space left on device", DiskLow),
        (200, b"<html>a proxy's greeting</html>", StoreProtocolError),
        (200, b"\xff\xfe", StoreProtocolError),
        (200, b"{}", StoreProtocolError),
        (200, b'{"result": {"counted": 3}}', StoreProtocolError),
        (200, b'{"result": "three"}', StoreProtocolError),
    ],
)
def test_every_bad_answer_has_its_error(
    server: Server, store: ServerStore, status: int, body: bytes, error: type[StoreError]
) -> None:
    server.always(status, body)
    with pytest.raises(error) as caught:
        store.count("cases", PUBLIC)
    assert type(caught.value) is error
    assert "greeting" not in str(caught.value)
    assert not store.health().ready


def test_an_overloaded_store_says_when_to_come_back(server: Server, store: ServerStore) -> None:
    server.always(429, b'{"status": {"error": "slow down"}}', **{"Retry-After": "7"})
    with pytest.raises(StoreUnavailable) as caught:
        store.count("cases", PUBLIC)
    assert caught.value.retry_after_seconds == 7
    server.always(503, b"", **{"Retry-After": "9"})
    with pytest.raises(StoreUnavailable) as caught:
        store.count("cases", PUBLIC)
    assert caught.value.retry_after_seconds == 9


def test_a_read_is_asked_twice_and_a_write_once(server: Server, store: ServerStore) -> None:
    server.always(503)
    with pytest.raises(StoreUnavailable):
        store.count("cases", PUBLIC)
    assert server.asked == ["POST /collections/cases/points/count"] * 2
    server.asked.clear()
    with pytest.raises(StoreUnavailable):
        store.delete("cases", [SOME_ID], "public")
    assert server.asked == ["POST /collections/cases/points/delete"]


def test_one_passing_fault_is_not_noticed(server: Server, store: ServerStore) -> None:
    answers = iter([(502, {}, b""), (200, {}, result({"count": 3}))])
    server.answer = lambda method, path: next(answers)
    assert store.count("cases", PUBLIC) == 3


def test_a_slow_store_costs_one_budget(server: Server, store: ServerStore) -> None:
    def slow(method: str, path: str) -> Answer:
        time.sleep(1.5)
        return 200, {}, result({"count": 3})

    server.answer = slow
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.count("cases", PUBLIC)
    assert time.monotonic() - began < 1.4
    time.sleep(0.7)


def test_a_store_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = connect(f"http://127.0.0.1:{port}", read_seconds=1)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.open(SCHEMA, MANIFEST)
    assert store.health().reason == "the store does not answer"
    store.close()


def test_fewer_lists_or_vectors_than_asked_are_a_protocol_error(server: Server, store: ServerStore) -> None:
    server.always(200, result([]))
    with pytest.raises(StoreProtocolError, match="answered 0 of 1"):
        store.ranked("cases", [Nearest("text.mini@1", np.ones(6, np.float32), 3)], PUBLIC)
    record = {"id": str(SOME_ID), "payload": {}, "vector": {"text.mini@1": [1.0, 2.0]}}
    server.always(200, result({"points": [record], "next_page_offset": None}))
    with pytest.raises(StoreProtocolError, match=r"shape \(2,\)"):
        store.get("cases", [SOME_ID], PUBLIC, ["text.mini@1"])
    server.always(200, result({"points": [{**record, "id": 17}], "next_page_offset": None}))
    with pytest.raises(StoreProtocolError, match="no UUID"):
        store.ids("cases", PUBLIC)


def test_a_new_collection_is_made_with_its_layout_and_its_missing_indexes(server: Server) -> None:
    layout = {"schema": SCHEMA.as_json(), "manifest": MANIFEST.as_json()}
    made: list[str] = []

    def answer(method: str, path: str) -> Answer:
        if method == "PUT":
            made.append(path.split("?", maxsplit=1)[0])
            done = {"operation_id": 1, "status": "completed"}
            return 200, {}, result(True if path.startswith("/collections/cases?") else done)
        if path.endswith("/exists"):
            return 200, {}, result({"exists": bool(made)})
        if path in NOTHING_THERE:
            return 200, {}, result(NOTHING_THERE[path])
        return 200, {}, result(collection_info(layout, *(set(SCHEMA.payload_indexes) - {"tenant", "withdrawn"})))

    server.answer = answer
    store = connect(server.url, read_seconds=1)
    assert store.manifest("cases") is None
    store.open(SCHEMA, MANIFEST)
    assert made == ["/collections/cases", "/collections/cases/index", "/collections/cases/index"]
    assert store.manifest("cases") == MANIFEST
    store.close()


def test_another_process_that_makes_the_collection_first_is_no_error(server: Server) -> None:
    layout = {"schema": SCHEMA.as_json(), "manifest": MANIFEST.as_json()}
    tried: list[str] = []

    def answer(method: str, path: str) -> Answer:
        if method == "PUT":
            tried.append(path)
            return 409, {}, b"{}"
        if path.endswith("/exists"):
            return 200, {}, result({"exists": bool(tried)})
        if path in NOTHING_THERE:
            return 200, {}, result(NOTHING_THERE[path])
        return 200, {}, result(collection_info(layout, *SCHEMA.payload_indexes))

    server.answer = answer
    store = connect(server.url, read_seconds=1)
    store.open(SCHEMA, MANIFEST)
    assert len(tried) == 1
    store.close()


def test_a_collection_of_another_program_is_not_taken_over(server: Server) -> None:
    info = collection_info({"somebody": "else"})

    def answer(method: str, path: str) -> Answer:
        return 200, {}, result(NOTHING_THERE.get(path, {"exists": True} if path.endswith("/exists") else info))

    server.answer = answer
    store = connect(server.url, read_seconds=1)
    with pytest.raises(StoreProtocolError, match="was not made by this program"):
        store.open(SCHEMA, MANIFEST)
    assert all(line.startswith("GET") for line in server.asked)
    store.close()


def test_writes_wait_for_the_server_to_be_done(server: Server, store: ServerStore) -> None:
    seen: list[str] = []

    def answer(method: str, path: str) -> Answer:
        seen.append(f"{method} {path}")
        done = {"operation_id": 1, "status": "completed"}
        return 200, {}, result([] if method == "POST" else done)

    server.answer = answer
    point = Point(SOME_ID, {"text.mini@1": np.ones(6, np.float32)}, {}, {"tenant": "public"})
    store.upsert("cases", [point])
    assert seen == ["POST /collections/cases/points", "PUT /collections/cases/points?wait=true&timeout=60"]
