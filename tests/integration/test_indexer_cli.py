"""python -m indexer, in this process: what each command prints and how it exits."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import qdrant_edge as qe
import torch

from indexer import __main__ as cli
from indexer.commands import command
from indexer.commands import starter as starter_command
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import DiskLow
from knowledge_base.passages import load_passages
from knowledge_base.records import case_id
from knowledge_base.store import Scope
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import FilmNetwork
from rag_service.models.starter import StarterCases, save_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.training.export import export
from rag_service.wiring import layout

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

PASSAGES = len(load_passages())
SOUND = {
    "manifest": {"cases": "ok", "guidelines": "ok"},
    "damaged": [],
    "orphans": {},
    "unreachable": 0,
    "strays": [],
    "stale_passages": [],
}
"""What `verify` says besides its counts when nothing is wrong."""


@pytest.fixture
def stores() -> Iterator[Path]:
    """A folder for indexes, in memory where there is one: the engine waits for the disk a lot."""
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def environment(
    tmp_path: Path, stores: Path, tiny_model: Path, words: HashedWords, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model folder and a store of the test's own, a text encoder without weights, three studies and a bad row."""
    shutil.copytree(tiny_model, tmp_path / "model")
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(tmp_path / "model"))
    monkeypatch.setenv("RAG_STORE", str(stores / "store"))
    monkeypatch.setenv("RAG_RESERVE_MIB", "0")
    monkeypatch.setattr(command, "load_text_encoder", lambda: words)
    for number in range(3):
        maker.film(f"{number}.png", number)
    maker.table(
        "cases.csv",
        "film,report,patient,study",
        "0.png,Cardiomegaly. No effusion.,P0,S0",
        "1.png,Clear lungs.,P1,S1",
        "absent.png,Clear lungs.,P9,S9",
        "2.png,Small pleural effusion.,P2,S2",
    )


