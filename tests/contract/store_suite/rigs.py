"""The stores under test: how each is made, opened again, and spoilt behind its back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest
import qdrant_edge as qe
from qdrant_client import QdrantClient

from knowledge_base.audit import AuditedStore
from knowledge_base.audit_log import AuditLog
from knowledge_base.edge import EdgeStore
from knowledge_base.memory import MemoryStore
from knowledge_base.schema import CollectionSchema
from knowledge_base.server import ServerStore, connect
from knowledge_base.store import KnowledgeStore
from knowledge_base.withdrawals import WithdrawalKeeper
from tests.contract.store_suite.samples import MANIFEST, a_schema


@dataclass
class Rig:
    """A store under test, how to open it again (where it lasts), and how to change one payload behind its back."""

    store: KnowledgeStore
    schema: CollectionSchema
    reopen: Callable[[], KnowledgeStore]
    spoil: Callable[[UUID, dict[str, Any]], None]

    @property
    def name(self) -> str:
        """The collection's."""
        return self.schema.name


Maker = Callable[[Path, CollectionSchema], Iterator[Rig]]


def memory_rig(_: Path, schema: CollectionSchema) -> Iterator[Rig]:
    """The list in memory."""
    yield _over_memory(MemoryStore(), lambda store: store, schema)


def wired_rig(folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    """The list in memory behind everything that the product puts before a store."""
    yield _over_memory(
        MemoryStore(), lambda store: AuditedStore(WithdrawalKeeper(store), AuditLog(folder / "audit")), schema
    )


def _over_memory(memory: MemoryStore, wrap: Callable[[MemoryStore], KnowledgeStore], schema: CollectionSchema) -> Rig:
    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        points = memory._collections[schema.name].points
        points[identity] = replace(points[identity], payload={**points[identity].payload, **change})

    def reopen() -> KnowledgeStore:
        raise AssertionError("nothing in memory outlives its process")

    return Rig(wrap(memory), schema, reopen, spoil)


def edge_rig(folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    """The embedded engine."""

    def reopen() -> KnowledgeStore:
        rig.store.close()
        rig.store = EdgeStore(folder, reserve_bytes=0)
        return rig.store

    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        rig.store.close()
        shard = qe.EdgeShard.load(str(folder / schema.name / "shard"))
        shard.update(qe.UpdateOperation.set_payload([identity], change))
        shard.close()
        reopen().open(schema, MANIFEST)

    rig = Rig(EdgeStore(folder, reserve_bytes=0), schema, reopen, spoil)
    yield rig


def wired_edge_rig(folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    """The embedded engine behind the keeper of withdrawals."""
    for rig in edge_rig(folder, schema):
        rig.store = WithdrawalKeeper(rig.store)
        yield rig


def local_rig(folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
    """The server's adapter over qdrant-client's local mode."""

    def store() -> ServerStore:
        return ServerStore(QdrantClient(path=str(folder), force_disable_check_same_thread=True), local=True)

    def reopen() -> KnowledgeStore:
        rig.store.close()
        rig.store = store()
        return rig.store

    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        assert isinstance(rig.store, ServerStore)
        rig.store._client.set_payload(schema.name, change, [str(identity)])

    rig = Rig(store(), schema, reopen, spoil)
    yield rig


def server_rig(_: Path, schema: CollectionSchema) -> Iterator[Rig]:
    """The server that QDRANT_URL names."""
    url = os.environ["QDRANT_URL"]
    client = QdrantClient(url=url)

    def reopen() -> KnowledgeStore:
        rig.store.close()
        rig.store = connect(url)
        return rig.store

    def spoil(identity: UUID, change: dict[str, Any]) -> None:
        client.set_payload(schema.name, change, [str(identity)], wait=True)

    rig = Rig(connect(url), schema, reopen, spoil)
    yield rig
    client.delete_collection(schema.name)
    client.close()


class StoreSuite:
    """What every class of the suite stands on. The class that inherits says which store it is about."""

    make: ClassVar[Maker]

    @pytest.fixture
    def schema(self) -> CollectionSchema:
        """The layout of the collection."""
        return a_schema()

    @pytest.fixture
    def rig(self, folder: Path, schema: CollectionSchema) -> Iterator[Rig]:
        """The store with its collection open and empty."""
        for rig in type(self).make(folder, schema):
            rig.store.open(schema, MANIFEST)
            yield rig
            rig.store.close()
