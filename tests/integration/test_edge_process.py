"""The embedded engine's process: what a kill, a hang, a second opener and a dead parent do to it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import pytest

from knowledge_base.cases import from_payload, to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import DiskLow, StoreInUse, StoreProtocolError, StoreUnavailable
from knowledge_base.records import CASE_NAMESPACE, BoxLatent, Case, case_id
from knowledge_base.schema import IndexManifest, box_vector, cases_schema
from knowledge_base.store import Nearest, Point, Scope
from knowledge_base.verification import verify

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
PUBLIC = Scope("public")
ENGINE_KILLS = 50
CLIENT_KILLS = 6
BATCH = 20

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_edge_process import BATCH, MANIFEST, SCHEMA, a_point
from knowledge_base.edge import EdgeStore
store = EdgeStore(Path(sys.argv[1]), reserve_bytes=0)
store.open(SCHEMA, MANIFEST)
print("open", store.engine_pid, flush=True)
for batch in range(int(sys.argv[2]), 10_000):
    store.upsert("cases", [a_point(batch * BATCH + i) for i in range(BATCH)])
    print(batch, flush=True)
"""


def a_point(number: int) -> Point:
    rng = np.random.default_rng(number)
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    case = Case("openi", f"s{number}", f"p{number}", f"report {number} small effusion", ())
    return to_point(case, SCHEMA, box=box, text_vector=rng.normal(size=6).astype(np.float32))


def expected_ids(count: int) -> list[UUID]:
    return sorted(case_id("openi", f"s{n}") for n in range(count))


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def store(folder: Path) -> Iterator[EdgeStore]:
    opened = EdgeStore(folder, reserve_bytes=0)
    opened.open(SCHEMA, MANIFEST)
    yield opened
    opened.close()


def kill_engine(store: EdgeStore, how: signal.Signals = signal.SIGKILL) -> None:
    assert store.engine_pid is not None
    os.kill(store.engine_pid, how)


