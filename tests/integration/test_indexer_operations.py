"""python -m indexer verify, stats, export, import, push, migrate, optimize, plan: in this process, on small indexes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from qdrant_client import QdrantClient

from indexer import __main__ as cli
from indexer import capacity
from indexer.commands import command, plan
from knowledge_base.edge import EdgeStore
from knowledge_base.passages import load_passages
from knowledge_base.places import Places, save_places
from knowledge_base.records import case_id
from knowledge_base.server import ServerStore
from knowledge_base.store import PUBLIC, Point, Scope
from knowledge_base.withdrawals import WithdrawalKeeper
from rag_service import wiring
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import FilmNetwork
from rag_service.models.starter import StarterCases, save_starter
from rag_service.models.text import NAME as TEXT_MODEL
from rag_service.settings import Settings
from rag_service.training.export import export
from rag_service.wiring import layout

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

PASSAGES = len(load_passages())
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stores() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def indexer(
    tmp_path: Path,
    stores: Path,
    tiny_model: Path,
    words: HashedWords,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command quietly on a store of the test's own: exit code, standard output, standard error."""
    shutil.copytree(tiny_model, tmp_path / "model")
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(tmp_path / "model"))
    monkeypatch.setenv("RAG_STORE", str(stores / "store"))
    monkeypatch.setenv("RAG_RESERVE_MIB", "0")
    monkeypatch.setattr(command, "load_text_encoder", lambda: words)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--quiet"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def filled(indexer: Run, maker: Maker) -> Run:
    """An index of three public cases, one of them without a film."""
    for number in range(2):
        maker.film(f"{number}.png", number)
    rows = ("0.png,Cardiomegaly.,P0,S0", "1.png,Clear lungs.,P1,S1", ",Small pleural effusion.,P2,S2")
    maker.table("cases.csv", "film,report,patient,study", *rows)
    assert indexer("add", "folder", str(maker.folder))[0] == 0
    return indexer


def change_models(folder: Path, make_network: Callable[[int], FilmNetwork], seed: int = 6) -> None:
    network = make_network(seed)
    torch.save({"averaged": network.state_dict()}, folder.parent / "checkpoint.pt")
    export(folder.parent / "checkpoint.pt", network.architecture, str(seed), folder)


def test_nothing_indexed_is_told_and_exits_1(indexer: Run, tmp_path: Path) -> None:
    for arguments in (["verify"], ["stats"], ["export", str(tmp_path / "a.zip")], ["optimize"], ["migrate"]):
        code, said, complaint = indexer(*arguments)
        assert (code, said) == (1, "")
        assert complaint == "error: there is no collection 'cases' in this store: run `python -m indexer add`\n"


