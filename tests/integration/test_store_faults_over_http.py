"""A store that fails behind the API: what a client is told, how soon, and that nothing needs a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from knowledge_base.audit import AuditedStore
from knowledge_base.audit_log import AuditLog, read_events
from knowledge_base.cases import to_point
from knowledge_base.forwarding import ForwardingStore
from knowledge_base.memory import MemoryStore
from knowledge_base.records import Case, case_id
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.server import connect
from knowledge_base.store import KnowledgeStore
from knowledge_base.withdrawals import MANIFEST as TOMBSTONES_MANIFEST
from knowledge_base.withdrawals import SCHEMA as TOMBSTONES
from knowledge_base.withdrawals import WithdrawalKeeper
from rag_service.reader import Reader
from rag_service.service import Memory, RadiographService, store_errors
from tests.integration.qdrant_stub import Answer, Server, holding_nothing, result

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
HEALTHY = holding_nothing([(SCHEMA, MANIFEST), (TOMBSTONES, TOMBSTONES_MANIFEST)])
WITHIN = 2.0
RECOVERED_WITHIN = 5.0


def service_over(store: KnowledgeStore) -> RadiographService:
    """A service that can look up cases; it reads no film."""
    parts: dict[str, Any] = dict.fromkeys(f.name for f in fields(Memory))
    memory = Memory(**{**parts, "store": store})
    return RadiographService(cast(Reader, None), memory)


@contextmanager
def serving(url: str) -> Iterator[TestClient]:
    def build() -> RadiographService:
        store = WithdrawalKeeper(connect(url))
        with store_errors():
            store.open(SCHEMA, MANIFEST)
        return service_over(store)

    with TestClient(create_app(build, ApiSettings()), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.answer = HEALTHY
    yield running
    running.stop()


def ready(client: TestClient) -> bool:
    return client.get("/readyz").status_code == 200


def wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def look_up(client: TestClient) -> Any:
    return client.get(f"/v1/cases/{uuid4()}")


def refused(answer: Any, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (503, 503, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert problem["request_id"]
    return problem


def timed(ask: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


def test_a_store_that_goes_away_is_503_at_once_and_is_found_again_without_a_restart(server: Server) -> None:
    with serving(server.url) as client:
        wait(lambda: ready(client), RECOVERED_WITHIN)
        assert look_up(client).status_code == 404
        server.stop()
        answer, seconds = timed(lambda: look_up(client))
        refused(answer, "store_unavailable")
        assert seconds <= WITHIN
        assert client.get("/livez").status_code == 200
        for _ in range(6):
            refused(look_up(client), "store_unavailable")
        state = client.get("/readyz")
        assert refused(state, "not_ready")["components"]["store"] != "ok"
        server.start(server.port)
        wait(lambda: ready(client), RECOVERED_WITHIN)
        assert look_up(client).status_code == 404


def test_a_store_that_is_away_at_the_start_is_waited_for(server: Server) -> None:
    server.always(503)
    with serving(server.url) as client:
        wait(lambda: client.get("/readyz").json()["components"] == {"service": "store_unavailable"}, 3.0)
        refused(look_up(client), "store_unavailable")
        server.always(200, b"<html>one moment please</html>")
        wait(lambda: client.get("/readyz").json()["components"] == {"service": "store_protocol"}, RECOVERED_WITHIN)
        server.answer = HEALTHY
        wait(lambda: ready(client), RECOVERED_WITHIN)
        assert look_up(client).status_code == 404


def test_a_slow_store_costs_one_budget_until_the_breaker_opens_and_then_nothing(server: Server) -> None:
    slow = True

    def dawdle(method: str, path: str) -> Answer:
        if slow and path.endswith("/points/scroll"):
            time.sleep(4.0)
        return HEALTHY(method, path)

    with serving(server.url) as client:
        wait(lambda: ready(client), RECOVERED_WITHIN)
        server.answer = dawdle
        answer, seconds = timed(lambda: look_up(client))
        refused(answer, "store_unavailable")
        assert seconds < 3.0
        server.always(503)
        for _ in range(3):
            refused(look_up(client), "store_unavailable")
        asked = len(server.asked)
        answer, seconds = timed(lambda: look_up(client))
        refused(answer, "store_unavailable")
        assert (seconds < 0.5, len(server.asked)) == (True, asked)
        slow = False
        server.answer = dawdle
        wait(lambda: look_up(client).status_code == 404, RECOVERED_WITHIN)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a proxy's greeting</html>",
        b"{}",
        result({"points": "many", "next_page_offset": None}),
        result({"points": [{"id": 17, "payload": {}}], "next_page_offset": None}),
    ],
    ids=["no JSON", "no result", "other schema", "foreign ids"],
)
def test_an_answer_that_cannot_be_read_is_store_protocol(server: Server, body: bytes) -> None:
    with serving(server.url) as client:
        wait(lambda: ready(client), RECOVERED_WITHIN)
        server.always(200, body)
        answer = look_up(client)
        assert refused(answer, "store_protocol")["detail"] == "the knowledge base's answer cannot be read"
        assert b"greeting" not in answer.content


def test_the_stores_own_retry_after_is_carried_on(server: Server) -> None:
    with serving(server.url) as client:
        wait(lambda: ready(client), RECOVERED_WITHIN)
        server.always(429, b'{"status": {"error": "slow down"}}', **{"Retry-After": "7"})
        answer = look_up(client)
        refused(answer, "store_unavailable")
        assert answer.headers["retry-after"] == "7"


def test_an_index_of_another_model_is_refused_with_the_command_that_brings_it_over(server: Server) -> None:
    server.answer = holding_nothing([(SCHEMA, replace(MANIFEST, box_model="box@0"))])
    with serving(server.url) as client:
        wait(lambda: client.get("/readyz").json()["components"] == {"service": "index_model_mismatch"}, 3.0)
        answer = look_up(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "index_model_mismatch")
        assert "`python -m indexer migrate`" in answer.json()["detail"]
        assert client.get("/livez").status_code == 200


class Counting(ForwardingStore):
    """Remembers which operations were asked for."""

    def __init__(self, inner: KnowledgeStore) -> None:
        super().__init__(inner)
        self.asked: list[tuple[str, str, int]] = []

    def get(self, collection: str, ids: Any, scope: Any, vectors: Any = ()) -> Any:
        """See `KnowledgeStore.get`."""
        self.asked.append(("get", collection, len(ids)))
        return super().get(collection, ids, scope, vectors)


@pytest.fixture
def counting() -> Counting:
    return Counting(MemoryStore())


@pytest.fixture
def client(counting: Counting, tmp_path: Path) -> Iterator[TestClient]:
    """Over a store with one public and one foreign case."""
    store = AuditedStore(WithdrawalKeeper(counting), AuditLog(tmp_path / "log"))
    store.open(SCHEMA, MANIFEST)
    for tenant in ("public", "isle"):
        store.upsert("cases", [to_point(Case("openi", "s1", "p1", "Edema.", (), tenant=tenant), SCHEMA)])
    with TestClient(create_app(lambda: service_over(store), ApiSettings()), base_url="http://127.0.0.1") as client:
        wait(lambda: ready(client), RECOVERED_WITHIN)
        counting.asked.clear()
        yield client


def told(answer: Any) -> tuple[int, dict[str, Any], set[str]]:
    """All that an answer tells but its request id."""
    problem = {k: v for k, v in answer.json().items() if k != "request_id"}
    return answer.status_code, problem, set(answer.headers)


def test_a_foreign_id_is_answered_like_an_absent_one_and_leaves_an_event(
    client: TestClient, counting: Counting, tmp_path: Path
) -> None:
    foreign, absent = case_id("openi", "s1", "isle"), uuid4()
    answers, work = [], []
    for guess in (foreign, absent):
        answers.append(client.get(f"/v1/cases/{guess}", headers={"x-request-id": f"guess-{guess}"}))
        work.append(list(counting.asked))
        counting.asked.clear()
    assert told(answers[0]) == told(answers[1])
    assert answers[0].status_code == 404
    assert work[0] == work[1] == [("get", "cases", 1), ("get", "withdrawals", 1)]
    events = [event for event, _ in read_events(tmp_path / "log")]
    assert [(e["outcome"], e["ids"], e["actor"], e["request"]) for e in events] == [
        ("absent", [str(guess)], "api", f"guess-{guess}") for guess in (foreign, absent)
    ]


def test_a_case_that_was_withdrawn_is_gone_for_those_who_could_see_it(client: TestClient, counting: Counting) -> None:
    public, foreign = (case_id("openi", "s1", tenant) for tenant in ("public", "isle"))
    assert client.get(f"/v1/cases/{public}").status_code == 200
    keeper = WithdrawalKeeper(counting)
    keeper.set_withdrawn("cases", [public], "public")
    keeper.set_withdrawn("cases", [foreign], "isle")
    for _ in range(2):
        assert gone(client, public)
        assert client.get(f"/v1/cases/{foreign}").status_code == 404
        keeper.delete("cases", [public], "public")


def gone(client: TestClient, identity: UUID) -> bool:
    answer = client.get(f"/v1/cases/{identity}")
    assert "Edema" not in answer.text
    return (answer.status_code, answer.json()["code"]) == (410, "case_withdrawn")
