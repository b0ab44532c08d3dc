"""When a model changes: a new index is filled beside the old one, which stays in use; then the two exchange names.

What a case says is kept, and read anew when the labeler changed; its words' vector is kept while the text model is the
same. What its film looks like is kept while the film model is the same, and otherwise comes from the starter file or
from the film itself. Running again after a kill goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from indexer.builder import LABELS, Embedder
from indexer.studies import Skipped, Study
from knowledge_base.cases import VectorNames, from_payload, to_payload, to_point
from knowledge_base.errors import CollectionMissing, DamagedRecordError, StoreError
from knowledge_base.pages import all_pages
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import WITHDRAWN, CollectionSchema, IndexManifest
from knowledge_base.store import SHA256, VECTORS_SHA256, KnowledgeStore, Point, Scope
from rag_service.datasets import openi
from rag_service.errors import FilmError
from rag_service.imaging.decode import decode
from rag_service.imaging.decode_pool import DecodePool
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences

BESIDE: Final = ".migration"
"""What the name of the new index ends in until it is in use, and that of the old one afterwards."""
_PASSES: Final = 3
"""How often what changed in the old index meanwhile is taken over before the switch."""


class FilmsMissing(StoreError):
    """Cases have a film that no source given holds: without it they would lose what their film looks like."""

    def __init__(self, cases: Sequence[UUID]) -> None:
        super().__init__(
            f"the films of {len(cases)} cases were not found (first: {cases[0]}): name their folders with --source, or "
            "keep those cases by their words alone with --without-films"
        )
        self.cases = tuple(cases)


@dataclass(frozen=True, eq=False)
class Look:
    """What a film looks like to a model: its box, and its region vectors by zone where the model makes them."""

    box: BoxLatent
    regions: Mapping[str, NDArray[np.float32]] | None = None


class Films(Protocol):
    """Contract: what a case's film looks like to the running model; None when this source does not have the film."""

    def look(self, case: Case) -> Look | None:
        """The case's film as the running model sees it."""
        ...


@dataclass(frozen=True, eq=False)
class StarterFilms:
    """The films of the starter cases, from the vectors that ship with the model."""

    cases: StarterCases

    def look(self, case: Case) -> Look | None:
        """See `Films.look`."""
        index = self._places.get(case.study) if case.source == openi.SOURCE else None
        return None if index is None else Look(self.cases.box(index), self.cases.zones(index))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {study: index for index, study in enumerate(self.cases.studies)}


@dataclass(frozen=True, eq=False)
class FolderFilms:
    """Films on the disk by (source, study), read by the running model; one that cannot be read counts as missing."""

    encoder: FilmEncoder
    films: Mapping[tuple[str, str], Path]
    decoder: DecodePool | None = None

    @classmethod
    def of(cls, encoder: FilmEncoder, studies: Iterable[Study | Skipped], decoder: DecodePool | None) -> FolderFilms:
        """The films that a source lists."""
        found = {(s.source, s.study): s.film for s in studies if isinstance(s, Study) and s.film is not None}
        return cls(encoder, found, decoder)

    def look(self, case: Case) -> Look | None:
        """See `Films.look`."""
        path = self.films.get((case.source, case.study))
        if path is None:
            return None
        try:
            reading = self.encoder.read(decode(path.read_bytes(), pool=self.decoder))
        except (FilmError, OSError):
            return None
        return Look(reading.box, reading.regions)


