"""The use cases: draft a report for a film, search similar cases, show a case. Everything it uses arrives built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Final
from uuid import UUID

import numpy as np

from knowledge_base.cases import from_payload
from knowledge_base.errors import (
    CollectionMissing,
    DamagedRecordError,
    ManifestMismatch,
    StoreError,
    StoreProtocolError,
)
from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.guideline_search import GuidelineSearch, PassageHit
from knowledge_base.records import BoxLatent, Case, Passage, digest
from knowledge_base.schema import CASES
from knowledge_base.search import CaseHit, CaseQuery, CaseSearch
from knowledge_base.store import KnowledgeStore, Scope
from knowledge_base.withdrawals import withdrawn_among
from rag_service.calibration import Calibration, Reliability
from rag_service.errors import (
    BadRequest,
    BadWeights,
    CaseWithdrawn,
    DamagedRecord,
    FilmError,
    IndexModelMismatch,
    LateralNotUsable,
    NotFound,
    StoreProtocol,
    StoreUnavailable,
)
from rag_service.explain.boxes import boxes
from rag_service.explain.places import place_maps
from rag_service.gate import Gate, Verdict
from rag_service.imaging.decode import decode
from rag_service.imaging.decode_pool import DecodePool
from rag_service.imaging.film import Film
from rag_service.models.concepts import REMEDY, Concept, SparseConcepts, effect, steer
from rag_service.models.encoder import BL_TTA_SEED, FilmEncoder, FilmReading
from rag_service.models.text import TextEncoder
from rag_service.report.compose import compose, quote_passage
from rag_service.report.decisions import Decision
from rag_service.report.draft import (
    AxisUncertainty,
    Change,
    Citation,
    Coverage,
    Draft,
    Provenance,
    SearchAnswer,
    SimilarCase,
    Status,
    SteerAnswer,
    Uncertainty,
)
from rag_service.report.impression import impression
from rag_service.report.labeler import comparison_words
from rag_service.requests import DraftRequest, SearchRequest, SteerRequest
from rag_service.views import ViewFusion, check_lateral

NEAR: Final = 100
"""Cases looked at around the film; denied findings take their sentences from these."""
STATING: Final = 60
"""Cases looked at that state a finding the film may show."""
PASSAGES: Final = 2
SIMILAR: Final = 5
TOP_AXES: Final = 3
CONCEPTS: Final = 5
"""Concepts shown of a film; of a finding, and of two films together, at most FEWER."""
FEWER: Final = 3
EXCERPT: Final = 240
RETRY_AFTER_SECONDS: Final = 2
"""When to ask a store again that gave no word of its own."""
BETWEEN: Final = "between_operating_points"
"""Silence because the probability lies between the two operating points."""
NEAR_DUPLICATE: Final = 0.98
"""Box overlap from which a case counts as this very film: never evidence for itself."""


@contextmanager
def store_errors() -> Iterator[None]:
    """The store's errors as the service's own."""
    try:
        yield
    except (ManifestMismatch, CollectionMissing) as error:
        raise IndexModelMismatch(str(error)) from error
    except DamagedRecordError as error:
        raise DamagedRecord("a stored record fails its checksum; run `python -m indexer verify`") from error
    except StoreProtocolError as error:
        raise StoreProtocol("the knowledge base's answer cannot be read") from error
    except StoreError as error:
        seconds = getattr(error, "retry_after_seconds", RETRY_AFTER_SECONDS)
        raise StoreUnavailable("the knowledge base does not answer", seconds) from error


@dataclass(frozen=True, eq=False)
class Reader:
    """What reads a film: encoder, calibration, gate, and the fusion of views and the concepts where the model folder has them."""

    encoder: FilmEncoder
    calibration: Calibration
    gate: Gate
    views: ViewFusion | None = None
    concepts: SparseConcepts | None = None

    @cached_property
    def thresholds_digest(self) -> str:
        """SHA-256 of every operating point in use, the calibration's and the gate's."""
        return digest([self.calibration.digest, self.gate.thresholds.digest])


@dataclass(frozen=True, eq=False)
class Memory:
    """What remembers: the store, the searches over it, the text encoder, and finding names as text vectors (14, 384)."""

    store: KnowledgeStore
    cases: CaseSearch
    guidelines: GuidelineSearch
    passages: Mapping[UUID, Passage]
    text: TextEncoder
    finding_vectors: Mapping[str, np.ndarray]
    manifest_digest: str
    content_digest: str


class Stopwatch:
    """Seconds by stage of one request, for the speed measurement; nothing of the request itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap belongs to `stage`."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass(eq=False)
