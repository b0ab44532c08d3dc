"""What citations are worth now: their records read again from the index, their quotes compared, and what they make true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from knowledge_base.cases import from_payload
from knowledge_base.records import Mention
from knowledge_base.schema import CASES
from knowledge_base.store import Scope
from knowledge_base.withdrawals import withdrawn_among
from rag_service.memory import Memory, store_errors
from rag_service.report.aspects import Verdict
from rag_service.report.entailment import entails
from rag_service.report.labeler import shared_labeler
from rag_service.verify_request import Cited, VerifyRequest
from rag_service.verify_standing import Broken


@dataclass(frozen=True)
class CheckedCitation:
    """A citation as given and whether it holds now: its record is in use and seen by the tenant, quotes exactly, and makes the
    sentence true alone. `reason` says what it lacks.
    """

    kind: str
    id: str
    quote: str
    span: tuple[int, int]
    holds: bool
    reason: Broken | None


def check_citations(request: VerifyRequest, memory: Memory) -> list[tuple[CheckedCitation, ...]]:
    """The citations of every sentence of a request. StoreUnavailable and its like when the index does not answer."""
    records = _records([c for claim in request.claims for c in claim.citations], memory, request.tenant)
    return [
        tuple(_citation(c, claim.sentence.mentions, records[c]) for c in claim.citations) for claim in request.claims
    ]


def quoting(citations: Sequence[CheckedCitation]) -> tuple[CheckedCitation, ...]:
    """Those that quote a record in use exactly, whatever they make of the sentence."""
    return tuple(c for c in citations if c.reason in {None, Broken.NOT_ENTAILED, Broken.CONTRADICTS})


def _records(cited: Sequence[Cited], memory: Memory, tenant: str) -> Mapping[Cited, str | Broken]:
    """The text of every record that is cited, as the tenant may see it now, or why there is none to quote."""
    ids = {c.id: _uuid(c.id) for c in cited}
    cases = [i for c in cited if c.kind != "guideline" and (i := ids[c.id]) is not None]
    states = _cases(list(dict.fromkeys(cases)), memory, tenant)
    found: dict[Cited, str | Broken] = {}
    for citation in cited:
        identity = ids[citation.id]
        passage = memory.passages.get(identity) if identity is not None and citation.kind == "guideline" else None
        found[citation] = passage.text if passage else states.get(identity, Broken.NOT_FOUND)
    return found


def _cases(ids: Sequence[UUID], memory: Memory, tenant: str) -> Mapping[UUID | None, str | Broken]:
    """The texts of cases in use; the same questions are asked of the store for cases that there are not as for others' cases."""
    if not ids:
        return {}
    scope = Scope(tenant)
    with store_errors():
        fetched = memory.store.get(CASES, list(ids), scope)
        buried = withdrawn_among(memory.store, ids, scope)
        cases = {p.id: from_payload(p.payload) for p in fetched.points}
    states: dict[UUID | None, str | Broken] = dict.fromkeys(buried, Broken.WITHDRAWN)
    states |= dict.fromkeys(fetched.damaged, Broken.DAMAGED)
    states |= {i: Broken.WITHDRAWN if c.withdrawn or i in buried else c.text for i, c in cases.items()}
    return states


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _citation(cited: Cited, asked: Sequence[Mention], record: str | Broken) -> CheckedCitation:
    reason: Broken | None = None
    if isinstance(record, Broken):
        reason = record
    elif record[slice(*cited.span)] != cited.quote:
        reason = Broken.OTHER_WORDS
    else:
        verdict = entails([shared_labeler().read_report(cited.quote)], asked).verdict
        reason = {Verdict.NEUTRAL: Broken.NOT_ENTAILED, Verdict.CONTRADICTED: Broken.CONTRADICTS}.get(verdict)
    return CheckedCitation(cited.kind, cited.id, cited.quote, cited.span, reason is None, reason)