@pytest.fixture
def indexer(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command quietly: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--quiet"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def add(indexer: Callable[..., tuple[int, str, str]], maker: Maker) -> Callable[..., tuple[int, str, str]]:
    """Runs `add folder` on the studies."""
    return lambda *more: indexer("add", "folder", str(maker.folder), *more)


Run = Callable[..., tuple[int, str, str]]


def test_adding_a_folder_and_adding_it_again(add: Run) -> None:
    code, said, _ = add()
    assert code == 0
    first, reason, timing = said.splitlines()
    assert first == f"{3 + PASSAGES} added, 0 unchanged, 1 skipped"
    assert reason == "  1 x file_missing (first: S9)"
    assert re.fullmatch(
        r"  [0-9.]+ s: look up .* s, compare .* s, store .* s, decode .* s, label .* s, encode .* s, embed .* s, passages .* s, "
        r"optimize .* s; store share [0-9.]+%",
        timing,
    ), timing
    code, said, _ = add("--json")
    assert code == 0
    found = json.loads(said)
    seconds, elapsed, share = found.pop("seconds"), found.pop("elapsed"), found.pop("store_share")
    assert found == {
        "added": 0,
        "unchanged": 3 + PASSAGES,
        "inconsistent": 0,
        "earlier": 0,
        "still_quarantined": 0,
        "skipped": {"file_missing": 1},
        "quarantined": {},
        "examples": {"file_missing": "S9"},
    }
    assert set(seconds) == {"look up", "compare", "passages"} and sum(seconds.values()) <= elapsed
    assert share == pytest.approx(seconds["look up"] / elapsed, abs=0.01)


def test_a_limit_stops_after_so_many_rows(add: Run, indexer: Run) -> None:
    assert json.loads(add("--limit", "1", "--json")[1])["added"] == 1 + PASSAGES
    assert indexer("ids") == (0, "S0\n", "")
    assert json.loads(add("--limit", "3", "--json")[1])["added"] == 1
    assert json.loads(add("--limit", "99", "--json")[1])["added"] == 1


def test_the_bar_counts_studies_and_passages(maker: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["add", "folder", str(maker.folder)]) == 0
    assert "4/4" in capsys.readouterr().err


def test_ids_stats_and_verify(add: Run, indexer: Run) -> None:
    add()
    assert sorted(indexer("ids")[1].split()) == ["S0", "S1", "S2"]
    assert sorted(json.loads(indexer("ids", "--json")[1])) == ["S0", "S1", "S2"]
    code, said, _ = indexer("stats", "--json")
    stats = json.loads(said)
    assert code == 0 and said.count("\n") == 1
    positive = {finding: counts["positive"] for finding, counts in stats["findings"].items()}
    assert {f: n for f, n in positive.items() if f in ("Pleural Effusion", "Cardiomegaly", "Fracture")} == {
        "Cardiomegaly": 1,
        "Pleural Effusion": 1,
        "Fracture": 0,
    }
    assert stats["findings"]["Pleural Effusion"] == {"positive": 1, "negative": 1, "uncertain": 0}
    assert stats["manifest"]["cases"]["text_model"] == TEXT_MODEL
    assert stats["bytes_on_disk"] > 3 * 1_000 and stats["bytes_per_case"] == stats["bytes_on_disk"] // 3
    assert {k: stats[k] for k in ("cases", "passages", "sources", "tenants", "withdrawn", "damaged")} == {
        "cases": 3,
        "passages": PASSAGES,
        "sources": {"folder": 3},
        "tenants": {"public": 3},
        "withdrawn": 0,
        "damaged": {"cases": 0, "guidelines": 0},
    }
    code, said, _ = indexer("verify")
    assert (code, json.loads(said)) == (
        0,
        {**SOUND, "checked": {"cases": {"public": 3}, "guidelines": {"public": PASSAGES}}},
    )


def test_ids_of_more_cases_than_a_page(indexer: Run, maker: Maker) -> None:
    maker.table("cases.csv", "film,report,patient,study", *(f",Clear.,P{n},S{n}" for n in range(300)))
    assert indexer("add", "folder", str(maker.folder))[0] == 0
    assert sorted(indexer("ids")[1].split()) == sorted(f"S{n}" for n in range(300))


def test_an_empty_index_has_no_ids_and_is_intact(indexer: Run) -> None:
    assert indexer("ids", "--json") == (0, "[]\n", "")
    code, said, _ = indexer("verify", "--json")
    assert (code, json.loads(said)) == (0, {**SOUND, "checked": {"cases": {}, "guidelines": {}}})


def test_a_damaged_record_is_named_and_the_exit_code_is_3(add: Run, indexer: Run, stores: Path) -> None:
    add()
    damaged = case_id("folder", "S1")
    shard = qe.EdgeShard.load(str(stores / "store" / "cases" / "shard"))
    shard.update(qe.UpdateOperation.set_payload([damaged], {"text": "Large pneumothorax."}))
    shard.close()
    code, said, _ = indexer("verify", "--json")
    assert (code, json.loads(said)["damaged"]) == (3, [str(damaged)])
    assert json.loads(add("--json")[1])["added"] == 1
    assert indexer("verify")[0] == 0


def test_a_sealed_record_that_is_no_case_is_damage_too(
    add: Run, indexer: Run, stores: Path, tiny_encoder: FilmEncoder
) -> None:
    add()
    plan = layout(tiny_encoder.record.id, tiny_encoder.network.architecture.axes)
    store = EdgeStore(stores / "store", reserve_bytes=0)
    store.open(plan.cases, plan.cases_manifest)
    (point,) = store.get("cases", [case_id("folder", "S2")], Scope("public"), list(plan.cases.dense)).points
    text_alone = {k: v for k, v in point.payload.items() if k != "sentences"}
    store.upsert("cases", [replace(point, payload=text_alone)])
    store.close()
    code, said, _ = indexer("verify", "--json")
    assert (code, json.loads(said)["damaged"]) == (3, [str(case_id("folder", "S2"))])


# --- starter cases


@pytest.fixture
def starter_files(maker: Maker, tiny_encoder: FilmEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shipped cases with their reports."""
    maker.openi({"CXR1": ("Cardiomegaly.", "Cough", ("Cardiomegaly",)), "CXR2": ("Clear.", "Pain", ("normal",))})
    rng = np.random.default_rng(1)
    axes = tiny_encoder.network.architecture.axes
    boxes, texts = rng.uniform(0.1, 1, (2, 2 * axes)), rng.normal(size=(2, 384))
    packed = StarterCases(
        tiny_encoder.record.id, TEXT_MODEL, ("CXR1", "CXR2"), boxes.astype(np.float32), texts.astype(np.float32)
    )
    save_starter(tmp_path / "model", packed)
    monkeypatch.setattr(starter_command, "bundled_archive", lambda: maker.folder / "NLMCXR_reports.tgz")


@pytest.mark.usefixtures("starter_files")
def test_the_starter_is_indexed_once_and_needs_no_text_encoder_again(
    indexer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert indexer("starter") == (0, f"{2 + PASSAGES} added, 0 unchanged, 0 skipped\n", "")
    assert sorted(indexer("ids")[1].split()) == ["CXR1", "CXR2"]
    monkeypatch.delattr(command, "load_text_encoder")
    assert indexer("starter") == (0, f"0 added, {2 + PASSAGES} unchanged, 0 skipped\n", "")


def test_without_starter_files_the_exit_code_is_3(indexer: Run) -> None:
    code, _, said = indexer("starter")
    assert code == 3
    assert said == "error: starter.json or starter.safetensors is absent or malformed in the model folder\n"


# --- what goes wrong


def test_an_index_of_another_model_is_refused_until_it_is_rebuilt(
    add: Run, indexer: Run, tmp_path: Path, make_network: Callable[[int], FilmNetwork]
) -> None:
    add()
    network = make_network(6)
    torch.save({"averaged": network.state_dict()}, tmp_path / "checkpoint.pt")
    export(tmp_path / "checkpoint.pt", network.architecture, "1", tmp_path / "model")
    code, _, said = add()
    assert code == 3 and "python -m indexer migrate" in said
    assert indexer("stats")[0] == 3
    code, said, _ = add("--rebuild", "--limit", "2", "--json")
    assert code == 0 and json.loads(said)["added"] == 2 + PASSAGES
    assert sorted(indexer("ids")[1].split()) == ["S0", "S1"]


def test_a_second_opener_is_told_so(add: Run, indexer: Run, stores: Path) -> None:
    store = EdgeStore(stores / "store", reserve_bytes=0)
    store.health()
    try:
        for code, _, said in (add(), indexer("stats"), add("--rebuild")):
            assert code == 4 and "is in use by pid" in said
    finally:
        store.close()
    assert add()[0] == 0


def test_another_store_may_be_named(add: Run, indexer: Run, stores: Path) -> None:
    assert add("--store", str(stores / "other"), "--json")[0] == 0
    assert (stores / "other" / "cases").is_dir() and not (stores / "store").exists()
    assert len(indexer("ids", "--store", str(stores / "other"))[1].split()) == 3


def test_bad_usage_exits_2(
    indexer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert indexer("add", "folder", str(tmp_path / "nowhere")) == (2, "", "error: nowhere/ is no folder\n")
    assert indexer("add", "folder", str(tmp_path / "model")) == (2, "", "error: cases.csv is missing from model/\n")
    for arguments in (["add", "elsewhere", "."], ["add"], [], ["verify", "--rebuild"], ["stats", "extra"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()
    monkeypatch.setenv("RAG_WORKERS", "many")
    assert indexer("stats") == (2, "", "error: RAG_WORKERS must be of type int\n")
    monkeypatch.setenv("RAG_COLOUR", "red")
    assert indexer("stats") == (2, "", "error: unknown settings: RAG_COLOUR\n")


def test_a_full_disk_exits_1(add: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_RESERVE_MIB", str(1 << 40))
    code, said, complaint = add()
    assert (code, said) == (1, "") and complaint.startswith("error: ")


def test_a_disk_that_fills_up_meanwhile_exits_1(add: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskLow("the disk ran full")

    monkeypatch.setattr(EdgeStore, "upsert", full)
    said = "error: the disk ran full: what was stored is kept, and the same command goes on from there\n"
    assert add() == (1, "", said)


def test_absent_weights_exit_3(indexer: Run, tmp_path: Path) -> None:
    (tmp_path / "model" / "film-encoder.safetensors").unlink()
    code, _, said = indexer("stats")
    assert code == 3 and said.startswith("error: film-encoder.safetensors: expected sha256 ")
