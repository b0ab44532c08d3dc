"""What a draft and a search rest on: near enough, each study once, against as well as for, and how much there is of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from knowledge_base.cases import to_point
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case
from knowledge_base.zones import REGION_WIDTH
from rag_service import errors, wiring
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.calibrators import Platt
from rag_service.evidence import separating_axes
from rag_service.gate import Gate
from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmEncoder
from rag_service.models.regions import RegionAxes
from rag_service.reader import Reader
from rag_service.relevance import RelevanceGate
from rag_service.report.draft import Draft, SearchAnswer, SeparatingAxis
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.requests import DraftRequest, SearchRequest
from rag_service.service import RadiographService

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
SAID = {"Edema": 6.0, "Pneumothorax": -6.0}
"""What is stated and what is denied, by the logit; of the rest nothing is said."""


def calibration() -> Calibration:
    def entry(finding: str) -> FindingCalibration:
        kind = Reliability.RELIABLE if finding in SAID else Reliability.TOO_WEAK
        scores, outcomes = (0.1, 0.3, 0.6, 0.9), (0, 0, 1, 1)
        platt = Platt(0.01, SAID.get(finding, 0.0))
        return FindingCalibration(platt, 0.9, 0.4, 0.4, 0.5, 0.1, kind, 2, 4, 1.0, scores, outcomes)

    names = ("w", "x", "y", "z")
    return Calibration("tiny", {f: entry(f) for f in FINDINGS}, Tiers(0.9, 0.6, 9.0, 9.0, 9.0), names, "none")


class House:
    """A service over a store that a test fills, and the film it is asked about."""

    def __init__(self, encoder: FilmEncoder, words: Any, stored: NDArray[np.uint8], gate: Gate) -> None:
        out = BytesIO()
        Image.fromarray(stored[0]).save(out, "PNG")
        self.film, self.words = out.getvalue(), words
        self.store: Any = MemoryStore()
        self.plan = wiring.layout(encoder.record.id, 4)
        wiring.open_collections(self.store, self.plan)
        self.service = RadiographService(
            Reader(encoder, calibration(), gate), wiring.build_memory(self.store, encoder, words)
        )
        self.reading = encoder.read(self.service.decode(self.film))

    def add(self, study: str, findings: str, apart: float, source: str = "openi", **more: Any) -> str:
        """A case whose box lies `apart` radii from the film's, on each axis; its id."""
        text = f"FINDINGS: {findings}"
        sentences = read_case_sentences(text, shared_labeler())
        case = Case(source, study, more.pop("patient", f"p-{study}"), text, sentences, **more)
        seen = self.reading.box
        box = BoxLatent(seen.centre + np.float32(apart) * seen.radius, seen.radius)
        vector = self.words.encode([text])[0]
        point = to_point(case, self.plan.cases, box=box, text_vector=vector, regions=self.reading.regions)
        self.store.upsert("cases", [point])
        return str(case.id)

    def gated(self, least: float) -> None:
        """From now on evidence overlaps with the film by at least this."""
        gate = RelevanceGate("tiny", dict.fromkeys(Polarity, least), "made by hand", "none")
        self.service._reader = replace(self.service._reader, relevance=gate)

    def draft(self, **more: Any) -> Draft:
        return self.service.draft(DraftRequest(self.film, **more))

    def search(self, **more: Any) -> SearchAnswer:
        return self.service.search(SearchRequest(**more))


@pytest.fixture
def house(
    encoder: FilmEncoder,
    words: Any,
    stored: NDArray[np.uint8],
    open_gate: Callable[[str, int], Gate],
) -> House:
    record, network = encoder.record, encoder.network
    width = network.places.local(
        *network.stages(torch.zeros(1, 1, network.architecture.side, network.architecture.side))
    ).shape[1]
    axes = RegionAxes(record.id, np.zeros(width, np.float32), np.eye(width, REGION_WIDTH, dtype=np.float32))
    return House(FilmEncoder(record, network, axes=axes), words, stored, open_gate("tiny", 302))


def said(draft: Draft) -> dict[str, Any]:
    return {f.label: f for f in draft.findings}


