"""Indexing that is killed again and again ends as if it had never been disturbed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from knowledge_base.cases import from_payload, to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.findings import Polarity
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention, case_id
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.store import Point, Scope
from knowledge_base.verification import verify

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = cases_schema("box@1", "mini@1", box_dimension=16, text_dimension=24)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 16, 24)
PUBLIC = Scope("public")
CASES = 600
BATCH = 20
KILLS = 6
SEED = 20


def a_case(number: int) -> Case:
    text = f"Report {number}. Small left pleural effusion."
    start = text.index("Small")
    mention = Mention("Pleural Effusion", Polarity.POSITIVE, (text.index("pleural"), len(text) - 1))
    sentence = CaseSentence(text[start:], (start, len(text)), "findings", (mention,))
    return Case("openi", f"CXR{number}", f"P{number}", text, (sentence,))


def a_point(number: int) -> Point:
    rng = np.random.default_rng(number)
    box = BoxLatent(rng.normal(size=16).astype(np.float32), rng.uniform(0.1, 1.0, 16).astype(np.float32))
    return to_point(a_case(number), SCHEMA, box=box, text_vector=rng.normal(size=24).astype(np.float32))


def the_id(number: int) -> UUID:
    return case_id("openi", f"CXR{number}")


def index(path: Path) -> None:
    """What the child runs: index whatever is missing, and say which cases are durable as soon as they are."""
    store = EdgeStore(path, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    present = set(store.ids("cases", PUBLIC))
    missing = [n for n in range(CASES) if the_id(n) not in present]
    sys.stdout.write(f"open {store.engine_pid}\n")
    sys.stdout.flush()
    for start in range(0, len(missing), BATCH):
        some = missing[start : start + BATCH]
        store.upsert("cases", [a_point(n) for n in some])
        sys.stdout.write(" ".join(map(str, some)) + "\n")
        sys.stdout.flush()
    store.close()


def start_indexing(path: Path) -> subprocess.Popen[str]:
    script = "import sys; from pathlib import Path; import test_indexing_kill as t; t.index(Path(sys.argv[1]))"
    paths = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


def killed_after(path: Path, batches: int, delay: float, engine_too: bool) -> set[int]:
    """Index, kill with SIGKILL a moment after that many batches; the cases reported durable before the end."""
    child = start_indexing(path)
    assert child.stdout is not None
    engine = int(child.stdout.readline().split()[1])
    lines = [child.stdout.readline() for _ in range(batches)]
    time.sleep(delay)
    if engine_too:
        os.kill(engine, signal.SIGKILL)
    child.kill()
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return {int(n) for line in lines if line.endswith("\n") for n in line.split()}


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


def test_killed_indexing_run_again_ends_with_every_case_once_and_intact(folder: Path) -> None:
    rng = random.Random(SEED)
    durable: set[int] = set()
    for kill in range(KILLS):
        reported = killed_after(folder, rng.randint(0, 4), rng.uniform(0.0, 0.01), engine_too=kill % 2 == 1)
        assert not reported & durable, "what was durable is not indexed a second time"
        durable |= reported
        store = EdgeStore(folder, reserve_bytes=0)
        store.open(SCHEMA, MANIFEST)
        assert {the_id(n) for n in durable} <= set(store.ids("cases", PUBLIC))
        assert verify(store, SCHEMA).intact
        store.close()
    assert 0 < len(durable) < CASES

    last = start_indexing(folder)
    assert last.stdout is not None
    last.stdout.read()
    last.stdout.close()
    assert last.wait() == 0

    store = EdgeStore(folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    assert store.ids("cases", PUBLIC) == sorted(the_id(n) for n in range(CASES))
    assert store.count("cases", PUBLIC) == 600
    assert store.facet("cases", "labels_positive", PUBLIC) == {"Pleural Effusion": 600}
    result = verify(store, SCHEMA)
    assert result.checked == {"public": 600} and result.damaged == ()
    points = store.get("cases", [the_id(n) for n in range(CASES)], PUBLIC).points
    assert [from_payload(p.payload) for p in points] == [a_case(n) for n in range(CASES)]
    store.close()
