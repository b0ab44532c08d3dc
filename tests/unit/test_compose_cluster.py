"""The cluster's deployment file: three nodes that find each other, two copies of everything, nothing open but the API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_service.settings import ENVIRONMENT, load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.cluster.yml").read_text(encoding="utf-8")
CLUSTER: dict[str, Any] = yaml.safe_load(TEXT)
SINGLE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = CLUSTER["services"]
NODES = ["qdrant-1", "qdrant-2", "qdrant-3"]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)([^}]*)\}")


def test_three_nodes_of_the_same_version_as_the_single_one() -> None:
    assert list(SERVICES) == [*NODES, "indexer", "api"]
    assert {SERVICES[n]["image"] for n in NODES} == {SINGLE["services"]["qdrant"]["image"]}


def test_the_nodes_find_each_other_through_the_first() -> None:
    first = ["--bootstrap", "http://qdrant-1:6335"]
    for name in NODES:
        joins = [] if name == "qdrant-1" else first
        assert SERVICES[name]["command"] == ["./entrypoint.sh", "--uri", f"http://{name}:6335", *joins]
        assert SERVICES[name]["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        assert SERVICES[name]["networks"] == ["store"]
    assert SERVICES["qdrant-2"]["depends_on"] == {"qdrant-1": {"condition": "service_healthy"}}


def test_each_node_keeps_its_data_in_a_volume_of_its_own() -> None:
    volumes = [SERVICES[n]["volumes"] for n in NODES]
    assert volumes == [
        ["knowledge-1:/qdrant/storage"],
        ["knowledge-2:/qdrant/storage"],
        ["knowledge-3:/qdrant/storage"],
    ]
    assert set(CLUSTER["volumes"]) == {"knowledge-1", "knowledge-2", "knowledge-3", "audit"}


def test_only_the_api_is_reachable_and_only_from_this_machine() -> None:
    assert {n: s["ports"] for n, s in SERVICES.items() if "ports" in s} == {"api": ["127.0.0.1:8000:8000"]}
    assert CLUSTER["networks"]["store"]["internal"] is True
    assert [n for n, s in SERVICES.items() if "front" in s["networks"]] == ["api"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_read_only_and_may_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] in {"2g", "4g"}
    assert not {"privileged", "network_mode", "pid", "devices", "cap_add", "env_file"} & set(service)
    written = [v for k, v in service["environment"].items() if k.endswith("_PATH")]
    assert all(path.startswith("/qdrant/storage/") for path in written)


def test_every_node_asks_for_the_key_and_every_secret_comes_from_outside() -> None:
    used = VARIABLE.findall(TEXT)
    assert {name for name, _ in used} == {"QDRANT_API_KEY", "RAG_API_KEY"}
    assert all(rest == f":?set {name} in .env" for name, rest in used)
    keys = {SERVICES[n]["environment"]["QDRANT__SERVICE__API_KEY"] for n in NODES}
    assert keys == {SERVICES["api"]["environment"]["RAG_STORE_API_KEY"]}


@pytest.mark.parametrize("name", ["indexer", "api"])
def test_collections_get_two_copies_and_shards_for_each_tenant(name: str) -> None:
    environment = {key: VARIABLE.sub("x" * 32, value) for key, value in SERVICES[name]["environment"].items()}
    assert set(environment) <= set(ENVIRONMENT)
    settings = load(environment)
    assert (settings.store, settings.store_grpc_port) == ("http://qdrant-1:6333", 6334)
    assert (settings.store_replicas, settings.store_shards, settings.store_shard_by_tenant) == (2, 3, True)


def test_the_indexer_waits_for_every_node_and_the_api_for_the_indexer() -> None:
    assert SERVICES["indexer"]["depends_on"] == {key: {"condition": "service_healthy"} for key in NODES}
    assert SERVICES["api"]["depends_on"] == {"indexer": {"condition": "service_completed_successfully"}}
    assert SERVICES["indexer"]["command"] == ["python", "-m", "indexer", "starter"]


def test_tls_is_explained_where_nodes_are_apart() -> None:
    told = TEXT.split("name:", 1)[0]
    for variable in ("QDRANT__SERVICE__ENABLE_TLS", "QDRANT__CLUSTER__P2P__ENABLE_TLS", "QDRANT__TLS__CERT"):
        assert variable in told
