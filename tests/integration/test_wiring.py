"""From settings to a built service: which store, which model, and what is released when building fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from knowledge_base.findings import FINDINGS
from knowledge_base.memory import MemoryStore
from knowledge_base.schema import CASES, GUIDELINES
from knowledge_base.server_layout import Spread
from knowledge_base.store import PUBLIC, Scope
from knowledge_base.zones import ZONES
from rag_service import wiring
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.calibrators import Platt
from rag_service.errors import BadWeights, IndexModelMismatch
from rag_service.gate import REFERENCE_FILE, Gate
from rag_service.models import text
from rag_service.models.catalogue import load_record
from rag_service.models.network import FilmNetwork
from rag_service.settings import Settings
from rag_service.training.export import export


@pytest.fixture
def weights(make_network: Callable[[int], FilmNetwork], open_gate: Callable[[str, int], Gate], tmp_path: Path) -> Path:
    """A model folder: exported network, its calibration and the gate's reference."""
    network, folder = make_network(0), tmp_path / "weights"
    torch.save({"averaged": network.state_dict()}, tmp_path / "checkpoint.pt")
    record = export(tmp_path / "checkpoint.pt", network.architecture, "1", folder)
    open_gate(record.id, 302).save(folder)
    entry = FindingCalibration(
        Platt(1.0, 0.0), 0.5, 0.5, 0.5, 0.5, 0.1, Reliability.TOO_FEW, 1, 2, None, (0.1, 0.9), (0, 1)
    )
    findings = dict.fromkeys(FINDINGS, entry)
    Calibration(record.id, findings, Tiers(0.9, 0.6, 1.0, 1.0, 9.0), ("a", "b", "c", "d"), "none").save(folder)
    return folder


class Pool:
    """In place of the decoder's process."""

    made: list[Pool]

    def __init__(self, workers: int) -> None:
        self.workers, self.events = workers, ["made"]
        self.made.append(self)

    def start(self) -> None:
        self.events.append("started")

    def close(self) -> None:
        self.events.append("closed")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, words: Any) -> tuple[MemoryStore, list[Pool]]:
    """The store, and every decoder that is made, in place of the concrete ones."""
    store = MemoryStore()
    monkeypatch.setattr(Pool, "made", [], raising=False)
    monkeypatch.setattr(wiring, "DecodePool", Pool)
    monkeypatch.setattr(wiring, "EdgeStore", lambda *_, **__: store)
    monkeypatch.setattr(wiring, "load_text_encoder", lambda: words)
    return store, Pool.made


def test_a_service_is_built_and_closed(weights: Path, parts: tuple[MemoryStore, list[Pool]]) -> None:
    store, pools = parts
    heard: list[str] = []
    service = wiring.build_service(Settings(model_folder=str(weights), workers=3), heard.append)
    assert heard == ["model", "knowledge base", "writer"]
    assert (pools[0].workers, pools[0].events) == (3, ["made", "started"])
    assert service.readiness() == {"model": "ok", "store": "ok"}
    assert (store.count(CASES, Scope(PUBLIC)), store.count(GUIDELINES, Scope(PUBLIC))) == (0, 0)
    service.close()
    assert pools[0].events[-1] == "closed"
    assert not store.health().ready


def test_what_was_opened_is_released_when_building_fails(weights: Path, parts: tuple[MemoryStore, list[Pool]]) -> None:
    store, pools = parts
    (weights / REFERENCE_FILE).write_bytes(b"altered")
    with pytest.raises(BadWeights, match=r"gate\.safetensors"):
        wiring.build_service(Settings(model_folder=str(weights)))
    assert pools[0].events == ["made", "started", "closed"]
    assert not store.health().ready


def test_an_index_of_another_model_is_refused_with_the_remedy(
    weights: Path, parts: tuple[MemoryStore, list[Pool]]
) -> None:
    wiring.open_collections(parts[0], wiring.layout("other@1-00000000", 4))
    with pytest.raises(IndexModelMismatch, match=r"python -m indexer migrate"):
        wiring.build_service(Settings(model_folder=str(weights)))


