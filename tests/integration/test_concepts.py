"""Concepts in the service: in each draft and its findings, shared with similar cases, and steered along."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from knowledge_base.cases import to_point
from knowledge_base.findings import FINDINGS
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case
from rag_service import errors, wiring
from rag_service.imaging.decode import decode
from rag_service.models.concepts import Naming, load_concepts, save_concepts
from rag_service.models.encoder import load_encoder
from rag_service.models.sparse_autoencoder import SparseAutoencoder
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.requests import DraftRequest, SearchRequest, SteerRequest
from rag_service.service import RadiographService
from rag_service.settings import Settings

TEXT = "FINDINGS: The heart is enlarged. There is a pleural effusion. There is edema. No fracture is seen."
MEANS = (("Edema",), (), ("Edema", "Fracture"), ())


@pytest.fixture(scope="module")
def film(stored: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(stored[0]).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def box(whole_model: Path, film: bytes) -> BoxLatent:
    """The film's."""
    return load_encoder(whole_model).read(decode(film)).box


@pytest.fixture
def folder(whole_model: Path, tmp_path: Path, box: BoxLatent) -> Path:
    """A whole model with a concept for each axis, pointing to where the film lies: its activation is |centre|."""
    made = tmp_path / "model"
    shutil.copytree(whole_model, made)
    rows = np.diag(np.sign(box.centre.astype(np.float64)))
    coder = SparseAutoencoder(np.zeros(4), np.ones(4), rows, np.zeros(4), rows, np.zeros(4), 0.0, (4,))
    names = tuple(Naming(f"c{i}", i != 3, f"c{i}", f, 0.5, 0.1, 9, 1.0) for i, f in enumerate(MEANS))
    save_concepts(made, load_encoder(made).record.id, coder, names, "made by hand")
    return made


def served(folder: Path, words: Any, box: BoxLatent) -> RadiographService:
    """A service over three cases whose boxes lie beside the film's."""
    reader = wiring.build_reader(Settings(model_folder=str(folder)))
    store = MemoryStore()
    plan = wiring.layout(reader.encoder.record.id, 4)
    wiring.open_collections(store, plan)
    for number in range(3):
        case = Case("openi", f"s{number}", f"p{number}", TEXT, read_case_sentences(TEXT, Labeler()))
        beside = BoxLatent(box.centre + np.float32(0.2 * (number + 1)) * box.radius, box.radius)
        point = to_point(case, plan.cases, box=beside, text_vector=words.encode([TEXT])[0])
        store.upsert("cases", [point])
    return RadiographService(reader, wiring.build_memory(store, reader.encoder, words))


def as_bytes(answer: Any) -> bytes:
    return json.dumps(answer.to_json(), sort_keys=True, allow_nan=False).encode()


def test_a_draft_tells_the_concepts_at_work(folder: Path, words: Any, box: BoxLatent, film: bytes) -> None:
    service = served(folder, words, box)
    draft, encoder = service.draft(DraftRequest(film)), load_encoder(folder)
    order = np.argsort(-np.abs(box.centre)).tolist()
    assert [(c.index, c.name) for c in draft.concepts] == [(i, f"c{i}") for i in order]
    assert [c.activation for c in draft.concepts] == pytest.approx(np.abs(box.centre)[order].tolist())
    assert draft.findings
    for finding in draft.findings:
        raised = encoder.finding_weights[FINDINGS.index(finding.label)] * box.centre
        strongest = [i for i in np.argsort(-raised).tolist() if raised[i] > 0][:3]
        assert [c.index for c in finding.concepts] == strongest
    concepts = load_concepts(folder, encoder.record.id)
    assert concepts is not None
    assert draft.provenance.concepts == concepts.digest
    assert as_bytes(draft) == as_bytes(service.draft(DraftRequest(film)))
    assert as_bytes(draft) == as_bytes(served(folder, words, box).draft(DraftRequest(film)))


