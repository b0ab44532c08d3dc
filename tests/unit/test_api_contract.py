"""The API's promises that need no request answered: schemas, examples, keys, start and log lines."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
import signal
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest
import uvicorn
from pydantic import BaseModel
from starlette.routing import Route
from starlette.testclient import TestClient

from api import __main__ as entry
from api import documents, schemas
from api.app import create_app
from api.logs import JsonFormatter, configure
from api.server import Server, api_settings
from api.settings import ApiSettings, is_loopback
from api.startup import Startup
from knowledge_base.records import CaseSentence, Mention
from rag_service.errors import StoreUnavailable
from rag_service.report.draft import Draft, QueryAnswer, SearchAnswer, Status, SteerAnswer
from rag_service.report.explained import ExplainAnswer
from rag_service.settings import Settings
from rag_service.verifying import VerifyAnswer

KEY = "a-key-of-24-characters-x"
OPEN = {("GET", path) for path in ("/", "/livez", "/readyz", "/metrics", "/openapi.json")}
CANARY = "DOE^JANE-19520314"


def never_built() -> Any:
    raise StoreUnavailable("the store does not answer")


def app(**settings: Any) -> Any:
    return create_app(never_built, ApiSettings(allowed_hosts=("testserver",), **settings))


def routes(of: Any) -> Iterator[tuple[str, str]]:
    """(method, path template) of every route, in the schema or not, however deep its router lies."""
    for route in of.routes:
        if isinstance(route, Route):
            yield from ((method, route.path) for method in sorted((route.methods or set()) - {"HEAD"}))
        else:
            yield from routes(route.original_router)


def dataclasses_in(kind: Any) -> set[Any]:
    """Every dataclass a type mentions, itself included."""
    found: set[Any] = {kind} if dataclasses.is_dataclass(kind) else set()
    inner = typing.get_type_hints(kind).values() if found else typing.get_args(kind)
    return found.union(*(dataclasses_in(each) for each in inner)) if inner else found


ANSWERED: set[Any] = set().union(
    *map(dataclasses_in, (Draft, SearchAnswer, QueryAnswer, SteerAnswer, ExplainAnswer, VerifyAnswer)),
    {CaseSentence, Mention},
)


@pytest.mark.parametrize("kind", sorted(ANSWERED, key=str), ids=str)
def test_a_schema_has_its_dataclass_fields_and_what_may_be_none(kind: Any) -> None:
    schema: type[BaseModel] = getattr(schemas, kind.__name__)
    hints = typing.get_type_hints(kind)
    assert list(schema.model_fields) == [field.name for field in dataclasses.fields(kind)]
    for name, field in schema.model_fields.items():
        ours, theirs = field.annotation, hints[name]
        assert (type(None) in typing.get_args(ours)) == (isinstance(theirs, UnionType)), name


def test_the_words_of_a_status_are_the_draft_s() -> None:
    assert list(typing.get_args(schemas.Draft.model_fields["status"].annotation)) == [str(word) for word in Status]


def test_a_case_is_described_without_patient_sex_age_or_tenant() -> None:
    assert list(schemas.Case.model_fields) == [
        "id", "source", "study", "text", "sentences", "labels", "view",
    ]  # fmt: skip


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = app(api_key=KEY).openapi()["paths"]
    return [(method, path, operation) for path, item in paths.items() for method, operation in item.items()]


@pytest.mark.parametrize(("method", "path", "operation"), operations(), ids=lambda value: str(value)[:30])
def test_every_operation_has_examples_that_fit_their_schemas(method: str, path: str, operation: dict[str, Any]) -> None:
    assert all(operation[name] for name in ("tags", "summary", "description"))
    for status, answer in operation["responses"].items():
        for media_type, content in answer["content"].items():
            assert media_type == ("application/problem+json" if status >= "4" else media_type)
            if path == "/metrics":
                assert content["example"].endswith("\n")
                continue
            model = getattr(schemas, content["schema"]["$ref"].rpartition("/")[2])
            assert model.model_validate(content["example"]).model_dump(mode="json") == content["example"]
            assert str(content["example"].get("status", status)) in {status, "draft", "alive", "ready"}


def test_quotes_of_the_examples_are_as_long_as_their_spans() -> None:
    answers = [operation["responses"]["200"]["content"] for _, path, operation in operations() if "/v1" in path]
    text = json.dumps(answers)
    citations = [c for c in json.JSONDecoder().decode(text) for c in nested(c) if "quote" in c and "span" in c]
    assert len(citations) == 6
    assert all(c["span"][1] - c["span"][0] == len(c["quote"]) for c in citations)


def nested(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nested(inner)


@pytest.mark.parametrize(
    "body",
    [documents.DRAFT_BODY, documents.SEARCH_BODY, documents.QUERY_BODY, documents.STEER_BODY, documents.EXPLAIN_BODY],
)
def test_a_form_example_has_only_declared_parts(body: dict[str, Any]) -> None:
    form = body["content"]["multipart/form-data"]
    assert set(form["example"]) <= set(form["schema"]["properties"])
    assert set(form["schema"].get("required", [])) <= set(form["example"])


def test_what_is_declared_as_an_answer() -> None:
    declared = {f"{method} {path}": sorted(operation["responses"]) for method, path, operation in operations()}
    assert declared == {
        "post /v1/reports": ["200", "401", "413", "415", "422", "429", "500", "503"],
        "post /v1/search": ["200", "401", "413", "415", "422", "429", "500", "503"],
        "post /v1/query": ["200", "401", "413", "415", "422", "429", "500", "503"],
        "post /v1/verify": ["200", "401", "415", "422", "429", "500", "503"],
        "post /v1/explain/steer": ["200", "401", "413", "415", "422", "429", "500", "503"],
        "post /v1/explain/finding": ["200", "401", "413", "415", "422", "429", "500", "503"],
        "get /v1/cases/{case_id}": ["200", "401", "404", "410", "422", "429", "500", "503"],
        "get /": ["200"],
        "get /livez": ["200"],
        "get /readyz": ["200", "503"],
        "get /metrics": ["200"],
    }
    security = {path: operation.get("security") for _, path, operation in operations()}
    assert security["/v1/reports"] == [{"bearer": []}, {"header": []}]
    assert security["/livez"] is None
    assert "securitySchemes" not in app().openapi()["components"]


CREDENTIALS: dict[str, dict[str, str]] = {
    "none": {},
    "wrong bearer": {"authorization": "Bearer not-the-key-but-as-long"},
    "wrong header": {"x-api-key": "not-the-key"},
    "a prefix of the key": {"authorization": f"Bearer {KEY[:-1]}"},
    "another scheme": {"authorization": f"Basic {KEY}"},
    "empty": {"authorization": "Bearer ", "x-api-key": ""},
    "one right and one wrong": {"authorization": f"Bearer {KEY}", "x-api-key": "wrong"},
}


def test_every_route_but_the_open_ones_asks_for_the_key() -> None:
    guarded = app(api_key=KEY)
    with TestClient(guarded) as client:
        seen = set(routes(guarded))
        assert seen >= OPEN
        assert len(seen - OPEN) == 7
        for method, path in seen - OPEN:
            url = path.replace("{case_id}", "9b6b5a52-6d0f-5c0e-8a53-0f4a0c7f2f11")
            for name, headers in CREDENTIALS.items():
                answer = client.request(method, url, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised"), (method, path, name)
                assert answer.headers["www-authenticate"] == 'Bearer realm="reports"'
                assert answer.headers["content-type"] == "application/problem+json"
            for headers in ({"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}):
                assert client.request(method, url, headers=headers).status_code == 503, (method, path)
        for method, path in OPEN:
            assert client.request(method, path).status_code in {200, 503}, path


def test_the_key_is_not_in_the_settings_words() -> None:
    assert KEY not in repr(ApiSettings(api_key=KEY))
    with pytest.raises(ValueError, match="weak") as refusal:
        ApiSettings(api_key="short")
    assert "short" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"queue": -1}, {"deadline_seconds": 0}, {"max_upload_bytes": 0}, {"allowed_hosts": ()}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ApiSettings(**wrong)


@pytest.mark.parametrize(
    ("environment", "arguments", "named"),
    [
        ({"RAG_HOST": "0.0.0.0"}, [], "RAG_API_KEY"),
        ({}, ["--host", "::"], "RAG_API_KEY"),
        ({"RAG_API_KEY": "hunter2"}, [], "RAG_API_KEY"),
        ({"RAG_NONSENSE": "hunter2"}, [], "RAG_NONSENSE"),
    ],
)
def test_it_refuses_to_start_and_names_the_setting(
    environment: dict[str, str],
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert entry.main(arguments) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "hunter2" not in said


def test_the_settings_of_the_house_become_the_api_s() -> None:
    house = Settings(workers=3, queue=4, deadline_seconds=5.0, max_upload_mib=6, api_key=KEY)
    expected = ApiSettings(3, 4, 5.0, 6 * 1024 * 1024, KEY, ("*",))
    assert api_settings(house, "0.0.0.0") == expected
    assert api_settings(Settings(), "localhost").allowed_hosts == ("127.0.0.1", "localhost", "::1")
    hosts = ("127.0.0.1", "127.0.0.9", "::1", "localhost", "0.0.0.0", "::", "10.0.0.4", "reports.example")
    assert [is_loopback(host) for host in hosts] == [True] * 4 + [False] * 4


class Built:
    def readiness(self) -> dict[str, str]:
        return {"store": "ok"}


def test_the_api_starts_without_the_models_libraries() -> None:
    command = "import sys, api.server; print(sorted({'torch', 'scipy', 'qdrant_client'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    heavy = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True, cwd=root).stdout
    assert heavy == "[]\n"


def test_the_second_signal_ends_the_wait() -> None:
    server = Server(uvicorn.Config("app"))
    server.handle_exit(signal.SIGTERM, None)
    assert (server.should_exit, server.force_exit) == (True, False)
    server.handle_exit(signal.SIGTERM, None)
    assert server.force_exit is True


def test_a_store_that_comes_back_needs_no_restart() -> None:
    tries: list[bool] = []
    service: Any = Built()

    def build() -> Any:
        tries.append(True)
        return service if len(tries) == 3 else never_built()

    async def scenario() -> None:
        startup = Startup(build, retry_seconds=0.001)
        with pytest.raises(Exception, match="still being loaded"):
            startup.service()
        startup.start()
        while await startup.components() != {"store": "ok"}:
            await asyncio.sleep(0.001)
        assert startup.service() is service

    asyncio.run(scenario())
    assert len(tries) == 3


def test_a_service_built_after_the_end_is_closed_all_the_same() -> None:
    go, closed = threading.Event(), threading.Event()

    class Late:
        def close(self) -> None:
            closed.set()

    def build() -> Any:
        go.wait(5)
        return Late()

    startup = Startup(build)
    startup.start()
    startup.close()
    go.set()
    assert closed.wait(5)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard output as `configure` writes to it; the loggers are put back as they were."""
    output, root = io.StringIO(), logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stdout", output)
    configure()
    yield output
    root.handlers, root.level = before, level


def test_a_log_line_tells_an_error_s_kind_and_place_and_no_foreign_words(lines: io.StringIO) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
        logging.getLogger("asyncio").exception("future: %s", CANARY)
    logging.getLogger("uvicorn.access").info(CANARY)
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert first["event"] == "Exception in ASGI application"
    assert first["error"] == second["error"] == "ValueError"
    assert first["place"].startswith("tests.unit.test_api_contract:") or "test_api_contract" in first["place"]
    assert second["event"].startswith("test_api_contract:")
    assert CANARY not in lines.getvalue()
    assert isinstance(logging.getLogger().handlers[0].formatter, JsonFormatter)