@dataclass
class Moved:
    """What a migration did. `filmless`: cases kept by their words alone; `damaged`: records that failed their checksum."""

    added: int = 0
    removed: int = 0
    filmless: list[UUID] = field(default_factory=list)
    damaged: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Migration:
    """Moves the cases of an opened collection, made by other models, into one of `schema` and `manifest`.

    `before` is the layout and the models of the collection in use. With `without_films`, a case whose film is not
    found keeps its words.
    """

    store: KnowledgeStore
    before: tuple[CollectionSchema, IndexManifest]
    schema: CollectionSchema
    manifest: IndexManifest
    films: Sequence[Films]
    embedder: Embedder
    labeler: Labeler
    without_films: bool = False

    @property
    def beside(self) -> CollectionSchema:
        """The new layout under the name it has until the switch."""
        return replace(self.schema, name=self.schema.name + BESIDE)

    def fill(self, moved: Moved) -> Iterator[int]:
        """Bring the new collection up to the old one; yields how many cases of each page were looked at.

        Raises `FilmsMissing` at the end of the first pass that lacks films, and what the store raises.
        """
        open_beside(self.store, self.beside, self.manifest)
        for _ in range(_PASSES):
            changes = moved.added + moved.removed
            yield from self.catch_up(moved)
            if moved.filmless and not self.without_films:
                raise FilmsMissing(moved.filmless)
            if moved.added + moved.removed == changes:
                return

    def catch_up(self, moved: Moved) -> Iterator[int]:
        """One pass: cases that are new or say something else are moved, withdrawals and deletions followed."""
        moved.filmless.clear()
        moved.damaged.clear()
        for tenant, page in all_pages(self.store, self.before[0]):
            moved.damaged += page.damaged
            self._move(tenant, page.points, moved)
            yield len(page.points) + len(page.damaged)
        self._forget(moved)

    def _move(self, tenant: str, points: Sequence[Point], moved: Moved) -> None:
        scope, box = Scope(tenant, also_public=False), VectorNames.of(self.schema).box
        held = self.store.get(self.beside.name, [p.id for p in points], scope, [box]).points
        known = {p.id: (_said(p.payload), box in p.vectors) for p in held}
        fresh: list[tuple[Case, Point, Look | None]] = []
        for point in points:
            case, look = self._read(point), None
            had_film = self._old_box in point.vectors
            if case is None:
                moved.damaged.append(point.id)
                continue
            if known.get(point.id) == (_said(to_payload(case)), had_film):
                continue
            if had_film and (look := self._look(case, point)) is None:
                moved.filmless.append(point.id)
                if not self.without_films or point.id in known:
                    continue
            fresh.append((case, point, look))
        if fresh:
            self.store.upsert(self.beside.name, self._made(fresh))
            moved.added += len(fresh)
        self._follow_withdrawals(tenant, points, {p.id: p.payload.get(WITHDRAWN) for p in held})

    def _read(self, point: Point) -> Case | None:
        """What the old record says, its report read anew when the labeler changed; None when it is damaged."""
        try:
            case = from_payload(point.payload)
        except DamagedRecordError:
            return None
        if self.before[1].labeler == self.manifest.labeler or any(s.section == LABELS for s in case.sentences):
            return case
        return replace(case, sentences=read_case_sentences(case.text, self.labeler))

    @property
    def _old_box(self) -> str:
        return VectorNames.of(self.before[0]).box

    def _look(self, case: Case, point: Point) -> Look | None:
        """What the film looks like to the new model: from a source, or as before when the model is the same."""
        found = next((look for f in self.films if (look := f.look(case)) is not None), None)
        old, new = self.before[1], self.manifest
        if found is not None or (old.box_model, old.preprocessing) != (new.box_model, new.preprocessing):
            return found
        names = VectorNames.of(self.before[0])
        regions = {zone: point.vectors[n] for zone, n in names.regions.items() if n in point.vectors}
        return Look(BoxLatent.from_vector(point.vectors[names.box]), regions or None)

    def _made(self, fresh: Sequence[tuple[Case, Point, Look | None]]) -> list[Point]:
        texts = self._texts(fresh)
        return [
            to_point(
                case,
                self.schema,
                box=look.box if look else None,
                text_vector=text,
                regions=look.regions if look else None,
            )
            for (case, _, look), text in zip(fresh, texts, strict=True)
        ]

    def _texts(self, fresh: Sequence[tuple[Case, Point, Look | None]]) -> Sequence[NDArray[np.float32]]:
        name = VectorNames.of(self.before[0]).text
        if self.before[1].text_model == self.manifest.text_model and all(name in p.vectors for _, p, _ in fresh):
            return [p.vectors[name] for _, p, _ in fresh]
        return list(self.embedder.encode([c.text or c.study for c, _, _ in fresh]))

    def _follow_withdrawals(self, tenant: str, points: Sequence[Point], flags: Mapping[UUID, Any]) -> None:
        for flag in (0, 1):
            changed = [p.id for p in points if p.payload.get(WITHDRAWN) == flag and flags.get(p.id, flag) != flag]
            if changed:
                self.store.set_withdrawn(self.beside.name, changed, tenant, bool(flag))

    def _forget(self, moved: Moved) -> None:
        """Remove from the new collection what the old one no longer has."""
        for tenant in self.store.tenants(self.beside.name):
            scope = Scope(tenant, also_public=False)
            kept = set(self.store.ids(self.before[0].name, scope))
            gone = [i for i in self.store.ids(self.beside.name, scope) if i not in kept]
            if gone:
                self.store.delete(self.beside.name, gone, tenant)
                moved.removed += len(gone)


def open_beside(store: KnowledgeStore, schema: CollectionSchema, manifest: IndexManifest) -> None:
    """Open the collection that is being filled, or make it: one that other models or a cut layout left is dropped."""
    stored = store.schema(schema.name)
    same = stored is not None and stored.as_json() == {**schema.as_json(), "name": stored.name}
    if not same or store.manifest(schema.name) != manifest:
        store.drop(schema.name)
    store.open(schema, manifest)


def open_as_made(store: KnowledgeStore, collection: str) -> tuple[CollectionSchema, IndexManifest]:
    """Open a collection with the layout and the models that made it; `CollectionMissing` when there is none."""
    schema, manifest = store.schema(collection), store.manifest(collection)
    if schema is None or manifest is None:
        raise CollectionMissing(collection)
    schema = replace(schema, name=collection)
    store.open(schema, manifest)
    return schema, manifest


def switch(store: KnowledgeStore, names: Sequence[str]) -> None:
    """Let the new collections take the names of the old ones, all in one step."""
    store.swap([(name, name + BESIDE) for name in names])


def _said(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A case's payload without what the store adds to it."""
    return {k: v for k, v in payload.items() if k not in {SHA256, VECTORS_SHA256, WITHDRAWN}}
