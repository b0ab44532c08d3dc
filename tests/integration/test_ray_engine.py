"""The same studies through both engines give the same points, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from indexer import __main__ as cli
from knowledge_base.edge import EdgeStore
from knowledge_base.pages import pages_of
from knowledge_base.schema import CASES
from knowledge_base.store import PUBLIC, Point
from rag_service.models.encoder import FilmEncoder
from rag_service.wiring import layout

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

STUDIES = 40
"""More than a batch."""


@pytest.fixture
def studies(maker: Maker) -> Path:
    """Studies with a film, without one, and with one that cannot be read."""
    rows = []
    for number in range(STUDIES):
        film = "" if number % 7 == 0 else maker.film(f"{number}.png", number).name
        rows.append(f"{film},Small effusion number {number}. No pneumothorax.,P{number},S{number}")
    (maker.folder / "5.png").write_bytes(b"no film")
    maker.table("cases.csv", "film,report,patient,study", *rows)
    return maker.folder


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its sockets and logs: their paths have to be short."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def indexed(studies: Path, store: Path, model: Path, encoder: FilmEncoder, engine: str, logs: Path) -> list[Point]:
    """What a run of the command stores, in order of id."""
    command = [sys.executable, "-m", "indexer", "add", "folder", str(studies), "--store", str(store)]
    environment = {**os.environ, "RAG_MODEL_FOLDER": str(model), "RAG_RESERVE_MIB": "0", "RAY_TMPDIR": str(logs)}
    done = subprocess.run(
        [*command, "--engine", engine, "--workers", "1", "--quiet"],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 skipped, 1 quarantined\n  1 x not_an_image (first: S5)" in done.stdout
    plan = layout(encoder.record.id, encoder.axes)
    opened = EdgeStore(store, reserve_bytes=0)
    try:
        opened.open(plan.cases, plan.cases_manifest)
        return [p for page in pages_of(opened, CASES, PUBLIC, list(plan.cases.dense)) for p in page.points]
    finally:
        opened.close()


def test_both_engines_store_the_same_points(
    studies: Path, tmp_path: Path, whole_model: Path, tiny_encoder: FilmEncoder, ray_folder: Path
) -> None:
    local, ray = (indexed(studies, tmp_path / e, whole_model, tiny_encoder, e, ray_folder) for e in ("local", "ray"))
    assert [p.id for p in local] == [p.id for p in ray] and len(local) == STUDIES - 1
    for one, other in zip(local, ray, strict=True):
        assert one.payload == other.payload
        assert {n: v.tobytes() for n, v in one.vectors.items()} == {n: v.tobytes() for n, v in other.vectors.items()}
    assert sum("consistent" in p.payload for p in local) == STUDIES - 6 - 1
    logs = [p for p in ray_folder.rglob("*") if p.is_file()]
    assert logs and not [p.name for p in logs if b"effusion" in p.read_bytes()]


def test_without_ray_the_command_says_what_to_install(
    studies: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(tiny_model))
    monkeypatch.setenv("RAG_RESERVE_MIB", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["add", "folder", str(studies), "--store", str(tmp_path / "store"), "--engine", "ray", "--quiet"]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == "error: --engine ray needs Ray: pip install .[ray]\n"
