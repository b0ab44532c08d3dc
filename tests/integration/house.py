"""A service over an exact store, and a reader whose calibration says what a test wants."""

from __future__ import annotations

import json
from functools import cache, cached_property
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer import starter
from indexer.summary import Summary
from knowledge_base.cases import to_point
from knowledge_base.findings import FINDINGS, Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.passages import load_passages
from knowledge_base.records import BoxLatent, Case
from knowledge_base.withdrawals import WithdrawalKeeper
from rag_service import wiring
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.calibrators import Platt
from rag_service.changes import ChangeRule
from rag_service.gate import Gate
from rag_service.models.encoder import FilmEncoder
from rag_service.reader import Reader
from rag_service.report.draft import Draft
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.requests import DraftRequest
from rag_service.service import RadiographService
from rag_service.views import ViewFusion

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN
LABELER = Labeler()
SAID = {
    "Cardiomegaly": 6.0,
    "Pleural Effusion": 6.0,
    "Edema": 0.6,
    "Pneumothorax": -6.0,
    "Fracture": -6.0,
    "Atelectasis": -1.2,
}
"""What the logit comes to, nearly: stated, stated, possible, denied, denied, between; the rest is not reliable."""
REPORTS = {
    "a": "The heart is enlarged. There is a pleural effusion. No pneumothorax.",
    "b": "The heart is enlarged. Possible edema. No pneumothorax. No fracture is seen.",
    "c": "Stable pleural effusion. The heart is enlarged. Edema may be present. No edema.",
    "d": "There is a pleural effusion. New edema since the prior study. The heart is normal.",
    "e": "Small left pleural effusion. Heart size is normal. No pneumothorax is seen.",
    "f": "No acute cardiopulmonary abnormality. No pneumothorax. No pleural effusion. No edema.",
    "g": "Rib fracture. Possible edema. The heart is enlarged since XXXX.",
}  # fmt: skip


def a_case(study: str, findings: str, **more: Any) -> Case:
    text = f"FINDINGS: {findings}"
    return Case("openi", study, f"p-{study}", text, read_case_sentences(text, LABELER), **more)


def film(stored: NDArray[np.uint8], index: int = 0) -> bytes:
    out = BytesIO()
    Image.fromarray(stored[index]).save(out, "PNG")
    return out.getvalue()


def calibration() -> Calibration:
    def entry(finding: str) -> FindingCalibration:
        kind = Reliability.RELIABLE if finding in SAID else Reliability.TOO_WEAK
        scores, outcomes = (0.1, 0.3, 0.6, 0.9), (0, 0, 1, 1)
        return FindingCalibration(
            Platt(0.01, SAID.get(finding, 0.0)), 0.9, 0.4, 0.4, 0.5, 0.1, kind, 2, 4, 1.0, scores, outcomes
        )

    return Calibration(
        "tiny", {f: entry(f) for f in FINDINGS}, Tiers(0.9, 0.6, 9.0, 9.0, 9.0), ("w", "x", "y", "z"), "none"
    )


class House:
    """A service with everything it is made of."""

    def __init__(self, encoder: FilmEncoder, words: Any, stored: NDArray[np.uint8], gate: Gate) -> None:
        self.encoder, self.words, self.stored = encoder, words, stored
        self.store: Any = WithdrawalKeeper(MemoryStore())
        self.calibration = calibration()
        self.limits, self.reference = gate.thresholds, gate.reference
        self.views: ViewFusion | None = None
        self.changes: ChangeRule | None = None
        self.plan = wiring.layout(encoder.record.id, 4)
        wiring.open_collections(self.store, self.plan)
        list(starter.add_passages(self.store, self.plan.guidelines, words, Summary()))
        self.add(*(a_case(study, text) for study, text in REPORTS.items()))

    def add(self, *cases: Case, box: BoxLatent | None = None) -> None:
        seen = self.encoder.read_stored(self.stored)[0].box
        for case in cases:
            shift = np.float32(0.2 + int.from_bytes(case.study.encode()[:1], "big") % 7 / 10)
            place = box or BoxLatent(seen.centre + shift * seen.radius, seen.radius)
            vector = self.words.encode([case.text])[0]
            self.store.upsert("cases", [to_point(case, self.plan.cases, box=place, text_vector=vector)])

    @cached_property
    def service(self) -> RadiographService:
        gate = Gate(self.limits, self.reference)
        reader = Reader(self.encoder, self.calibration, gate, self.views, changes=self.changes)
        return RadiographService(reader, wiring.build_memory(self.store, self.encoder, self.words))

    def draft(self, **more: Any) -> Draft:
        return self.service.draft(DraftRequest(film(self.stored), **more))

    def cited(self, draft: Draft) -> set[str]:
        """Ids of all cases a draft rests on or shows."""
        of_findings = {c.id for f in draft.findings for c in (*f.citations, *f.counter_evidence)}
        return of_findings | {c.id for c in draft.similar_cases}


PASSAGES = cache(lambda: load_passages()[::4])
"""A quarter of the library, read once."""


def as_bytes(draft: Draft) -> bytes:
    return json.dumps(draft.to_json(), sort_keys=True).encode()
