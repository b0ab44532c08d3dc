"""The API over a service that answers from a can: what comes back, for every request and every fault."""

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
from knowledge_base.findings import Polarity
from knowledge_base.records import Case, CaseSentence, Mention
from rag_service.errors import Busy, IndexModelMismatch, NotFound, ServiceError, StoreUnavailable
from rag_service.report.draft import Draft, Provenance, SearchAnswer, SimilarCase, Status
from rag_service.requests import DraftRequest, SearchRequest

URL = "http://127.0.0.1"
CANARY = "DOE^JANE-19520314"
PROVENANCE = Provenance("m@1", "p@1", "i@1", "k@1", "t@1", 7, "ab" * 32)
DRAFT = Draft(Status.DRAFT, (), (), "No acute finding.", (), (), None, {"sentences": 1}, (), PROVENANCE)
ABSTAINED = Draft(Status.ABSTAINED, ("not_chest", CANARY), (), None, (), (), None, {}, (), PROVENANCE)
NEAR = SimilarCase("c-1", 0.5, None, ("Edema",), "Mild edema.", None)
TEXT = "Mild edema. No effusion."
CASE = Case(
    source="openi",
    study="CXR9",
    patient=CANARY,
    text=TEXT,
    sentences=(CaseSentence("Mild edema.", (0, 11), "findings", (Mention("Edema", Polarity.POSITIVE, (5, 10)),)),),
    view="PA",
    sex="F",
    age_years=71,
)


