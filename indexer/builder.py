"""From studies to points: label the report, read the film, embed the words, store. Running it again changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from indexer.studies import Skipped, Study
from knowledge_base.cases import to_payload, to_point
from knowledge_base.findings import Polarity
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention
from knowledge_base.schema import CASES, WITHDRAWN, CollectionSchema
from knowledge_base.store import SHA256, VECTORS_SHA256, KnowledgeStore, Point, Scope
from rag_service.errors import FilmError
from rag_service.imaging.decode import decode
from rag_service.imaging.decode_pool import DecodePool
from rag_service.models.encoder import FilmEncoder
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences

BATCH: Final = 32
LABELS: Final = "labels"
"""Section of a case whose words are labels, not a report: found, never quoted in a draft."""


class Embedder(Protocol):
    """Contract: unit vectors float32 (n, 384) of n texts."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts, in order."""
        ...


@dataclass
class Summary:
    """What a run did: cases added or changed, those already there, and what was skipped by reason."""

    added: int = 0
    unchanged: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def skip(self, study: str, reason: str) -> None:
        """Count a skipped study; the first of each reason is named."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, study)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "added": self.added,
            "unchanged": self.unchanged,
            "skipped": dict(self.skipped),
            "examples": self.examples,
        }


@dataclass(frozen=True, eq=False)
class Builder:
    """Everything indexing needs, built elsewhere."""

    store: KnowledgeStore
    schema: CollectionSchema
    encoder: FilmEncoder
    embedder: Embedder
    labeler: Labeler
    decoder: DecodePool | None = None
    tenant: str = "public"

    def add(self, studies: Iterable[Study | Skipped], summary: Summary) -> Iterator[int]:
        """Index studies batch by batch, yielding the size of each batch once it is stored durably."""
        source = iter(studies)
        while batch := list(islice(source, BATCH)):
            self._add(batch, summary)
            yield len(batch)

    def _add(self, batch: Sequence[Study | Skipped], summary: Summary) -> None:
        cases: list[tuple[Study, Case]] = []
        for item in batch:
            if isinstance(item, Skipped):
                summary.skip(item.study, item.reason)
            else:
                cases.append((item, self.case(item)))
        known = self._known([c.id for _, c in cases])
        fresh = [(s, c) for s, c in cases if known.get(c.id) != _words(to_payload(c))]
        summary.unchanged += len(cases) - len(fresh)
        points = self._points(fresh, summary)
        if points:
            self.store.upsert(CASES, points)
        summary.added += len(points)

    def case(self, study: Study) -> Case:
        """The case record of a study: its text, and what the labeler reads in it."""
        text, sentences = (
            (study.text, read_case_sentences(study.text, self.labeler)) if study.text else labelled(study.labels)
        )
        return Case(
            source=study.source,
            study=study.study,
            patient=study.patient,
            text=text,
            sentences=sentences,
            tenant=self.tenant,
            view=study.view,
            sex=study.sex,
            age_years=study.age_years,
        )

    def _known(self, ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
        """What cases that are stored already say (see `_words`)."""
        fetched = self.store.get(CASES, ids, Scope(self.tenant, also_public=False)) if ids else None
        return {p.id: _words(p.payload) for p in fetched.points} if fetched else {}

    def _points(self, cases: Sequence[tuple[Study, Case]], summary: Summary) -> list[Point]:
        read: list[tuple[Case, BoxLatent | None]] = []
        for study, case in cases:
            try:
                read.append((case, self._box(study)))
            except FilmError as error:
                summary.skip(study.study, error.code)
        texts = self.embedder.encode([c.text or c.study for c, _ in read]) if read else ()
        return [to_point(c, self.schema, box=b, text_vector=t) for (c, b), t in zip(read, texts, strict=True)]

    def _box(self, study: Study) -> BoxLatent | None:
        if study.film is None:
            return None
        return self.encoder.read(decode(study.film.read_bytes(), pool=self.decoder)).box


def _words(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A case's payload without what the store adds to it: its checksums and whether it was withdrawn."""
    return {k: v for k, v in payload.items() if k not in {SHA256, VECTORS_SHA256, WITHDRAWN}}


def labelled(labels: Sequence[str]) -> tuple[str, tuple[CaseSentence, ...]]:
    """Text and sentences of a case that has labels and no report: one word group per label."""
    text, sentences = "", []
    for label in labels:
        start = len(text)
        text += f"{label}. "
        end = start + len(label) + 1
        mention = Mention(label, Polarity.POSITIVE, (start, end - 1))
        sentences.append(CaseSentence(text[start:end], (start, end), LABELS, (mention,)))
    return text.rstrip(), tuple(sentences)