class _Evidence:
    """The retrieved evidence of one draft; every search is made once and near-duplicates of the film are left out."""

    memory: Memory
    base: CaseQuery
    damaged: int = 0
    duplicates: set[UUID] = field(default_factory=set)
    _found: dict[tuple[str, Polarity] | None, tuple[CaseHit, ...]] = field(default_factory=dict)

    def near(self) -> Sequence[CaseHit]:
        return self._search(None, NEAR)

    def stating(self, finding: str, polarity: Polarity) -> Sequence[CaseHit]:
        if polarity is Polarity.NEGATIVE:
            return [h for h in self.near() if finding in h.case.labels(Polarity.NEGATIVE)]
        return self._search((finding, polarity), STATING)

    def passages(self, finding: str, sentence: str) -> Sequence[PassageHit]:
        vector = self.memory.finding_vectors[finding]
        found = self.memory.guidelines.search(f"{finding} {sentence}", vector, findings=(finding,), limit=4 * PASSAGES)
        about = [h for h in found if finding in h.passage.findings]
        return sorted(about, key=lambda h: len(h.passage.findings))[:PASSAGES]  # those about this finding alone first

    def _search(self, finding: tuple[str, Polarity] | None, limit: int) -> tuple[CaseHit, ...]:
        if finding not in self._found:
            query = replace(self.base, finding=finding, limit=limit, prefetch=2 * limit)
            with store_errors():
                answer = self.memory.cases.search(query)
            self.damaged += answer.damaged
            same = {h.case.id for h in answer.hits if h.box_overlap is not None and h.box_overlap >= NEAR_DUPLICATE}
            self.duplicates |= same
            self._found[finding] = tuple(h for h in answer.hits if h.case.id not in same)
        return self._found[finding]


