"""A run that is killed or told to stop: nothing is lost, nothing doubled, and the same command goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from knowledge_base.edge import EdgeStore
from knowledge_base.records import case_id
from knowledge_base.schema import CASES
from knowledge_base.store import Scope
from knowledge_base.verification import verify
from rag_service.models.encoder import FilmEncoder
from rag_service.wiring import layout

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

STUDIES = 256
BATCH = 32
CHILD = """
import sys, time
import numpy as np
from indexer.commands import command
from indexer.__main__ import main

class Words:
    # Unit vectors of no weights, which take their time and note what they were asked for.
    def encode(self, texts):
        time.sleep(0.1)
        with open({log!r}, "a") as file:
            file.writelines(t + "\\n" for t in texts)
        vectors = np.ones((len(texts), 384), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

command.load_text_encoder = Words
sys.exit(main(sys.argv[1:]))
"""


class Site:
    """A folder of studies, an index, and children that fill it."""

    def __init__(self, folder: Path, maker: Maker, encoder: FilmEncoder, model: Path) -> None:
        films = [maker.film(f"{n}.png", n).name for n in range(4)]
        rows = [f"{films[n % 4]},Report {n}: no effusion.,P{n},S{n}" for n in range(STUDIES)]
        maker.table("cases.csv", "film,report,patient,study", *rows)
        self.store, self.log = folder / "store", folder / "asked.txt"
        self._films, self._plan = maker.folder, layout(encoder.record.id, encoder.axes)
        self._environment = {**os.environ, "RAG_MODEL_FOLDER": str(model), "RAG_RESERVE_MIB": "0"}

    def start(self, *more: str) -> subprocess.Popen[str]:
        """A child that runs `add`."""
        arguments = ["add", "folder", str(self._films), "--store", str(self.store), "--workers", "2", *more]
        code = CHILD.format(log=str(self.log))
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env=self._environment, cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for(self, child: subprocess.Popen[str], added: int) -> int:
        """Read the child's progress until it says that so many are stored; how many it said."""
        assert child.stderr is not None
        seen = ""
        while piece := child.stderr.read(1):
            seen += piece
            told = re.findall(r"added=(\d+),", seen)
            if told and int(told[-1]) >= added:
                return int(told[-1])
        raise AssertionError(seen)

    def stored(self) -> set[str]:
        """Studies in the index, which must be intact."""
        store = EdgeStore(self.store, reserve_bytes=0)
        try:
            store.open(self._plan.cases, self._plan.cases_manifest)
            assert verify(store, self._plan.cases).intact
            by_id = {case_id("folder", f"S{n}"): f"S{n}" for n in range(STUDIES)}
            ids = store.ids(CASES, Scope("public"))
            assert len(ids) == len(set(ids))
            return {by_id[i] for i in ids}
        finally:
            store.close()

    def finish(self) -> dict[str, int]:
        """Run to the end and give the summary."""
        said, complaint = self.start("--quiet", "--json").communicate(timeout=120)
        assert complaint == ""
        summary: dict[str, int] = json.loads(said)
        return summary


@pytest.fixture
def site(tmp_path: Path, maker: Maker, tiny_encoder: FilmEncoder, tiny_model: Path) -> Site:
    return Site(tmp_path, maker, tiny_encoder, tiny_model)


def test_killed_again_and_again_a_run_loses_nothing_and_works_at_most_a_batch_twice(site: Site) -> None:
    before: set[str] = set()
    for at in (1, 2, 2):
        child = site.start()
        acknowledged = site.wait_for(child, at * BATCH)
        child.kill()
        child.communicate()
        stored = site.stored()
        assert before <= stored and len(stored) >= len(before) + acknowledged
        before = stored
    passages = site.finish()["added"] - (STUDIES - len(before))
    assert len(site.stored()) == STUDIES
    again = site.finish()
    assert (again["added"], again["unchanged"]) == (0, STUDIES + passages)
    asked = Counter(line for line in site.log.read_text().splitlines() if line.startswith("Report"))
    assert len(asked) == STUDIES
    assert sum(times - 1 for times in asked.values()) <= 3 * 2 * BATCH  # a batch being stored, and the one behind it


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_stop_a_run_stores_the_batch_in_hand_and_says_how_to_go_on(
    site: Site, number: signal.Signals, code: int
) -> None:
    child = site.start("--json")
    site.wait_for(child, BATCH)
    child.send_signal(number)
    said, complaint = child.communicate(timeout=120)
    assert child.returncode == code
    assert complaint.endswith(
        f"stopped by {number.name}: what was stored is kept, and the same command goes on from there\n"
    )
    added = json.loads(said)["added"]
    assert BATCH <= added < STUDIES and added % BATCH == 0
    assert len(site.stored()) == added
    site.finish()
    assert len(site.stored()) == STUDIES
