"""The use cases over an exact store and a reader whose calibration says what the test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.phantom.cases import CASES as PHANTOMS
from eval.phantom.files import png
from eval.phantom.thorax import render
from indexer import starter
from knowledge_base import errors as store_faults
from knowledge_base.cases import to_point
from knowledge_base.findings import FINDINGS, NO_FINDING
from knowledge_base.memory import MemoryStore
from knowledge_base.records import case_id, digest
from knowledge_base.store import Health
from rag_service import errors, wiring
from rag_service.gate import Gate
from rag_service.models.encoder import FilmEncoder
from rag_service.report.labeler import comparison_words
from rag_service.requests import DraftRequest, SearchRequest
from rag_service.service import RadiographService, Stopwatch
from rag_service.settings import Settings
from tests.integration.house import (
    NEGATIVE,
    PASSAGES,
    POSITIVE,
    REPORTS,
    SAID,
    UNCERTAIN,
    House,
    a_case,
    as_bytes,
    film,
)


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


def test_a_draft_says_what_was_decided_in_words_of_cases(house: House) -> None:
    draft = house.draft()
    assert draft.status == "draft"
    assert [(f.label, f.polarity) for f in draft.findings] == [
        ("Cardiomegaly", POSITIVE),
        ("Edema", UNCERTAIN),
        ("Pleural Effusion", POSITIVE),
        ("Pneumothorax", NEGATIVE),
        ("Fracture", NEGATIVE),
    ]
    sentences = {f.label: f.sentence for f in draft.findings}
    assert sentences["Cardiomegaly"] == "The heart is enlarged."
    assert sentences["Pleural Effusion"] == "There is a pleural effusion."
    assert sentences["Edema"] in {"Possible edema.", "Edema may be present."}
    assert draft.impression is not None
    assert draft.impression.startswith("There is a pleural effusion. The heart is enlarged. ")
    assert all(draft.checks[k] is True for k in ("every_sentence_cited", "every_quote_entails"))


def test_every_silence_has_its_reason(house: House) -> None:
    silent = {n.label: n.reason for n in house.draft().not_assessed}
    assert silent.pop("Atelectasis") == "between_operating_points"
    assert set(silent.values()) == {"not_reliable_enough"}
    assert set(silent) == set(FINDINGS) - set(SAID) - {NO_FINDING}


def test_the_same_film_and_index_give_the_same_bytes(house: House, words: Any, stored: NDArray[np.uint8]) -> None:
    first = as_bytes(house.draft(prompt="effusion?"))
    assert as_bytes(house.draft(prompt="effusion?")) == first
    assert (
        as_bytes(House(house.encoder, words, stored, Gate(house.limits, house.reference)).draft(prompt="effusion?"))
        == first
    )
    assert as_bytes(house.draft(prompt="rib fracture")) != first


def test_every_quote_is_in_its_record(house: House) -> None:
    draft = house.draft(indication="short of breath")
    kinds = []
    for finding in draft.findings:
        for citation in finding.citations:
            kinds.append(citation.kind)
            if citation.kind == "case":
                text = house.service.case(UUID(citation.id), "public").text
                assert house.service.source_name(citation) == f"case {citation.id[:8]}"
            else:
                passage = house.service._memory.passages[UUID(citation.id)]
                text = passage.text
                assert finding.label in passage.findings
                assert house.service.source_name(citation).startswith(f"{passage.organisation} {passage.year}, ")
            assert citation.quote == text[citation.span[0] : citation.span[1]]
        for counter in finding.counter_evidence:
            assert counter.quote in house.service.case(UUID(counter.id), "public").text
    assert {"case", "guideline"} == set(kinds)


def test_nothing_is_compared_without_a_prior(house: House) -> None:
    draft = house.draft()
    for finding in draft.findings:
        assert comparison_words(finding.sentence) == ()
        assert finding.progression is None
        assert not [c for c in finding.citations if c.kind == "case" and comparison_words(c.quote)]
    assert comparison_words(draft.impression or "") == ()


def test_findings_carry_probability_place_and_axes(house: House) -> None:
    draft = house.draft()
    for finding in draft.findings:
        low, high = finding.confidence.interval
        assert 0.0 <= low <= finding.confidence.p <= high <= 1.0
        assert (finding.boxes is None) or finding.polarity is not NEGATIVE
        axes = finding.uncertainty.top_axes
        assert [a.name for a in axes] == ["wxyz"[a.axis] for a in axes]
        assert len({a.axis for a in axes}) == 3
        assert finding.uncertainty.bl_tta_sd >= 0


def test_provenance_names_everything_the_draft_depends_on(house: House) -> None:
    made_of = house.draft().provenance
    assert (made_of.model, made_of.preprocessing, made_of.seed) == ("tiny@1-abababab", "p@1", 20260)
    assert made_of.index == house.plan.digest
    assert made_of.knowledge_base == wiring.content_digest(house.store)
    assert made_of.thresholds == digest([house.calibration.digest, house.limits.digest])
    before = made_of.knowledge_base
    house.add(a_case("z", "Clear."))
    assert wiring.content_digest(house.store) != before


def test_similar_cases_and_coverage(house: House) -> None:
    draft = house.draft()
    assert len(draft.similar_cases) == 5
    assert [c.score for c in draft.similar_cases] == sorted((c.score for c in draft.similar_cases), reverse=True)
    counts = {c.label: c.cases for c in draft.coverage}
    assert (counts["Cardiomegaly"], counts["Fracture"], counts["Lung Lesion"]) == (4, 1, 0)
    assert NO_FINDING not in counts


def test_a_long_report_is_shown_shortened(house: House) -> None:
    house.add(a_case("long", "The heart is enlarged. " * 20))
    shown = house.service.search(SearchRequest(text="heart enlarged", limit=20)).cases
    excerpt = next(c.excerpt for c in shown if c.id == str(case_id("openi", "long")))
    assert len(excerpt) <= 240
    assert excerpt.endswith("…")


def test_the_patients_own_cases_are_no_evidence(house: House) -> None:
    own = str(case_id("openi", "a"))
    assert own in house.cited(house.draft())
    assert own not in house.cited(house.draft(patient=("openi", "p-a")))
    assert own in house.cited(house.draft(patient=("nih", "p-a")))
    found = house.service.search(SearchRequest(text="heart", patient=("openi", "p-a"), limit=50))
    assert own not in {c.id for c in found.cases}


def test_the_film_itself_is_no_evidence(house: House) -> None:
    twin = a_case("twin", "The heart is enlarged. There is a pleural effusion.")
    house.add(twin, box=house.encoder.read(house.service.decode(film(house.stored))).box)
    draft = house.draft()
    assert str(twin.id) not in house.cited(draft)
    assert draft.checks["near_duplicates_excluded"] == 1


def test_withdrawn_cases_are_never_evidence(house: House) -> None:
    every = [case_id("openi", s) for s in REPORTS]
    house.store.set_withdrawn("cases", every[:1], "public")
    draft = house.draft()
    assert str(every[0]) not in house.cited(draft)
    with pytest.raises(errors.CaseWithdrawn):
        house.service.case(every[0], "isle")
    house.store.set_withdrawn("cases", every, "public")
    empty = house.draft()
    assert (empty.findings, empty.similar_cases) == ((), ())
    flagged = {n.label for n in empty.not_assessed if n.possible}
    assert flagged == {"Cardiomegaly", "Pleural Effusion", "Edema"}
    assert "Look for: Cardiomegaly, Edema, Pleural Effusion." in (empty.impression or "")


def test_a_withdrawn_case_is_gone_for_its_tenant_and_was_never_there_for_others(house: House) -> None:
    foreign = a_case("isle", "The heart is enlarged.", tenant="isle")
    house.add(foreign)
    house.store.set_withdrawn("cases", [foreign.id], "isle")
    house.store.delete("cases", [foreign.id], "isle")
    with pytest.raises(errors.CaseWithdrawn):
        house.service.case(foreign.id, "isle")
    with pytest.raises(errors.NotFound, match=r"^no such case$"):
        house.service.case(foreign.id, "coast")
    house.add(foreign)
    with pytest.raises(errors.CaseWithdrawn):
        house.service.case(foreign.id, "isle")
    house.store.set_withdrawn("cases", [foreign.id], "isle", withdrawn=False)
    assert house.service.case(foreign.id, "isle") == foreign


def test_another_tenants_cases_are_not_seen(house: House) -> None:
    foreign = a_case("isle", "The heart is enlarged.", tenant="isle")
    house.add(foreign)
    with pytest.raises(errors.NotFound):
        house.service.case(foreign.id, "public")
    assert house.service.case(foreign.id, "isle") == foreign
    assert str(foreign.id) not in house.cited(house.draft())
    found = house.service.search(SearchRequest(text="heart enlarged", tenant="isle", limit=50))
    assert str(foreign.id) in {c.id for c in found.cases}


def test_an_unknown_case_is_not_found(house: House) -> None:
    with pytest.raises(errors.NotFound, match="no such case"):
        house.service.case(uuid4(), "public")


def test_a_damaged_record_is_no_evidence(house: House) -> None:
    points = house.store._inner._collections["cases"].points
    broken = case_id("openi", "a")
    points[broken] = replace(points[broken], payload={**points[broken].payload, "text": "Altered."})
    draft = house.draft()
    assert str(broken) not in house.cited(draft)
    assert draft.checks["damaged_records"] >= 1
    with pytest.raises(errors.DamagedRecord):
        house.service.case(broken, "public")


@pytest.mark.parametrize("reason", ["lateral", "out_of_distribution"])
def test_a_film_that_is_turned_away_gets_reasons_and_nothing_else(house: House, reason: str) -> None:
    away = {"lateral": {"presentation": {"lateral": 0.0}}, "out_of_distribution": {"limit": 0.0}}
    house.limits = replace(house.limits, **away[reason])
    draft = house.draft()
    assert (draft.status, draft.abstain_reasons) == ("abstained", (reason,))
    assert (draft.findings, draft.similar_cases, draft.not_assessed, draft.coverage) == ((), (), (), ())
    assert (draft.impression, dict(draft.checks)) == (None, {})
    assert draft.provenance.film == house.service.decode(film(house.stored)).digest
    assert draft.out_of_distribution is not None
    assert as_bytes(draft) == as_bytes(house.draft())
    by_film = house.service.search(SearchRequest(film(house.stored)))
    assert (by_film.cases, by_film.abstain_reasons) == ((), (reason,))
    by_words = house.service.search(SearchRequest(film(house.stored), "heart"))
    assert by_words.cases
    assert {c.box_overlap for c in by_words.cases} == {None}


def test_bytes_that_are_no_film_are_refused(house: House) -> None:
    with pytest.raises(errors.FilmError):
        house.service.draft(DraftRequest(b"no film"))


def test_a_search_by_words_film_and_finding(house: House) -> None:
    by_words = house.service.search(SearchRequest(text="rib fracture", limit=3))
    assert by_words.cases[0].excerpt.startswith("FINDINGS: Rib fracture.") or len(by_words.cases) == 3
    assert len(by_words.passages) == 3
    assert by_words.provenance.film == ""
    by_film = house.service.search(SearchRequest(film(house.stored), limit=2))
    assert (len(by_film.cases), by_film.passages) == (2, ())
    assert all(0 < (c.box_overlap or 0) < 1 for c in by_film.cases)
    assert by_film.provenance.film == house.service.decode(film(house.stored)).digest
    both = house.service.search(SearchRequest(film(house.stored), "fracture", "Fracture"))
    assert [c.labels for c in both.cases] == [("Fracture",)] or "Fracture" in both.cases[0].labels
    with pytest.raises(errors.BadRequest, match="finding must be one of: No Finding, "):
        house.service.search(SearchRequest(text="x", finding="fracture"))


def test_the_stopwatch_hears_every_stage(house: House) -> None:
    watch = Stopwatch()
    house.service.draft(DraftRequest(film(house.stored)), watch)
    assert list(watch.seconds) == ["decode", "encode", "places", "structures", "search", "compose", "coverage"]
    assert all(s >= 0 for s in watch.seconds.values())


def test_readiness_and_closing(house: House) -> None:
    assert house.service.readiness() == {"model": "ok", "store": "ok"}
    house.service.close()
    assert house.service.readiness() == {"model": "ok", "store": "this store has been closed"}
    with pytest.raises(errors.StoreUnavailable):
        house.draft()


class Failing:
    """A store of which everything that is asked fails."""

    def __init__(self, store: MemoryStore, error: Exception) -> None:
        self.error = error
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(*_: object, **__: object) -> Any:
            raise self.error

        return fail

    def health(self) -> Health:
        return Health(ready=False)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (store_faults.StoreUnavailable("slow"), errors.StoreUnavailable),
        (store_faults.StoreProtocolError("what?"), errors.StoreProtocol),
        (store_faults.DiskLow("full"), errors.StoreUnavailable),
        (store_faults.CollectionMissing("cases"), errors.IndexModelMismatch),
        (store_faults.ManifestMismatch("cases", "box_model", "a@1", "b@1"), errors.IndexModelMismatch),
        (store_faults.DamagedRecordError("bits"), errors.DamagedRecord),
    ],
)
def test_the_stores_faults_become_the_services_errors(house: House, fault: Exception, kind: type[Exception]) -> None:
    service, failing = house.service, Failing(house.store, fault)
    service._memory = replace(service._memory, store=failing)
    service._memory.cases._store = failing
    for ask in (
        house.draft,
        lambda: service.search(SearchRequest(text="heart")),
        lambda: service.case(uuid4(), "public"),
        lambda: wiring.content_digest(failing),
        lambda: wiring.open_collections(failing, house.plan),
    ):
        with pytest.raises(kind) as caught:
            ask()
        assert type(caught.value) is kind
    assert service.readiness()["store"] == "unavailable"


def test_the_shipped_reader_drafts_or_abstains(words: Any, stored: NDArray[np.uint8]) -> None:
    reader = wiring.build_reader(Settings(torch_threads=0))
    store = MemoryStore()
    plan = wiring.layout(reader.encoder.record.id, reader.encoder.network.architecture.axes)
    wiring.open_collections(store, plan)
    for case in (a_case(study, text) for study, text in REPORTS.items()):
        store.upsert("cases", [to_point(case, plan.cases, text_vector=words.encode([case.text])[0])])
    service = RadiographService(reader, wiring.build_memory(store, reader.encoder, words))
    demo = PHANTOMS["demo"]
    phantom = render(demo.anatomy, demo.pathologies, demo.devices, rows=320, columns=264)
    draft = service.draft(DraftRequest(png(phantom)))
    assert as_bytes(draft) == as_bytes(service.draft(DraftRequest(png(phantom))))
    assert (draft.status == "draft") is (draft.abstain_reasons == ())
    said = {f.label for f in draft.findings} | {n.label for n in draft.not_assessed}
    assert said == (set(FINDINGS) - {NO_FINDING} if draft.status == "draft" else set())
    blank = np.zeros((1, 256, 256), np.uint8)
    blank[0, 0, 0] = 255
    assert service.draft(DraftRequest(film(blank))).abstain_reasons[0] == "blank"
