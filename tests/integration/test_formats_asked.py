"""Other projects' formats, asked for over HTTP and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from rag_service import wiring
from rag_service.__main__ import main
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film
from rag_service.report.draft import Draft, Status
from rag_service.requests import DraftRequest
from rag_service.service import RadiographService
from rag_service.settings import ENVIRONMENT
from tests.unit.test_formats import DRAFT

GROUNDED = "<obj>Small left pleural effusion.<box><x50><y50><x75><y99></box></obj><obj>No pneumothorax.</obj>"
"""The square in the middle of a film of 96 rows and 72 columns begins 12 rows down."""


class Canned:
    """A service with one draft for every film; it decodes, and writes formats, as the real one does."""

    written = RadiographService.written

    def __init__(self) -> None:
        self.answer = DRAFT

    def draft(self, _: DraftRequest) -> Draft:
        return self.answer

    def decode(self, content: bytes) -> Film:
        return decode(content)

    def readiness(self) -> dict[str, str]:
        return {"models": "ok"}

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Canned:
    canned = Canned()
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wiring, "build_service", lambda _: canned)
    return canned


@pytest.fixture
def client(service: Canned) -> Iterator[TestClient]:
    made: Any = create_app(lambda: service, ApiSettings())  # type: ignore[arg-type,return-value]
    with TestClient(made, base_url="http://127.0.0.1") as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield client


@pytest.fixture
def film(tmp_path: Path) -> Path:
    out = BytesIO()
    Image.fromarray(np.arange(96 * 72, dtype=np.uint16).reshape(96, 72).astype(np.uint8)).save(out, "PNG")
    (tmp_path / "CXR7.png").write_bytes(out.getvalue())
    return tmp_path / "CXR7.png"


def test_a_form_names_the_format_of_its_answer(client: TestClient, film: Path) -> None:
    def post(**form: str) -> Any:
        return client.post("/v1/reports", files={"film": ("f.png", film.read_bytes(), "image/png")}, data=form)

    own = post(format="json")
    assert own.json() == post().json() == json.loads(json.dumps(DRAFT.to_json()))
    grounded = post(format="maira-2")
    assert (grounded.status_code, grounded.text) == (200, GROUNDED)
    assert grounded.headers["content-type"] == "text/plain; charset=utf-8"
    [study] = post(format="padchest-gr").json()
    digest = decode(film.read_bytes()).digest
    assert (study["StudyID"], study["ImageID"], len(study["findings"])) == (digest, digest, 2)
    unknown = post(format="docx")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "bad_request")


def test_an_abstention_is_refused_in_a_format_that_cannot_say_it(
    client: TestClient, service: Canned, film: Path
) -> None:
    service.answer = replace(DRAFT, status=Status.ABSTAINED, abstain_reasons=("lateral",), findings=())
    sent = {"film": ("f.png", film.read_bytes(), "image/png")}
    answer = client.post("/v1/reports", files=sent, data={"format": "padchest-gr"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_request")
    assert client.post("/v1/reports", files=sent).json()["abstain_reasons"] == ["lateral"]


def test_the_command_line_prints_a_format(service: Canned, film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draft", str(film), "--format", "maira-2"]) == 0
    assert capsys.readouterr().out == f"{GROUNDED}\n"
    assert main(["draft", str(film), "--format", "padchest-gr"]) == 0
    [study] = json.loads(capsys.readouterr().out)
    assert (study["StudyID"], study["ImageID"]) == ("CXR7", "CXR7.png")
    assert main(["draft", str(film), "--format", "maira-2", "--json"]) == 2
    assert capsys.readouterr().err == "error [bad_request]: --json and --format are two formats\n"
