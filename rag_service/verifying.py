"""Verifies sentences against the index without generating any: do their citations hold now, and do they make them true?

A sentence is supported by its own citations, or where it cites nothing by what the index holds. That is about words: a case that
says the same was found, not that the film shows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

from knowledge_base.case_sentences import Wanted, supporting
from knowledge_base.findings import Polarity
from knowledge_base.records import CaseSentence, Mention
from knowledge_base.search import CaseHit, CaseQuery
from rag_service.cited_records import CheckedCitation, check_citations, quoting
from rag_service.memory import Memory, store_errors
from rag_service.report.aspects import Verdict
from rag_service.report.checks import Fault, conflict, unsupported_device, word_faults
from rag_service.report.comparisons import without_comparison
from rag_service.report.draft import Citation, plain
from rag_service.report.entailment import entails
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentence_choice import cite
from rag_service.verify_request import IMPRESSION, Claim, VerifyRequest
from rag_service.verify_standing import Standing

LOOKED_AT: Final = 30
"""Cases looked at for a sentence that cites nothing, or nothing that holds."""


class Why(StrEnum):
    """Reasons of a standing beside the aspects that do not follow."""

    NOT_CITED = "cites_nothing"
    FROM_FINDINGS = "follows_from_the_findings"
    AGAINST_FINDINGS = "contradicts_the_findings"
    NONE_HOLDS = "no_citation_holds"
    NOT_FOUND = "no_case_says_it"
    OTHER_THAN_LABELLED = "says_other_than_its_label"


@dataclass(frozen=True)
class VerifiedSentence:
    """A sentence with its standing and the reasons, what its citations are worth, and what the index has for it where it cites
    nothing or nothing that holds.

    The reasons: what of the citations fails, and which aspects do not follow from what is cited.
    """

    text: str
    section: str
    verdict: Standing
    reasons: tuple[str, ...]
    citations: tuple[CheckedCitation, ...]
    found: tuple[Citation, ...]


@dataclass(frozen=True)
class VerifyAnswer:
    """Every sentence in order; `checks` has the numbers of the sentences (from 0) in which each fault was found;
    `unsupported_positives` counts those that state a finding without evidence that makes it true.
    """

    sentences: tuple[VerifiedSentence, ...]
    checks: Mapping[str, tuple[int, ...]]
    unsupported_positives: int
    index: str
    knowledge_base: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `Draft.to_json`."""
        return plain(asdict(self))  # type: ignore[no-any-return]


def verify_report(request: VerifyRequest, memory: Memory) -> VerifyAnswer:
    """The standing of every sentence, and the faults of the whole. StoreUnavailable and its like when the index does not answer."""
    checked = check_citations(request, memory)
    lacking = [
        i for i, (claim, found) in enumerate(zip(request.claims, checked, strict=True)) if _looked_for(claim, found)
    ]
    found = dict(zip(lacking, _evidence([request.claims[i] for i in lacking], request, memory), strict=True))
    sentences = [
        _stand(claim, quotes, found.get(i, ()))
        for i, (claim, quotes) in enumerate(zip(request.claims, checked, strict=True))
    ]
    sentences = _with_impression(request.claims, sentences)
    unsupported = sum(
        s.verdict is not Standing.SUPPORTED and any(m.polarity is Polarity.POSITIVE for m in c.sentence.mentions)
        for c, s in zip(request.claims, sentences, strict=True)
    )
    return VerifyAnswer(
        tuple(sentences),
        faults(request.claims, request.prior),
        unsupported,
        memory.manifest_digest,
        memory.content_digest,
    )


def faults(claims: Sequence[Claim], prior: bool) -> Mapping[str, tuple[int, ...]]:
    """Every fault of a report as a whole, with the numbers of the sentences that have it.

    Findings on either side are no conflict where they stand in one section: a side conflicts with another section's.
    """
    found: dict[Fault, set[int]] = defaultdict(set)
    stated = [c.label for c in claims if c.label is not None and c.polarity is not Polarity.NEGATIVE]
    for i, claim in enumerate(claims):
        for fault in word_faults(claim.sentence.text, prior):
            found[fault].add(i)
        if claim.label is not None and unsupported_device(claim.sentence, stated):
            found[Fault.DEVICE].add(i)
    for (i, one), (j, other) in combinations(enumerate(claims), 2):
        clash = _clash(one, other)
        if clash is not None:
            found[clash] |= {i, j}
    return {str(fault): tuple(sorted(found[fault])) for fault in Fault}


def _clash(one: Claim, other: Claim) -> Fault | None:
    """Why two sentences of a report cannot both stand: an impression may say over again what the findings say."""
    apart = (one.sentence.section == IMPRESSION) is not (other.sentence.section == IMPRESSION)
    clash = conflict(one.sentence, other.sentence)
    if apart and clash is not None:
        return None if clash is Fault.REPEATED else Fault.IMPRESSION
    return None if clash is Fault.LATERALITY else clash


