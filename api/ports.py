"""What the API needs of the rest of the house: one object with the use cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a draft's module brings the models' libraries; the API starts without them
    from uuid import UUID

    from knowledge_base.records import Case
    from rag_service.explain_request import ExplainRequest
    from rag_service.report.draft import Draft, QueryAnswer, SearchAnswer, SteerAnswer
    from rag_service.report.explained import ExplainAnswer
    from rag_service.requests import DraftRequest, Format, QueryRequest, SearchRequest, SteerRequest
    from rag_service.verify_request import VerifyRequest
    from rag_service.verifying import VerifyAnswer


class ReportService(Protocol):
    """The use cases, built by `rag_service.wiring`.

    Contract:
    - every method may block and may be called from several threads at once;
    - errors a client may cause or wait out are `ServiceError`s, whose message carries no patient text;
    - `case` raises `NotFound` for an unknown id and, with the same answer, for another tenant's, `CaseWithdrawn` for one
      that the tenant could see until it was withdrawn;
    - `readiness` maps each component to "ok" or a reason code, and never waits on a running draft;
    - `close` is called once, after the last use case has returned.
    """

    def draft(self, request: DraftRequest) -> Draft:
        """A report for one film, or an abstention."""
        ...

    def written(self, request: DraftRequest, draft: Draft, chosen: Format) -> str:
        """The draft of a request in another project's format; `BadRequest` for an abstention, which none of them can say."""
        ...

    def search(self, request: SearchRequest) -> SearchAnswer:
        """Cases like a film or words, and passages for the words."""
        ...

    def query(self, request: QueryRequest) -> QueryAnswer:
        """What one film shows for words or at a box."""
        ...

    def verify(self, request: VerifyRequest) -> VerifyAnswer:
        """What of a draft or report holds against the index now."""
        ...

    def steer(self, request: SteerRequest) -> SteerAnswer:
        """What moving one film along a concept does to its findings; `BadRequest` for an unknown concept."""
        ...

    def explain(self, request: ExplainRequest) -> ExplainAnswer:
        """Where one film speaks for one finding; `BadWeights` for a method that the model does not have."""
        ...

    def case(self, case_id: UUID, tenant: str) -> Case:
        """One case that the tenant may see."""
        ...

    def readiness(self) -> dict[str, str]:
        """Component -> "ok" or a reason code."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...
