"""The embedded engine's own process: `python -m knowledge_base.edge_engine PATH CLIENT_PID RESERVE_BYTES`.

Qdrant holds the interpreter lock while it works, so it gets an interpreter of its own. Requests come as frames on
stdin, answers leave on what was stdout; the process ends when stdin does or its parent is gone. One process at a time
owns PATH: the lock file names it. Imports nothing but the standard library and qdrant_edge: it starts in 0.1 s.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from knowledge_base.edge_optimizer import size
from knowledge_base.edge_shard import MAKING, Answer, Header, Refused, Shard, sweep
from knowledge_base.frames import FrameError, decode_header, encode, lengths
from knowledge_base.places import LAYOUT, Places, load_places, save_places

LOCK: Final = "engine.lock"
_ORPHAN_GRACE_SECONDS: Final = 10.0
_PARENT_CHECK_SECONDS: Final = 1.0
_DISK_FULL: Final = (f"os error {errno.ENOSPC}", f"os error {errno.EFBIG}", f"os error {errno.EDQUOT}")
"""How the engine's messages end when a file could not be written to."""
_WRITES: Final = frozenset({"upsert", "set_withdrawn", "delete"})
_ON_NAMES: Final = frozenset({"open", "layout", "load", "swap", "drop"})
_READS: Final = frozenset({"get", "ranked", "scroll", "count", "facet", "optimized"})