class RadiographService:
    """Drafts, searches, shows. Deterministic: the same bytes and index give the same answer."""

    def __init__(self, reader: Reader, memory: Memory, decoder: DecodePool | None = None) -> None:
        self._reader, self._memory, self._decoder = reader, memory, decoder

    def draft(self, request: DraftRequest, watch: Stopwatch | None = None) -> Draft:
        """An evidence-cited draft, or an abstention with reasons.

        FilmError for bytes that are no film, LateralNotUsable for a lateral that is none.
        """
        watch = watch or Stopwatch()
        film = self.decode(request.film)
        watch.lap("decode")
        frontal = self._reader.encoder.read(film)
        reading, lateral = self._with_lateral(frontal, request.lateral)
        watch.lap("encode")
        verdict = self._reader.gate.judge(film, frontal)  # its energy is the frontal's own, whatever the lateral shows
        if verdict.reasons:
            return self._abstained(film, lateral, verdict)
        decisions = self._decisions(reading)
        watch.lap("places")
        evidence = self._evidence(reading, request, decisions)
        near = evidence.near()
        watch.lap("search")
        composed = compose(decisions, evidence)
        watch.lap("compose")
        with store_errors():
            coverage = self._memory.cases.coverage(request.tenant)
        watch.lap("coverage")
        return Draft(
            status=Status.DRAFT,
            abstain_reasons=(),
            findings=composed.findings,
            impression=impression(composed.findings, composed.not_assessed),
            not_assessed=composed.not_assessed,
            similar_cases=tuple(self._similar(hit, reading.box) for hit in near[:SIMILAR]),
            out_of_distribution=verdict.out_of_distribution,
            checks={
                "views": ["frontal", "lateral"] if lateral else ["frontal"],
                "every_sentence_cited": all(f.citations for f in composed.findings),
                "every_quote_entails": all(c.entails for f in composed.findings for c in f.citations),
                "comparison_words": sum(len(comparison_words(f.sentence)) for f in composed.findings),
                "near_duplicates_excluded": len(evidence.duplicates),
                "damaged_records": evidence.damaged,
            },
            coverage=tuple(Coverage(f, coverage[f]) for f in FINDINGS if f != NO_FINDING),
            provenance=self._provenance(film.digest, lateral),
            concepts=self._reader.concepts.top(reading.box.centre, CONCEPTS) if self._reader.concepts else (),
        )

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Similar cases by film, words or both, and guideline passages for the words."""
        if request.finding is not None and request.finding not in FINDINGS:
            raise BadRequest(f"finding must be one of: {', '.join(FINDINGS)}")
        text = request.text.strip()
        vector = self._memory.text.encode([text])[0] if text else None
        reading: FilmReading | None = None
        reasons: tuple[str, ...] = ()
        digest = ""
        if request.film is not None:
            film = self.decode(request.film)
            reading, digest = self._reader.encoder.read(film), film.digest
            reasons = self._reader.gate.judge(film, reading).reasons
        query = CaseQuery(
            tenant=request.tenant,
            box=None if reading is None or reasons else reading.box,
            text_vector=vector,
            text=text or None,
            exclude_patient=request.patient,
            finding=(request.finding, Polarity.POSITIVE) if request.finding else None,
            limit=request.limit,
            prefetch=max(4 * request.limit, 50),
        ) if not reasons or text else None  # fmt: skip
        with store_errors():
            hits = self._memory.cases.search(query).hits if query else ()
        passages = self._memory.guidelines.search(text, vector, limit=3) if text and vector is not None else ()
        return SearchAnswer(
            cases=tuple(self._similar(hit, query.box if query else None) for hit in hits),
            passages=tuple(quote_passage(p, request.finding or text) for p in passages),
            abstain_reasons=tuple(reasons),
            provenance=self._provenance(digest),
        )

    def steer(self, request: SteerRequest) -> SteerAnswer:
        """What moving a film along a concept does to its findings, or reasons why the film is turned away.

        BadRequest for a concept that there is not, BadWeights when the model folder has none at all.
        """
        concepts, encoder = self._reader.concepts, self._reader.encoder
        if concepts is None:
            raise BadWeights(f"the model folder has no concepts; {REMEDY}")
        if request.concept >= len(concepts.names):
            raise BadRequest(f"concept must lie between 0 and {len(concepts.names) - 1}")
        film = self.decode(request.film)
        reading = encoder.read(film)
        reasons, provenance = self._reader.gate.judge(film, reading).reasons, self._provenance(film.digest)
        if reasons:
            return SteerAnswer(reasons, None, request.alpha, (), None, None, (), provenance)
        moved = np.stack(steer(encoder, concepts, reading.box, request.concept, request.alpha))
        before, after = self._reader.calibration.probabilities(moved)
        targets = concepts.names[request.concept].findings
        on_target, off_target = effect(after - before, targets)
        changes = tuple(map(Change, FINDINGS, before.tolist(), after.tolist()))
        concept = concepts.at(reading.box.centre, request.concept)
        return SteerAnswer((), concept, request.alpha, targets, on_target, off_target, changes, provenance)

    def case(self, case_id: UUID, tenant: str) -> Case:
        """A stored case. CaseWithdrawn when it was withdrawn, deleted since or not; NotFound when there is none, or none
        this tenant may see: the same questions are asked of the store for both.
        """
        scope = Scope(tenant)
        with store_errors():
            fetched = self._memory.store.get(CASES, [case_id], scope)
            if fetched.damaged:
                raise DamagedRecord("the stored case fails its checksum")
            found = [from_payload(p.payload) for p in fetched.points]
            if found and not found[0].withdrawn:
                return found[0]
            if found or withdrawn_among(self._memory.store, [case_id], scope):
                raise CaseWithdrawn("this case was withdrawn")
        raise NotFound("no such case")

    def readiness(self) -> dict[str, str]:
        """Component -> "ok" or a reason."""
        health = self._memory.store.health()
        return {"model": "ok", "store": "ok" if health.ready else health.reason or "unavailable"}

    def decode(self, film: bytes) -> Film:
        """Bytes to film, in the limited child process when there is one."""
        return decode(film, pool=self._decoder)

    def close(self) -> None:
        """Release the store and the decoder."""
        self._memory.store.close()
        if self._decoder is not None:
            self._decoder.close()

    def source_name(self, citation: Citation) -> str:
        """A citation's record as a reader would name it."""
        if citation.kind == "guideline":
            passage = self._memory.passages[UUID(citation.id)]
            return f"{passage.organisation} {passage.year}, {passage.title}"
        return f"case {citation.id[:8]}"

    def _with_lateral(self, frontal: FilmReading, content: bytes | None) -> tuple[FilmReading, str | None]:
        """The frontal's reading, its scores fused with the lateral's when there is one, and the lateral's digest."""
        if content is None:
            return frontal, None
        try:
            film = self.decode(content)
        except FilmError as error:
            raise LateralNotUsable(f"the film given as lateral cannot be read ({error.code})") from error
        reading = self._reader.encoder.read(film)
        check_lateral(film, reading, frontal)
        if self._reader.views is None:
            raise BadWeights("the model folder has no views.json: this model reads no laterals")
        return self._reader.views.fused(frontal, reading), film.digest

    def _decisions(self, reading: FilmReading) -> dict[str, Decision]:
        calibration = self._reader.calibration
        radius = float(reading.box.radius.mean())
        drafts = {f: self._undecided(f, i, reading, radius) for i, f in enumerate(FINDINGS)}
        shown = [f for f, d in drafts.items() if d.present and f != NO_FINDING]
        if reading.places is not None:
            for finding, places in zip(shown, place_maps(reading.places, shown), strict=True):
                drafts[finding] = replace(drafts[finding], boxes=boxes(places, finding))
        assert set(drafts) == set(calibration.findings)  # noqa: S101  (both cover the 14 findings)
        return drafts

    def _undecided(self, finding: str, index: int, reading: FilmReading, radius: float) -> Decision:
        """What the calibrated heads say of a finding, before its place is known."""
        entry = self._reader.calibration.findings[finding]
        score, spread = float(reading.probabilities[index]), float(reading.spread[index])
        confidence = self._reader.calibration.confidence(finding, score, radius, spread)
        reliable = entry.reliability is Reliability.RELIABLE
        polarity = entry.polarity(confidence.p) if reliable else None
        silence = None if polarity is not None else BETWEEN if reliable else str(entry.reliability)
        uncertainty = self._uncertainty(index, reading, radius)
        return Decision(
            finding, polarity, confidence, uncertainty, silence=silence, concepts=self._raising(index, reading)
        )

    def _raising(self, index: int, reading: FilmReading) -> tuple[Concept, ...]:
        """The concepts at work in the film that raise this finding most."""
        concepts, head = self._reader.concepts, self._reader.encoder.finding_weights[index]
        return concepts.raising(reading.box.centre, head, FEWER) if concepts else ()

    def _similar(self, hit: CaseHit, box: BoxLatent | None) -> SimilarCase:
        """A hit as the answer shows it, with the concepts at work in both films where there are two to compare."""
        shown, concepts = similar_case(hit), self._reader.concepts
        if concepts is None or box is None or hit.box is None:
            return shown
        return replace(shown, shared_concepts=concepts.shared(box.centre, hit.box.centre, FEWER))

    def _uncertainty(self, index: int, reading: FilmReading, radius: float) -> Uncertainty:
        """The axes whose radius moves this finding's logit most: |weight| * r."""
        weights = self._reader.encoder.finding_weights[index]
        order = np.argsort(-np.abs(weights) * reading.box.radius, kind="stable")[:TOP_AXES]
        names = self._reader.calibration.axis_names
        axes = tuple(AxisUncertainty(int(j), names[j], float(reading.box.radius[j])) for j in order)
        return Uncertainty(radius, axes, float(reading.spread[index]))

    def _evidence(self, reading: FilmReading, request: DraftRequest, decisions: Mapping[str, Decision]) -> _Evidence:
        """What to search with: the film's box, and the reader's words or else the names of what the film shows."""
        text = " ".join(t for t in (request.prompt.strip(), request.indication.strip()) if t)
        shown = [f for f, d in decisions.items() if d.present and f != NO_FINDING] or [NO_FINDING]
        if text:
            vector = self._memory.text.encode([text])[0]
        else:
            mean = np.mean([self._memory.finding_vectors[f] for f in shown], axis=0)
            vector = (mean / np.linalg.norm(mean)).astype(np.float32)
        words = text or ", ".join(shown)
        base = CaseQuery(request.tenant, reading.box, vector, words, exclude_patient=request.patient)
        return _Evidence(self._memory, base)

    def _abstained(self, film: Film, lateral: str | None, verdict: Verdict) -> Draft:
        return Draft(
            status=Status.ABSTAINED,
            abstain_reasons=verdict.reasons,
            findings=(),
            impression=None,
            not_assessed=(),
            similar_cases=(),
            out_of_distribution=verdict.out_of_distribution,
            checks={},
            coverage=(),
            provenance=self._provenance(film.digest, lateral),
        )

    def _provenance(self, film_digest: str, lateral: str | None = None) -> Provenance:
        record, views, concepts = self._reader.encoder.record, self._reader.views, self._reader.concepts
        return Provenance(
            model=record.id,
            preprocessing=record.preprocessing,
            index=self._memory.manifest_digest,
            knowledge_base=self._memory.content_digest,
            thresholds=self._reader.thresholds_digest,
            seed=BL_TTA_SEED,
            film=film_digest,
            lateral=lateral,
            view_fusion=views.digest if lateral and views else None,
            concepts=concepts.digest if concepts else None,
        )


def similar_case(hit: CaseHit) -> SimilarCase:
    """A hit as the answer shows it."""
    excerpt = hit.case.text if len(hit.case.text) <= EXCERPT else hit.case.text[: EXCERPT - 1].rsplit(" ", 1)[0] + "…"
    labels = hit.case.labels(Polarity.POSITIVE)
    return SimilarCase(str(hit.case.id), hit.score, hit.box_overlap, labels, excerpt, hit.case.film)