def test_export_wipe_import(filled: Run, stores: Path, tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    code, said, _ = filled("export", str(archive), "--json")
    assert code == 0
    told = {"exported": {"cases": 3, "guidelines": PASSAGES}, "bytes": archive.stat().st_size}
    assert json.loads(said) == told
    shutil.rmtree(stores / "store")
    code, said, _ = filled("import", str(archive), "--json")
    told = {"imported": {"cases": 3, "guidelines": PASSAGES}, "withdrawals": 0, "words_remade": 0}
    assert (code, json.loads(said)) == (0, told)
    assert sorted(filled("ids")[1].split()) == ["S0", "S1", "S2"]
    assert filled("verify")[0] == 0


def test_a_bad_archive_exits_3_and_changes_nothing(filled: Run, tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    filled("export", str(archive))
    archive.write_bytes(archive.read_bytes()[:-1])
    code, said, complaint = filled("import", str(archive))
    assert (code, said) == (3, "")
    assert complaint == "error: the file is no exported knowledge base, or it was cut short\n"
    assert sorted(filled("ids")[1].split()) == ["S0", "S1", "S2"]
    assert filled("export", str(tmp_path / "nowhere" / "a.zip"))[0] == 2


def test_an_archive_of_other_models_exits_3(
    filled: Run, tmp_path: Path, make_network: Callable[[int], FilmNetwork]
) -> None:
    filled("export", str(tmp_path / "all.zip"))
    change_models(tmp_path / "model", make_network)
    code, _, complaint = filled("import", str(tmp_path / "all.zip"))
    assert code == 3
    assert "was made with box_model" in complaint


def test_strays_and_orphans_are_named_and_the_exit_code_is_3(
    filled: Run, stores: Path, tiny_encoder: FilmEncoder
) -> None:
    (stores / "store" / "half").mkdir()
    code, said, _ = filled("verify", "--json")
    assert (code, json.loads(said)["strays"]) == (3, ["half"])
    (stores / "store" / "half").rmdir()
    plan = layout(tiny_encoder.record.id, tiny_encoder.axes)
    store = EdgeStore(stores / "store", reserve_bytes=0)
    store.open(plan.cases, plan.cases_manifest)
    store.open(plan.guidelines, plan.guidelines_manifest)
    (point,) = store.get("cases", [case_id("folder", "S0")], Scope(PUBLIC), list(plan.cases.dense)).points
    box = {n: v for n, v in point.vectors.items() if n.startswith("box.")}
    store.upsert("cases", [Point(point.id, box, {}, point.payload)])
    old = Point(
        case_id("x", "y"), {f"text.{TEXT_MODEL}": np.ones(384, np.float32)}, {}, {"tenant": PUBLIC, "slug": "old"}
    )
    store.upsert("guidelines", [old])
    store.close()
    code, said, _ = filled("verify", "--json")
    assert (code, json.loads(said)["orphans"]) == (3, {"no_text_vector": [str(point.id)]})
    assert json.loads(said)["stale_passages"] == [str(old.id)]


def test_a_manifest_that_is_not_the_running_models_is_damage(
    filled: Run, tmp_path: Path, stores: Path, make_network: Callable[[int], FilmNetwork]
) -> None:
    change_models(tmp_path / "model", make_network)
    code, said, _ = filled("verify", "--json")
    found = json.loads(said)
    assert code == 3
    assert "python -m indexer migrate" in found["manifest"]["cases"]
    assert found["manifest"]["guidelines"] == "ok"
    assert found["checked"]["cases"] == {"public": 3}
    shutil.rmtree(stores / "store" / "guidelines")
    assert json.loads(filled("verify", "--json")[1])["manifest"]["guidelines"] == "absent"
    (stores / "store" / "cases" / "collection.json").write_text('{"schema": {}, "manifest": {}}')
    assert filled("verify")[0] in {1, 3}


def test_a_file_of_places_that_leads_outside_is_refused(filled: Run, stores: Path) -> None:
    save_places(stores / "store", Places({"cases": "../elsewhere"}))
    code, said, complaint = filled("stats")
    assert (code, said) == (1, "")
    assert "names places outside the index" in complaint


def test_migration_reads_films_again_and_the_index_runs_with_the_new_model(
    filled: Run, maker: Maker, tmp_path: Path, make_network: Callable[[int], FilmNetwork]
) -> None:
    assert json.loads(filled("migrate")[1]) == {"migrated": [], "moved": 0, "without_film": [], "damaged": []}
    change_models(tmp_path / "model", make_network)
    assert filled("stats")[0] == 3
    code, _, complaint = filled("migrate")
    assert code == 1
    assert "films of 2 cases were not found" in complaint
    code, said, _ = filled("migrate", "--source", "folder", str(maker.folder), "--json")
    assert (code, json.loads(said)) == (0, {"migrated": ["cases"], "moved": 2, "without_film": [], "damaged": []})
    code, said, _ = filled("verify")
    assert code == 0
    assert json.loads(said)["checked"]["cases"] == {"public": 3}
    code, said, _ = filled("add", "folder", str(maker.folder), "--json")
    assert json.loads(said)["unchanged"] == 3 + PASSAGES


def test_migration_without_films_keeps_words_and_bad_sources_exit_2(
    filled: Run, tmp_path: Path, make_network: Callable[[int], FilmNetwork]
) -> None:
    change_models(tmp_path / "model", make_network)
    for wrong in (("elsewhere", str(tmp_path)), ("folder", str(tmp_path / "nowhere"))):
        code, _, complaint = filled("migrate", "--source", *wrong)
        assert code == 2
        assert "--source takes one of" in complaint
    code, said, _ = filled("migrate", "--without-films", "--json")
    told = json.loads(said)
    assert (code, told["moved"]) == (0, 3)
    assert sorted(told["without_film"]) == sorted(str(case_id("folder", s)) for s in ("S0", "S1"))
    assert filled("stats")[0] == 0


def test_a_new_layout_of_guidelines_is_migrated_too(filled: Run, stores: Path, tiny_encoder: FilmEncoder) -> None:
    layouts = [stores / "store" / name / "collection.json" for name in ("cases", "guidelines")]
    for path in layouts:
        path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    code, said, _ = filled("migrate", "--json")
    assert (code, json.loads(said)["migrated"]) == (0, ["cases", "guidelines"])
    assert filled("verify")[0] == 0


def test_optimize_tells_each_collection(filled: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["optimize"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("cases: 3 records, ")
    assert second.startswith(f"guidelines: {PASSAGES} records, ")
    code, said, _ = filled("optimize", "--json")
    assert (code, set(json.loads(said)["seconds"])) == (0, {"cases", "guidelines"})


def test_push_to_a_server_and_again(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    client, keys = QdrantClient(":memory:"), []
    build = wiring.build_store

    class Kept(ServerStore):
        def close(self) -> None:
            return

    def store_of(settings: Settings) -> object:
        if not settings.on_server:
            return build(settings)
        keys.append(settings.store_api_key)
        return WithdrawalKeeper(Kept(client, local=True))

    monkeypatch.setattr(command, "build_store", store_of)
    monkeypatch.setenv("FAR_KEY", "secret")
    code, said, _ = filled("push", "--to", "http://far:6333", "--api-key-env", "FAR_KEY", "--json")
    told = {"sent": 3 + PASSAGES, "present": 0, "verified": {"public": 3 + PASSAGES}}
    assert (code, json.loads(said)) == (0, told)
    code, said, _ = filled("push", "--to", "http://far:6333", "--json")
    assert (code, json.loads(said)) == (0, {**told, "sent": 0, "present": 3 + PASSAGES})
    assert keys == ["secret", None]
    assert filled("push", "--to", "somewhere")[0] == 2
    code, _, complaint = filled("push", "--to", "http://far:6333", "--api-key-env", "NO_SUCH_KEY")
    assert (code, complaint) == (2, "error: the variable NO_SUCH_KEY is not set\n")
    client.close()


@pytest.fixture
def starter(
    indexer: Run, maker: Maker, tiny_encoder: FilmEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shipped cases with their reports."""
    maker.openi({"CXR1": ("Cardiomegaly.", "Cough", ("Cardiomegaly",)), "CXR2": ("Clear.", "Pain", ("normal",))})
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0.1, 1, (2, 2 * tiny_encoder.axes)).astype(np.float32)
    texts = rng.normal(size=(2, 384)).astype(np.float32)
    packed = StarterCases(tiny_encoder.record.id, TEXT_MODEL, ("CXR1", "CXR2"), boxes, texts)
    save_starter(tmp_path / "model", packed)
    monkeypatch.setattr(plan, "bundled_archive", lambda: maker.folder / "NLMCXR_reports.tgz")


@pytest.mark.usefixtures("starter")
def test_a_plan_is_made_of_what_is_measured(indexer: Run, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "SAMPLE", 300)
    monkeypatch.setattr(tempfile, "tempdir", str(stores))
    code, said, _ = indexer("plan", "--cases", "1000000", "--json")
    found = json.loads(said)
    assert code == 0
    assert found["measured"]["cases"] == 300
    assert found["measured"]["per_case"]["vectors"] >= 384 * 4
    assert (found["plan"]["cases"], found["plan"]["replicas"]) == (1_000_000, 2)
    assert found["plan"]["nodes"] >= 3
    assert found["plan"]["disk"] > 1_000_000 * 2 * 384 * 4
    code, said, _ = indexer("plan", "--cases", "1000", "--replicas", "1")
    assert code == 0
    assert "1000 cases, 1 copies: 1 nodes, 1 shards" in said
    assert not (stores / "store").exists()


def test_a_plan_out_of_range_exits_2(indexer: Run) -> None:
    for arguments in (["--cases", "0"], ["--cases", "100000001"], ["--cases", "5", "--replicas", "0"]):
        code, said, complaint = indexer("plan", *arguments)
        assert (code, said) == (2, "")
        assert "takes 1 to 100000000" in complaint or "are positive" in complaint


@pytest.mark.usefixtures("starter")
def test_starter_cases_that_are_absent_are_noted_without_alarm(filled: Run) -> None:
    code, said, _ = filled("verify", "--json")
    assert (code, json.loads(said)["starter_missing"]) == (0, ["CXR1", "CXR2"])
