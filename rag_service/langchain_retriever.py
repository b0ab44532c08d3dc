"""The case search as a LangChain retriever (extra `langchain`): similar cases and guideline passages as documents."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from rag_service.requests import PUBLIC, SearchRequest
from rag_service.service import RadiographService


class CaseRetriever(BaseRetriever):
    """Contract of LangChain's retrievers: a text in, documents out, best first, passages after cases.

    A document's `id` is the record's; its metadata carry `kind`, and for cases `score` and `labels`.
    """

    service: Any
    limit: int = 10
    tenant: str = PUBLIC

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        service: RadiographService = self.service
        answer = service.search(SearchRequest(text=query, limit=self.limit, tenant=self.tenant))
        cases = [
            Document(
                page_content=c.excerpt, id=c.id, metadata={"kind": "case", "score": c.score, "labels": list(c.labels)}
            )
            for c in answer.cases
        ]
        passages = [Document(page_content=p.quote, id=p.id, metadata={"kind": p.kind}) for p in answer.passages]
        return cases + passages
