"""The command line in-process: what is printed, what is written, and how each failure ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from knowledge_base.errors import StoreInUse, StoreUnavailable
from rag_service import wiring
from rag_service.__main__ import main
from rag_service.errors import BadWeights, DamagedRecord, IndexModelMismatch, NotAnImage, ServiceError
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box, Film
from rag_service.report.draft import (
    Answer,
    Citation,
    Coverage,
    Draft,
    MatchedSentence,
    Provenance,
    QueryAnswer,
    SearchAnswer,
    SimilarCase,
    Status,
)
from rag_service.requests import DraftRequest, Language, QueryRequest, SearchRequest
from rag_service.settings import ENVIRONMENT, Settings

PROVENANCE = Provenance("m@1", "p@1", "i", "k", "t", 20260, "f")
DRAFT = Draft(Status.DRAFT, (), (), "No finding reached its threshold.", (), (), None, {}, (), PROVENANCE)
NEAR = SimilarCase("12345678-rest", 0.0491, 0.873, ("Edema", "Fracture"), "There is edema.\nNo fracture.", None)
ANSWER = SearchAnswer(
    (NEAR, replace(NEAR, box_overlap=None, sentence=MatchedSentence("There is edema.", (0, 15)))),
    (Citation("guideline", "p-1", "Septal lines.", (0, 13), 0.5, entails=True),),
    ("blank",),
    PROVENANCE,
    (Coverage("Edema", 3, "Only 3 cases of Edema here."), Coverage("Fracture", 90)),
)
MILD = Citation("case", "c-1", "Mild edema.", (0, 11), 0.9, entails=True)
FOUND = Answer(None, None, "Edema", ("Edema",), 0.75, sentence="Edema pulmonar.", citations=(MILD,))
ASKED = QueryAnswer((), FOUND, (), "es", PROVENANCE)
CANARY = "DOE^JANE-19520314"


class Canned:
    """A service whose answers a test sets."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.settings: Settings | None = None
        self.closed = 0
        self.error: Exception | None = None

    def draft(self, request: DraftRequest) -> Draft:
        self.asked.append(request)
        if self.error:
            raise self.error
        return DRAFT

    def query(self, request: QueryRequest) -> QueryAnswer:
        self.asked.append(request)
        return ASKED

    def search(self, request: SearchRequest) -> SearchAnswer:
        self.asked.append(request)
        return ANSWER

    def decode(self, content: bytes) -> Film:
        return decode(content)

    def source_name(self, citation: Citation) -> str:
        return citation.id

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Canned:
    canned = Canned()

    def build(settings: Settings) -> Canned:
        canned.settings = settings
        return canned

    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wiring, "build_service", build)
    return canned


@pytest.fixture
def film(tmp_path: Path) -> str:
    out = BytesIO()
    Image.fromarray(np.arange(96 * 72, dtype=np.uint16).reshape(96, 72).astype(np.uint8)).save(out, "PNG")
    (tmp_path / f"{CANARY}.png").write_bytes(out.getvalue())
    return str(tmp_path / f"{CANARY}.png")


