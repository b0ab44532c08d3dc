"""The searches that are measured: the service over the gallery's store, and the case search in it with less and less to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.retrieval.measures import DIVERSIFIED, HYBRID, RERANKED
from knowledge_base.rerank import Reranker
from knowledge_base.search import CaseSearch
from knowledge_base.store import KnowledgeStore
from rag_service.models import text
from rag_service.models.text import TextEncoder
from rag_service.reader import Reader
from rag_service.reranker import load_reranker
from rag_service.service import RadiographService
from rag_service.settings import Settings
from rag_service.wiring import memory_of


@dataclass(frozen=True, eq=False)
class Searches:
    """`service` as it ships; the case search by way: fused alone and, where the model folder has a `reranker`, re-ranked and
    re-ranked with a diverse answer.
    """

    service: RadiographService
    ways: Mapping[str, CaseSearch]
    reranker: Reranker | None


def searches(store: KnowledgeStore, reader: Reader, encode: TextEncoder, settings: Settings) -> Searches:
    """Searches over a store that holds the gallery, with the re-ranker of the model folder."""
    memory = memory_of(settings, store, reader.encoder, encode)
    reranker = load_reranker(Path(settings.model_folder), reader.encoder.record.id, text.NAME)
    ways = {HYBRID: CaseSearch(store, memory.names)}
    if reranker is not None:
        search = CaseSearch(store, memory.names, reranker=reranker)
        ways |= {RERANKED: search, DIVERSIFIED: search}
    return Searches(RadiographService(reader, memory), ways, reranker)
