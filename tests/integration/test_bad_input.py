"""Bad input over HTTP: answered as text to be read, or refused with a code; nothing of it comes back in a detail or a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from httpx import Response
from numpy.typing import NDArray
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from indexer import starter
from rag_service import wiring
from rag_service.gate import Gate
from rag_service.models.encoder import FilmEncoder
from rag_service.requests import MAX_QUESTIONS, MAX_TEXT
from tests.integration.house import PASSAGES, House, film
from tests.unit.hostile_texts import FAMILIES

CANARY = "Zzyzx-Canary-1957"
URL = "http://127.0.0.1"
BAD = (422, "bad_request")
PLACE = "0.6,0.6,0.9,0.9"
LONGEST = (CANARY + " ") * (MAX_TEXT // (len(CANARY) + 1))
NO_TEXT = {
    "longer than a text may be": LONGEST + "x" * 40,
    "longer than a part may be": "\u80f8" * (2 * MAX_TEXT),
    "a null": CANARY + "\x00",
    "an escape": f"\x1b[31m{CANARY}\x1b[0m",
    "a delete": CANARY + "\x7f",
    "a control character of Latin-1": CANARY + "\x85",
}
NOT_UTF8 = {
    "half a surrogate pair": CANARY.encode() + b"\xed\xa0\x80",
    "Latin-1": CANARY.encode() + b" t\xf3rax",
    "a sequence cut short": CANARY.encode() + b"\xe8\x83",
    "UTF-16": CANARY.encode("utf-16"),
}
NO_BOX = (
    "0.6,0.6,0.2,0.9", "0.2,0.9,0.6,0.6", "0.5,0.5,0.5,0.5", "-0.1,0,0.5,0.5", "0,0,1.2,0.5", "nan,nan,nan,nan",
    "0,0,inf,1", "1e-3,0,1,1", "0,0,1", "0,0,1,1,1", "0 0 1 1", "[0,0,1,1]", "0x0,0,1,1", "\uff10,\uff10,\uff11,\uff11", CANARY,
)  # fmt: skip
READ = {
    "nothing": "",
    "blanks": " \t\r\n ",
    "the longest": LONGEST,
    "Spanish": "\u00bfHay derrame pleural izquierdo?",
    "Japanese": "\u5de6\u306e\u80f8\u6c34\u306f\u3042\u308a\u307e\u3059\u304b",
    "Chinese": "\u6709\u6c14\u80f8\u5417\uff1f",
    "Arabic": "\u0647\u0644 \u064a\u0648\u062c\u062f \u0627\u0646\u0635\u0628\u0627\u0628",
    **{kind: "\n".join(t.format("a large pneumothorax")[:300] for t in texts) for kind, texts in FAMILIES.items()},
}
TEXT_PARTS = ("prompt", "indication", "technique", "comparison", "prior_report")


@pytest.fixture
def house(
    encoder: FilmEncoder,
    words: Any,
    stored: NDArray[np.uint8],
    open_gate: Callable[[str, int], Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    monkeypatch.setattr(wiring, "load_passages", PASSAGES)
    monkeypatch.setattr(starter, "load_passages", PASSAGES)
    return House(encoder, words, stored, open_gate("tiny", 302))


@pytest.fixture
def client(house: House, caplog: pytest.LogCaptureFixture) -> Iterator[TestClient]:
    """Over a real service; whatever was asked in a test, no log record of it holds the canary."""
    caplog.set_level(logging.DEBUG)
    service = house.service
    with TestClient(create_app(lambda: service, ApiSettings()), base_url=URL) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        yield client
    records = caplog.get_records("call")
    assert records
    assert not [r for r in records if CANARY in f"{r.getMessage()} {vars(r)}"]


def send(client: TestClient, house: House, path: str, parts: Mapping[str, Any], **films: bytes) -> Response:
    """A form with the film, texts and further films."""
    given = {"film": film(house.stored), **films}
    files = [(name, (f"{name}.png", content, "image/png")) for name, content in given.items()]
    texts = [(name, (None, value, "text/plain; charset=utf-8")) for name, value in parts.items()]
    return client.post(path, files=[*files, *texts])


def refusal(answer: Response) -> tuple[int, str]:
    """Status and code of a typed problem, which tells nothing of what was sent."""
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id"}
    assert CANARY not in answer.text and "Canary" not in answer.text
    return answer.status_code, problem["code"]


def codes(draft: Mapping[str, Any]) -> list[Any]:
    return [(f["label"], f["polarity"], f["laterality"], f["boxes"], f["confidence"]) for f in draft["findings"]]


@pytest.mark.parametrize("part", TEXT_PARTS)
def test_what_is_no_text_is_refused_wherever_it_stands(client: TestClient, house: House, part: str) -> None:
    for value in NO_TEXT.values():
        assert refusal(send(client, house, "/v1/reports", {part: value.encode()})) == BAD
    for raw in NOT_UTF8.values():
        assert refusal(send(client, house, "/v1/reports", {part: raw})) == BAD


@pytest.mark.parametrize("part", ["indication", "technique", "comparison", "prior_report"])
def test_what_is_text_is_read_and_changes_no_code_and_no_box(client: TestClient, house: House, part: str) -> None:
    plain = send(client, house, "/v1/reports", {}).json()
    for value in READ.values():
        answer = send(client, house, "/v1/reports", {part: value.encode()})
        assert answer.status_code == 200
        assert codes(answer.json()) == codes(plain)
        assert CANARY not in answer.text


def test_any_prompt_is_answered_and_changes_no_code_and_no_box(client: TestClient, house: House) -> None:
    plain = send(client, house, "/v1/reports", {}).json()
    for value in READ.values():
        answer = send(client, house, "/v1/reports", {"prompt": "\n".join(value.splitlines()[:MAX_QUESTIONS])})
        assert answer.status_code == 200
        assert codes(answer.json()) == codes(plain)
        assert CANARY not in str([f["sentence"] for f in answer.json()["findings"]])


def test_too_many_questions_are_refused(client: TestClient, house: House) -> None:
    many = "\n".join(f"{CANARY} {n}" for n in range(MAX_QUESTIONS + 1))
    assert refusal(send(client, house, "/v1/reports", {"prompt": many})) == BAD
    assert refusal(send(client, house, "/v1/reports", {"box": ";".join([PLACE] * (MAX_QUESTIONS + 1))})) == BAD
    assert (
        refusal(
            send(client, house, "/v1/reports", {"prompt": "\n".join(many.splitlines()[:MAX_QUESTIONS]), "box": PLACE})
        )
        == BAD
    )


def test_a_box_that_is_none_is_refused(client: TestClient, house: House) -> None:
    for box in NO_BOX:
        assert refusal(send(client, house, "/v1/reports", {"box": box})) == BAD
        assert refusal(send(client, house, "/v1/reports", {"box": f"{PLACE};{box}"})) == BAD
        assert refusal(send(client, house, "/v1/query", {"box": box})) == BAD
        assert refusal(send(client, house, "/v1/search", {"region": box})) == BAD


def test_a_query_without_a_question_or_of_no_text_is_refused(client: TestClient, house: House) -> None:
    for parts in ({}, {"prompt": ""}, {"prompt": " \n\t"}, {"prompt": NO_TEXT["a null"]}, {"prompt": LONGEST * 2}):
        assert refusal(send(client, house, "/v1/query", parts)) == BAD


def test_a_prior_of_another_patient_is_refused(client: TestClient, house: House) -> None:
    other = film(house.stored, 1)
    of_two = {"patient": f"here:{CANARY}", "prior_patient": f"here:{CANARY}-2"}
    assert refusal(send(client, house, "/v1/reports", of_two, prior=other)) == (422, "prior_of_another_patient")
    elsewhere = {"patient": f"here:{CANARY}", "prior_patient": f"there:{CANARY}"}
    assert refusal(send(client, house, "/v1/reports", elsewhere, prior=other)) == (422, "prior_of_another_patient")
    assert refusal(send(client, house, "/v1/reports", {"prior_patient": CANARY}, prior=other)) == BAD


def test_a_prior_that_nothing_can_be_compared_with_is_refused(client: TestClient, house: House) -> None:
    same = film(house.stored)
    assert refusal(send(client, house, "/v1/reports", {}, prior=same)) == (422, "prior_not_usable")
    assert refusal(send(client, house, "/v1/reports", {}, prior=CANARY.encode())) == (422, "prior_not_usable")
    assert refusal(send(client, house, "/v1/reports", {}, lateral=same)) == (422, "lateral_not_usable")
    assert refusal(send(client, house, "/v1/reports", {}, prior=b"")) == BAD


def test_unknown_languages_formats_and_parts_are_refused(client: TestClient, house: House) -> None:
    for name in ("language", "format", "patient", CANARY):
        for value in ("", f"{CANARY}\x00", "../../etc/passwd\x00"):
            assert refusal(send(client, house, "/v1/reports", {name: value})) == BAD
    assert refusal(send(client, house, "/v1/reports", {"language": CANARY})) == BAD
    assert refusal(send(client, house, "/v1/reports", {"format": CANARY})) == BAD


def test_a_report_to_verify_is_data(client: TestClient) -> None:
    for value in READ.values():
        answer = client.post("/v1/verify", json={"text": value})
        assert answer.status_code in {200, 422}
        if answer.status_code == 422:
            assert refusal(answer) == BAD
    for body in (b"", b"[]", b"{", b'{"text": "\\ud800"}', b"\xff", b"[" * 100_000, CANARY.encode(), b'{"text": NaN}'):
        assert refusal(client.post("/v1/verify", content=body, headers={"content-type": "application/json"})) == BAD