def kill_quietly(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def gone(pid: int, seconds: float) -> bool:
    """Whether the process ends (or is a zombie) in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_killing_the_engine_at_random_points_loses_and_doubles_nothing(store: EdgeStore) -> None:
    rng = random.Random(11)
    kills = batch = cut = 0
    while kills < ENGINE_KILLS:
        points = [a_point(batch * BATCH + i) for i in range(BATCH)]
        assert store.engine_pid is not None
        killer = threading.Timer(rng.uniform(0.0, 0.008), kill_quietly, [store.engine_pid])
        killer.start()
        try:
            store.upsert("cases", points)
        except StoreUnavailable:
            cut += 1
            store.upsert("cases", points)
        killer.join()
        kills, batch = kills + 1, batch + 1
    assert cut >= ENGINE_KILLS // 5
    assert store.ids("cases", PUBLIC) == expected_ids(batch * BATCH)
    assert verify(store, SCHEMA).damaged == ()


def test_killing_the_writing_client_at_random_points_loses_and_doubles_nothing(folder: Path) -> None:
    rng = random.Random(12)
    acknowledged = -1
    for _ in range(CLIENT_KILLS):
        command = [sys.executable, "-c", WRITER, str(folder), str(acknowledged + 1), str(Path(__file__).parent)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline().startswith("open")
            time.sleep(rng.uniform(0.0, 0.15))
            writer.kill()
            lines = [line for line in writer.stdout.read().split("\n")[:-1] if line]
        if lines:
            acknowledged = int(lines[-1])
    began = time.monotonic()
    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    assert time.monotonic() - began < 10.0
    try:
        kept = store.ids("cases", PUBLIC)
        assert len(kept) == len(set(kept))
        assert set(expected_ids((acknowledged + 1) * BATCH)) <= set(kept)
        assert set(kept) <= set(expected_ids((acknowledged + 2) * BATCH))
        assert verify(store, SCHEMA).damaged == ()
        store.upsert("cases", [a_point(n) for n in range((acknowledged + 2) * BATCH)])
        assert store.ids("cases", PUBLIC) == expected_ids((acknowledged + 2) * BATCH)
    finally:
        store.close()


def test_the_engine_ends_with_its_parent_and_frees_the_folder(folder: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(folder), "0", str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        engine = int(writer.stdout.readline().split()[1])
        with pytest.raises(StoreInUse, match=f"in use by pid {writer.pid}$"):
            EdgeStore(folder)
        writer.kill()
    assert gone(engine, 5.0)
    EdgeStore(folder, reserve_bytes=0).close()


def test_the_engine_ends_with_its_parent_though_a_forked_child_holds_the_pipe(folder: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from knowledge_base.edge import EdgeStore; "
        "store = EdgeStore(Path(sys.argv[1]), reserve_bytes=0); child = os.fork(); "
        "child and print(store.engine_pid, child, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        engine, child = map(int, parent.stdout.readline().split())
        parent.kill()
        ended = gone(engine, 5.0)
        kill_quietly(child)
    assert ended


def test_a_second_opener_fails_at_once_and_harms_nothing(store: EdgeStore, folder: Path) -> None:
    store.upsert("cases", [a_point(n) for n in range(5)])
    began = time.monotonic()
    with pytest.raises(StoreInUse) as caught:
        EdgeStore(folder)
    assert time.monotonic() - began < 1.0
    assert caught.value.pid == os.getpid()
    store.upsert("cases", [a_point(n) for n in range(10)])
    assert store.ids("cases", PUBLIC) == expected_ids(10)


def test_a_read_survives_the_death_of_the_engine(store: EdgeStore) -> None:
    store.upsert("cases", [a_point(n) for n in range(3)])
    before = store.engine_pid
    kill_engine(store)
    assert store.count("cases", PUBLIC) == 3
    assert store.engine_pid != before


def test_a_write_that_meets_a_dead_engine_is_not_repeated_but_the_next_call_is_served(store: EdgeStore) -> None:
    kill_engine(store)
    with pytest.raises(StoreUnavailable, match="ended with status -9"):
        store.upsert("cases", [a_point(0)])
    assert store.count("cases", PUBLIC) == 0
    store.upsert("cases", [a_point(0)])
    assert store.count("cases", PUBLIC) == 1


def test_an_engine_stopped_by_a_full_disk_says_so(store: EdgeStore) -> None:
    kill_engine(store, signal.SIGBUS)
    with pytest.raises(DiskLow, match="is full"):
        store.upsert("cases", [a_point(0)])
    assert store.health().ready


def test_a_hanging_engine_costs_the_budget_and_its_late_answer_is_not_mistaken(folder: Path) -> None:
    store = EdgeStore(folder, reserve_bytes=0, read_seconds=0.3)
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", [a_point(n) for n in range(3)])
    kill_engine(store, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="time budget"):
        store.count("cases", PUBLIC)
    assert 0.25 < time.monotonic() - began < 1.0
    assert not store.health().ready
    kill_engine(store, signal.SIGCONT)
    assert len(store.ids("cases", PUBLIC)) == 3
    store.close()


def test_a_busy_engine_makes_other_readers_wait_no_longer_than_their_budget(folder: Path) -> None:
    store = EdgeStore(folder, reserve_bytes=0, read_seconds=0.4)
    store.open(SCHEMA, MANIFEST)
    kill_engine(store, signal.SIGSTOP)
    refused: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.count("cases", PUBLIC)
        refused.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kill_engine(store, signal.SIGCONT)
    assert len(refused) == 4
    assert max(refused) < 1.0
    store.close()


def test_an_engine_that_dies_again_and_again_is_unavailable(store: EdgeStore, folder: Path) -> None:
    (folder / "cases" / "collection.json").write_text("{")
    kill_engine(store)
    with pytest.raises(StoreProtocolError):
        store.count("cases", PUBLIC)
    assert not store.health().ready


def test_what_was_half_made_is_swept_away(folder: Path) -> None:
    (folder / ".making-cases" / "shard").mkdir(parents=True)
    (folder / ".making-cases" / "shard" / "rest").write_bytes(b"rest")
    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    assert sorted(p.name for p in folder.iterdir()) == ["cases", "engine.lock"]
    store.close()


def test_a_request_the_engine_does_not_know_is_refused_and_it_lives_on(store: EdgeStore) -> None:
    for request in ({"op": "__init__", "place": "cases"}, {"op": "count", "place": "cases"}, {"op": "count"}):
        with pytest.raises(StoreProtocolError, match="refused"):
            store._call(request, b"", 2.0, retry=False)
    wrong = {"must": [["fuzzy", "tenant", "x"]], "must_not": []}
    with pytest.raises(StoreProtocolError, match="no condition of kind"):
        store._call({"op": "count", "place": "cases", "filter": wrong}, b"", 2.0, retry=False)
    assert store.health().ready


def test_a_forked_child_may_not_use_its_parents_pipe(store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getpid()
    with monkeypatch.context() as forked:
        forked.setattr("knowledge_base.edge.os.getpid", lambda: owner + 1)
        with pytest.raises(StoreInUse) as caught:
            store.count("cases", PUBLIC)
    assert caught.value.pid == owner
    assert store.count("cases", PUBLIC) == 0


def test_the_engine_process_loads_neither_numpy_nor_the_client() -> None:
    program = (
        "import sys, knowledge_base.edge_engine; "
        "print(sorted({'numpy', 'qdrant_client', 'torch', 'pydantic', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_store_is_ready_in_half_a_second(folder: Path) -> None:
    times = []
    for _ in range(3):
        began = time.monotonic()
        store = EdgeStore(folder, reserve_bytes=0)
        times.append(time.monotonic() - began)
        store.close()
    assert min(times) < 0.5


def test_large_frames_pass_whole(store: EdgeStore) -> None:
    points = [a_point(n) for n in range(700)]
    store.upsert("cases", points)
    fetched = store.get("cases", [p.id for p in points], PUBLIC, [box_vector("box@1")])
    assert [p.id for p in fetched.points] == [p.id for p in points]
    assert from_payload(fetched.points[699].payload).text == "report 699 small effusion"
    (found,) = store.ranked("cases", [Nearest(box_vector("box@1"), points[9].vectors[box_vector("box@1")], 1)], PUBLIC)
    assert found[0].id == uuid5(CASE_NAMESPACE, '["public", "openi", "s9"]')