def test_counter_evidence_is_nearest_of_all_that_say_the_opposite(house: House) -> None:
    for i in range(105):
        house.add(f"sick-{i}", "There is edema. No pneumothorax.", 0.2 + i / 1000)
    farther, nearer = (house.add(s, "No edema. There is a pneumothorax.", a) for s, a in (("far", 0.9), ("near", 0.8)))
    house.add("hidden", "No edema. Edema on the left. No pneumothorax.", 0.7)
    found = said(house.draft())
    for label, quote in (("Edema", "No edema."), ("Pneumothorax", "There is a pneumothorax.")):
        against = found[label].counter_evidence
        assert [c.id for c in against] == [nearer, farther]
        assert {c.quote for c in against} == {quote}
        text = house.service.case(UUID(nearer), "public").text
        assert text[slice(*against[0].span)] == quote


def test_a_case_whose_report_contradicts_its_film_is_no_evidence(house: House) -> None:
    house.add("mixed up", "There is edema. No pneumothorax.", 0.2, consistent=False)
    house.add("mixed up too", "No edema. There is a pneumothorax.", 0.2, consistent=False)
    sound = house.add("sound", "There is edema. No pneumothorax.", 0.6, consistent=True)
    unjudged = house.add("unjudged", "No edema. There is a pneumothorax.", 0.9)
    draft = house.draft()
    for finding in said(draft).values():
        assert {c.id for c in finding.citations if c.kind == "case"} == {sound}
        assert [c.id for c in finding.counter_evidence] == [unjudged]
    assert {c.id for c in draft.similar_cases} == {sound, unjudged}


def test_counter_evidence_says_what_separates_it(house: House) -> None:
    house.add("sick", "There is edema. No pneumothorax.", 0.2)
    house.add("well", "No edema.", -0.5)
    axes = said(house.draft())["Edema"].counter_evidence[0].separating_axes
    weights = house.service._reader.encoder.finding_weights[FINDINGS.index("Edema")]
    radius = house.reading.box.radius
    order = np.argsort(-np.abs(weights * radius), kind="stable")[:3]
    assert [a.axis for a in axes] == order.tolist()  # every axis has the same share in common
    assert [a.name for a in axes] == ["wxyz"[j] for j in order]
    assert [a.difference for a in axes] == pytest.approx([0.5 * float(radius[j]) for j in order], abs=1e-5)
    assert [a.logit for a in axes] == pytest.approx([0.5 * float(radius[j] * weights[j]) for j in order], abs=1e-5)


def test_axes_count_by_what_they_add_and_by_what_the_boxes_do_not_share() -> None:
    film = BoxLatent(np.array([0, 1, 0, 0], np.float32), np.array([1, 1, 1, 1], np.float32))
    case = BoxLatent(np.array([1, 0, 0, 9], np.float32), np.array([1, 9, 1, 1], np.float32))
    found = separating_axes(film, case, np.array([2.0, 3.0, 5.0, -1.0]), "abcd")
    assert found == (
        SeparatingAxis(3, "d", -9.0, 9.0),
        SeparatingAxis(1, "b", 1.0, 3.0),  # 8 / 9 of the wide interval is its own
        SeparatingAxis(0, "a", -1.0, -2.0),  # 2 / 3
    )


def test_what_is_too_far_is_not_passed_on(house: House) -> None:
    near = house.add("near", "No pneumothorax.", 0.2)
    house.add("far", "There is edema. No pneumothorax seen.", 1.0)
    house.add("against", "A pneumothorax.", 1.1)
    free = house.draft()
    assert set(said(free)) == {"Edema", "Pneumothorax"}
    assert [len(f.counter_evidence) for f in free.findings] == [0, 1]
    house.gated(0.5)  # (2 - a) / (2 + a): 0.2 apart is 0.82, 1.0 is 0.33
    draft = house.draft()
    assert set(said(draft)) == {"Pneumothorax"}
    denied = said(draft)["Pneumothorax"]
    assert ([c.id for c in denied.citations], denied.counter_evidence) == ([near], ())
    silent = {n.label: n for n in draft.not_assessed}
    assert (silent["Edema"].reason, silent["Edema"].possible) == ("no_case_is_near_enough", True)
    assert "Look for: Edema." in (draft.impression or "")
    assert draft.provenance.thresholds != free.provenance.thresholds


def test_as_many_are_cited_as_pass_and_at_most_three(house: House) -> None:
    for i in range(5):
        house.add(f"s{i}", "There is edema.", 0.2 * (i + 1))
    counts = []
    for least in (0.9, 0.8, 0.6, 0.3):
        house.gated(least)
        finding = said(house.draft()).get("Edema")
        counts.append(0 if finding is None else sum(c.kind == "case" for c in finding.citations))
    assert counts == [0, 1, 2, 3]


