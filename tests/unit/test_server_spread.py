"""What a cluster is asked for: replicas, shards of each tenant, compressed copies, gRPC. Against a client that records."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import grpc
import httpx
import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

from knowledge_base.errors import CollectionMissing, DiskLow, StoreError, StoreProtocolError, StoreUnavailable
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.server import ServerStore, connect
from knowledge_base.server_layout import Spread
from knowledge_base.server_wire import mapped_errors
from knowledge_base.store import Nearest, Point, Scope, SparseVector

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
CLUSTER = Spread(replicas=2, shards=3, by_tenant=True)
SOME_IDS = [UUID(int=n) for n in range(1, 5)]


@dataclass
class Recorder:
    """In place of a client on a cluster: remembers each call, and the shard keys that were made."""

    keys: list[str] = field(default_factory=list)
    method: models.ShardingMethod | None = models.ShardingMethod.CUSTOM
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    made: bool = False
    refuses_keys: bool = False
    gone: str | None = None
    aliases: dict[str, str] = field(default_factory=dict)

    def asked(self, name: str) -> list[dict[str, Any]]:
        return [{"args": a, **k} for n, a, k in self.calls if n == name]

    def get_aliases(self) -> Any:
        told = [SimpleNamespace(alias_name=a, collection_name=c) for a, c in self.aliases.items()]
        return SimpleNamespace(aliases=told)

    def get_collections(self) -> Any:
        return SimpleNamespace(collections=[])

    def collection_exists(self, name: str) -> bool:
        return self.made and name != self.gone

    def create_collection(self, name: str, **params: Any) -> None:
        self.calls.append(("create_collection", (name,), params))
        self.made = True

    def get_collection(self, name: str) -> Any:
        metadata = {"schema": SCHEMA.as_json(), "manifest": MANIFEST.as_json()}
        params = SimpleNamespace(sharding_method=self.method)
        indexes = dict.fromkeys(SCHEMA.payload_indexes)
        return SimpleNamespace(config=SimpleNamespace(metadata=metadata, params=params), payload_schema=indexes)

    def list_shard_keys(self, name: str) -> Any:
        return SimpleNamespace(shard_keys=[SimpleNamespace(key=k) for k in self.keys])

    def create_shard_key(self, name: str, key: str, shards: int | None, replicas: int, **more: Any) -> None:
        self.calls.append(("create_shard_key", (key, shards, replicas), more))
        if self.refuses_keys:
            raise UnexpectedResponse(400, "Bad Request", b"{}", httpx.Headers())
        self.keys.append(key)

    def __getattr__(self, name: str) -> Any:
        answers = {
            "retrieve": [],
            "query_batch_points": [SimpleNamespace(points=[])],
            "scroll": ([], None),
            "count": SimpleNamespace(count=0),
            "facet": SimpleNamespace(hits=[]),
        }

        def call(*args: Any, **params: Any) -> Any:
            if args and args[0] == self.gone:
                raise UnexpectedResponse(404, "Not Found", b"{}", httpx.Headers())
            self.calls.append((name, args, params))
            return answers.get(name)

        return call


def opened(client: Recorder, spread: Spread = CLUSTER) -> ServerStore:
    store = ServerStore(client, spread=spread)  # type: ignore[arg-type]
    store.open(SCHEMA, MANIFEST)
    return store


def a_point(number: int, tenant: str) -> Point:
    return Point(SOME_IDS[number], {"text.mini@1": np.ones(6, np.float32)}, {}, {"tenant": tenant})


def test_a_collection_is_made_with_its_replicas_and_shards() -> None:
    client = Recorder()
    opened(client)
    (made,) = client.asked("create_collection")
    assert made["replication_factor"] == 2
    assert made["write_consistency_factor"] == 2
    assert made["shard_number"] == 3
    assert made["sharding_method"] is models.ShardingMethod.CUSTOM


def test_a_single_server_keeps_its_defaults() -> None:
    assert Spread().params() == {}
    assert Spread(replicas=3).params() == {"replication_factor": 3, "write_consistency_factor": 2}


def test_originals_lie_on_the_disk_and_copies_of_a_quarter_in_memory() -> None:
    client = Recorder()
    opened(client)
    box = client.asked("create_collection")[0]["vectors_config"]["box.box@1"]
    assert (box.size, box.distance, box.on_disk) == (8, models.Distance.EUCLID, True)
    assert box.quantization_config.scalar.type is models.ScalarType.INT8
    assert box.quantization_config.scalar.always_ram is True


def test_a_tenants_first_points_get_it_shards_of_its_own_once() -> None:
    client = Recorder()
    store = opened(client)
    store.upsert("cases", [a_point(0, "isle"), a_point(1, "public"), a_point(2, "isle")])
    store.upsert("cases", [a_point(3, "isle")])
    assert [c["args"] for c in client.asked("create_shard_key")] == [("public", 3, 2), ("isle", 3, 2)]
    keys = [(c["shard_key_selector"], len(c["args"][1])) for c in client.asked("upsert")]
    assert keys == [(["isle"], 2), (["public"], 1), (["isle"], 1)]
    assert [c["shard_key_selector"] for c in client.asked("retrieve")] == [["isle"], ["public"], ["isle"]]


def test_every_read_and_write_names_the_shards_of_those_it_may_see() -> None:
    client = Recorder(keys=["isle", "public", "coast"])
    store, scope = opened(client), Scope("isle")
    store.ranked("cases", [Nearest("text.mini@1", np.ones(6, np.float32), 3)], scope)
    (query,) = client.asked("query_batch_points")[0]["args"][1]
    assert query.shard_key == ["isle", "public"]
    store.scroll("cases", scope)
    store.ids("cases", scope)
    store.get("cases", SOME_IDS, scope)
    assert [c["shard_key_selector"] for c in client.asked("scroll")] == [["isle", "public"]] * 3
    store.count("cases", scope)
    store.facet("cases", "source", Scope("coast", also_public=False))
    store.tenants("cases")
    store.set_withdrawn("cases", SOME_IDS, "isle")
    store.delete("cases", SOME_IDS, "coast")
    assert client.asked("count")[0]["shard_key_selector"] == ["isle", "public"]
    assert [c["shard_key_selector"] for c in client.asked("facet")] == [["coast"], None]
    assert client.asked("set_payload")[0]["shard_key_selector"] == ["isle"]
    assert client.asked("delete")[0]["shard_key_selector"] == ["coast"]


def test_shards_that_another_process_made_are_found() -> None:
    client = Recorder(keys=["public"])
    store = opened(client)
    store.count("cases", Scope("isle"))
    client.keys.append("isle")
    store.count("cases", Scope("isle"))
    store.count("cases", Scope("nobody", also_public=False))
    selected = [c["shard_key_selector"] for c in client.asked("count")]
    assert selected == [["public"], ["isle", "public"], ["public"]], "the filter keeps the public out of the last"


def test_a_tenant_whose_shards_cannot_be_made_is_an_error() -> None:
    store = opened(Recorder(keys=["public"], refuses_keys=True))
    with pytest.raises(StoreProtocolError):
        store.upsert("cases", [a_point(0, "isle")])


def test_a_collection_that_is_not_divided_is_asked_as_a_whole() -> None:
    client = Recorder(method=None)
    store = opened(client, Spread())
    store.upsert("cases", [a_point(0, "isle"), a_point(1, "public")])
    store.count("cases", Scope("isle"))
    assert client.asked("create_shard_key") == []
    assert [c["shard_key_selector"] for c in client.asked("upsert") + client.asked("count")] == [None, None]


def test_a_server_searches_the_copies_and_scores_again_on_the_originals() -> None:
    client = Recorder(keys=["public"])
    words = SparseVector(np.array([7], np.uint32), np.array([1.0], np.float32))
    store = opened(client)
    store.ranked("cases", [Nearest("text.mini@1", np.ones(6, np.float32), 3)], Scope("public"))
    store.ranked("cases", [Nearest("bm25", words, 3)], Scope("public"))
    dense, sparse = (c["args"][1][0].params for c in client.asked("query_batch_points"))
    assert (dense.hnsw_ef, dense.quantization.rescore, dense.quantization.oversampling) == (128, True, 4.0)
    assert sparse.quantization is None
    assert sparse.idf.corpus is not None


def test_health_opens_what_an_import_put_in_the_place_of_a_collection() -> None:
    client = Recorder(keys=["public"])
    store = opened(client)
    client.gone = "cases"
    assert not store.health().ready, "nothing took its place, and nothing is made"
    client.aliases = {"cases.now": "cases.import"}
    assert store.health().collections == {"cases": 0}
    store.count("cases", Scope("public"))
    assert client.asked("count")[-1]["args"][0] == "cases.import"


def test_grpc_is_used_where_its_port_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("knowledge_base.server.QdrantClient", lambda **params: made.append(params))
    connect("http://far:6333", "k")
    connect("http://far:6333", "k", grpc_port=6334)
    assert "prefer_grpc" not in made[0]
    assert (made[1]["prefer_grpc"], made[1]["grpc_port"]) == (True, 6334)


class Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self.code, self.details = lambda: code, lambda: details


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Failure(grpc.StatusCode.UNAVAILABLE), StoreUnavailable),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), StoreUnavailable),
        (Failure(grpc.StatusCode.UNAUTHENTICATED), StoreUnavailable),
        (Failure(grpc.StatusCode.NOT_FOUND), CollectionMissing),
        (Failure(grpc.StatusCode.INVALID_ARGUMENT), StoreProtocolError),
        (Failure(grpc.StatusCode.INTERNAL, "No space left on device"), DiskLow),
    ],
)
def test_every_failure_over_grpc_has_its_error(failure: Failure, error: type[StoreError]) -> None:
    with pytest.raises(error) as caught, mapped_errors("cases"):
        raise failure
    assert type(caught.value) is error


def test_a_store_over_grpc_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = connect(f"http://127.0.0.1:{port}", read_seconds=1, grpc_port=port)
    with pytest.raises(StoreUnavailable):
        store.open(SCHEMA, MANIFEST)
    store.close()
