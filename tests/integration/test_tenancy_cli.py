"""python -m indexer withdraw, restore and audit."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import indexer.__main__ as cli
from knowledge_base.audit import asking
from knowledge_base.audit_log import log_files
from knowledge_base.cases import to_point
from knowledge_base.records import Case, case_id
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.store import Filter, Match, Scope
from rag_service.settings import Settings
from rag_service.wiring import build_store

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
IN_USE = Filter(must_not=(Match("withdrawn", 1),))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An index of one study of isle and one public one, and the environment that names it."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    monkeypatch.setenv("RAG_STORE", str(folder / "store"))
    monkeypatch.setenv("RAG_RESERVE_MIB", "0")
    named = Settings(store=str(folder / "store"), reserve_mib=0)
    store = build_store(named)
    store.open(SCHEMA, MANIFEST)
    cases = [Case("openi", "CXR1", "p1", "Edema.", (), tenant=tenant) for tenant in ("isle", "public")]
    store.upsert("cases", [to_point(case, SCHEMA) for case in cases])
    store.close()
    yield named
    shutil.rmtree(folder)


@pytest.fixture
def indexer(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def in_use(settings: Settings, tenant: str, also: Callable[[Any], None] = lambda store: None) -> int:
    """How many cases of a tenant may be found, once `also` has been done."""
    store = build_store(settings)
    try:
        store.open(SCHEMA, MANIFEST)
        also(store)
        return store.count("cases", Scope(tenant, also_public=False), IN_USE)
    finally:
        store.close()


def test_a_study_is_withdrawn_for_its_tenant_and_restored(indexer: Run, settings: Settings) -> None:
    code, said, _ = indexer("withdraw", "openi", "CXR1", "--tenant", "isle", "--json")
    case = case_id("openi", "CXR1", "isle")
    assert (code, json.loads(said)) == (0, {"case": str(case), "withdrawn": True, "indexed": True})
    assert (in_use(settings, "isle"), in_use(settings, "public")) == (0, 1)

    def again(store: Any) -> None:
        store.delete("cases", [case], "isle")
        store.upsert("cases", [to_point(Case("openi", "CXR1", "p1", "Edema.", (), tenant="isle"), SCHEMA)])

    assert in_use(settings, "isle", again) == 0
    assert json.loads(indexer("restore", "openi", "CXR1", "--tenant", "isle", "--json")[1])["withdrawn"] is False
    assert in_use(settings, "isle") == 1


def test_a_study_may_be_withdrawn_before_it_is_indexed(indexer: Run, settings: Settings) -> None:
    assert json.loads(indexer("withdraw", "openi", "CXR2", "--json")[1])["indexed"] is False
    late = to_point(Case("openi", "CXR2", "p2", "Edema.", ()), SCHEMA)
    assert in_use(settings, "public", lambda store: store.upsert("cases", [late])) == 1


def test_without_an_index_there_is_nothing_to_withdraw_from(indexer: Run, tmp_path: Path) -> None:
    code, _, said = indexer("withdraw", "openi", "CXR1", "--store", str(tmp_path / "none"))
    assert code == 1 and "python -m indexer add" in said


def test_the_log_is_shown_and_checked(indexer: Run, settings: Settings) -> None:
    assert json.loads(indexer("audit", "verify", "--json")[1]) == {"events": 0, "head": "0" * 64, "fault": None}

    def read(store: Any) -> None:
        with asking("api", "r1"):
            for _ in range(3):
                store.scroll("cases", Scope("isle"))

    in_use(settings, "isle", read)
    code, said, _ = indexer("audit", "tail", "--events", "2")
    shown = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert [(e["sequence"], e["tenant"], e["request"], e["operation"]) for e in shown] == [
        (2, "isle", "r1", "scroll"), (3, "isle", "r1", "scroll"),
    ]  # fmt: skip
    assert shown[0]["ids"] == [str(case_id("openi", "CXR1"))]
    code, said, _ = indexer("audit", "verify", "--json")
    head = json.loads(said)["head"]
    assert (code, json.loads(said)["events"]) == (0, 3)
    (file,) = log_files(Path(settings.audit_folder))
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:2]))
    assert indexer("audit", "verify")[0] == 0
    code, said, _ = indexer("audit", "verify", "--expect", head, "--json")
    assert code == 3 and "not in the log" in json.loads(said)["fault"]
    file.write_bytes(whole[0] + whole[2])
    code, said, _ = indexer("audit", "verify", "--json")
    assert (code, json.loads(said)["fault"]) == (3, "event 3 does not follow on 1")
    file.write_bytes(b"{]\n")
    code, _, said = indexer("audit", "tail")
    assert code == 3 and "audit verify" in said


def test_bad_usage_exits_2(indexer: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["withdraw", "openi"], ["audit", "look"], ["audit", "tail", "--events", "0"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()