def test_a_draft_as_text(service: Canned, film: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draft", film, "--prompt", "effusion?", "--indication", "cough", "--patient", "openi:p:1"]) == 0
    out = capsys.readouterr()
    assert out.out.startswith("DRAFT REPORT  (research use; a clinician decides and signs)\n")
    assert out.err == ""
    assert service.asked == [DraftRequest(Path(film).read_bytes(), "effusion?", "cough", patient=("openi", "p:1"))]
    assert service.closed == 1
    assert service.settings == Settings(workers=1)


def test_a_draft_of_two_views(
    service: Canned, film: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "side.png").write_bytes(b"side")
    assert main(["draft", film, "--lateral", str(tmp_path / "side.png")]) == 0
    assert service.asked == [DraftRequest(Path(film).read_bytes(), lateral=b"side")]
    assert "a lateral film" not in capsys.readouterr().out
    monkeypatch.setattr(service, "draft", lambda _: replace(DRAFT, provenance=replace(PROVENANCE, lateral="ab" * 32)))
    assert main(["draft", film, "--lateral", str(tmp_path / "side.png")]) == 0
    assert "Read from a frontal and a lateral film; places are on the frontal.\n" in capsys.readouterr().out
    assert main(["draft", film, "--lateral", film]) == 1
    told = "error [lateral_not_usable]: the film given as lateral is the frontal film again\n"
    assert capsys.readouterr().err == told


def test_a_film_is_asked(service: Canned, film: str, capsys: pytest.CaptureFixture[str]) -> None:
    box = ["--box", "0.1,0.2,0.5,0.6"]
    assert main(["query", film, "--prompt", "edema?", *box, "--language", "es", "--patient", "openi:p"]) == 0
    assert capsys.readouterr().out == "Edema pulmonar.\nEdema  p 0.75\n  <- c-1: “Mild edema.”\n"
    assert main(["query", film, *box, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ASKED.to_json()
    place, content = Box(0.1, 0.2, 0.5, 0.6), Path(film).read_bytes()
    assert service.asked == [
        QueryRequest(content, "edema?", place, patient=("openi", "p"), language=Language.ES),
        QueryRequest(content, box=place),
    ]
    assert main(["query", film]) == 2
    assert "needs a prompt, a box, or both" in capsys.readouterr().err


def test_a_draft_beside_an_earlier_film(
    service: Canned, film: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "prior.png").write_bytes(b"prior")
    (tmp_path / "prior.txt").write_text("\ufeffEffusion.", "utf-8")
    of_prior = ["--prior", str(tmp_path / "prior.png"), "--prior-report", str(tmp_path / "prior.txt")]
    words = ["--technique", "PA.", "--comparison", "Old.", "--prompt", "effusion?", "--prompt", "edema?"]
    of_study = [
        "--box",
        "0,0,1,1",
        "--box",
        "0,0,0.5,1",
        "--language",
        "es",
        "--patient",
        "a:1",
        "--prior-patient",
        "a:1",
    ]
    assert main(["draft", film, *of_prior, *words, *of_study]) == 0
    assert service.asked == [
        DraftRequest(
            Path(film).read_bytes(), "effusion?\nedema?", patient=("a", "1"), prior=b"prior", prior_report="Effusion.",
            technique="PA.", comparison="Old.", boxes=(Box(0, 0, 1, 1), Box(0, 0, 0.5, 1)), language=Language.ES,
            prior_patient=("a", "1"),
        )
    ]  # fmt: skip
    capsys.readouterr()
    assert main(["draft", film, *of_prior, "--patient", "a:1", "--prior-patient", "a:2"]) == 1
    assert (
        capsys.readouterr().err == "error [prior_of_another_patient]: the prior film is said to be of another patient\n"
    )
    (tmp_path / "prior.txt").write_bytes(b"\xff")
    assert main(["draft", film, *of_prior]) == 2
    assert capsys.readouterr().err == "error [bad_request]: the prior report is not UTF-8\n"


def test_a_draft_as_json_is_the_same_bytes_every_time(
    service: Canned, film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draft", film, "--json", "--store", "elsewhere"]) == 0
    first = capsys.readouterr().out
    assert main(["draft", film, "--json"]) == 0
    assert capsys.readouterr().out == first == json.dumps(DRAFT.to_json(), sort_keys=True) + "\n"


def test_the_store_is_the_one_named(service: Canned, film: str) -> None:
    assert main(["draft", film, "--store", "http://qdrant:6333"]) == 0
    assert service.settings == Settings(store="http://qdrant:6333", workers=1)


def test_a_picture_is_written_where_asked(service: Canned, film: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "film.png"
    assert main(["draft", film, "--json", "--picture", str(target)]) == 0
    with Image.open(target) as image:
        assert (image.format, image.size) == ("PNG", (768 + 460, 1024))


def test_a_search_as_text(service: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--text", "edema", "--finding", "Edema", "--limit", "3"]) == 0
    assert capsys.readouterr().out == (
        "the film was not used: blank\n"
        "12345678-rest  score 0.0491  overlap 0.87  Edema, Fracture\n"
        "    There is edema.\n    No fracture.\n"
        "12345678-rest  score 0.0491  Edema, Fracture\n"
        "    answers with: “There is edema.”\n"
        "    There is edema.\n    No fracture.\n"
        "Only 3 cases of Edema here.\n"
        "guideline p-1: Septal lines.\n"
    )
    assert service.asked == [SearchRequest(None, "edema", "Edema", 3)]


def test_a_tenant_asks_by_setting_or_by_command(
    service: Canned, film: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAG_TENANT", "isle")
    assert main(["search", film, "--json"]) == 0
    assert main(["draft", film, "--tenant", "shore", "--json"]) == 0
    assert [a.tenant for a in service.asked] == ["isle", "shore"]
    assert main(["search", film, "--tenant", "no name"]) == 2
    assert "RAG_TENANT" in capsys.readouterr().err


def test_a_search_as_json(service: Canned, film: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", film, "--json"]) == 0
    assert capsys.readouterr().out == json.dumps(ANSWER.to_json(), sort_keys=True) + "\n"
    assert service.asked == [SearchRequest(Path(film).read_bytes())]


def test_a_search_by_a_region(service: Canned, film: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", film, "--region", "0.5,0.25,1,0.75", "--include-same", "--diverse", "--json"]) == 0
    asked = SearchRequest(Path(film).read_bytes(), region=Box(0.5, 0.25, 1.0, 0.75), include_same=True, diverse=True)
    assert service.asked == [asked]
    assert main(["search", film, "--region", "0.5,0.25,0.4,0.75"]) == 2
    assert "error [bad_request]: region is x_min,y_min,x_max,y_max" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (NotAnImage("not a known image file"), "not_an_image", 1),
        (ServiceError("failed"), "internal", 1),
        (DamagedRecord("a stored record fails its checksum"), "damaged_record", 3),
        (IndexModelMismatch("run the indexer"), "index_model_mismatch", 3),
        (BadWeights("expected sha256"), "bad_weights", 3),
        (StoreUnavailable("gone"), "failed", 1),
        (StoreInUse("build/knowledge", 7), "failed", 4),
    ],
)
def test_a_failure_ends_with_its_code(
    service: Canned, film: str, capsys: pytest.CaptureFixture[str], error: Exception, code: str, exit_code: int
) -> None:
    service.error = error
    assert main(["draft", film]) == exit_code
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err == f"error [{code}]: {error}\n"
    assert CANARY not in out.err
    assert service.closed == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["draft", f"/nowhere/{CANARY}.png"],
        ["draft", "FILM", "--lateral", f"/nowhere/{CANARY}.png"],
        ["draft", "FILM", "--patient", CANARY],
        ["draft", "FILM", "--patient", f":{CANARY}"],
        ["draft", "FILM", "--prompt", CANARY * 400],
        ["draft", "FILM", "--picture", "/dev/null/film.png"],
        ["search"],
        ["search", "--text", CANARY, "--limit", "0"],
        ["search", "--text", CANARY, "--limit", "51"],
        ["search", "--text", f"{CANARY}\x00"],
    ],
)
def test_a_request_that_cannot_be_is_usage(
    service: Canned, film: str, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main([film if a == "FILM" else a for a in arguments]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("error [bad_request]: ")
    assert CANARY not in out.err


def test_a_bad_setting_is_usage(
    service: Canned, film: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_API_KEY", "tiny secret")
    assert main(["draft", film]) == 2
    error = capsys.readouterr().err
    assert "RAG_API_KEY is weak" in error
    assert "tiny secret" not in error


@pytest.mark.parametrize("arguments", [[], ["read"], ["draft"], ["search", "--limit", "many"]])
def test_arguments_that_are_not_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["draft", "--help"], ["search", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "usage: python -m rag_service" in capsys.readouterr().out


def test_a_service_that_cannot_be_built(
    film: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: Canned
) -> None:
    def refuse(_: Settings) -> Callable[[], None]:
        raise StoreInUse("build/knowledge", 4711)

    monkeypatch.setattr(wiring, "build_service", refuse)
    assert main(["draft", film]) == 4
    assert "in use by pid 4711" in capsys.readouterr().err