class Canned:
    """A service whose every answer a test sets."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.on_draft: Callable[[], Draft] = lambda: DRAFT
        self.components = {"models": "ok", "store": "ok"}
        self.record = CASE
        self.closed = 0

    def draft(self, request: DraftRequest) -> Draft:
        self.asked.append(request)
        return self.on_draft()

    def search(self, request: SearchRequest) -> SearchAnswer:
        self.asked.append(request)
        return SearchAnswer((NEAR,), (), (), PROVENANCE)

    def case(self, case_id: UUID, tenant: str) -> Case:
        if (case_id, tenant) != (CASE.id, "public"):
            raise NotFound("no such case")
        return self.record

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
    with serving(service, max_upload_bytes=1000) as client:
        yield client


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def film(content: bytes = b"film", name: str = "film.png") -> dict[str, Any]:
    return {"film": (name, content, "image/png")}


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem, once its shape is checked."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) - {"components"} == {"type", "title", "status", "code", "detail", "request_id"}
    assert problem["type"] == f"urn:problem-type:{code}"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["title"] and problem["detail"]
    return problem


def test_a_form_is_drafted(client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/reports", files=film(), data={"prompt": "胸水は？", "indication": "dyspnoea"})
    assert answer.status_code == 200
    assert answer.json() == DRAFT.to_json()
    assert service.asked == [DraftRequest(film=b"film", prompt="胸水は？", indication="dyspnoea")]


@pytest.mark.parametrize("kind", ["application/dicom", "image/png", "image/jpeg; quality=high"])
def test_a_film_alone_is_drafted(client: TestClient, service: Canned, kind: str) -> None:
    answer = client.post("/v1/reports", content=b"\x00film", headers={"content-type": kind})
    assert (answer.status_code, service.asked) == (200, [DraftRequest(film=b"\x00film")])


def test_an_abstention_is_an_answer(client: TestClient, service: Canned) -> None:
    service.on_draft = lambda: ABSTAINED
    answer = client.post("/v1/reports", files=film())
    assert (answer.status_code, answer.json()["status"], answer.json()["findings"]) == (200, "abstained", [])


def test_a_search_takes_film_words_finding_and_limit(client: TestClient, service: Canned) -> None:
    form = {"text": "edema", "finding": "Edema", "limit": "3"}
    answer = client.post("/v1/search", files=film(), data=form)
    assert answer.json()["cases"][0]["excerpt"] == "Mild edema."
    assert service.asked == [SearchRequest(film=b"film", text="edema", finding="Edema", limit=3)]


def test_a_case_is_shown_without_its_patient(client: TestClient) -> None:
    answer = client.get(f"/v1/cases/{CASE.id}")
    nothing_more = {"laterality": None, "location": None, "severity": None, "progression": None}
    mention = {"finding": "Edema", "polarity": "positive", "span": [5, 10], **nothing_more}
    assert answer.json() == {
        "id": "3ee27064-4fef-5e3d-aa2a-32f8f6b3abb4",
        "source": "openi",
        "study": "CXR9",
        "text": "Mild edema. No effusion.",
        "sentences": [{"text": "Mild edema.", "span": [0, 11], "section": "findings", "mentions": [mention]}],
        "labels": {"positive": ["Edema"], "uncertain": [], "negative": []},
        "view": "PA",
        "withdrawn": False,
    }


def test_of_a_withdrawn_case_only_its_identity_is_left(client: TestClient, service: Canned) -> None:
    service.record = Case("openi", "CXR9", CANARY, TEXT, CASE.sentences, view="PA", withdrawn=True)
    case = client.get(f"/v1/cases/{CASE.id}").json()
    assert (case["withdrawn"], case["text"], case["sentences"], case["view"]) == (True, None, [], None)
    assert case["labels"] == {"positive": [], "uncertain": [], "negative": []}


def leaves(kind: type[ServiceError]) -> list[type[ServiceError]]:
    below = kind.__subclasses__()
    return [kind, *(leaf for child in below for leaf in leaves(child))]


@pytest.mark.parametrize("kind", leaves(ServiceError), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_becomes_its_problem(client: TestClient, service: Canned, kind: Any) -> None:
    def fail() -> Draft:
        raise Busy(9) if kind is Busy else kind("what the caller may know")

    service.on_draft = fail
    answer = client.post("/v1/reports", files=film())
    problem = refused(answer, kind.status, kind.code)
    expected = "all workers are busy, try again in 9 s" if kind is Busy else "what the caller may know"
    assert (problem["title"], problem["detail"]) == (kind.title, expected)
    waits = {"busy": "9", "store_unavailable": "2", "not_ready": "2", "deadline_exceeded": "5"}
    assert answer.headers.get("retry-after") == waits.get(kind.code)


class PanicException(BaseException):
    """As pyo3 raises them."""


@pytest.mark.parametrize("error", [ValueError(CANARY), KeyError(CANARY), TimeoutError(CANARY), PanicException(CANARY)])
def test_any_other_error_is_internal_and_says_nothing(client: TestClient, service: Canned, error: Any) -> None:
    def fail() -> Draft:
        raise error

    service.on_draft = fail
    answer = client.post("/v1/reports", files=film())
    assert refused(answer, 500, "internal")["detail"] == "the failure is recorded under this request id"
    assert CANARY not in answer.text
    service.on_draft = lambda: DRAFT
    assert client.post("/v1/reports", files=film()).status_code == 200


def part(headers: str, body: str = "x") -> bytes:
    return f"--b\r\n{headers}\r\n\r\n{body}\r\n".encode("latin-1")


FILM = part('Content-Disposition: form-data; name="film"; filename="a.png"')
END = b"--b--\r\n"
PROMPT = 'Content-Disposition: form-data; name="prompt"'


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (part(PROMPT) + END, "the form has no film part"),
        (FILM + part(f'Content-Disposition: form-data; name="{CANARY}"') + END, "a part's name is not one of film, indication, prompt"),
        (FILM + part("Content-Type: text/plain") + END, "a part's name is not one of film, indication, prompt"),
        (FILM + FILM + END, "the part film is given more than once"),
        (part('Content-Disposition: form-data; name="film"', "") + END, "the film is empty"),
        (part(PROMPT + "\r\nContent-Transfer-Encoding: base64") + END, "the part prompt has a transfer encoding that is not read"),
        (FILM + part(PROMPT, "\xff") + END, "prompt is not UTF-8"),
        (FILM + part(PROMPT, "\x00") + END, "prompt holds characters that are no text"),
        (FILM + part(PROMPT, "a" * 4001) + END, "prompt is longer than 4000 characters"),
        (FILM + part(PROMPT, "a" * 16001) + END, "prompt is longer than 4000 characters"),
        (FILM, "the form is cut short"),
        (b"", "the form is cut short"),
        (b"no boundary here", "the form is malformed"),
    ],
    ids=range(13),
)  # fmt: skip
def test_a_wrong_form_is_told_why(client: TestClient, service: Canned, body: bytes, detail: str) -> None:
    answer = client.post("/v1/reports", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert refused(answer, 422, "bad_request")["detail"] == detail
    assert service.asked == []


@pytest.mark.parametrize(
    ("form", "detail"),
    [
        ({}, "a search needs a film, a text, or both"),
        ({"text": " "}, "a search needs a film, a text, or both"),
        ({"text": "x", "limit": "0"}, "limit must lie between 1 and 50"),
        ({"text": "x", "limit": "51"}, "limit must lie between 1 and 50"),
        ({"text": "x", "limit": "-1"}, "limit must be a whole number between 1 and 50"),
        ({"text": "x", "limit": "９"}, "limit must be a whole number between 1 and 50"),
        (
            {"text": "x", "finding": CANARY},
            "finding is not one of No Finding, Enlarged Cardiomediastinum, Cardiomegaly",
        ),
    ],
)
def test_a_wrong_search_is_told_why(client: TestClient, form: dict[str, str], detail: str) -> None:
    parts = {name: (None, text) for name, text in form.items()} or {"finding": (None, "Edema")}
    problem = refused(client.post("/v1/search", files=parts), 422, "bad_request")
    assert problem["detail"].startswith(detail)
    assert CANARY not in problem["detail"]


def test_what_is_no_film_body_is_refused_by_its_media_type(client: TestClient) -> None:
    for kind in ("application/json", "image/gif", ""):
        answer = client.post("/v1/reports", content=b"x", headers={"content-type": kind})
        detail = "accepted are multipart/form-data, application/dicom, image/png, image/jpeg"
        assert refused(answer, 415, "unsupported_media_type")["detail"] == detail
    refused(
        client.post("/v1/search", content=b"x", headers={"content-type": "image/png"}), 415, "unsupported_media_type"
    )
    packed = {"content-type": "image/png", "content-encoding": "gzip"}
    refused(client.post("/v1/reports", content=b"x", headers=packed), 415, "unsupported_media_type")
    empty = client.post("/v1/reports", content=b"", headers={"content-type": "image/png"})
    assert refused(empty, 422, "bad_request")["detail"] == "the film is empty"
    unbounded = client.post("/v1/reports", content=b"x", headers={"content-type": "multipart/form-data"})
    refused(unbounded, 422, "bad_request")


def test_a_film_over_the_limit_is_refused_however_it_comes(client: TestClient, service: Canned) -> None:
    png = {"content-type": "image/png"}
    assert client.post("/v1/reports", content=b"x" * 1000, headers=png).status_code == 200
    service.asked.clear()
    answers = [
        client.post("/v1/reports", content=b"x" * 1001, headers=png),
        client.post("/v1/reports", content=iter([b"x" * 600] * 2), headers=png),
        client.post("/v1/reports", files=film(b"x" * 1001)),
        client.post("/v1/search", files=film(b"x" * 200_000)),
    ]
    for answer in answers:
        assert refused(answer, 413, "film_too_large")["detail"] == "at most 1000 bytes are accepted"
    assert service.asked == []


def test_paths_methods_and_ids_that_are_none(client: TestClient) -> None:
    refused(client.get(f"/v1/{CANARY}"), 404, "not_found")
    refused(client.get("/v1/reports/"), 404, "not_found")
    assert refused(client.get(f"/v1/cases/{uuid4()}"), 404, "not_found")["detail"] == "no such case"
    assert refused(client.get(f"/v1/cases/{CANARY}"), 422, "bad_request")["detail"] == "not acceptable: path.case_id"
    answer = client.delete("/v1/reports")
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    query = client.post(f"/v1/reports?prompt={CANARY}", files=film())
    assert refused(query, 422, "bad_request")["detail"] == "this operation takes no query parameters"
    refused(client.get("/livez", headers={"host": "evil.example:8000"}), 400, "bad_host")
    assert client.get("/livez", headers={"host": "[::1]:8000"}).status_code == 200


def test_the_request_id_is_kept_if_it_is_one(client: TestClient) -> None:
    assert client.get("/livez", headers={"x-request-id": "a-Z_0.9"}).headers["x-request-id"] == "a-Z_0.9"
    for bad in ("a" * 65, "a b", "a/b", ""):
        given = client.get("/livez", headers={"x-request-id": bad}).headers["x-request-id"]
        assert len(given) == 32 and int(given, 16) >= 0


def test_every_answer_has_the_security_headers_and_none_of_cors(client: TestClient) -> None:
    for path in ("/", "/v1/reports", "/nowhere", f"/v1/cases/{CASE.id}"):
        headers = client.get(path, headers={"origin": "http://evil.example"}).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert not [name for name in headers if name.startswith("access-control-")]


def test_beyond_workers_and_queue_a_request_is_refused_at_once(service: Canned) -> None:
    go = threading.Event()
    service.on_draft = lambda: DRAFT if go.wait(5) else ABSTAINED
    statuses: list[int] = []
    with serving(service, workers=1, queue=1) as client:
        post = lambda: statuses.append(client.post("/v1/reports", files=film()).status_code)  # noqa: E731
        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait(lambda: 'rag_gate_waiting{gate="models"} 1.0' in client.get("/metrics").text)
        answer = client.post("/v1/reports", files=film())
        refused(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get(f"/v1/cases/{CASE.id}").status_code == 200  # what only asks the store has a gate of its own
        go.set()
        for thread in threads:
            thread.join()
        assert 'rag_gate_rejected_total{gate="models"} 1.0' in client.get("/metrics").text
    assert (statuses, service.closed) == ([200, 200], 1)


def test_past_the_deadline_the_answer_is_503(service: Canned) -> None:
    go = threading.Event()
    service.on_draft = lambda: DRAFT if go.wait(5) else ABSTAINED
    with serving(service, deadline_seconds=0.05) as client:
        answer = client.post("/v1/reports", files=film())
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
        answer = client.post("/v1/reports", files=film())
        refused(answer, 503, "not_ready")
        assert answer.headers["retry-after"] == "2"
        go.set()
        wait(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json() == {"status": "ready", "components": {"models": "ok", "store": "ok"}}
        assert client.post("/v1/reports", files=film()).status_code == 200
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
        answer = client.get(f"/v1/cases/{CASE.id}")
        refused(answer, 503, code)
        assert CANARY not in answer.text
        assert client.get("/livez").status_code == 200


def test_metrics_count_requests_drafts_and_reasons(client: TestClient, service: Canned) -> None:
    client.post("/v1/reports", files=film())
    service.on_draft = lambda: ABSTAINED
    client.post("/v1/reports", files=film())
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
        client.post("/v1/reports", files=film(CANARY.encode(), f"{CANARY}.dcm"), data={"prompt": CANARY}),
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
