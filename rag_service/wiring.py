"""The only place that names concrete adapters: settings in, a built service out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from knowledge_base.audit import AuditedStore
from knowledge_base.audit_log import AuditLog
from knowledge_base.cases import VectorNames
from knowledge_base.edge import EdgeStore
from knowledge_base.findings import FINDINGS
from knowledge_base.guideline_search import GuidelineSearch
from knowledge_base.passages import load_passages
from knowledge_base.records import digest
from knowledge_base.rerank import Reranker
from knowledge_base.schema import (
    CASES,
    GUIDELINES,
    CollectionSchema,
    IndexManifest,
    cases_schema,
    guidelines_schema,
    text_vector,
)
from knowledge_base.search import CaseSearch
from knowledge_base.store import PUBLIC, KnowledgeStore, Scope
from knowledge_base.withdrawals import WithdrawalKeeper
from rag_service.calibration import load_calibration
from rag_service.changes import load_changes
from rag_service.gate import load_gate
from rag_service.imaging.decode_pool import DecodePool
from rag_service.imaging.normalise import PREPROCESSING
from rag_service.indication import load_indication
from rag_service.memory import Memory, store_errors
from rag_service.models import text
from rag_service.models.concepts import load_concepts
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.region_queries import load_region_queries
from rag_service.models.segmenter import load_segmenter
from rag_service.models.text import TextEncoder, load_text_encoder
from rag_service.reader import Reader
from rag_service.relevance import load_relevance
from rag_service.report.cardiothoracic import load_limits
from rag_service.report.labeler import NAME_VERSION as LABELER
from rag_service.report.writing import Writer
from rag_service.reranker import load_reranker
from rag_service.service import RadiographService
from rag_service.settings import BUILT_IN, LANGCHAIN, VERBATIM, Settings
from rag_service.site import load_site
from rag_service.views import load_views
from rag_service.writers.chat import load_chat_writer
from rag_service.writers.decoder import load_decoder_writer
from rag_service.writers.load import load_writer


@dataclass(frozen=True)
class Layout:
    """The collections that the running models need, with the manifests that bind them."""

    cases: CollectionSchema
    guidelines: CollectionSchema
    cases_manifest: IndexManifest
    guidelines_manifest: IndexManifest

    @property
    def digest(self) -> str:
        """SHA-256 of both manifests: the `index` of a draft's provenance."""
        return digest([self.cases_manifest.as_json(), self.guidelines_manifest.as_json()])


def layout(box_model: str, axes: int) -> Layout:
    """The collections for a box model with `axes` axes and the packaged text encoder."""
    return Layout(
        cases=cases_schema(box_model, text.NAME, box_dimension=axes, text_dimension=text.WIDTH),
        guidelines=guidelines_schema(text.NAME, text_dimension=text.WIDTH),
        cases_manifest=IndexManifest(box_model, text.NAME, PREPROCESSING, LABELER, axes, text.WIDTH),
        guidelines_manifest=IndexManifest(None, text.NAME, None, None, None, text.WIDTH),
    )


def build_store(settings: Settings) -> KnowledgeStore:
    """The store that the settings name, its withdrawals kept and its reads audited."""
    return AuditedStore(WithdrawalKeeper(_engine(settings)), AuditLog(Path(settings.audit_folder)))


def _engine(settings: Settings) -> KnowledgeStore:
    """A URL is a Qdrant server, anything else a folder."""
    if settings.on_server:
        from knowledge_base.server import connect
        from knowledge_base.server_layout import Spread

        spread = Spread(settings.store_replicas, settings.store_shards or None, settings.store_shard_by_tenant)
        return connect(
            settings.store, settings.store_api_key, spread=spread, grpc_port=settings.store_grpc_port or None
        )
    return EdgeStore(Path(settings.store), reserve_bytes=settings.reserve_mib << 20)


def open_collections(store: KnowledgeStore, plan: Layout) -> None:
    """Open both collections, made if absent; IndexModelMismatch when another model made them."""
    with store_errors():
        store.open(plan.cases, plan.cases_manifest)
        store.open(plan.guidelines, plan.guidelines_manifest)


