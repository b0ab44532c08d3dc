"""The use cases: draft a report for a film, search similar cases, show a case. Everything it uses arrives built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import numpy as np

from knowledge_base.cases import from_payload
from knowledge_base.duplicates import distinct
from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import CASES
from knowledge_base.search import CaseHit, CaseQuery
from knowledge_base.store import Scope
from knowledge_base.withdrawals import withdrawn_among
from rag_service.errors import (
    BadRequest,
    BadWeights,
    CaseWithdrawn,
    DamagedRecord,
    NotFound,
)
from rag_service.evidence import Evidence, FilmAxes
from rag_service.explain_request import ExplainRequest
from rag_service.explaining import explain
from rag_service.film_words import film_words, shown
from rag_service.gate import Verdict
from rag_service.imaging.decode import decode
from rag_service.imaging.decode_pool import DecodePool
from rag_service.imaging.film import Box, Film
from rag_service.memory import Memory, store_errors
from rag_service.models.concepts import REMEDY, effect, steer
from rag_service.models.encoder import BL_TTA_SEED, FilmReading
from rag_service.models.regions import region_of
from rag_service.querying import Asker, FilmSaid, with_prompts
from rag_service.reader import Reader
from rag_service.report.change import PRIOR, compared
from rag_service.report.checks import Checked, check
from rag_service.report.compose import Author, compose, quote_passage
from rag_service.report.decisions import Decision
from rag_service.report.draft import (
    Change,
    Citation,
    Coverage,
    Draft,
    Provenance,
    QueryAnswer,
    SearchAnswer,
    SimilarCase,
    Status,
    SteerAnswer,
)
from rag_service.report.explained import ExplainAnswer
from rag_service.report.formats.choose import written
from rag_service.report.impression import impression
from rag_service.report.labeler import comparison_words
from rag_service.report.languages import findings_in, in_language
from rag_service.report.writing import Writer
from rag_service.requests import DraftRequest, Format, QueryRequest, SearchRequest, SteerRequest
from rag_service.similar import Question, answering, covered, read_question, similar_case
from rag_service.study_films import StudyFilms, read_films
from rag_service.verify_request import VerifyRequest
from rag_service.verifying import VerifyAnswer, verify_report

SIMILAR: Final = 5
PER_ANSWER: Final = 2
"""Cases looked at for each that is shown, where a question asks for sentences."""
SPARE: Final = 8
"""Cases looked at beside those, in place of the film itself and of studies that are there twice."""
LEAST_PREFETCH: Final = 50
CONCEPTS: Final = 5
"""Concepts shown of a film; of two films together at most FEWER."""
FEWER: Final = 3


@dataclass(frozen=True, eq=False)
class _Looked:
    """The film of a search: its reading, None where there is no film or it was turned away for `reasons`; and its digest."""

    reading: FilmReading | None
    reasons: tuple[str, ...]
    digest: str


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


class RadiographService:
    """Drafts, searches, shows. Deterministic: the same bytes and index give the same answer.

    Without a `writer` a draft is in the words of cases alone.
    """

    def __init__(
        self, reader: Reader, memory: Memory, decoder: DecodePool | None = None, writer: Writer | None = None
    ) -> None:
        self._reader, self._memory, self._decoder, self._writer = reader, memory, decoder, writer

    def draft(self, request: DraftRequest, watch: Stopwatch | None = None) -> Draft:
        """An evidence-cited draft, or an abstention with reasons.

        FilmError for bytes that are no film, LateralNotUsable for a lateral that is none, PriorNotUsable for an earlier film that
        nothing can be compared with, PriorOfAnotherPatient.
        """
        return in_language(self._drafted(request, watch or Stopwatch()), request.language)

    def _drafted(self, request: DraftRequest, watch: Stopwatch) -> Draft:
        """The draft in English."""
        film = self.decode(request.film)
        watch.lap("decode")
        films = read_films(self._reader, self.decode, film, request)
        frontal = films.frontal
        watch.lap("encode")
        verdict = self._reader.gate.judge(film, frontal)  # its energy is the frontal's own, whatever the lateral shows
        if verdict.reasons:
            return self._abstained(films, verdict)
        reading = self._reader.told(films.reading, request.indication)
        decisions = self._reader.decisions(reading)
        watch.lap("places")
        measured = self._reader.measurements(self._reader.structures(film))
        watch.lap("structures")
        evidence = self._evidence(reading, request, decisions)
        watch.lap("search")
        author = Author(self._writer, films.study(request, reading)) if self._writer else None
        composed = compose(decisions, evidence, author)
        checked = self._since_prior(
            check(composed.findings, composed.not_assessed, films.prior is not None), films, request
        )
        said = FilmSaid(reading, decisions, checked.findings, checked.not_assessed)
        answers = Asker(self._reader, self._memory).answers(said, request.prompts, request.boxes)
        watch.lap("compose")
        with store_errors():
            coverage = self._memory.cases.coverage(request.tenant)
        watch.lap("coverage")
        return Draft(
            status=Status.DRAFT,
            abstain_reasons=(),
            findings=with_prompts(checked.findings, answers),
            impression=checked.impression,
            not_assessed=checked.not_assessed,
            similar_cases=tuple(self._similar(hit, reading.box) for hit in evidence.similar(SIMILAR).hits),
            out_of_distribution=verdict.out_of_distribution,
            checks={
                "views": films.views,
                "every_sentence_cited": all(f.citations for f in checked.findings),
                "every_quote_entails": all(c.entails for f in checked.findings for c in f.citations),
                "comparison_words": sum(len(comparison_words(f.sentence)) for f in checked.findings),
                "rejected_proposals": composed.rejected,
                "writer_failure": composed.writer_failure,
                **checked.checks,
                "near_duplicates_excluded": len(evidence.same),
                "damaged_records": evidence.damaged,
                "contradicted_by_measurement": list(self._reader.contradicted(decisions, measured, frontal)),
                "unused": films.unused(request),
            },
            coverage=tuple(covered(f, coverage[f]) for f in FINDINGS if f != NO_FINDING),
            provenance=self._of_films(films),
            concepts=self._reader.concepts.top(reading.box.centre, CONCEPTS) if self._reader.concepts else (),
            measurements=measured,
            answers=answers,
        )

    def query(self, request: QueryRequest) -> QueryAnswer:
        """What a film shows for words or at a box: the answer of its draft, and cases whose region is most like the place."""
        film = self.decode(request.film)
        drafted = DraftRequest(request.film, tenant=request.tenant, patient=request.patient)
        films = read_films(self._reader, self.decode, film, drafted)
        reading, provenance = films.frontal, self._of_films(films)
        reasons = self._reader.gate.judge(film, reading).reasons
        if reasons:
            return QueryAnswer(reasons, None, (), request.language, provenance)
        decisions = self._reader.decisions(reading)
        author = Author(self._writer, films.study(drafted, reading)) if self._writer else None
        composed = compose(decisions, self._evidence(reading, drafted, decisions), author)
        checked = check(composed.findings, composed.not_assessed, prior=False)
        said = FilmSaid(reading, decisions, findings_in(checked.findings, request.language), checked.not_assessed)
        answer = Asker(self._reader, self._memory).answer(said, request.prompt.strip() or None, request.box)
        place = next(iter(answer.boxes or ()), None)
        return QueryAnswer((), answer, self._alike(request, reading, place), request.language, provenance)

    def _alike(self, request: QueryRequest, reading: FilmReading, place: Box | None) -> tuple[SimilarCase, ...]:
        """Cases whose region is most like a place of the film; none where there is no place."""
        if place is None:
            return ()
        asked = SearchRequest(request.film, tenant=request.tenant, patient=request.patient, region=place)
        with store_errors():
            hits = self._memory.cases.search(self._query(asked, reading, None, SIMILAR + SPARE)).hits
        return tuple(self._similar(hit, reading.box) for hit in distinct(hits, SIMILAR).hits)

    def _since_prior(self, checked: Checked, films: StudyFilms, request: DraftRequest) -> Checked:
        """What was checked, with what has changed since the prior film said of it, in the impression too."""
        if films.prior is None:
            return checked
        prior = self._reader.compared(films.prior.reading, films.frontal, request.prior_report)
        findings = compared(checked.findings, prior)
        told = {
            "compared": sum(f.comparison is not None for f in findings),
            "prior_report_disagrees": prior.disagreeing(),
        }
        return replace(
            checked,
            findings=findings,
            impression=impression(findings, checked.not_assessed),
            checks={**checked.checks, **told},
        )

    def written(self, request: DraftRequest, draft: Draft, chosen: Format) -> str:
        """The draft of a request in another project's format, the film's digest for a name. BadRequest for an abstention."""
        film = self.decode(request.film)
        return written(draft, chosen, film.frame, film.digest, film.digest)

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Similar cases by film, by a region of it, by words or by both, each with the sentence that answers the words best,
        and guideline passages for the words.

        Cases that state what the words ask for come first, those on the side and at the place asked for before the others. The
        film itself is no answer unless asked for, and a study that is there twice is one.
        """
        if request.finding is not None and request.finding not in FINDINGS:
            raise BadRequest(f"finding must be one of: {', '.join(FINDINGS)}")
        text = request.text.strip()
        vector = self._memory.text.encode([text])[0] if text else None
        looked = self._look(request)
        question = read_question(text, request.finding)
        box = None if looked.reading is None else looked.reading.box
        hits: Sequence[CaseHit] = ()
        if looked.reading is not None or text:
            asked = request.limit * (PER_ANSWER if question.wanted else 1) + SPARE
            with store_errors():
                hits = self._memory.cases.search(self._query(request, looked.reading, vector, asked)).hits
        prior = self._memory.has_prior(request.patient, request.tenant, box)
        answers = answering(hits, question, request.limit, prior=prior, include_same=request.include_same)
        passages = self._memory.guidelines.search(text, vector, limit=3) if text and vector is not None else ()
        return SearchAnswer(
            cases=tuple(replace(self._similar(hit, box), sentence=sentence) for hit, sentence in answers),
            passages=tuple(quote_passage(p, request.finding or text) for p in passages),
            abstain_reasons=looked.reasons,
            provenance=self._provenance(looked.digest),
            coverage=self._coverage(request.tenant, question),
        )

    def _coverage(self, tenant: str, question: Question) -> tuple[Coverage, ...]:
        """Of the findings that a question asks for, present or not."""
        if not question.wanted:
            return ()
        with store_errors():
            counts = self._memory.cases.coverage(tenant)
        return tuple(covered(f, counts[f]) for f in dict.fromkeys(w.finding for w in question.wanted))

    def _look(self, request: SearchRequest) -> _Looked:
        """The film of a search as it may be used."""
        if request.film is None:
            return _Looked(None, (), "")
        film = self.decode(request.film)
        reading = self._reader.encoder.read(film)
        reasons = self._reader.gate.judge(film, reading).reasons
        return _Looked(None if reasons else reading, reasons, film.digest)

    def _query(
        self, request: SearchRequest, reading: FilmReading | None, vector: np.ndarray | None, asked: int
    ) -> CaseQuery:
        """The search for `asked` cases by what of the request can be used."""
        by_film: dict[str, Any] = {}
        words = request.text.strip()
        if reading is not None:
            region = None if request.region is None else self._region(reading, request.region)
            chances = self._reader.chances(reading)
            by_film = {
                "box": reading.box,
                "region": region,
                "probabilities": dict(zip(FINDINGS, chances.tolist(), strict=True)),
            }
            if not words:
                words, vector = film_words(shown(self._reader.calibration, chances), self._memory.finding_vectors)
        return CaseQuery(
            tenant=request.tenant,
            text_vector=vector,
            text=words or None,
            exclude_patient=request.patient,
            finding=(request.finding, Polarity.POSITIVE) if request.finding else None,
            limit=asked,
            prefetch=max(asked, LEAST_PREFETCH),
            diverse=request.diverse,
            **by_film,
        )

    def _region(self, reading: FilmReading, box: Box) -> tuple[str, np.ndarray]:
        """The box as zone and vector; BadWeights for a model that has no regions."""
        region = region_of(reading, box)
        if region is None:
            raise BadWeights("the model folder has no regions.json: this model finds no regions")
        return region

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

    def explain(self, request: ExplainRequest) -> ExplainAnswer:
        """Where and how much a film speaks for a finding, by several methods, or reasons why the film is turned away."""
        film = self.decode(request.film)
        return explain(request, film, self._reader, self._provenance(film.digest))

    def verify(self, request: VerifyRequest) -> VerifyAnswer:
        """What of a draft or a report holds against the index now; see `verifying`."""
        return verify_report(request, self._memory)

    def case(self, case_id: UUID, tenant: str) -> Case:
        """A stored case. CaseWithdrawn when it was withdrawn, deleted since or not; NotFound when there is none, or none
        this tenant may see: the same questions are asked of the store for both.
        """
        scope = Scope(tenant)
        with store_errors():
            fetched = self._memory.store.get(CASES, [case_id], scope)
            found = [from_payload(p.payload) for p in fetched.points]
            if fetched.damaged or any(case.id != case_id for case in found):
                raise DamagedRecord("the stored case fails its checksum")
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
        if citation.kind == PRIOR:
            return "the prior report"
        return f"case {citation.id[:8]}"

    def _similar(self, hit: CaseHit, box: BoxLatent | None) -> SimilarCase:
        """A hit as the answer shows it, with the concepts at work in both films where there are two to compare."""
        shown, concepts = similar_case(hit), self._reader.concepts
        if concepts is None or box is None or hit.box is None:
            return shown
        return replace(shown, shared_concepts=concepts.shared(box.centre, hit.box.centre, FEWER))

    def _evidence(self, reading: FilmReading, request: DraftRequest, decisions: Mapping[str, Decision]) -> Evidence:
        """What to search with: the film's box, and the names of what it shows joined by the reader's words."""
        told = " ".join(t for t in (request.prompt.strip(), request.indication.strip()) if t)
        present = [f for f, d in decisions.items() if d.present and f != NO_FINDING] or [NO_FINDING]
        words, vector = film_words(present, self._memory.finding_vectors, told)
        chances = dict(zip(FINDINGS, self._reader.chances(reading).tolist(), strict=True))
        base = CaseQuery(request.tenant, reading.box, vector, words, request.patient, probabilities=chances)
        axes = FilmAxes(self._reader.calibration.axis_names, self._reader.encoder.finding_weights)
        return Evidence(self._memory, base, decisions, axes, self._reader.relevance)

    def _abstained(self, films: StudyFilms, verdict: Verdict) -> Draft:
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
            provenance=self._of_films(films),
        )

    def _of_films(self, films: StudyFilms) -> Provenance:
        """A draft's provenance: every film of the study, and what joined or compared them."""
        side, prior, reader = films.side, films.prior, self._reader
        return replace(
            self._provenance(films.film.digest),
            lateral=None if side is None else side.film.digest,
            view_fusion=reader.views.digest if side and reader.views else None,
            prior=None if prior is None else prior.film.digest,
            change=reader.changes.digest if prior and reader.changes else None,
        )

    def _provenance(self, film_digest: str) -> Provenance:
        record, concepts = self._reader.encoder.record, self._reader.concepts
        return Provenance(
            model=record.id,
            preprocessing=record.preprocessing,
            index=self._memory.manifest_digest,
            knowledge_base=self._memory.content_digest,
            thresholds=self._reader.thresholds_digest,
            seed=BL_TTA_SEED,
            film=film_digest,
            concepts=concepts.digest if concepts else None,
            reranker=self._memory.reranker_digest,
            queries=self._reader.queries.digest if self._reader.queries else None,
            segmenter=self._reader.segmenter.record.id if self._reader.segmenter else None,
            writer=self._writer.id if self._writer else None,
        )
