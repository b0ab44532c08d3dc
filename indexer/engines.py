"""The engines built: the same map on this machine, or in the actors of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.builder import Embedder, StudyMap
from indexer.local_engine import LocalEngine
from indexer.pipeline import Engine
from knowledge_base.schema import CollectionSchema
from rag_service.calibration import FILE as CALIBRATION
from rag_service.calibration import load_calibration
from rag_service.imaging.decode_pool import DecodePool
from rag_service.models.encoder import FilmEncoder, load_encoder
from rag_service.models.text import load_text_encoder
from rag_service.report.labeler import Labeler
from rag_service.wiring import layout


def study_map(
    folder: Path,
    encoder: FilmEncoder,
    schema: CollectionSchema,
    embedder: Embedder,
    decoder: DecodePool,
    tenant: str,
) -> StudyMap:
    """The map to cases of `tenant` with a model of `folder`; report and film are compared where that has a calibration."""
    calibration = load_calibration(folder, encoder.record.id) if (folder / CALIBRATION).is_file() else None
    return StudyMap(schema, encoder, embedder, Labeler(), decoder, calibration, tenant)


@contextmanager
def local_engine(
    folder: Path, encoder: FilmEncoder, schema: CollectionSchema, embedder: Embedder, workers: int, tenant: str
) -> Iterator[Engine]:
    """The engine of this machine on `workers` processors (0: all it may use).

    Each of the two models gets half of the threads, since they run at the same time; decoding gets a child for each
    processor, which is idle where films are small and needed where they are not.
    """
    import torch

    workers = workers or len(os.sched_getaffinity(0))
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, workers // 2))
    try:
        with DecodePool(workers) as decoder:
            yield LocalEngine(study_map(folder, encoder, schema, embedder, decoder, tenant), workers)
    finally:
        torch.set_num_threads(before)


def actor_map(folder: Path, tenant: str) -> StudyMap:
    """The map of a process that lives for it alone, with a decode child of its own that ends with the process."""
    encoder = load_encoder(folder)
    decoder = DecodePool(1)
    decoder.start()
    schema = layout(encoder.record.id, encoder.axes).cases
    return study_map(folder, encoder, schema, load_text_encoder(), decoder, tenant)
