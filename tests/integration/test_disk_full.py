"""A disk that runs full under the embedded engine: a typed error, a living client, and nothing acknowledged is lost.

A limit on the size of a file stands in for the disk: writing beyond it fails, and a process that maps such a file gets a
signal, as on a full disk. It needs no privilege.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from knowledge_base.cases import to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import DiskLow, StoreError
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.store import Point, Scope
from knowledge_base.verification import verify

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=64, text_dimension=64, region_dimension=4)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 64, 64)
PUBLIC = Scope("public")
BATCH = 100


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


def a_batch(number: int) -> list[Point]:
    points = []
    for study in range(number * BATCH, (number + 1) * BATCH):
        rng = np.random.default_rng(study)
        box = BoxLatent(rng.normal(size=64).astype(np.float32), rng.uniform(0.1, 1.0, 64).astype(np.float32))
        case = Case("openi", f"s{study}", f"p{study}", f"effusion {study} " * 50, ())
        points.append(to_point(case, SCHEMA, box=box, text_vector=rng.normal(size=64).astype(np.float32)))
    return points


def limited(store: EdgeStore, bytes_a_file: int) -> None:
    """No file of the engine may grow beyond so many bytes from now on."""
    assert store.engine_pid is not None
    resource.prlimit(store.engine_pid, resource.RLIMIT_FSIZE, (bytes_a_file, resource.RLIM_INFINITY))


def test_what_was_acknowledged_outlives_a_disk_that_ran_full(folder: Path) -> None:
    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    acknowledged = a_batch(0)
    store.upsert("cases", acknowledged)
    limited(store, 1 << 10)
    acknowledged += a_batch(1)
    store.upsert("cases", a_batch(1))
    time.sleep(1.5)  # the engine tries to bring its log into its files, fails, and lives on
    with pytest.raises(DiskLow, match="the disk is full"):
        store.set_withdrawn("cases", [acknowledged[0].id], "public")
    assert {p.id for p in store.get("cases", [p.id for p in acknowledged], PUBLIC).points} == {
        p.id for p in acknowledged
    }
    store.close()
    again = EdgeStore(folder, reserve_bytes=0)
    again.open(SCHEMA, MANIFEST)
    assert {p.id for p in acknowledged} <= set(again.ids("cases", PUBLIC))
    assert verify(again, SCHEMA).damaged == ()
    again.upsert("cases", a_batch(3))
    assert {p.id for p in a_batch(3)} <= set(again.ids("cases", PUBLIC))
    again.close()


def test_an_optimisation_without_room_leaves_the_index_as_it_was(folder: Path) -> None:
    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", a_batch(0))
    limited(store, 1 << 20)
    with pytest.raises(StoreError):
        store.optimize("cases")
    assert verify(store, SCHEMA).checked == {"public": BATCH}
    store.close()


def test_a_signal_from_a_full_disk_is_disk_low_and_the_next_call_is_served(folder: Path) -> None:
    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", a_batch(0))
    assert store.engine_pid is not None
    os.kill(store.engine_pid, signal.SIGBUS)
    with pytest.raises(DiskLow, match="is full: the embedded engine stopped"):
        store.upsert("cases", a_batch(1))
    assert store.count("cases", PUBLIC) >= BATCH
    store.upsert("cases", a_batch(1))
    assert store.count("cases", PUBLIC) == 2 * BATCH
    store.close()


SIGBUS = """
import mmap, os, sys
with open(sys.argv[1], "w+b") as file:
    file.truncate(1 << 20)
    mapped = mmap.mmap(file.fileno(), 1 << 20)
    file.truncate(0)
    mapped[0] = 1
"""


def test_a_mapped_file_without_its_disk_ends_a_process_with_the_signal_we_look_for(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SIGBUS, str(tmp_path / "file")], check=False)
    assert done.returncode == -signal.SIGBUS


def test_below_the_reserve_nothing_is_written_and_reading_goes_on(folder: Path) -> None:
    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", a_batch(0))
    store.close()
    tight = EdgeStore(folder, reserve_bytes=shutil.disk_usage(folder).free * 2)
    tight.open(SCHEMA, MANIFEST)
    for write in (
        lambda: tight.upsert("cases", a_batch(1)),
        lambda: tight.set_withdrawn("cases", [a_batch(0)[0].id], "public"),
        lambda: tight.delete("cases", [a_batch(0)[0].id], "public"),
        lambda: tight.optimize("cases"),
    ):
        with pytest.raises(DiskLow, match="would stay free"):
            write()
    assert tight.count("cases", PUBLIC) == BATCH
    tight.close()
