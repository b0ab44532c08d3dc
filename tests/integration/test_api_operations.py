"""The API under load, at its start and end, and what it writes down: over a service that answers from a can."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.logs import JsonFormatter
from api.settings import ApiSettings
from knowledge_base.records import Case
from rag_service.errors import IndexModelMismatch, NotFound, StoreUnavailable
from rag_service.report.draft import Draft, Provenance, SearchAnswer, Status
from rag_service.requests import DraftRequest, SearchRequest

URL = "http://127.0.0.1"
CANARY = "DOE^JANE-19520314"
PROVENANCE = Provenance("m@1", "p@1", "i@1", "k@1", "t@1", 7, "ab" * 32)
DRAFT = Draft(Status.DRAFT, (), (), "No acute finding.", (), (), None, {}, (), PROVENANCE)
ABSTAINED = Draft(Status.ABSTAINED, ("not_chest", CANARY), (), None, (), (), None, {}, (), PROVENANCE)
FILM = {"film": ("film.png", b"film", "image/png")}


class Canned:
    """A service whose drafts and readiness a test sets; it holds no case."""

    def __init__(self) -> None:
        self.asked: list[DraftRequest] = []
        self.on_draft: Callable[[], Draft] = lambda: DRAFT
        self.components = {"models": "ok", "store": "ok"}
        self.closed = 0

    def draft(self, request: DraftRequest) -> Draft:
        self.asked.append(request)
        return self.on_draft()

    def search(self, request: SearchRequest) -> SearchAnswer:
        return SearchAnswer((), (), (), PROVENANCE)

    def case(self, case_id: UUID, tenant: str) -> Case:
        raise NotFound("no such case")

    def readiness(self) -> dict[str, str]:
        return self.components

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def service() -> Canned:
    return Canned()


@contextmanager
def serving(service: Canned, **settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: service, ApiSettings(**settings)), base_url=URL) as client:
        wait(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def client(service: Canned) -> Iterator[TestClient]:
    with serving(service) as client:
        yield client


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem, once its status and code are checked (its shape is in test_api.py)."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    return problem


def test_beyond_workers_and_queue_a_request_is_refused_at_once(service: Canned) -> None:
    go = threading.Event()
    service.on_draft = lambda: DRAFT if go.wait(5) else ABSTAINED
    statuses: list[int] = []
    with serving(service, workers=1, queue=1) as client:

        def post() -> None:
            statuses.append(client.post("/v1/reports", files=FILM).status_code)

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait(lambda: 'rag_gate_waiting{gate="models"} 1.0' in client.get("/metrics").text)
        answer = client.post("/v1/reports", files=FILM)
        refused(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get(f"/v1/cases/{uuid4()}").status_code == 404  # what only asks the store has a gate of its own
        go.set()
        for thread in threads:
            thread.join()
        assert 'rag_gate_rejected_total{gate="models"} 1.0' in client.get("/metrics").text
    assert (statuses, service.closed) == ([200, 200], 1)


def test_past_the_deadline_the_answer_is_503(service: Canned) -> None:
    go = threading.Event()
    service.on_draft = lambda: DRAFT if go.wait(5) else ABSTAINED
    with serving(service, deadline_seconds=0.05) as client:
        answer = client.post("/v1/reports", files=FILM)
        assert refused(answer, 503, "deadline_exceeded")["detail"] == "not answered within 0.05 s"
        assert answer.headers["retry-after"] == "5"
        go.set()


def test_alive_at_once_and_ready_once_built(service: Canned) -> None:
    go, built = threading.Event(), []

    def build() -> Canned:
        go.wait(5)
        built.append(True)
        return service

    with TestClient(create_app(build, ApiSettings()), base_url=URL) as client:
        assert client.get("/livez").json() == {"status": "alive"}
        assert refused(client.get("/readyz"), 503, "not_ready")["components"] == {"service": "not_ready"}
        answer = client.post("/v1/reports", files=FILM)
        refused(answer, 503, "not_ready")
        assert answer.headers["retry-after"] == "2"
        go.set()
        wait(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json() == {"status": "ready", "components": {"models": "ok", "store": "ok"}}
        assert client.post("/v1/reports", files=FILM).status_code == 200
        service.components = {"models": "ok", "store": "store_unavailable"}
        assert refused(client.get("/readyz"), 503, "not_ready")["components"]["store"] == "store_unavailable"
        service.components = {"models": CANARY}
        assert CANARY not in client.get("/readyz").text
    assert (built, service.closed) == ([True], 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IndexModelMismatch("run python -m indexer migrate"), "index_model_mismatch"),
        (StoreUnavailable("the store does not answer"), "store_unavailable"),
        (ValueError(CANARY), "not_ready"),
    ],
)
def test_a_service_that_cannot_be_built_says_why(error: Exception, code: str) -> None:
    def build() -> Canned:
        raise error

    with TestClient(create_app(build, ApiSettings()), base_url=URL) as client:
        wait(lambda: client.get("/readyz").json()["components"] == {"service": code})
        answer = client.get(f"/v1/cases/{uuid4()}")
        refused(answer, 503, code)
        assert CANARY not in answer.text
        assert client.get("/livez").status_code == 200


def test_metrics_count_requests_drafts_and_reasons(client: TestClient, service: Canned) -> None:
    client.post("/v1/reports", files=FILM)
    service.on_draft = lambda: ABSTAINED
    client.post("/v1/reports", files=FILM)
    client.get(f"/nowhere/{CANARY}")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'rag_http_requests_total{method="POST",route="/v1/reports",status="200"} 2.0',
        'rag_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'rag_http_seconds_count{route="/v1/reports"} 2.0',
        'rag_drafts_total{status="draft"} 1.0',
        'rag_drafts_total{status="abstained"} 1.0',
        'rag_abstained_total{reason="not_chest"} 1.0',
        'rag_abstained_total{reason="other"} 1.0',
        'rag_gate_running{gate="models"} 0.0',
    ):
        assert line in lines


def test_the_access_log_has_these_fields_and_no_others(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rag.access")
    client.get(f"/v1/cases/{uuid4()}", headers={"x-request-id": "id-1"})
    fields = [record.fields for record in caplog.records if record.name == "rag.access"][-1]  # type: ignore[attr-defined]
    assert 0 < fields.pop("milliseconds") < 5000
    assert 100 < fields.pop("bytes") < 400
    route = "/v1/cases/{case_id}"
    assert fields == {"request_id": "id-1", "method": "GET", "route": route, "status": 404, "code": "not_found"}


def test_no_canary_reaches_a_log_a_metric_or_an_error(
    client: TestClient, service: Canned, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Draft:
        raise RuntimeError(CANARY)

    caplog.set_level(logging.DEBUG)
    service.on_draft = fail
    answers = [
        client.post("/v1/reports", files={"film": (f"{CANARY}.dcm", CANARY.encode())}, data={"prompt": CANARY}),
        client.post("/v1/search", files={CANARY: (CANARY, b"x")}),
        client.post("/v1/search", data={"text": "x"}, files={"limit": (None, CANARY)}),
        client.post(f"/v1/search?name={CANARY}", data={"text": "x"}),
        client.get(f"/v1/cases/{CANARY}", headers={"x-patient": CANARY, "authorization": CANARY}),
        client.request(CANARY.replace("^", "-"), "/v1/reports"),
        client.get("/", headers={"host": CANARY}),
    ]
    logged = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    assert [answer.status_code for answer in answers] == [500, 422, 422, 422, 422, 405, 400]
    assert '"error": "RuntimeError"' in logged
    for text in (logged, client.get("/metrics").text, *(answer.text for answer in answers)):
        assert "DOE" not in text


def test_a_client_that_leaves_frees_its_place_in_the_queue(service: Canned) -> None:
    go = threading.Event()
    service.on_draft = lambda: DRAFT if go.wait(5) else ABSTAINED
    app = create_app(lambda: service, ApiSettings(workers=1, queue=1))
    png = [(b"host", b"localhost"), (b"content-type", b"image/png")]
    scope = {"type": "http", "method": "POST", "path": "/v1/reports", "headers": png, "query_string": b""}

    async def post(state: Any, gone: asyncio.Event) -> list[Any]:
        body, sent = [{"type": "http.request", "body": b"film", "more_body": False}], []

        async def receive() -> Any:
            return body.pop() if body else await gone.wait() and {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await app({**scope, "state": dict(state)}, receive, send)
        return [message["status"] for message in sent if "status" in message]

    async def scenario() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            while (await state["startup"].components()) != service.components:
                await asyncio.sleep(0.005)
            gone, staying = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(post(state, staying))
            second = asyncio.create_task(post(state, gone))
            await asyncio.sleep(0.05)
            assert await post(state, staying) == [429]
            gone.set()
            assert await second == []  # nobody is there to be answered
            third = asyncio.create_task(post(state, staying))
            await asyncio.sleep(0.05)
            go.set()
            assert (await first, await third) == ([200], [200])
            assert len(service.asked) == 2

    asyncio.run(scenario())