def test_one_draft_asks_the_store_for_lists_once_and_for_records_once(house: House) -> None:
    for i in range(4):
        house.add(f"s{i}", "There is edema. No pneumothorax.", 0.2 * (i + 1))
    asked: Counter[str] = Counter()
    search = house.service._memory.cases
    for name in ("ranked", "get", "scroll", "facet"):
        method = getattr(search._store, name)
        setattr(search._store, name, lambda *a, _n=name, _m=method, **k: asked.update([_n]) or _m(*a, **k))
    house.draft()
    assert asked == {"ranked": 1, "get": 1, "facet": 1}
    house.draft(patient=("openi", "p-s0"))
    assert asked == {"ranked": 2, "get": 2, "facet": 2, "scroll": 1}


def test_comparisons_are_cited_only_for_a_patient_with_a_prior(house: House) -> None:
    house.add("whole", "There is edema.", 0.3)
    house.add("changed", "Increased edema compared to the prior film.", 0.4)
    house.add("before", "Clear lungs.", 0.6, patient="p")
    own = house.add("own", "There is edema.", 0.0, patient="q")

    def quotes(**more: Any) -> list[str]:
        return [c.quote for c in said(house.draft(**more))["Edema"].citations if c.kind == "case"]

    assert quotes() == quotes(patient=("openi", "unknown")) == ["There is edema.", "edema"]
    assert quotes(patient=("openi", "p")) == ["There is edema.", "Increased edema compared to the prior film."]
    assert quotes(patient=("openi", "q")) == ["There is edema.", "edema"]  # the film itself is no prior
    assert {f.sentence for f in house.draft(patient=("openi", "p")).findings} == {"There is edema."}
    assert own not in {c.id for c in house.draft().similar_cases}


def test_few_cases_are_told(house: House) -> None:
    for i in range(30):
        house.add(f"s{i}", "Pneumonia." if i < 29 else "Pneumonia and edema.", 0.3)
    warnings = {c.label: (c.cases, c.warning) for c in house.draft().coverage}
    assert warnings["Pneumonia"] == (30, None)
    assert warnings["Edema"] == (1, "Only 1 case of Edema here.")
    assert warnings["Fracture"] == (0, "No case of Fracture here.")
    asked = house.search(text="pneumonia without pneumothorax", finding="Edema").coverage
    assert [(c.label, c.cases, c.warning) for c in asked] == [
        ("Pneumonia", 30, None),
        ("Pneumothorax", 0, "No case of Pneumothorax here."),
        ("Edema", 1, "Only 1 case of Edema here."),
    ]
    house.add("own", "Edema.", 0.3, tenant="isle")
    assert [c.cases for c in house.search(text="edema", tenant="isle").coverage] == [2]
    assert house.search(text="hello").coverage == ()


def test_the_film_itself_is_found_only_when_asked_for(house: House) -> None:
    own, other = house.add("own", "There is edema.", 0.0), house.add("other", "There is edema.", 0.5)
    assert [c.id for c in house.search(film=house.film).cases] == [other]
    assert [c.id for c in house.search(film=house.film, include_same=True).cases] == [own, other]
    assert {c.id for c in house.search(text="edema").cases} == {own, other}
    assert [c.id for c in house.search(film=house.film, limit=1).cases] == [other]


def test_a_diverse_search_puts_an_unlike_case_before_more_of_the_same(house: House) -> None:
    for number in range(9):
        house.add(f"copy-{number}", "There is edema.", 0.3 + number / 20)
    unlike = house.add("unlike", "No edema. There is a pneumothorax.", 0.375)
    plain = [c.id for c in house.search(film=house.film).cases]
    diverse = [c.id for c in house.search(film=house.film, diverse=True).cases]
    assert sorted(plain) == sorted(diverse)
    assert (diverse[0], plain.index(unlike), diverse.index(unlike)) == (plain[0], 9, 8)