def build_reader(settings: Settings) -> Reader:
    """Encoder, calibration, gate and everything else that reads films from the model folder, every digest checked."""
    import torch

    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    folder = Path(settings.model_folder)
    encoder = load_encoder(folder)
    calibration = load_calibration(folder, encoder.record.id)
    if settings.site_calibration:
        calibration = load_site(Path(settings.site_calibration), encoder.record.id).over(calibration)
    gate, views = load_gate(folder, encoder.record.id), load_views(folder, encoder.record.id)
    concepts, relevance = load_concepts(folder, encoder.record.id), load_relevance(folder, encoder.record.id)
    segmenter = load_segmenter(folder)
    limits = None if segmenter is None else load_limits(folder, segmenter.record.id)
    queries = load_region_queries(folder, encoder.record.id)
    indication = load_indication(folder, encoder.record.id)
    changes = load_changes(folder, encoder.record.id)
    return Reader(
        encoder, calibration, gate, views, concepts, relevance, segmenter, limits, queries, indication, changes
    )


def build_memory(
    store: KnowledgeStore,
    encoder: FilmEncoder,
    encode: TextEncoder,
    reranker: Reranker | None = None,
    tenant: str = PUBLIC,
) -> Memory:
    """The searches over a store whose collections are filled; cases stay in fused order without a re-ranker."""
    plan = layout(encoder.record.id, encoder.axes)
    open_collections(store, plan)
    names = encode.encode(FINDINGS)
    passages = {p.id: p for p in load_passages()}
    known, vectors = _passage_vectors(store, sorted(passages))
    return Memory(
        store=store,
        names=VectorNames.of(plan.cases),
        cases=CaseSearch(store, VectorNames.of(plan.cases), reranker=reranker),
        guidelines=GuidelineSearch(tuple(passages[i] for i in known), vectors, text.NAME),
        passages=passages,
        text=encode,
        finding_vectors=dict(zip(FINDINGS, names, strict=True)),
        manifest_digest=plan.digest,
        content_digest=content_digest(store, tenant),
        reranker_digest=None if reranker is None else reranker.digest,
    )


def memory_of(settings: Settings, store: KnowledgeStore, encoder: FilmEncoder, encode: TextEncoder) -> Memory:
    """The memory as it serves: with the re-ranker of the model folder, for the tenant of the settings."""
    reranker = load_reranker(Path(settings.model_folder), encoder.record.id, text.NAME)
    return build_memory(store, encoder, encode, reranker, settings.tenant)


def build_service(settings: Settings, notice: Callable[[str], None] = lambda _: None) -> RadiographService:
    """The whole service. `notice` hears the name of each part as it is ready."""
    decoder = DecodePool(workers=settings.workers)
    decoder.start()
    store = build_store(settings)
    try:
        reader = build_reader(settings)
        notice("model")
        memory = memory_of(settings, store, reader.encoder, load_text_encoder())
        notice("knowledge base")
        writer = build_writer(settings, reader.encoder.record.id)
        notice("writer")
    except BaseException:
        store.close()
        decoder.close()
        raise
    return RadiographService(reader, memory, decoder, writer)


def build_writer(settings: Settings, model: str) -> Writer | None:
    """The writer that the settings name; None where the words of cases are all there is. BadWeights when it cannot be had.

    `model` is the film model's id, to which the built-in writer belongs.
    """
    if settings.writer == BUILT_IN:
        return load_decoder_writer(Path(settings.model_folder), model)
    if settings.writer == VERBATIM:
        return None
    if settings.writer.startswith(LANGCHAIN):
        return load_chat_writer(settings.writer.removeprefix(LANGCHAIN))
    return load_writer(settings.writer, Path(settings.writer_folder or ""))


def content_digest(store: KnowledgeStore, tenant: str = PUBLIC) -> str:
    """SHA-256 over the ids of the cases and passages that a tenant sees: the `knowledge_base` of a draft's provenance."""
    with store_errors():
        ids = [str(i) for name in (CASES, GUIDELINES) for i in store.ids(name, Scope(tenant))]
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def discard_index(settings: Settings) -> None:
    """Remove both collections, whatever made them; the next indexing starts anew. Nobody else may have the store open.

    Tombstones stay: what was withdrawn comes back withdrawn.
    """
    store = build_store(settings)
    try:
        with store_errors():
            for name in (CASES, GUIDELINES):
                store.drop(name)
    finally:
        store.close()


def _passage_vectors(store: KnowledgeStore, ids: Sequence[UUID]) -> tuple[list[UUID], NDArray[np.float32]]:
    """The passages that the index holds, and their vectors (n, 384)."""
    name = text_vector(text.NAME)
    with store_errors():
        points = store.get(GUIDELINES, ids, Scope(PUBLIC), [name]).points
    return [p.id for p in points], np.stack([p.vectors[name] for p in points]) if points else np.zeros(
        (0, text.WIDTH), np.float32
    )
