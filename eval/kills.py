"""kill -9 at random points of everything that writes an index: what was acknowledged is there, once, and whole."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval.kill_acts import (
    ARCHIVE,
    KINDS,
    SCHEMA,
    Act,
    Expected,
    Held,
    archived,
    descendants,
    held,
    opened,
    work,
)
from knowledge_base.archive_reading import open_archive
from knowledge_base.errors import BadArchive
from knowledge_base.store import KnowledgeStore
from knowledge_base.verification import verify

START: Final = 240
BATCH: Final = 24
ACTS: Final = 6
"""Acts a child is given; it is killed in one of the first half."""
VICTIMS: Final = ("indexer", "engine", "both")
_FIRST_GUESS_SECONDS: Final = 0.02
_SILENCE_SECONDS: Final = 30.0


@dataclass
class Findings:
    """What the kills did. `lost`, `doubled` and `damaged` name the round and the case."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    bad_archives: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    openings: list[float] = field(default_factory=list)


class Campaign:
    """One index that is killed over and over. The same seed gives the same acts; where a kill lands is up to the machine."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.findings = Findings()
        self._folder = folder
        self._rng = np.random.default_rng(seed)
        self._expected = Expected()
        self._seconds: dict[str, float] = dict.fromkeys(KINDS, _FIRST_GUESS_SECONDS)
        self._next = START
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["eval.kill_acts"])
        first = Act("index", tuple(range(START)))
        with opened(folder) as store:
            first.perform(store, folder)
            archived(store, folder)
        self._expected.apply(first)

    def kill(self, number: int) -> None:
        """One round: work, kill, open again, compare, finish what was cut short, compare again."""
        kind, victim = KINDS[number % len(KINDS)], VICTIMS[number // len(KINDS) % len(VICTIMS)]
        acts = self._imports() if kind == "import" else self._acts(kind)
        done, cut = self._killed(acts, victim)
        for act in done:
            self._expected.apply(act)
        self.findings.kills[kind] += 1
        self.findings.in_flight[kind] += cut is not None
        self.findings.acknowledged += len(done)
        began = time.monotonic()
        with opened(self._folder) as store:
            self.findings.openings.append(time.monotonic() - began)
            self._compare(f"round {number} ({kind})", store, cut)
            if cut is not None:
                cut.perform(store, self._folder)
                self._expected.apply(cut)
                self._compare(f"round {number} ({kind}), resumed", store, None)

    def _imports(self) -> list[Act]:
        """Imports of an archive of what is there now, which must change nothing."""
        with opened(self._folder) as store:
            archived(store, self._folder)
        return [Act("import")] * ACTS

    def _acts(self, kind: str) -> list[Act]:
        """A few acts of one kind, on cases that are there (or, to index, are not)."""
        acts, state = [], self._expected
        for _ in range(ACTS):
            there = sorted(state.versions)
            some = tuple(sorted(self._rng.choice(there, BATCH, replace=False).tolist()))
            match kind:
                case "index":
                    act = Act(kind, tuple(range(self._next, self._next + BATCH)))
                    self._next += BATCH
                case "upsert":
                    act = Act(kind, some, 1 + max(state.versions[n] for n in some))
                case "delete":
                    act = Act(kind, some[: BATCH // 2])
                case "withdraw" | "restore":
                    act = Act(kind, some)
                case _:
                    act = Act(kind)
            acts.append(act)
            state = state.after(act)
        return acts

    def _killed(self, acts: list[Act], victim: str) -> tuple[list[Act], Act | None]:
        """Let a child do the acts and kill it in one of them; what it acknowledged, and what it was at."""
        mine, theirs = self._context.Pipe(duplex=False)
        child = self._context.Process(target=work, args=(str(self._folder), acts, theirs), daemon=True)
        child.start()
        theirs.close()
        chosen = self._rng.integers(ACTS // 2)
        heard: list[str] = []
        while f"begin {chosen}" not in heard and mine.poll(_SILENCE_SECONDS):
            heard.append(mine.recv_bytes().decode())
        time.sleep(self._rng.uniform(0.0, 1.2 * self._seconds[acts[chosen].kind]))
        _kill(child.pid or 0, victim)
        heard += _rest(mine)
        child.join()
        done = [line.split() for line in heard if line.startswith("done")]
        for _, number, seconds in done:
            kind = acts[int(number)].kind
            self._seconds[kind] += 0.2 * (float(seconds) - self._seconds[kind])
        begun = sum(line.startswith("begin") for line in heard)
        return acts[: len(done)], acts[begun - 1] if begun > len(done) else None

    def _compare(self, when: str, store: KnowledgeStore, cut: Act | None) -> None:
        """Case by case: as acknowledged, or for a case of the act cut short as before or after it."""
        found = held(store)
        seen = Counter(number for number, _ in found)
        self.findings.doubled += [f"{when}: case {n}" for n, times in seen.items() if times > 1]
        self.findings.damaged += [f"{when}: {i}" for i in verify(store, SCHEMA).damaged]
        said: dict[int, Held | None] = dict(found)
        after = self._expected.after(cut) if cut else self._expected
        free = set(cut.numbers) if cut else set()
        for number in sorted({*said, *self._expected.versions, *after.versions}):
            allowed = [self._expected.of(number)] + ([after.of(number)] if number in free else [])
            if said.get(number) not in allowed:
                self.findings.lost.append(f"{when}: case {number} is {said.get(number)}, not {allowed}")
        with contextlib.suppress(FileNotFoundError):
            try:
                open_archive(self._folder / ARCHIVE)
            except BadArchive:
                self.findings.bad_archives.append(when)


def _kill(pid: int, victim: str) -> None:
    """SIGKILL to the indexer, to what it started, or to both."""
    started = descendants(pid)
    for target in {"indexer": [pid], "engine": started, "both": [*started, pid]}[victim]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)


def _rest(line: Connection) -> list[str]:
    """What was sent before the end."""
    heard = []
    with contextlib.suppress(EOFError, OSError), line:
        while True:
            heard.append(line.recv_bytes().decode())
    return heard


def measure(points: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill at `points` random points of work on an index in an empty folder, one kind of act after the other, and report."""
    campaign = Campaign(folder, seed)
    for number in range(points):
        campaign.kill(number)
    found = campaign.findings
    return {
        "points": points,
        "seed": seed,
        "kills": dict(found.kills),
        "in_flight": dict(found.in_flight),
        "acknowledged": found.acknowledged,
        "lost": found.lost,
        "doubled": found.doubled,
        "damaged": found.damaged,
        "bad_archives": found.bad_archives,
        "slowest_opening_seconds": max(found.openings),
    }


def table(result: dict[str, Any]) -> str:
    """The report as text."""
    rows = [f"{kind:10} {result['kills'][kind]:5} {result['in_flight'][kind]:10}" for kind in result["kills"]]
    counts = ", ".join(f"{len(result[name])} {name}" for name in ("lost", "doubled", "damaged"))
    lines = [
        f"{'act':10} {'kills':>5} {'in flight':>10}",
        *rows,
        f"{result['acknowledged']} acts acknowledged before a kill: {counts}, {len(result['bad_archives'])} bad archives",
        f"slowest opening afterwards {result['slowest_opening_seconds']:.2f} s",
        f"{result['points']} kills, seed {result['seed']}",
    ]
    return "\n".join(lines)
