"""Optimises a shard without stopping it: a process of its own works on a copy, which then takes the shard's place.

`python -m knowledge_base.edge_optimizer FOLDER ENGINE_PID` copies FOLDER/shard to FOLDER/shard.next, prints one byte, and builds
the graphs there. The engine serves meanwhile; what is written after the copy is carried over by id when the two change places. A
kill leaves the old shard or the new one: `recover` finds which.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import qdrant_edge as qe

from knowledge_base import edge_layout
from knowledge_base.places import LAYOUT

SHARD: Final = "shard"
_NEXT: Final = "shard.next"
_OLD: Final = "shard.old"
_PR_SET_PDEATHSIG: Final = 1
_NICENESS: Final = 10
_CARRIED_AT_ONCE: Final = 256


class Rebuild:
    """The engine's end: a running optimiser of one folder, and the points written since it took its copy.

    `carried` says whether the bulk of those has been brought over.
    """

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "knowledge_base.edge_optimizer", str(folder), str(os.getpid())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._copied = False
        self._touched: set[str] = set()
        self.carried = False

    def touch(self, ids: Iterable[str]) -> None:
        """Note points about to be written. Waits until the copy has been taken: a file is not copied while it changes."""
        if not self._copied:
            assert self._process.stdout is not None  # noqa: S101  (made with a pipe)
            self._process.stdout.read(1)
            self._copied = True
        self._touched.update(ids)

    def status(self) -> int | None:
        """None while it works, then its exit status."""
        return self._process.poll()

    def carry_over(self, folder: Path, current: qe.EdgeShard) -> None:
        """Bring what was written since the copy, or since the last time, into it from the shard in use."""
        self.carried = True
        if not self._touched:
            return
        fresh = _load(folder, _NEXT)
        ids = sorted(self._touched)
        for start in range(0, len(ids), _CARRIED_AT_ONCE):
            _carry([UUID(i) for i in ids[start : start + _CARRIED_AT_ONCE]], current, fresh)
        fresh.flush()
        fresh.close()
        self._touched.clear()

    def stop(self) -> None:
        """End the process; a finished one is only collected."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _carry(ids: list[qe.PointId], current: qe.EdgeShard, fresh: qe.EdgeShard) -> None:
    held = current.retrieve(ids, with_payload=True, with_vector=True)
    fresh.update(qe.UpdateOperation.delete_points(ids))
    if held:
        points = [qe.Point(r.id, r.vector or {}, r.payload) for r in held]
        fresh.update(qe.UpdateOperation.upsert_points(points))


def exchange(folder: Path) -> None:
    """Give the optimised copy the shard's place. Neither may be open."""
    (folder / SHARD).rename(folder / _OLD)
    (folder / _NEXT).rename(folder / SHARD)
    shutil.rmtree(folder / _OLD)


def recover(folder: Path) -> None:
    """Make a folder whole whose optimisation was cut short: the old shard stays unless it had already made way."""
    if not (folder / SHARD).exists() and (folder / _NEXT).exists():
        (folder / _NEXT).rename(folder / SHARD)
    for left in (_NEXT, _OLD):
        shutil.rmtree(folder / left, ignore_errors=True)


def copy_data(source: str, target: str) -> None:
    """Copy a file without filling its holes: the engine lays its files out far beyond what they hold."""
    with open(source, "rb") as old, open(target, "wb") as new:
        end = os.fstat(old.fileno()).st_size
        new.truncate(end)
        for at, stop in _data(old.fileno(), end):
            done = at
            while done < stop:
                done += os.copy_file_range(old.fileno(), new.fileno(), stop - done, done, done)


def _data(descriptor: int, end: int) -> Iterator[tuple[int, int]]:
    """From where to where a file holds data."""
    at = 0
    while at < end:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, at


def size(folder: Path) -> int:
    """Bytes that a copy of the shard takes."""
    return sum(f.stat().st_blocks * 512 for f in (folder / SHARD).rglob("*") if f.is_file())


def _load(folder: Path, name: str) -> qe.EdgeShard:
    schema = json.loads((folder / LAYOUT).read_text("utf-8"))["schema"]
    return qe.EdgeShard.load(str(folder / name), edge_layout.config(schema))


def _end_with(engine: int) -> None:
    """Die when the engine does, even if it already has: nobody would want the copy any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != engine:
        sys.exit(1)


def main(arguments: list[str]) -> int:
    """Entry point of the process."""
    _end_with(int(arguments[1]))
    os.nice(_NICENESS)
    folder = Path(arguments[0])
    shutil.rmtree(folder / _NEXT, ignore_errors=True)
    shutil.copytree(folder / SHARD, folder / _NEXT, copy_function=copy_data)
    os.write(1, b"c")
    shard = _load(folder, _NEXT)
    shard.optimize()
    shard.flush()
    shard.close()
    os.sync()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
