"""The case search as a LangChain retriever (extra `langchain`): similar cases and guideline passages as documents."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from rag_service.requests import PUBLIC, SearchRequest
from rag_service.service import RadiographService


class CaseRetriever(BaseRetriever):
    """Contract of LangChain's retrievers: a text in, documents out, best first, passages after cases.

    At most `limit` cases, for one call `invoke(query, limit=...)`, and with `passages` the guideline passages beside them. A
    document's `id` is the record's; its metadata are JSON: `kind`, and for cases `score` and `labels`. What the search raises
    (`BadRequest` for an empty query or a limit out of bounds, `StoreUnavailable`) reaches the caller.
    """

    service: Any
    limit: int = 10
    tenant: str = PUBLIC
    passages: bool = True

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
        limit: int | None = None,
    ) -> list[Document]:
        return self._found(query, limit)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
        limit: int | None = None,
    ) -> list[Document]:
        return await asyncio.to_thread(self._found, query, limit)

    def _found(self, query: str, limit: int | None) -> list[Document]:
        service: RadiographService = self.service
        cases = self.limit if limit is None else limit
        answer = service.search(SearchRequest(text=query, limit=cases, tenant=self.tenant))
        found = [
            Document(
                page_content=c.excerpt, id=c.id, metadata={"kind": "case", "score": c.score, "labels": list(c.labels)}
            )
            for c in answer.cases
        ]
        if not self.passages:
            return found
        return found + [Document(page_content=p.quote, id=p.id, metadata={"kind": p.kind}) for p in answer.passages]
