"""Builds the starter knowledge base: shipped vectors joined with the report texts that a package carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from indexer.builder import Embedder, case_record
from indexer.studies import Study
from indexer.summary import Summary
from knowledge_base.bm25 import document_vector
from knowledge_base.cases import to_point
from knowledge_base.passages import load_passages
from knowledge_base.records import Passage, case_id
from knowledge_base.schema import BM25, CASES, CollectionSchema, text_vector
from knowledge_base.store import PUBLIC, KnowledgeStore, Point, Scope
from rag_service.datasets import openi
from rag_service.models import text
from rag_service.models.starter import StarterCases
from rag_service.report.labeler import Labeler

BATCH: Final = 128


def add_starter(
    store: KnowledgeStore, schema: CollectionSchema, cases: StarterCases, archive: Path, summary: Summary
) -> Iterator[int]:
    """Index the starter studies that are not there yet, yielding the size of each batch once it is stored durably."""
    present = set(store.ids(CASES, Scope(PUBLIC, also_public=True)))
    missing = [i for i, s in enumerate(cases.studies) if case_id(openi.SOURCE, s) not in present]
    summary.unchanged += len(cases.studies) - len(missing)
    if not missing:
        return
    reports, labeler = openi.reports(archive), Labeler()
    for start in range(0, len(missing), BATCH):
        some = [i for i in missing[start : start + BATCH] if cases.studies[i] in reports]
        points = [
            to_point(
                case_record(_study(reports[cases.studies[i]]), labeler),
                schema,
                box=cases.box(i),
                text_vector=cases.texts[i],
                regions=cases.zones(i),
            )
            for i in some
        ]
        store.upsert(CASES, points)
        summary.added += len(points)
        yield len(points)


def add_passages(
    store: KnowledgeStore, schema: CollectionSchema, embedder: Embedder, summary: Summary
) -> Iterator[int]:
    """Index the guideline passages whose text is new or has changed, in the collection of `schema`."""
    passages = load_passages()
    stored = store.get(schema.name, [p.id for p in passages], Scope(PUBLIC)).points
    known = {p.id: p.payload.get("text") for p in stored}
    fresh = [p for p in passages if known.get(p.id) != p.text]
    summary.unchanged += len(passages) - len(fresh)
    for start in range(0, len(fresh), BATCH):
        some = fresh[start : start + BATCH]
        store.upsert(schema.name, _passage_points(some, schema, embedder))
        summary.added += len(some)
        yield len(some)


def _passage_points(passages: Sequence[Passage], schema: CollectionSchema, embedder: Embedder) -> list[Point]:
    vectors = embedder.encode([f"{p.title}. {p.text}" for p in passages])
    points = []
    for passage, vector in zip(passages, vectors, strict=True):
        words = document_vector(passage.text, schema.sparse[BM25])
        payload = {
            "tenant": PUBLIC,
            "slug": passage.slug,
            "findings": list(passage.findings),
            "organisation": passage.organisation,
            "year": passage.year,
            "text": passage.text,
        }
        sparse = {} if words is None else {BM25: words}
        points.append(Point(passage.id, {text_vector(text.NAME): vector}, sparse, payload))
    return points


def _study(report: openi.Report) -> Study:
    """A starter case's study; its film is not at hand, only what was read from it."""
    return Study(openi.SOURCE, report.study, report.study, None, report.text, view="frontal")
