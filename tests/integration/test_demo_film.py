"""The shipped model on the project's own film: what `make demo` does, on the real weights and the real starter cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from eval.phantom.cases import CASES
from eval.phantom.files import dicom, png
from eval.phantom.thorax import Phantom, render
from eval.phantom.variants import ct_slice
from indexer.__main__ import main as indexer
from knowledge_base.findings import Polarity
from knowledge_base.passages import load_passages
from rag_service.report.aspects import Verdict
from rag_service.report.draft import Status
from rag_service.report.entailment import entails
from rag_service.report.labeler import Labeler, comparison_words
from rag_service.requests import DraftRequest, SearchRequest
from rag_service.service import RadiographService
from rag_service.settings import Settings
from rag_service.wiring import build_service

LABELER = Labeler()
PASSAGES = {str(p.id): p.text for p in load_passages()}


def implied(sentence: str, quote: str) -> bool:
    """Whether what is quoted makes a sentence true, as the labeler reads both."""
    return entails([LABELER.read(quote)], LABELER.read(sentence)).verdict is Verdict.ENTAILED


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RadiographService]:
    store = str(tmp_path_factory.mktemp("knowledge") / "index")
    assert indexer(["starter", "--quiet", "--store", store]) == 0
    built = build_service(replace(Settings(), store=store, workers=1))
    yield built
    built.close()


@pytest.fixture(scope="module")
def film() -> Phantom:
    case = CASES["demo"]
    return render(case.anatomy, case.pathologies, case.devices, seed=0)


def test_the_demo_film_is_drafted_on_its_merits(service: RadiographService, film: Phantom) -> None:
    draft = service.draft(DraftRequest(png(film)))
    assert draft.status is Status.DRAFT
    said = {f.label: f for f in draft.findings}
    assert said["Lung Opacity"].polarity is Polarity.POSITIVE  # the edema whitens both lungs
    assert len(said["Lung Opacity"].boxes or ()) == 2
    assert said["Pleural Effusion"].polarity is Polarity.UNCERTAIN
    truth = next(t.box for t in film.findings if t.label == "Pleural Effusion")
    (box,) = said["Pleural Effusion"].boxes or ()
    assert box.iou(truth) > 0.2
    assert truth.x_min < (box.x_min + box.x_max) / 2 < truth.x_max
    assert truth.y_min < (box.y_min + box.y_max) / 2 < truth.y_max
    assert box.x_min > 0.5  # the patient's left


def test_every_sentence_rests_on_what_it_quotes(service: RadiographService, film: Phantom) -> None:
    draft = service.draft(DraftRequest(png(film)))
    for finding in draft.findings:
        first = finding.citations[0]
        assert implied(finding.sentence, first.quote)
        assert comparison_words(finding.sentence) == ()
        assert finding.laterality is None
        for citation in finding.citations:
            guideline = citation.kind == "guideline"
            text = PASSAGES[citation.id] if guideline else service.case(UUID(citation.id), "public").text
            assert text[citation.span[0] : citation.span[1]] == citation.quote


def test_the_same_bytes_give_the_same_bytes(service: RadiographService, film: Phantom) -> None:
    first, second = (json.dumps(service.draft(DraftRequest(png(film))).to_json(), sort_keys=True) for _ in range(2))
    assert first == second


def test_twins_of_a_film_are_read_alike(service: RadiographService, film: Phantom) -> None:
    twins = [dicom(film, bits_stored=12, photometric=p) for p in ("MONOCHROME1", "MONOCHROME2")]
    one, other = (service.draft(DraftRequest(t)) for t in twins)
    assert [(f.label, f.confidence.p, f.boxes) for f in one.findings] == [
        (f.label, f.confidence.p, f.boxes) for f in other.findings
    ]


def test_search_by_words_finds_cases_that_say_them(service: RadiographService) -> None:
    answer = service.search(SearchRequest(text="large right pleural effusion", limit=5))
    assert any("Pleural Effusion" in c.labels for c in answer.cases)
    assert len(answer.cases) == 5


def test_what_is_no_upright_frontal_film_is_turned_away(service: RadiographService, film: Phantom) -> None:
    noise = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    spoilt = {
        "not_chest": ct_slice(CASES["normal"].anatomy),
        "rotated": np.rot90(film.pixels).copy(),
        "inverted": 1.0 - film.pixels,
        "out_of_distribution": noise,
    }
    for reason, pixels in spoilt.items():
        refused = service.draft(DraftRequest(png(replace(film, pixels=pixels))))
        assert refused.status is Status.ABSTAINED
        assert reason in refused.abstain_reasons
        assert refused.findings == ()
