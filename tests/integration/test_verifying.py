"""A draft or a report verified against the index: citations read again, evidence found, faults named, and nothing written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from indexer import starter
from rag_service import __main__, wiring
from rag_service.errors import BadRequest, StoreUnavailable
from rag_service.gate import Gate
from rag_service.models.encoder import FilmEncoder
from rag_service.verified_text import render_verified
from rag_service.verify_request import MAX_SENTENCES, read_verify_request
from rag_service.verifying import VerifyAnswer
from tests.integration.house import PASSAGES, House, a_case


@pytest.fixture
def house(
    encoder: FilmEncoder,
    words: Any,
    stored: NDArray[Any],
    open_gate: Callable[[str, int], Gate],
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    monkeypatch.setattr(wiring, "load_passages", PASSAGES)
    monkeypatch.setattr(starter, "load_passages", PASSAGES)
    return House(encoder, words, stored, open_gate("tiny", 302))


@pytest.fixture
def client(house: House) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: house.service, ApiSettings()), base_url="http://127.0.0.1") as client:
        deadline = time.monotonic() + 5
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield client


def cited(study: str, report: str, quote: str, **more: Any) -> dict[str, Any]:
    """A citation of a case of the house; `more` overrides."""
    case = a_case(study, report)
    start = case.text.index(quote)
    return {"kind": "case", "id": str(case.id), "quote": quote, "span": [start, start + len(quote)], **more}


A = "The heart is enlarged. There is a pleural effusion. No pneumothorax."
HEART = cited("a", A, "The heart is enlarged.")


def verified(house: House, body: dict[str, Any]) -> VerifyAnswer:
    return house.service.verify(read_verify_request(body))


def one(house: House, text: str, *citations: dict[str, Any], **more: Any) -> Any:
    return verified(house, {"sentences": [{"text": text, "citations": list(citations)}], **more}).sentences[0]


def test_a_draft_of_this_service_is_supported_sentence_by_sentence(house: House) -> None:
    answer = verified(house, house.draft().to_json())
    assert answer.sentences
    assert {s.verdict for s in answer.sentences if s.section == "findings"} == {"supported"}
    assert all(c.holds for s in answer.sentences for c in s.citations)
    assert {s.reasons for s in answer.sentences if s.section == "impression"} == {("follows_from_the_findings",)}
    assert answer.unsupported_positives == 0
    assert not any(answer.checks.values())


def test_a_citation_holds_when_its_record_says_it_now(house: House) -> None:
    found = one(house, "Cardiomegaly.", HEART)
    assert (found.verdict, found.reasons, found.found) == ("supported", (), ())
    assert (found.citations[0].holds, found.citations[0].reason) == (True, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"quote": "The heart is large."}, "quote_is_not_the_records_text"),
        ({"span": [0, 4]}, "quote_is_not_the_records_text"),
        ({"span": [10**6, 10**6 + 4]}, "quote_is_not_the_records_text"),
        ({"id": str(uuid4())}, "not_found"),
        ({"id": "no id at all"}, "not_found"),
        ({"kind": "guideline"}, "not_found"),
    ],
)
def test_a_citation_that_does_not_hold_says_why_and_evidence_is_looked_for(
    house: House, changed: dict[str, Any], reason: str
) -> None:
    found = one(house, "The heart is enlarged.", {**HEART, **changed})
    assert (found.verdict, found.reasons) == ("unsupported", ("no_citation_holds",))
    assert (found.citations[0].holds, found.citations[0].reason) == (False, reason)
    assert {c.quote for c in found.found} == {"The heart is enlarged.", "heart is enlarged"}


def test_a_withdrawn_record_is_no_evidence_deleted_since_or_not(house: House) -> None:
    case = a_case("a", A)
    house.store.set_withdrawn("cases", [case.id], "public")
    assert one(house, "Cardiomegaly.", HEART).citations[0].reason == "withdrawn"
    house.store.delete("cases", [case.id], "public")
    assert one(house, "Cardiomegaly.", HEART).citations[0].reason == "withdrawn"


def test_another_tenants_record_is_as_good_as_none(house: House) -> None:
    own = replace(a_case("z", A), tenant="isle")
    house.add(own)
    citation = {**HEART, "id": str(own.id)}
    body = {"sentences": [{"text": "Cardiomegaly.", "citations": [citation]}]}
    assert house.service.verify(read_verify_request(body, "isle")).sentences[0].verdict == "supported"
    assert house.service.verify(read_verify_request(body)).sentences[0].citations[0].reason == "not_found"


def test_a_damaged_record_is_no_evidence(house: House) -> None:
    case = a_case("a", A)
    points = house.store._inner._collections["cases"].points
    point = points[case.id]
    points[case.id] = replace(point, payload={**point.payload, "text": "FINDINGS: something else"})
    assert one(house, "Cardiomegaly.", HEART).citations[0].reason == "damaged"


@pytest.mark.parametrize(
    ("text", "verdict", "reasons", "reason"),
    [
        ("Moderate cardiomegaly.", "unsupported", ("severity",), "does_not_make_it_true"),
        ("The heart is normal in size.", "contradicted", ("polarity",), "contradicts_it"),
        ("Fracture.", "unsupported", ("finding",), "does_not_make_it_true"),
    ],
)
def test_the_aspects_that_do_not_follow_are_the_reasons(
    house: House, text: str, verdict: str, reasons: tuple[str, ...], reason: str
) -> None:
    found = one(house, text, HEART)
    assert (found.verdict, found.reasons, found.citations[0].reason) == (verdict, reasons, reason)


def test_citations_may_support_together_what_none_does_alone(house: House) -> None:
    reports = {"l": "Left pleural effusion.", "r": "Right pleural effusion."}
    house.add(*(a_case(study, text) for study, text in reports.items()))
    found = one(house, "Bilateral pleural effusions.", *(cited(s, t, t) for s, t in reports.items()))
    assert found.verdict == "supported"
    assert [c.holds for c in found.citations] == [False, False]


def test_for_a_sentence_that_cites_nothing_the_index_is_asked(house: House) -> None:
    answer = verified(
        house, {"sentences": ["No pneumothorax.", "A rib fracture.", "Right pleural effusion.", "Tortuous aorta."]}
    )
    assert [(s.verdict, s.reasons) for s in answer.sentences] == [
        ("supported", ("cites_nothing",)),
        ("supported", ("cites_nothing",)),
        ("unsupported", ("cites_nothing", "no_case_says_it")),
        ("not_checkable", ()),
    ]
    assert {c.quote for c in answer.sentences[0].found} == {"No pneumothorax."}
    assert answer.unsupported_positives == 1


def test_a_case_that_compares_supports_its_own_words_only_with_a_prior_film(house: House) -> None:
    assert one(house, "Stable pleural effusion.").verdict == "unsupported"
    assert one(house, "Stable pleural effusion.", prior=True).verdict == "supported"


def test_a_guideline_is_read_again_as_well(house: House) -> None:
    passage = PASSAGES()[0]
    quote = passage.text[:20]
    citation = {"kind": "guideline", "id": str(passage.id), "quote": quote, "span": [0, 20]}
    assert one(house, "A rib fracture.", citation).citations[0].reason == "does_not_make_it_true"


def test_a_finding_must_say_what_its_label_says(house: House) -> None:
    entry: dict[str, Any] = {
        "sentence": "The heart is enlarged.",
        "citations": [HEART],
        "label": "Edema",
        "polarity": "positive",
    }
    found = verified(house, {"findings": [entry]}).sentences[0]
    assert (found.verdict, found.reasons) == ("unsupported", ("says_other_than_its_label",))
    entry |= {"label": "Cardiomegaly", "polarity": "uncertain"}
    assert verified(house, {"findings": [entry]}).sentences[0].verdict == "unsupported"
    entry |= {"polarity": None, "sentence_en": "Cardiomegaly.", "sentence": "心拡大を認める。"}
    found = verified(house, {"findings": [entry]}).sentences[0]
    assert (found.text, found.verdict) == ("Cardiomegaly.", "supported")


REPORT = (
    "INDICATION: Effusion? FINDINGS: Left pleural effusion. Right pleural effusion. No pleural effusion. Stable edema of XXXX. "
    "Seen by Dr. Smith. IMPRESSION: Right pneumothorax. Left pleural effusion."
)


def test_the_faults_of_a_whole_report(house: House) -> None:
    answer = verified(house, {"text": REPORT, "impression": "Left pneumothorax. Look for: Edema."})
    texts = [s.text for s in answer.sentences]
    assert texts[0] == "Left pleural effusion."
    assert texts[-1] == "Left pneumothorax."
    assert {fault: [texts[i] for i in places] for fault, places in answer.checks.items() if places} == {
        "negation_conflict": ["Left pleural effusion.", "Right pleural effusion.", "No pleural effusion."],
        "impression_contradicts_findings": [
            "Right pleural effusion.", "No pleural effusion.", "Left pleural effusion.",
        ],
        "placeholder_text": ["Stable edema of XXXX."],
        "comparison_without_prior": ["Stable edema of XXXX."],
        "private_text": ["Seen by Dr. Smith."],
    }  # fmt: skip


def test_an_impression_against_the_findings_is_contradicted(house: House) -> None:
    body = {"sentences": ["No pneumothorax."], "impression": "Pneumothorax. The heart is enlarged."}
    verdicts = [(s.verdict, s.reasons) for s in verified(house, body).sentences]
    assert verdicts == [
        ("supported", ("cites_nothing",)),
        ("contradicted", ("contradicts_the_findings",)),
        ("supported", ("cites_nothing",)),
    ]


def test_a_device_of_a_draft_that_is_no_finding_of_it(house: House) -> None:
    entry = {"sentence": "Cardiomegaly with a pacemaker.", "label": "Cardiomegaly", "polarity": "positive"}
    assert verified(house, {"findings": [entry]}).checks["unsupported_device"] == (0,)


def test_a_store_that_does_not_answer_is_no_verdict(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from knowledge_base.errors import StoreError

    def fails(*_: Any, **__: Any) -> Any:
        raise StoreError("away")

    monkeypatch.setattr(house.store, "get", fails)
    with pytest.raises(StoreUnavailable):
        one(house, "Cardiomegaly.", HEART)


BAD: dict[str, Any] = {
    "a list": [],
    "nothing": {},
    "two ways": {"text": "a", "sentences": ["a"]},
    "no sentences": {"sentences": []},
    "a text of spaces": {"text": "  "},
    "a report that is too long": {"text": "a" * 20_001},
    "only an indication": {"text": "INDICATION: Cough."},
    "too many": {"sentences": ["Edema."] * (MAX_SENTENCES + 1)},
    "too many in a text": {"text": "Edema. " * (MAX_SENTENCES + 1)},
    "a number": {"sentences": [3]},
    "a sentence without text": {"sentences": [{"citations": []}]},
    "a sentence that is too long": {"sentences": ["a" * 1001]},
    "no text": {"sentences": ["Edema\x00."]},
    "half a character": {"sentences": ["Edema \ud800."]},
    "citations that are none": {"sentences": [{"text": "Edema.", "citations": "x"}]},
    "too many citations": {"sentences": [{"text": "Edema.", "citations": [HEART] * 21}]},
    "a citation that is none": {"sentences": [{"text": "Edema.", "citations": ["x"]}]},
    "another kind": {"sentences": [{"text": "Edema.", "citations": [{**HEART, "kind": "rumour"}]}]},
    "no span": {"sentences": [{"text": "Edema.", "citations": [{**HEART, "span": [0]}]}]},
    "a span of fractions": {"sentences": [{"text": "Edema.", "citations": [{**HEART, "span": [0.5, 2]}]}]},
    "a negative span": {"sentences": [{"text": "Edema.", "citations": [{**HEART, "span": [-2, 2]}]}]},
    "a long id": {"sentences": [{"text": "Edema.", "citations": [{**HEART, "id": "x" * 65}]}]},
    "no quote": {"sentences": [{"text": "Edema.", "citations": [{**HEART, "quote": ""}]}]},
    "prior in words": {"text": "Edema.", "prior": "no"},
    "an unknown label": {"findings": [{"sentence": "Edema.", "label": "Gout"}]},
    "an unknown polarity": {"findings": [{"sentence": "Edema.", "polarity": "maybe"}]},
    "a polarity that is no word": {"findings": [{"sentence": "Edema.", "polarity": ["positive"]}]},
    "an abstention": {"status": "abstained", "findings": [], "impression": None},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_verified_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest):
        read_verify_request(body)


def test_a_prior_is_told_or_read_from_a_drafts_provenance() -> None:
    assert read_verify_request({"text": "Edema.", "prior": True}).prior
    draft = {"findings": [{"sentence": "Edema."}], "provenance": {"prior": "ab"}}
    assert read_verify_request(draft).prior
    assert not read_verify_request({**draft, "provenance": {"prior": None}}).prior


def test_over_http_as_the_service_has_it(client: TestClient, house: House) -> None:
    body = {"sentences": [{"text": "Cardiomegaly.", "citations": [HEART]}, "A rib fracture."]}
    answer = client.post("/v1/verify", json=body)
    assert answer.status_code == 200
    assert answer.json() == verified(house, body).to_json()
    assert answer.json()["sentences"][0]["verdict"] == "supported"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"\xff", "application/json", 422),
        (b'"' + b"x" * 1_048_577 + b'"', "application/json", 422),
        (b'{"text": "  "}', "application/json; charset=utf-8", 422),
        (b'{"text": "Edema."}', "text/plain", 415),
    ],
)
def test_a_bad_body_is_a_problem(client: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/v1/verify", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_on_the_command_line(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wiring, "build_service", lambda _: house.service)
    monkeypatch.setattr(house.service, "close", lambda: None)
    path = tmp_path / "report.json"
    path.write_text(
        json.dumps({"sentences": [{"text": "Cardiomegaly.", "citations": [HEART]}, "Edema. Right edema edema."]})
    )
    assert __main__.main(["verify", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        f"   1. Cardiomegaly.\n      supported\n      <- case {HEART['id'][:8]} holds: “The heart is enlarged.”\n   2. "
    )
    assert "repeated_phrase: sentences 2\n" in shown
    assert shown.endswith("statements of a finding without evidence: 1\n")
    assert __main__.main(["verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unsupported_positives"] == 1
    path.write_text("{")
    assert __main__.main(["verify", str(path)]) == 2
    assert __main__.main(["verify", str(tmp_path / "none.json")]) == 2


def test_a_verification_as_text_names_what_was_found(house: House) -> None:
    wrong = {**HEART, "quote": "The heart is large."}
    text = render_verified(verified(house, {"sentences": [{"text": "The heart is enlarged.", "citations": [wrong]}]}))
    assert "unsupported (no_citation_holds)" in text
    assert "fails: quote_is_not_the_records_text: “The heart is large.”" in text
    assert "found case" in text