def test_a_study_that_is_there_twice_is_one_answer_and_one_citation(house: House) -> None:
    house.add("one", "There is edema.", 0.5)
    house.add("one", "There is edema.", 0.5, source="nih")
    house.add("two", "Some edema.", 0.6, source="nih")
    house.add("two", "Edema, and some of it, on the same film.", 0.6)
    assert len(house.search(film=house.film).cases) == 2
    assert len(house.search(text="edema").cases) == 3  # no films are compared: the same words, of two sources, are one
    draft = house.draft()
    assert len(draft.similar_cases) == 2
    assert sum(c.kind == "case" for c in said(draft)["Edema"].citations) == 2


def test_a_search_answers_with_the_sentence_on_the_side_asked_for(house: House) -> None:
    reports = {
        "right": "Heart is normal. Right pleural effusion.",
        "left": "Right lung is clear. Left basilar pleural effusion.",
        "both": "Bilateral pleural effusions.",
        "unsaid": "Increased pleural effusion.",
        "none": "No pleural effusion.",
    }
    studies = {house.add(study, text, 0.3 + i / 10): study for i, (study, text) in enumerate(reports.items())}
    answer = house.search(text="left pleural effusion")
    assert [studies[c.id] for c in answer.cases] == ["left", "both", "unsaid", "right", "none"]
    sentences = [c.sentence for c in answer.cases]
    assert [s and s.quote for s in sentences] == [
        "Left basilar pleural effusion.",
        "Bilateral pleural effusions.",
        "pleural effusion",
        "Right pleural effusion.",
        "No pleural effusion.",
    ]
    first, last = sentences[0], sentences[-1]
    assert first is not None
    assert (first.finding, first.polarity, first.laterality, first.location) == (
        "Pleural Effusion", POSITIVE, "left", "base",
    )  # fmt: skip
    assert last is not None
    assert (last.finding, last.polarity) == (None, None)  # it shares the words and says the opposite
    denied = house.search(text="no effusion").cases[0]
    assert (studies[denied.id], denied.sentence and denied.sentence.polarity) == ("none", NEGATIVE)
    for case in answer.cases:
        assert case.sentence is not None
        start, end = case.sentence.span
        assert f"FINDINGS: {reports[studies[case.id]]}"[start:end] == case.sentence.quote
    change = house.search(text="increased effusion").cases
    assert "Increased pleural effusion." in {c.sentence.quote for c in change if c.sentence}
    house.add("earlier", "Clear.", 0.9, patient="p")
    known = house.search(text="left pleural effusion", patient=("openi", "p")).cases
    assert "Increased pleural effusion." in {c.sentence.quote for c in known if c.sentence}


def test_a_hedged_question_asks_for_the_finding(house: House) -> None:
    house.add("a", "There is edema.", 0.4)
    answer = house.search(text="possible edema?")
    assert answer.cases[0].sentence is not None
    assert answer.cases[0].sentence.quote == "There is edema."


def test_a_search_by_film_alone_has_no_question_to_answer(house: House) -> None:
    house.add("a", "There is edema.", 0.4)
    answer = house.search(film=house.film)
    assert ([c.sentence for c in answer.cases], answer.coverage) == ([None], ())
    with_finding = house.search(film=house.film, finding="Edema").cases[0].sentence
    assert with_finding is not None
    assert with_finding.finding == "Edema"


def test_a_region_of_the_film_finds_cases(house: House) -> None:
    expected = house.add("a", "There is edema.", 0.4)
    found = house.search(film=house.film, region=Box(0.1, 0.1, 0.5, 0.6))
    assert [c.id for c in found.cases] == [expected]
    only_box = house.search(film=house.film).cases[0]
    assert found.cases[0].score > only_box.score  # one more list has it


def test_a_model_without_regions_says_so(house: House) -> None:
    encoder = house.service._reader.encoder
    house.service._reader = replace(house.service._reader, encoder=FilmEncoder(encoder.record, encoder.network))
    with pytest.raises(errors.BadWeights, match=r"no regions\.json"):
        house.search(film=house.film, region=Box(0.1, 0.1, 0.5, 0.6))


def test_a_film_that_is_turned_away_is_not_searched_by_its_region(house: House) -> None:
    house.add("a", "There is edema.", 0.4)
    gate = house.service._reader.gate
    shut = Gate(replace(gate.thresholds, limit=0.0), gate.reference)
    house.service._reader = replace(house.service._reader, gate=shut)
    found = house.search(film=house.film, region=Box(0.1, 0.1, 0.5, 0.6))
    assert (found.cases, found.abstain_reasons) == ((), ("out_of_distribution",))