def _looked_for(claim: Claim, citations: Sequence[CheckedCitation]) -> bool:
    """Whether the index is asked: a sentence that says something and has no citation that holds."""
    return bool(claim.sentence.mentions) and not any(c.holds for c in citations)


def _evidence(claims: Sequence[Claim], request: VerifyRequest, memory: Memory) -> list[tuple[Citation, ...]]:
    """For each what the index has that makes it true alone, the nearest by its words first."""
    if not claims:
        return []
    texts = [c.sentence.text for c in claims]
    vectors = memory.text.encode(texts)
    queries = [
        CaseQuery(
            request.tenant,
            text_vector=vector,
            text=text,
            finding=(claim.sentence.mentions[0].finding, claim.sentence.mentions[0].polarity),
            limit=LOOKED_AT,
            prefetch=LOOKED_AT,
        )
        for claim, text, vector in zip(claims, texts, vectors, strict=True)
    ]
    with store_errors():
        answers = memory.cases.search_many(queries)
    return [_found(claim, hits.hits, request.prior) for claim, hits in zip(claims, answers, strict=True)]


def _found(claim: Claim, hits: Sequence[CaseHit], prior: bool) -> tuple[Citation, ...]:
    first = claim.sentence.mentions[0]
    wanted = Wanted(first.finding, first.polarity, first.laterality)
    consistent = [h for h in hits if h.case.consistent is not False]
    return cite(claim.sentence, (), supporting(consistent, wanted, _as_it_stands if prior else without_comparison))


def _as_it_stands(sentence: CaseSentence, _: str) -> CaseSentence:
    return sentence


def _stand(claim: Claim, citations: tuple[CheckedCitation, ...], found: tuple[Citation, ...]) -> VerifiedSentence:
    verdict, reasons = _verdict(claim, citations, found)
    if verdict is Standing.SUPPORTED and not _as_labelled(claim):
        verdict, reasons = Standing.UNSUPPORTED, (Why.OTHER_THAN_LABELLED, *reasons)
    sentence = claim.sentence
    return VerifiedSentence(sentence.text, sentence.section, verdict, tuple(map(str, reasons)), citations, found)


def _verdict(
    claim: Claim, citations: Sequence[CheckedCitation], found: Sequence[Citation]
) -> tuple[Standing, tuple[StrEnum, ...]]:
    """By the citations that quote exactly, together; by what was found where none is given."""
    if not claim.sentence.mentions:
        return Standing.NOT_CHECKABLE, ()
    if not citations:
        return (
            (Standing.SUPPORTED, (Why.NOT_CITED,)) if found else (Standing.UNSUPPORTED, (Why.NOT_CITED, Why.NOT_FOUND))
        )
    exact = quoting(citations)
    if not exact:
        return Standing.UNSUPPORTED, (Why.NONE_HOLDS,)
    together = entails([shared_labeler().read_report(c.quote) for c in exact], claim.sentence.mentions)
    return _STANDING[together.verdict], together.lacking


_STANDING: Final = {
    Verdict.ENTAILED: Standing.SUPPORTED,
    Verdict.CONTRADICTED: Standing.CONTRADICTED,
    Verdict.NEUTRAL: Standing.UNSUPPORTED,
}


def _as_labelled(claim: Claim) -> bool:
    """Whether the labeler reads in a draft's sentence the finding it stands for, as the draft has it."""
    if claim.label is None:
        return True
    read = {m.polarity for m in claim.sentence.mentions if m.finding == claim.label}
    return read == {claim.polarity} if claim.polarity is not None else bool(read)


def _with_impression(claims: Sequence[Claim], sentences: Sequence[VerifiedSentence]) -> list[VerifiedSentence]:
    """The same, but that an impression's sentence stands on the findings that are supported, where they make it true."""
    both = list(zip(claims, sentences, strict=True))
    premises = [
        c.sentence.mentions for c, s in both if c.sentence.section != IMPRESSION and s.verdict is Standing.SUPPORTED
    ]
    return [_on_findings(c, s, premises) if c.sentence.section == IMPRESSION else s for c, s in both]


def _on_findings(claim: Claim, sentence: VerifiedSentence, premises: Sequence[Sequence[Mention]]) -> VerifiedSentence:
    verdict = entails(premises, claim.sentence.mentions).verdict
    if claim.citations or verdict is Verdict.NEUTRAL:
        return sentence
    if verdict is Verdict.CONTRADICTED:
        return replace(sentence, verdict=Standing.CONTRADICTED, reasons=(str(Why.AGAINST_FINDINGS),))
    return replace(sentence, verdict=Standing.SUPPORTED, reasons=(str(Why.FROM_FINDINGS),), found=())
