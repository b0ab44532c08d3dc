"""The embedded store optimises a copy in another process: searching and writing go on, and a kill leaves one index or the other."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from knowledge_base import edge_engine, edge_optimizer
from knowledge_base.edge import EdgeStore
from knowledge_base.edge_engine import Engine
from knowledge_base.edge_shard import Refused
from knowledge_base.errors import StoreError
from knowledge_base.schema import BM25, IndexManifest, cases_schema
from knowledge_base.store import Nearest, Point, Scope, SparseVector
from knowledge_base.verification import verify

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=64, text_dimension=32, region_dimension=8)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 64, 32)
PUBLIC = Scope("public")
CASES = 3_000
SHARD = "cases/shard"


def a_point(number: int, version: int = 0) -> Point:
    rng = np.random.default_rng([number, version])
    words = SparseVector(np.array([number % 50, 100 + version], np.uint32), np.ones(2, np.float32))
    vectors = {
        "box.box@1": np.abs(rng.normal(size=128)).astype(np.float32),
        "text.mini@1": rng.normal(size=32).astype(np.float32),
        "region.mediastinum.box@1": rng.normal(size=8).astype(np.float32),
    }
    payload = {"tenant": "public", "study": f"s{number}", "version": version, "withdrawn": 0}
    return Point(UUID(int=number + 1), vectors, {BM25: words}, payload)


def the_ids(*numbers: int) -> list[UUID]:
    return [UUID(int=n + 1) for n in numbers]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    store = EdgeStore(tmp_path, reserve_bytes=0, read_seconds=10.0)
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", [a_point(n) for n in range(CASES)])
    yield store
    store.close()


def nearest(store: EdgeStore, number: int) -> UUID:
    asked = Nearest("box.box@1", a_point(number).vectors["box.box@1"], 3)
    return store.ranked("cases", [asked], PUBLIC)[0][0].id


class Optimising(threading.Thread):
    """`optimize` in a thread, begun when the constructor returns."""

    def __init__(self, store: EdgeStore) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._store = store
        self.start()

    def run(self) -> None:
        try:
            self._store.optimize("cases")
        except StoreError as error:
            self.error = error


def optimiser_of(engine: int) -> int:
    """Process id of the optimiser that an engine has started."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{engine}/task/{engine}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.005)
    raise AssertionError("no optimiser was started")


def runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_searching_and_writing_go_on_and_nothing_written_meanwhile_is_lost(store: EdgeStore) -> None:
    thread = Optimising(store)
    optimiser_of(store.engine_pid or 0)
    answers = [nearest(store, 7)]
    store.upsert("cases", [a_point(n, version=1) for n in range(20)] + [a_point(n) for n in range(CASES, CASES + 5)])
    store.set_withdrawn("cases", the_ids(30, 31), "public")
    store.delete("cases", the_ids(40, 41), "public")
    answers.append(nearest(store, 70))
    while thread.is_alive():
        answers.append(nearest(store, 70))
    thread.join()
    assert thread.error is None
    assert set(answers[1:]) == set(the_ids(70))
    assert store.count("cases", PUBLIC) == CASES + 5 - 2
    assert [p.payload["version"] for p in store.get("cases", the_ids(3, 19, 20), PUBLIC).points] == [1, 1, 0]
    assert [p.payload["withdrawn"] for p in store.get("cases", the_ids(30, 31, 32), PUBLIC).points] == [1, 1, 0]
    assert store.get("cases", the_ids(40, 41, CASES + 4), PUBLIC).points[0].id == UUID(int=CASES + 5)
    assert verify(store, SCHEMA).intact


def test_the_points_of_an_optimised_index_are_found_again_after_reopening(store: EdgeStore, tmp_path: Path) -> None:
    store.delete("cases", the_ids(*range(1000, 1100)), "public")  # throwing them out makes a new segment
    before = {f.name for f in (tmp_path / SHARD / "segments").iterdir()}
    store.optimize("cases")
    assert {f.name for f in (tmp_path / SHARD / "segments").iterdir()} != before
    assert sorted(f.name for f in (tmp_path / "cases").iterdir()) == ["collection.json", "shard"]
    store.close()
    again = EdgeStore(tmp_path, reserve_bytes=0)
    again.open(SCHEMA, MANIFEST)
    assert [nearest(again, n) for n in (0, 1234, CASES - 1)] == the_ids(0, 1234, CASES - 1)
    again.close()


def test_a_killed_optimiser_leaves_the_index_as_it_was(store: EdgeStore, tmp_path: Path) -> None:
    thread = Optimising(store)
    os.kill(optimiser_of(store.engine_pid or 0), signal.SIGKILL)
    thread.join()
    assert (
        str(thread.error) == "the embedded engine refused: the optimiser ended with status -9; the index is as it was"
    )
    store.upsert("cases", [a_point(CASES)])
    assert (nearest(store, 5), store.count("cases", PUBLIC)) == (UUID(int=6), CASES + 1)
    store.optimize("cases")
    assert nearest(store, CASES) == UUID(int=CASES + 1)


def test_a_killed_engine_takes_its_optimiser_along(store: EdgeStore, tmp_path: Path) -> None:
    thread = Optimising(store)
    engine = store.engine_pid or 0
    optimiser = optimiser_of(engine)
    os.kill(engine, signal.SIGKILL)
    thread.join()
    assert isinstance(thread.error, StoreError)
    deadline = time.monotonic() + 5
    while runs(optimiser) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(optimiser)
    assert nearest(store, 5) == UUID(int=6)
    assert sorted(f.name for f in (tmp_path / "cases").iterdir()) == ["collection.json", "shard"]


@pytest.mark.parametrize("left", [("shard", "shard.next"), ("shard.old", "shard.next"), ("shard.old", "shard")])
def test_a_kill_between_the_renames_leaves_one_whole_shard(tmp_path: Path, left: tuple[str, str]) -> None:
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "whose").write_text(name)
    edge_optimizer.recover(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["shard"]
    assert (tmp_path / "shard" / "whose").read_text() == ("shard" if "shard" in left else "shard.next")


def test_a_copy_that_would_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tmp_path, reserve_bytes=0)
    layout = {"schema": SCHEMA.as_json(), "manifest": MANIFEST.as_json()}
    engine.answer({"op": "open", "collection": "cases", "layout": layout}, b"")
    monkeypatch.setattr(edge_engine, "size", lambda folder: 1 << 60 if folder == tmp_path / "cases" else 0)
    with pytest.raises(edge_engine.LowDisk):
        engine.answer({"op": "optimize", "place": "cases"}, b"")
    with pytest.raises(Refused, match="nothing is being optimised"):
        engine.answer({"op": "optimized", "place": "cases"}, b"")
    engine.close()


def test_a_copy_keeps_holes_and_data(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(8 << 20)
        for at in (0, 3 << 20, (8 << 20) - 4096):
            file.seek(at)
            file.write(b"bone" * 1024)
    edge_optimizer.copy_data(str(source), str(target))
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks < 1024
    (tmp_path / "empty").touch()
    edge_optimizer.copy_data(str(tmp_path / "empty"), str(target))
    assert target.read_bytes() == b""


def test_closing_gives_an_optimisation_up(store: EdgeStore, tmp_path: Path) -> None:
    thread = Optimising(store)
    optimiser = optimiser_of(store.engine_pid or 0)
    store.close()
    thread.join()
    assert isinstance(thread.error, StoreError)
    assert not runs(optimiser)
    again = EdgeStore(tmp_path, reserve_bytes=0)
    again.open(SCHEMA, MANIFEST)
    assert again.count("cases", PUBLIC) == CASES
    again.close()
