"""Explain one finding of one film: the use case behind `POST /v1/explain/finding` and `python -m rag_service explain`."""

from __future__ import annotations

from base64 import b64encode

from knowledge_base.findings import FINDINGS
from rag_service.explain.explainer import Explained, Explainer
from rag_service.explain.explanation import Agreement, Explanation
from rag_service.explain.overlay import overlay
from rag_service.explain_request import ExplainRequest
from rag_service.imaging.film import Film
from rag_service.reader import Reader
from rag_service.report.draft import Provenance
from rag_service.report.explained import ExplainAnswer, MethodAgreement, MethodExplanation, Superpixel


def explain(request: ExplainRequest, film: Film, reader: Reader, provenance: Provenance) -> ExplainAnswer:
    """The answer to a request whose film is decoded. BadWeights for a method that the model does not have."""
    reading = reader.encoder.read(film)
    if reasons := reader.gate.judge(film, reading).reasons:
        return ExplainAnswer(reasons, request.finding, None, None, None, (), (), (), None, provenance)
    explainer = Explainer(reader.encoder, reader.queries)
    made = explainer.explain(film, reading, request.finding, request.methods)
    return ExplainAnswer(
        abstain_reasons=(),
        finding=request.finding,
        p=float(reader.chances(reading)[FINDINGS.index(request.finding)]),
        log_odds=made.film,
        log_odds_blurred=made.blurred,
        superpixels=_superpixels(made),
        explanations=tuple(map(_told, made.explanations)),
        agreements=tuple(map(_agreed, made.agreements)),
        picture=b64encode(overlay(film, request.finding, made.explanations)).decode() if request.picture else None,
        provenance=provenance,
    )


def _superpixels(made: Explained) -> tuple[Superpixel, ...]:
    return tuple(map(Superpixel, made.cut.boxes(), made.cut.areas.tolist()))


def _told(one: Explanation) -> MethodExplanation:
    """Without its seconds: equal requests have equal answers."""
    return MethodExplanation(one.method, tuple(one.values.tolist()), one.boxes, one.fidelity)


def _agreed(pair: Agreement) -> MethodAgreement:
    return MethodAgreement((pair.one, pair.other), pair.rank_correlation, pair.top_iou)
