"""kill -9 at fifty random points of everything that writes an index, and whether the campaign would notice a loss."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval import kill_acts, kills
from eval.__main__ import main
from eval.kill_acts import ARCHIVE, KINDS, Act, Expected, Held, held, opened
from eval.kills import Campaign

POINTS = 50


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


def test_of_what_was_acknowledged_nothing_is_lost_doubled_or_damaged(folder: Path) -> None:
    result = kills.measure(POINTS, 7, folder)
    assert (result["lost"], result["doubled"], result["damaged"], result["bad_archives"]) == ([], [], [], [])
    assert sum(result["kills"].values()) == POINTS
    assert set(result["kills"]) == set(KINDS)
    assert sum(result["in_flight"].values()) >= POINTS // 4
    assert result["acknowledged"] >= POINTS // 2
    assert result["slowest_opening_seconds"] < 10.0
    assert "0 lost, 0 doubled, 0 damaged, 0 bad archives" in kills.table(result)


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "kills", "--points", "1", "--seed", "3", "--json", str(tmp_path / "kills.json")]) == 0
    result = json.loads((tmp_path / "kills.json").read_text())
    assert (result["points"], result["seed"], result["kills"], result["lost"]) == (1, 3, {"index": 1}, [])
    assert "1 kills, seed 3" in capsys.readouterr().out


def test_what_must_be_there_follows_the_acts() -> None:
    state = Expected()
    for act in (Act("index", (1, 2, 3)), Act("upsert", (2,), 1), Act("withdraw", (1, 3)), Act("delete", (1,))):
        state.apply(act)
    assert [state.of(n) for n in (1, 2, 3)] == [None, Held(1, False), Held(0, True)]
    again = state.after(Act("index", (1,), 2)).after(Act("restore", (3,)))
    assert [again.of(n) for n in (1, 2, 3)] == [Held(2, True), Held(1, False), Held(0, False)]
    assert state.of(1) is None


def test_a_child_that_is_left_alone_does_every_act_and_says_so(folder: Path) -> None:
    mine, theirs = multiprocessing.Pipe(duplex=False)
    acts = [Act("index", (1, 2, 3, 4)), Act("withdraw", (2,)), Act("export"), Act("import"), Act("delete", (4,))]
    acts += [Act("restore", (2,)), Act("upsert", (1,), 5), Act("optimize")]
    kill_acts.work(str(folder), acts, theirs)
    theirs.close()
    heard = [line.split()[:2] for line in kills._rest(mine)]
    assert heard == [[word, str(n)] for n in range(len(acts)) for word in ("begin", "done")]
    with opened(folder) as store:
        assert dict(held(store)) == {1: Held(5, False), 2: Held(0, False), 3: Held(0, False)}


def test_a_loss_a_change_and_a_spoilt_archive_would_be_noticed(folder: Path) -> None:
    campaign = Campaign(folder, 1)
    with opened(folder) as store:
        Act("delete", (5,)).perform(store, folder)
        Act("upsert", (6,), 9).perform(store, folder)
        Act("withdraw", (7,)).perform(store, folder)
        (folder / ARCHIVE).write_bytes(b"cut sho")
        campaign._compare("now", store, None)
        assert [line.split(",", 1)[0] for line in campaign.findings.lost] == [
            "now: case 5 is None",
            "now: case 6 is Held(version=9",
            "now: case 7 is Held(version=0",
        ]
        campaign.findings.lost.clear()
        campaign._compare("now", store, Act("delete", (5, 6, 7)))
    assert [line.split(",", 1)[0] for line in campaign.findings.lost] == [
        "now: case 6 is Held(version=9",
        "now: case 7 is Held(version=0",
    ]
    assert campaign.findings.bad_archives == ["now", "now"]
