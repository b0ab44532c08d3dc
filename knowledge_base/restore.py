"""An exported knowledge base takes the place of the one there is: checked, filled beside it, exchanged in one step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from knowledge_base.archive_reading import Archive
from knowledge_base.errors import BadArchive
from knowledge_base.records import RecordError
from knowledge_base.schema import CASES, CollectionSchema, IndexManifest
from knowledge_base.store import KnowledgeStore

BESIDE: Final = ".import"
"""What the name of a collection that is being filled beside another ends in."""
_BATCH: Final = 1_000


def beside(schema: CollectionSchema) -> CollectionSchema:
    """The same layout under the name it has until it takes the other's place."""
    return replace(schema, name=schema.name + BESIDE)


@dataclass
class Restored:
    """What an import did. `words_remade`: points whose BM25 vectors the running tokenizer makes in another way."""

    points: dict[str, int] = field(default_factory=dict)
    withdrawals: int = 0
    words_remade: int = 0


def restore(
    store: KnowledgeStore,
    archive: Archive,
    running: Mapping[str, tuple[CollectionSchema, IndexManifest]],
    done: Restored,
) -> Iterator[int]:
    """Make the archive's collections the store's; yields the size of each part once it is stored, counts into `done`.

    The archive must be of the `running` models: otherwise `ManifestMismatch`. `BadArchive` when a part is damaged. Until
    the last moment the index that was there is in use and untouched; then both collections change in one step, and it
    is dropped. Cut short, nothing has changed but for a collection beside, which the next import throws away.
    """
    _check_models(archive, running)
    schemas = [beside(schema) for schema, _ in archive.collections.values()]
    try:
        for schema in schemas:
            store.drop(schema.name)
        for schema, (_, manifest) in zip(schemas, archive.collections.values(), strict=True):
            store.open(schema, manifest)
        yield from _fill(store, archive, done)
        _withdraw(store, archive, done)
        for schema in schemas:
            store.optimize(schema.name)
        store.swap([(name, name + BESIDE) for name in archive.collections])
    finally:
        for schema in schemas:
            store.drop(schema.name)


def _check_models(archive: Archive, running: Mapping[str, tuple[CollectionSchema, IndexManifest]]) -> None:
    if set(archive.collections) != set(running):
        raise BadArchive(f"the archive holds {sorted(archive.collections)}, a knowledge base is {sorted(running)}")
    for name, (schema, manifest) in running.items():
        stored_schema, stored_manifest = archive.collections[name]
        stored_manifest.check(manifest, name)
        schema.check(stored_schema.as_json())


def _fill(store: KnowledgeStore, archive: Archive, done: Restored) -> Iterator[int]:
    for part, points in archive.read():
        try:
            store.upsert(part.collection + BESIDE, points)
        except RecordError as error:
            raise BadArchive(f"part {part.name} of the archive holds a record that cannot be stored") from error
        done.points[part.collection] = done.points.get(part.collection, 0) + len(points)
        if not archive.same_words(part, points):
            done.words_remade += len(points)
        yield len(points)
    for name in archive.collections:
        if (held := sum(store.tenants(name + BESIDE).values())) != archive.points(name):
            raise BadArchive(f"the archive's {name} are {held} records, it lists {archive.points(name)}")


def _withdraw(store: KnowledgeStore, archive: Archive, done: Restored) -> None:
    by_tenant: dict[str, list[UUID]] = defaultdict(list)
    for tenant, case in archive.tombstones():
        by_tenant[tenant].append(case)
    for tenant, cases in by_tenant.items():
        for start in range(0, len(cases), _BATCH):
            store.set_withdrawn(CASES + BESIDE, cases[start : start + _BATCH], tenant)
        done.withdrawals += len(cases)
