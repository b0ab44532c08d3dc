"""The API over a service that answers from a can: what comes back, for every request and every fault."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from knowledge_base.findings import Polarity
from knowledge_base.records import Case, CaseSentence, Mention
from rag_service.errors import Busy, NotFound, ServiceError
from rag_service.explain_request import ExplainRequest, Method
from rag_service.imaging.film import Box
from rag_service.models.concepts import Concept
from rag_service.report.draft import Change, Draft, Provenance, SearchAnswer, SimilarCase, Status, SteerAnswer
from rag_service.report.explained import ExplainAnswer, MethodAgreement, MethodExplanation, Superpixel
from rag_service.requests import DraftRequest, Language, SearchRequest, SteerRequest

URL = "http://127.0.0.1"
CANARY = "DOE^JANE-19520314"
PROVENANCE = Provenance("m@1", "p@1", "i@1", "k@1", "t@1", 7, "ab" * 32)
DRAFT = Draft(Status.DRAFT, (), (), "No acute finding.", (), (), None, {"sentences": 1}, (), PROVENANCE)
ABSTAINED = Draft(Status.ABSTAINED, ("not_chest", CANARY), (), None, (), (), None, {}, (), PROVENANCE)
NEAR = SimilarCase("c-1", 0.5, None, ("Edema",), "Mild edema.", None)
STEERED = SteerAnswer(
    (), Concept("edema", 2.5, 7), -1.5, ("Edema",), -0.25, 0.01, (Change("Edema", 0.75, 0.5),), PROVENANCE
)
BASE = Box(0.25, 0.5, 0.5, 0.75)
EXPLAINED = ExplainAnswer(
    (), "Edema", 0.75, 1.5, -0.5, (Superpixel(BASE, 0.0625),),
    (MethodExplanation(Method.SHAPLEY, (2.0,), (BASE,), None), MethodExplanation(Method.LIME, (-1.0,), None, 0.5)),
    (MethodAgreement((Method.SHAPLEY, Method.LIME), None, 0.25),), None, PROVENANCE,
)  # fmt: skip
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

    def steer(self, request: SteerRequest) -> SteerAnswer:
        self.asked.append(request)
        return STEERED

    def explain(self, request: ExplainRequest) -> ExplainAnswer:
        self.asked.append(request)
        return EXPLAINED

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
    assert "" not in {problem["title"], problem["detail"]}
    return problem


def test_a_form_is_drafted(client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/reports", files=film(), data={"prompt": "胸水は？", "indication": "dyspnoea"})
    assert answer.status_code == 200
    assert answer.json() == DRAFT.to_json()
    assert service.asked == [DraftRequest(film=b"film", prompt="胸水は？", indication="dyspnoea")]


def test_everything_is_asked_on_behalf_of_the_tenant_of_the_settings(service: Canned) -> None:
    with serving(service, tenant="isle") as client:
        client.post("/v1/reports", files=film())
        client.post("/v1/reports", content=b"raw", headers={"content-type": "image/png"})
        client.post("/v1/search", files=film(), data={"text": "edema"})
        refused(client.get(f"/v1/cases/{CASE.id}"), 404, "not_found")
    assert service.asked == [
        DraftRequest(film=b"film", tenant="isle"),
        DraftRequest(film=b"raw", tenant="isle"),
        SearchRequest(film=b"film", text="edema", tenant="isle"),
    ]


def test_a_lateral_comes_beside_the_film(client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/reports", files={**film(b"x" * 1000), "lateral": ("l.png", b"y" * 1000, "image/png")})
    assert (answer.status_code, answer.json()["provenance"]["lateral"]) == (200, None)
    assert service.asked == [DraftRequest(film=b"x" * 1000, lateral=b"y" * 1000)]


def test_a_lateral_that_cannot_be_one(client: TestClient, service: Canned) -> None:
    def with_lateral(content: bytes) -> Any:
        return client.post("/v1/reports", files={**film(), "lateral": ("l.png", content, "image/png")})

    again = refused(with_lateral(b"film"), 422, "lateral_not_usable")
    assert again["detail"] == "the film given as lateral is the frontal film again"
    assert refused(with_lateral(b""), 422, "bad_request")["detail"] == "the lateral is empty"
    refused(with_lateral(b"x" * 1001), 413, "film_too_large")
    search = client.post("/v1/search", files={**film(), "lateral": ("l.png", b"x", "image/png")})
    assert (
        "is not one of diverse, film, finding, include_same, limit, region, text"
        in refused(search, 422, "bad_request")["detail"]
    )
    assert service.asked == []


def test_all_of_a_study_comes_in_one_form(client: TestClient, service: Canned) -> None:
    texts = {
        "prior_report": "Effusion.", "technique": "PA.", "comparison": "Last week.", "language": "ja", "patient": "a:1:2",
        "prior_patient": "a:1:2", "prompt": ["effusion?", "edema?\neffusion?"], "box": ["0,0,0.5,1", "0.5,0,1,1;0,0.5,1,1"],
    }  # fmt: skip
    films = {**film(), "prior": ("p.png", b"prior", "image/png")}
    answer = client.post("/v1/reports", files=films, data=texts)
    assert (answer.status_code, answer.json()) == (200, DRAFT.to_json())
    (asked,) = service.asked
    assert asked == DraftRequest(
        b"film", "effusion?\nedema?\neffusion?", patient=("a", "1:2"), prior=b"prior", prior_report="Effusion.", technique="PA.",
        comparison="Last week.", boxes=(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1), Box(0, 0.5, 1, 1)), language=Language.JA,
        prior_patient=("a", "1:2"),
    )  # fmt: skip
    assert asked.prompts == ("effusion?", "edema?")


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


def test_a_search_takes_a_region_and_the_film_itself(client: TestClient, service: Canned) -> None:
    form = {"region": "0.1,0.25,0.5,1", "include_same": "true", "diverse": "true"}
    assert client.post("/v1/search", files=film(), data=form).status_code == 200
    assert client.post("/v1/search", files=film(), data={"include_same": "false"}).status_code == 200
    assert service.asked == [
        SearchRequest(film=b"film", region=Box(0.1, 0.25, 0.5, 1.0), include_same=True, diverse=True), SearchRequest(film=b"film"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "form",
    [
        {"region": "0.5,0.1,0.2,0.9"}, {"region": "0.1,0.9,0.2,0.1"}, {"region": "0.1,0.1,0.1,0.2"},
        {"region": "0,0,1,1.01"}, {"region": "-0.1,0,1,1"}, {"region": "0,0,1"}, {"region": "0,0,1,1,1"}, {"region": ""},
        {"region": "0,0,nan,1"}, {"region": "0,0,1e0,1"}, {"region": "0, 0, 1, 1"}, {"region": CANARY}, {"region": "9,9,9,9"},
        {"include_same": "1"}, {"include_same": ""}, {"include_same": CANARY}, {"diverse": "yes"},
    ],
    ids=str,
)  # fmt: skip
def test_a_region_that_is_no_box_of_the_film_is_refused(
    form: dict[str, str], client: TestClient, service: Canned
) -> None:
    answer = client.post("/v1/search", files=film(), data=form)
    assert CANARY not in refused(answer, 422, "bad_request")["detail"]
    assert service.asked == []


@pytest.mark.parametrize("form", [{"region": "0,0,1,1"}, {"include_same": "true"}], ids=str)
def test_what_only_a_film_can_have_needs_a_film(form: dict[str, str], client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/search", files={"text": (None, "edema")}, data=form)
    assert "need a film" in refused(answer, 422, "bad_request")["detail"]
    assert service.asked == []


def test_a_film_is_moved_along_a_concept(client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/explain/steer", files=film(), data={"concept": "7", "alpha": "-1.5"})
    assert (answer.status_code, answer.json()) == (200, STEERED.to_json())
    assert answer.json()["changes"] == [{"label": "Edema", "before": 0.75, "after": 0.5}]
    assert answer.json()["concept"] == {"name": "edema", "activation": 2.5, "index": 7}
    assert client.post("/v1/explain/steer", files=film(), data={"concept": "0"}).status_code == 200
    assert service.asked == [SteerRequest(b"film", 7, -1.5), SteerRequest(b"film", 0, 1.0)]


@pytest.mark.parametrize(
    "form",
    [
        {}, {"alpha": "1"}, {"concept": ""}, {"concept": "-1"}, {"concept": "1.0"}, {"concept": "9999999"},
        {"concept": "1", "alpha": "4.01"}, {"concept": "1", "alpha": "-5"}, {"concept": "1", "alpha": "nan"},
        {"concept": "1", "alpha": "1e0"}, {"concept": "1", "alpha": CANARY}, {"concept": "1", "text": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_steering_that_makes_no_sense_is_refused(form: dict[str, str], client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/explain/steer", files=film(), data=form)
    assert CANARY not in refused(answer, 422, "bad_request")["detail"]
    assert service.asked == []


def test_steering_needs_a_form_with_a_film(client: TestClient, service: Canned) -> None:
    refused(client.post("/v1/explain/steer", files={"concept": (None, "1")}), 422, "bad_request")
    alone = client.post("/v1/explain/steer", content=b"x", headers={"content-type": "image/png"})
    refused(alone, 415, "unsupported_media_type")
    refused(client.post("/v1/explain/steer", files=film(b"x" * 1001), data={"concept": "1"}), 413, "film_too_large")
    assert service.asked == []


def test_a_finding_is_explained(client: TestClient, service: Canned) -> None:
    form = {"finding": "Edema", "methods": "shapley, lime", "picture": "true"}
    answer = client.post("/v1/explain/finding", files=film(), data=form)
    assert (answer.status_code, answer.json()) == (200, EXPLAINED.to_json())
    assert answer.json()["superpixels"][0]["area"] == 0.0625
    assert answer.json()["explanations"][1] == {"method": "lime", "values": [-1.0], "boxes": None, "fidelity": 0.5}
    assert answer.json()["agreements"] == [{"methods": ["shapley", "lime"], "rank_correlation": None, "top_iou": 0.25}]
    assert client.post("/v1/explain/finding", files=film(), data={"finding": "Fracture"}).status_code == 200
    both = (Method.SHAPLEY, Method.LIME)
    assert service.asked == [ExplainRequest(b"film", "Edema", both, picture=True), ExplainRequest(b"film", "Fracture")]


@pytest.mark.parametrize(
    "form",
    [
        {}, {"finding": ""}, {"finding": "No Finding"}, {"finding": CANARY}, {"finding": "edema"},
        {"finding": "Edema", "methods": ""}, {"finding": "Edema", "methods": CANARY},
        {"finding": "Edema", "methods": "lime,lime"}, {"finding": "Edema", "methods": "lime,"},
        {"finding": "Edema", "picture": "yes"}, {"finding": "Edema", "concept": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_an_explanation_of_nothing_is_refused(form: dict[str, str], client: TestClient, service: Canned) -> None:
    answer = client.post("/v1/explain/finding", files=film(), data=form)
    assert CANARY not in refused(answer, 422, "bad_request")["detail"]
    assert service.asked == []


def test_explaining_needs_a_form_with_a_film(client: TestClient, service: Canned) -> None:
    refused(client.post("/v1/explain/finding", files={"finding": (None, "Edema")}), 422, "bad_request")
    alone = client.post("/v1/explain/finding", content=b"x", headers={"content-type": "image/png"})
    refused(alone, 415, "unsupported_media_type")
    whole = client.post("/v1/explain/finding", files=film(b"x" * 1001), data={"finding": "Edema"})
    refused(whole, 413, "film_too_large")
    assert service.asked == []


def test_a_case_is_shown_without_its_patient(client: TestClient) -> None:
    answer = client.get(f"/v1/cases/{CASE.id}")
    nothing_more = {"laterality": None, "location": None, "severity": None, "progression": None}
    mention = {"finding": "Edema", "polarity": "positive", "span": [5, 10], **nothing_more}
    assert answer.json() == {
        "id": "b7d37540-4a35-5261-878b-177332053515",
        "source": "openi",
        "study": "CXR9",
        "text": "Mild edema. No effusion.",
        "sentences": [{"text": "Mild edema.", "span": [0, 11], "section": "findings", "mentions": [mention]}],
        "labels": {"positive": ["Edema"], "uncertain": [], "negative": []},
        "view": "PA",
    }


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
    waits = {"busy": "9", "store_unavailable": "2", "store_protocol": "2", "not_ready": "2", "deadline_exceeded": "5"}
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
ENCODED = f"{PROMPT}\r\nContent-Transfer-Encoding: base64"
NAMES = (
    "a part's name is not one of box, comparison, film, format, indication, language, lateral, patient, prior, prior_patient, "
    "prior_report, prompt, technique"
)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (part(PROMPT) + END, "the form has no film part"),
        (FILM + part(f'Content-Disposition: form-data; name="{CANARY}"') + END, NAMES),
        (FILM + part("Content-Type: text/plain") + END, NAMES),
        (FILM + FILM + END, "the part film is given more than once"),
        (part('Content-Disposition: form-data; name="film"', "") + END, "the film is empty"),
        (part(ENCODED) + END, "the part prompt has a transfer encoding that is not read"),
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
    for boundary in ("", "; boundary=", f"; boundary={'b' * 300}"):
        headers = {"content-type": f"multipart/form-data{boundary}"}
        refused(client.post("/v1/reports", content=b"x", headers=headers), 422, "bad_request")


def test_a_film_over_the_limit_is_refused_however_it_comes(client: TestClient, service: Canned) -> None:
    png = {"content-type": "image/png"}
    assert client.post("/v1/reports", content=b"x" * 1000, headers=png).status_code == 200
    service.asked.clear()
    answers = [
        client.post("/v1/reports", content=b"x" * 1001, headers=png),
        client.post("/v1/reports", content=iter([b"x" * 600] * 2), headers=png),
        client.post("/v1/reports", content=b"x", headers={**png, "content-length": "1001"}),  # judged before it is read
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
        assert re.fullmatch("[0-9a-f]{32}", given)


def test_every_answer_has_the_security_headers_and_none_of_cors(client: TestClient) -> None:
    for path in ("/", "/v1/reports", "/nowhere", f"/v1/cases/{CASE.id}"):
        headers = client.get(path, headers={"origin": "http://evil.example"}).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert not [name for name in headers if name.startswith("access-control-")]
