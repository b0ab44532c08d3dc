"""Collections of a server: how they are made and divided among nodes, and where their names lead.

A name leads to the collection of that name, or to the one that its alias `<name>.now` stands for (see `places`); the
server changes all aliases of a request in one step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from qdrant_client import QdrantClient, models

from knowledge_base.errors import StoreProtocolError
from knowledge_base.places import Places
from knowledge_base.schema import CollectionSchema, IndexManifest
from knowledge_base.server_wire import sparse_params, vector_params
from knowledge_base.store import PUBLIC

_ALIAS: Final = ".now"
ShardKeys: TypeAlias = list[int | str] | None
"""Tenants whose shards to ask; None asks every shard."""


@dataclass(frozen=True)
class Spread:
    """How a collection to be made is spread over a cluster.

    `replicas`: copies of each shard; a write waits for a majority of them. `shards`: how many, or how many for each
    tenant; None leaves it to the server. `by_tenant`: each tenant's records lie in shards of their own.
    """

    replicas: int = 1
    shards: int | None = None
    by_tenant: bool = False

    def params(self) -> dict[str, Any]:
        """Arguments of `create_collection`; none for a single server's defaults."""
        params: dict[str, Any] = {"shard_number": self.shards} if self.shards else {}
        if self.replicas > 1:
            params |= {"replication_factor": self.replicas, "write_consistency_factor": self.replicas // 2 + 1}
        if self.by_tenant:
            params |= {"sharding_method": models.ShardingMethod.CUSTOM}
        return params


@dataclass(frozen=True)
class Opened:
    """A collection as this client opened it: names may change places afterwards, this does not.

    `keys` are the tenants that have shards of their own; None when the collection is not divided by tenant.
    """

    schema: CollectionSchema
    manifest: IndexManifest
    place: str
    keys: frozenset[str] | None = None

    def selector(self, tenants: Iterable[str]) -> ShardKeys:
        """The shards that hold what these tenants have; the public ones stand in for none, and a filter keeps out."""
        if self.keys is None:
            return None
        return [*sorted(self.keys.intersection(tenants))] or [PUBLIC]


def make_collection(
    client: QdrantClient, place: str, schema: CollectionSchema, manifest: IndexManifest, spread: Spread, seconds: int
) -> None:
    """Create a collection with its layout and manifest as metadata; shards for the public records when divided."""
    client.create_collection(
        place,
        vectors_config=vector_params(schema),
        sparse_vectors_config=sparse_params(schema),
        metadata={"schema": schema.as_json(), "manifest": manifest.as_json()},
        timeout=seconds,
        **spread.params(),
    )


def layout_of(config: models.CollectionConfig, collection: str) -> dict[str, Any]:
    """{"schema", "manifest"} of a collection; raises `StoreProtocolError` when it is not one of ours."""
    stored: dict[str, Any] = config.metadata or {}
    if set(stored) != {"schema", "manifest"}:
        raise StoreProtocolError(f"collection {collection!r} was not made by this program")
    return stored


def divided(config: models.CollectionConfig) -> bool:
    """Whether each tenant has shards of its own."""
    return config.params.sharding_method == models.ShardingMethod.CUSTOM


def shard_keys(client: QdrantClient, place: str) -> frozenset[str]:
    """The tenants that have shards of their own."""
    return frozenset(str(k.key) for k in client.list_shard_keys(place).shard_keys or ())


def read_places(client: QdrantClient) -> Places:
    """Where names lead, from the server's aliases."""
    found = {a.alias_name: a.collection_name for a in client.get_aliases().aliases}
    return Places({n.removesuffix(_ALIAS): c for n, c in found.items() if n.endswith(_ALIAS)})


def write_places(client: QdrantClient, before: Places, after: Places, seconds: int) -> None:
    """Change the aliases from `before` to `after`, all in one step."""
    operations: list[Any] = [_remove(n) for n in before.moved if before.moved[n] != after.moved.get(n)]
    operations += [_add(n, p) for n, p in after.moved.items() if before.moved.get(n) != p]
    if operations:
        client.update_collection_aliases(operations, timeout=seconds)


def _remove(name: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name + _ALIAS))


def _add(name: str, place: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=place, alias_name=name + _ALIAS))