def test_a_reader_sets_the_threads_it_is_told(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    wiring.build_reader(Settings(model_folder=str(weights), torch_threads=3))
    wiring.build_reader(Settings(model_folder=str(weights), torch_threads=0))
    assert asked == [3]


def test_the_writer_is_the_one_that_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(wiring, "load_writer", lambda *given: made.append(given))
    monkeypatch.setattr(wiring, "load_chat_writer", lambda *given: made.append(given))
    for name, folder in (("maira-2", "there"), ("medgemma", "here"), ("langchain:openai:some-model", None)):
        wiring.build_writer(Settings(writer=name, writer_folder=folder), "film@1-00000000")
    assert made == [("maira-2", Path("there")), ("medgemma", Path("here")), ("openai:some-model",)]
    assert wiring.build_writer(Settings(writer="verbatim"), "film@1-00000000") is None
    assert wiring.build_writer(Settings(model_folder=str(tmp_path)), "film@1-00000000") is None
    shipped = Settings()
    writer = wiring.build_writer(shipped, load_record(Path(shipped.model_folder)).id)
    assert writer is not None
    assert writer.id.startswith("grounded-decoder@1-")


def test_a_writer_that_cannot_be_had_stops_the_service(weights: Path, parts: tuple[MemoryStore, list[Pool]]) -> None:
    store, pools = parts
    with pytest.raises(BadWeights, match=r"writer\.json is absent or malformed"):
        wiring.build_service(Settings(model_folder=str(weights), writer="maira-2", writer_folder=str(weights)))
    assert pools[0].events[-1] == "closed"
    assert not store.health().ready


def test_a_layout_binds_models_and_names_itself() -> None:
    plan = wiring.layout("m@1-00000000", 4)
    assert set(plan.cases.dense) == {
        "box.m@1-00000000",
        f"text.{text.NAME}",
        *(f"region.{zone}.m@1-00000000" for zone in ZONES),
    }
    assert plan.cases_manifest.as_json() == {
        "box_model": "m@1-00000000", "text_model": text.NAME, "preprocessing": "squeeze256-p0.5-99.5@1",
        "labeler": "rules@1", "box_dimension": 4, "text_dimension": 384, "schema_version": 2,
    }  # fmt: skip
    assert plan.guidelines_manifest.box_model is None
    assert plan.digest == wiring.layout("m@1-00000000", 4).digest
    assert plan.digest != wiring.layout("m@2-00000000", 4).digest


def test_a_url_is_a_server_and_anything_else_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr("knowledge_base.server.connect", lambda *a, **more: made.append((*a, more)))
    monkeypatch.setattr(wiring, "EdgeStore", lambda path, reserve_bytes: made.append((path, reserve_bytes)))
    wiring.build_store(Settings(store="http://qdrant:6333", store_api_key="k"))
    wiring.build_store(Settings(store=str(tmp_path), reserve_mib=2))
    spread: dict[str, Any] = {"store_replicas": 2, "store_shards": 3, "store_shard_by_tenant": True}
    wiring.build_store(Settings(store="https://qdrant:6333", store_grpc_port=6334, **spread))
    assert made == [
        ("http://qdrant:6333", "k", {"spread": Spread(), "grpc_port": None}),
        (tmp_path, 2 << 20),
        ("https://qdrant:6333", None, {"spread": Spread(2, 3, by_tenant=True), "grpc_port": 6334}),
    ]


def test_discarding_removes_both_collections_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    plan = wiring.layout("box@1", 4)
    wiring.open_collections(store, plan)
    store.open(replace(plan.cases, name="mine"), plan.cases_manifest)
    monkeypatch.setattr(wiring, "build_store", lambda _: store)
    wiring.discard_index(Settings())
    store._closed = False
    assert [store.manifest(n) is None for n in (CASES, GUIDELINES, "mine")] == [True, True, False]
    wiring.discard_index(Settings())
    assert not store.health().ready