def test_similar_cases_say_which_named_concepts_they_share(
    folder: Path, words: Any, box: BoxLatent, film: bytes
) -> None:
    service = served(folder, words, box)
    named = [f"c{i}" for i in np.argsort(-np.abs(box.centre)).tolist() if i != 3]
    shown = service.draft(DraftRequest(film)).similar_cases
    assert shown
    assert {frozenset(c.shared_concepts or ()) for c in shown} <= {frozenset(named), frozenset(named[:2])}
    assert service.search(SearchRequest(film)).cases[0].shared_concepts == shown[0].shared_concepts
    assert service.search(SearchRequest(text="heart")).cases[0].shared_concepts is None


def test_a_model_without_concepts_drafts_without_them(
    whole_model: Path, words: Any, box: BoxLatent, film: bytes
) -> None:
    service = served(whole_model, words, box)
    draft = service.draft(DraftRequest(film))
    assert (draft.concepts, draft.provenance.concepts) == ((), None)
    assert {f.concepts for f in draft.findings} == {()}
    assert {c.shared_concepts for c in draft.similar_cases} == {None}
    with pytest.raises(errors.BadWeights, match=r"no concepts; run `python -m rag_service\.training concepts"):
        service.steer(SteerRequest(film, 0, 1.0))


def test_concepts_of_the_model_before_are_refused(folder: Path) -> None:
    record = json.loads((folder / "film-encoder.json").read_text())
    (folder / "film-encoder.json").write_text(json.dumps({**record, "version": "2"}))
    with pytest.raises(errors.BadWeights, match=r"made for .*, the model is .*; run `python -m .* concepts"):
        load_concepts(folder, load_encoder(folder).record.id)


def test_steering_says_what_changes_on_target_and_off(folder: Path, words: Any, box: BoxLatent, film: bytes) -> None:
    service = served(folder, words, box)
    answer = service.steer(SteerRequest(film, 2, 1.5))
    assert answer.concept is not None
    assert (answer.concept.name, answer.alpha, answer.targets) == ("c2", 1.5, ("Edema", "Fracture"))
    assert answer.concept.activation == pytest.approx(float(np.abs(box.centre[2])))
    assert [c.label for c in answer.changes] == list(FINDINGS)
    moved = {c.label: c.after - c.before for c in answer.changes}
    assert answer.on_target == pytest.approx((moved["Edema"] + moved["Fracture"]) / 2)
    others = [abs(change) for label, change in moved.items() if label not in answer.targets]
    assert answer.off_target == pytest.approx(sum(others) / 12)
    assert max(others) > 0
    weights = load_encoder(folder).finding_weights[:, 2] * np.sign(box.centre[2])
    assert [change > 0 for change in moved.values()] == (weights > 0).tolist()
    before = {c.label: c.before for c in answer.changes}
    for finding in service.draft(DraftRequest(film)).findings:
        assert before[finding.label] == pytest.approx(finding.confidence.p)
    assert as_bytes(service.steer(SteerRequest(film, 2, 1.5))) == as_bytes(answer)
    still = service.steer(SteerRequest(film, 1, 0.0))
    assert (still.on_target, still.off_target) == (None, 0.0)


@pytest.mark.parametrize(("concept", "alpha"), [(-1, 1.0), (0, 4.1), (0, -4.1), (0, float("nan"))])
def test_a_request_to_steer_checks_itself(concept: int, alpha: float) -> None:
    with pytest.raises(errors.BadRequest):
        SteerRequest(b"film", concept, alpha)


def test_an_unknown_concept_is_refused(folder: Path, words: Any, box: BoxLatent, film: bytes) -> None:
    with pytest.raises(errors.BadRequest, match="concept must lie between 0 and 3"):
        served(folder, words, box).steer(SteerRequest(film, 4, 1.0))


def test_a_film_that_is_turned_away_is_not_moved(folder: Path, words: Any, box: BoxLatent, film: bytes) -> None:
    service = served(folder, words, box)
    gate = service._reader.gate
    gate.thresholds = replace(gate.thresholds, presentation={"lateral": 0.0})
    answer = service.steer(SteerRequest(film, 0, 1.0))
    assert answer.abstain_reasons == ("lateral",)
    assert (answer.concept, answer.changes, answer.on_target, answer.off_target) == (None, (), None, None)
    assert service.draft(DraftRequest(film)).concepts == ()