class Held(Exception):
    """Another process owns the index."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"in use by pid {pid}")
        self.pid = pid


class LowDisk(Exception):
    """Free space is below the reserve."""


def take_lock(path: Path, client_pid: int) -> int:
    """Lock PATH for this process and write its client's pid; returns the descriptor. Raises `Held`.

    An engine whose client was killed is on its way out: that one, and only that one, is waited for.
    """
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + _ORPHAN_GRACE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            pid = int(owner) if owner.isdecimal() else 0
            if _alive(pid) or time.monotonic() > deadline:
                os.close(descriptor)
                raise Held(pid) from None
            time.sleep(0.02)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(client_pid).encode(), 0)
    return descriptor


def _alive(pid: int) -> bool:
    """Whether a process of that id runs (0, "not written yet", counts as no)."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Pipe:
    """Frames from stdin; `read` returns None at end of input or when the parent has died. `idle` is called while none comes."""

    def __init__(self, descriptor: int, parent: int, idle: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._parent = parent
        self._idle = idle

    def read(self) -> Answer | None:
        """The next frame's header and block."""
        prefix = self._exactly(8)
        if prefix is None:
            return None
        header, block = lengths(prefix)
        body = self._exactly(header + block)
        return None if body is None else (decode_header(body[:header]), body[header:])

    def _exactly(self, count: int) -> bytes | None:
        got = bytearray()
        while len(got) < count:
            if not select.select([self._descriptor], [], [], _PARENT_CHECK_SECONDS)[0]:
                if os.getppid() != self._parent:
                    return None
                self._idle()
                continue
            piece = os.read(self._descriptor, min(count - len(got), 1 << 20))
            if not piece:
                return None
            got += piece
        return bytes(got)


class Engine:
    """Answers requests on the collections under one path. Requests on a collection name its place."""

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self._path = path
        self._reserve = reserve_bytes
        self._places = load_places(path)
        self._shards: dict[str, Shard] = {}

    def answer(self, request: Header, block: bytes) -> Answer:
        """Do what the request says; returns the answer's header and block."""
        op = request["op"]
        if op == "health":
            return {"points": {name: shard.points() for name, shard in self._shards.items()}}, b""
        if op in _ON_NAMES:
            on_names: Callable[[Header], Header] = getattr(self, f"_{op}")
            return on_names(request), b""
        if op in _WRITES:
            self._check_disk(3 * len(block))
        elif op == "optimize":
            self._check_disk(2 * size(self._path / request["place"]))  # the copy, and what is built in it
        elif op not in _READS:
            raise Refused(f"no operation {op!r}")
        shard = self._shards.get(request["place"])
        if shard is None:
            raise Refused(f"no collection is open in the place {request['place']!r}")
        work: Callable[[Header, bytes], Answer] = getattr(shard, op)
        return work(request, block)

    def _open(self, request: Header) -> Header:
        """The collection's place and layout; it is made with the layout given when it is absent."""
        found = self._layout(request)
        if found["layout"] is not None:
            return found
        self._check_disk(0)
        name = request["collection"]
        places = self._places.with_room(name, self._taken())
        self._move(places)
        place = places.moved.get(name, name)
        self._shards[place] = Shard.make(self._path / place, request["layout"])
        return {"place": place, "layout": self._shards[place].layout}

    def _layout(self, request: Header) -> Header:
        """The collection's place and layout, None and None when it is absent."""
        place = self._places.of(request["collection"])
        if place is None or not (self._path / place / LAYOUT).exists():
            return {"place": None, "layout": None}
        return {"place": place, "layout": self._loaded(place).layout}

    def _load(self, request: Header) -> Header:
        """Load the shard of a place, whatever name leads there now."""
        self._loaded(request["place"])
        return {}

    def _swap(self, request: Header) -> Header:
        """Exchange names, in one rename of one file; `missing` is the first name that leads nowhere."""
        for _, second in request["pairs"]:
            if self._layout({"collection": second})["layout"] is None:
                return {"missing": second}
        self._move(self._places.swapped(request["pairs"], self._taken()))
        return {"missing": None}

    def _drop(self, request: Header) -> Header:
        """Remove a collection; its folder first takes a name that `sweep` removes, should this be cut short."""
        name = request["collection"]
        place = self._places.of(name)
        if place is None or not (self._path / place).exists():
            return {"place": None}
        if place in self._shards:
            self._shards.pop(place).close()
        gone = self._path / f"{MAKING}{place}"
        shutil.rmtree(gone, ignore_errors=True)
        (self._path / place).rename(gone)
        self._move(self._places.without(name))
        shutil.rmtree(gone)
        return {"place": place}

    def _taken(self) -> list[str]:
        return [f.name for f in self._path.iterdir()]

    def _move(self, places: Places) -> None:
        if places != self._places:
            save_places(self._path, places)
            self._places = places

    def _loaded(self, place: str) -> Shard:
        if place not in self._shards:
            self._shards[place] = Shard(self._path / place)
        return self._shards[place]

    def _check_disk(self, incoming: int) -> None:
        space = os.statvfs(self._path)
        if space.f_bavail * space.f_frsize - incoming < self._reserve:
            raise LowDisk(f"less than {self._reserve} bytes would stay free")

    def flush(self) -> None:
        """Bring every collection's latest points into its files: called when there is nothing else to do.

        What fails is left for the next write to meet: the points are safe in the log.
        """
        for shard in self._shards.values():
            with suppress(Exception):
                shard.flush()

    def close(self) -> None:
        """Flush and release every collection."""
        for shard in self._shards.values():
            shard.close()


def _refusal(error: Exception) -> Header:
    """An error in wire form: its kind, for the client's error tree, and its text."""
    match error:
        case Held(pid=pid):
            return {"error": {"kind": "held", "text": str(error), "pid": pid}}
        case LowDisk():
            return {"error": {"kind": "disk", "text": str(error)}}
        case _ if any(sign in str(error) for sign in _DISK_FULL):
            return {"error": {"kind": "disk", "text": "a file of the index cannot grow: the disk is full"}}
        case Refused() | FrameError() | KeyError():
            return {"error": {"kind": "refused", "text": str(error)}}
    return {"error": {"kind": "engine", "text": str(error)}}


def _send(descriptor: int, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[os.write(descriptor, view) :]


def serve(path: Path, client_pid: int, reserve_bytes: int, out: int) -> int:
    """Answer until stdin ends; returns the exit status."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        take_lock(path, client_pid)
        sweep(path)
        engine = Engine(path, reserve_bytes)
    except (Held, OSError, ValueError) as error:
        _send(out, encode(_refusal(error)))
        return 1
    pipe = Pipe(0, client_pid, engine.flush)
    _send(out, encode({"ready": os.getpid()}))
    while (frame := pipe.read()) is not None:
        request, block = frame
        try:
            answer, words = engine.answer(request, block)
        except Exception as error:  # noqa: BLE001 - qdrant_edge raises nothing more specific
            answer, words = _refusal(error), b""
        _send(out, encode(answer | {"id": request.get("id")}, words))
    engine.close()
    return 0


def main(arguments: list[str]) -> int:
    """Entry point. Whatever a library prints goes to stderr: stdout carries frames."""
    path, client_pid, reserve_bytes = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        return serve(Path(path), int(client_pid), int(reserve_bytes), out)
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
