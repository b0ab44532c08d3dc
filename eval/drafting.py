"""Studies of an Open-i folder that have a frontal film and a report, and the drafts that the service makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from tqdm import tqdm

from rag_service.datasets import openi
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.errors import LateralNotUsable
from rag_service.memory import Memory
from rag_service.reader import Reader
from rag_service.report.draft import Draft
from rag_service.report.writing import Writer
from rag_service.requests import DraftRequest
from rag_service.service import RadiographService
from rag_service.settings import Settings

VERBATIM: Final = "sentence retrieval"
"""Drafts in the words of cases alone."""


@dataclass(frozen=True)
class Study:
    """The first frontal of a study, its first lateral if it has one, and its report."""

    frontal: FilmRow
    lateral: FilmRow | None
    report: openi.Report

    @property
    def patient(self) -> tuple[str, str]:
        """(source, patient): whose cases are no evidence."""
        return self.frontal.source, self.frontal.patient

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the report says in its findings and its impression."""
        return self.report.findings, self.report.impression


@dataclass(frozen=True)
class Drafted:
    """A study, the draft of its film, and how long that took, from bytes to draft."""

    study: Study
    draft: Draft
    milliseconds: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the draft says of the film; nothing where it was turned away."""
        return tuple(f.sentence for f in self.draft.findings)


@dataclass(frozen=True, eq=False)
class Bench:
    """What a service is made of, so that parts of it can be exchanged.

    `writers` are further writers by what they are called; `writer`, the service's own, is None where a model folder has none.
    """

    reader: Reader
    memory: Memory
    writer: Writer | None = None
    writers: Mapping[str, Writer | None] = field(default_factory=dict)

    def service(self, memory: Memory | None = None) -> RadiographService:
        """The service, over another memory if one is given."""
        return RadiographService(self.reader, memory or self.memory, writer=self.writer)

    def written_by(self, name: str) -> RadiographService:
        """The service with one of the further writers in place of its own."""
        return RadiographService(self.reader, self.memory, writer=self.writers[name])


@contextmanager
def bench(settings: Settings) -> Iterator[Bench]:
    """The parts that the settings name; the store is closed afterwards."""
    from rag_service import wiring
    from rag_service.models import text
    from rag_service.writers.decoder import Blind, load_decoder_writer

    store = wiring.build_store(settings)
    try:
        reader, folder = wiring.build_reader(settings), Path(settings.model_folder)
        memory = wiring.memory_of(settings, store, reader.encoder, text.load_text_encoder())
        writer = load_decoder_writer(folder, reader.encoder.record.id)
        blind = {f"decoder without {b}": frozenset({b}) for b in (Blind.EVIDENCE, Blind.FILM) if writer}
        others = {name: load_decoder_writer(folder, reader.encoder.record.id, b) for name, b in blind.items()}
        yield Bench(reader, memory, writer, {VERBATIM: None, **others} if writer else {})
    finally:
        store.close()


def studies(folder: Path, split: Split | None, limit: int | None, seed: int) -> list[Study]:
    """The studies of a folder with a frontal and words in their report, at most `limit` of them, drawn by seed.

    A film whose view the folder does not tell counts as a frontal. DatasetError when there is none.
    """
    reports = openi.reports(openi.archive_of(folder))
    views: dict[str, dict[str, FilmRow]] = {}
    for row in openi.films(folder):
        if row.text and (split is None or row.split is split):
            views.setdefault(row.study, {}).setdefault(row.presentation or "frontal", row)
    found = [Study(v["frontal"], v.get("lateral"), reports[s]) for s, v in sorted(views.items()) if "frontal" in v]
    if not found:
        of_split = f" of the {split} split" if split else ""
        raise DatasetError(f"{folder.name}/ holds no study{of_split} with a frontal film and a report")
    if limit is None or len(found) <= limit:
        return found
    drawn = np.random.default_rng(seed).choice(len(found), limit, replace=False)
    return [found[i] for i in sorted(drawn.tolist())]


def draft(
    service: RadiographService, found: Sequence[Study], *, laterals: bool, told: str | None = None
) -> list[Drafted]:
    """Every study drafted with its own indication, from everybody's cases but its own. Progress is shown under `told`."""
    return [_draft(service, s, laterals) for s in tqdm(found, desc=told, unit="film", disable=told is None)]


def _draft(service: RadiographService, study: Study, laterals: bool) -> Drafted:
    side = study.lateral.path.read_bytes() if laterals and study.lateral else None
    request = DraftRequest(
        study.frontal.path.read_bytes(), indication=study.report.indication, patient=study.patient, lateral=side
    )
    begun = perf_counter()
    try:
        made = service.draft(request)
    except LateralNotUsable:  # as a reader would go on
        begun = perf_counter()
        made = service.draft(replace(request, lateral=None))
    return Drafted(study, made, 1000.0 * (perf_counter() - begun))
