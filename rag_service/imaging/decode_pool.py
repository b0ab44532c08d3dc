"""A pool of decode children: what a hostile film breaks is a process that can be replaced."""

from __future__ import annotations

import hashlib
import math
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import (
    Busy,
    ConstantFilm,
    DecodeFailed,
    FilmError,
    FilmTooLarge,
    NotAnImage,
    ServiceError,
    TruncatedFilm,
    UnsupportedFilm,
)
from rag_service.imaging.film import Film, Frame, View
from rag_service.imaging.limits import Limits
from rag_service.imaging.normalise import STORED_SIDE
from rag_service.imaging.subject import Subject
from rag_service.imaging.wire import pack_start, read_start

_REFUSALS: dict[str, type[FilmError]] = {
    kind.code: kind for kind in (NotAnImage, UnsupportedFilm, TruncatedFilm, DecodeFailed, FilmTooLarge, ConstantFilm)
}
_SOURCE_ROOT = Path(__file__).resolve().parents[2]
_CHUNK = 1 << 20
_MAX_MESSAGE = 500
_START_SECONDS = 60.0


class _Gone(Exception):
    """The child closed its pipes."""


class _Child:
    """One decode process. Not for two threads at once."""

    def __init__(self) -> None:
        # Nothing of the service's environment, its keys included, goes to the process that reads hostile bytes.
        environment = {"PYTHONPATH": str(_SOURCE_ROOT), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rag_service.imaging.decode_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            process_group=0,  # an interrupt typed at the terminal is for the parent to act upon
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise ServiceError("the decoder has no pipes")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._requests.fileno(), False)
        os.set_blocking(self._answers.fileno(), False)
        self._ready = False

    @property
    def pid(self) -> int:
        """The operating system's number for this child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def await_ready(self) -> None:
        """Wait until the child has imported what it needs; ServiceError when it cannot."""
        if self._ready:
            return
        deadline = time.monotonic() + _START_SECONDS
        try:
            read_start(lambda count: bytes(self._read(count, deadline)))
        except (_Gone, TimeoutError, ValueError):
            raise ServiceError("the decoder could not be started") from None
        self._ready = True

    def exchange(
        self, content: bytes, limits: Limits, deadline: float, *, squeezed: bool
    ) -> tuple[dict[str, Any], bytearray]:
        """Send one film and read the answer. Raises _Gone, TimeoutError, ValueError for an answer out of form."""
        self._write(pack_start({**asdict(limits), "squeezed": squeezed}, len(content)), deadline)
        self._write(content, deadline)
        header, body_bytes = read_start(lambda count: bytes(self._read(count, deadline)))
        if body_bytes > 4 * limits.max_pixels:
            raise ValueError("the answer is longer than any film")
        return header, self._read(body_bytes, deadline)

    def _write(self, content: bytes, deadline: float) -> None:
        view = memoryview(content)
        while view:
            self._wait(self._requests.fileno(), select.POLLOUT, deadline)
            try:
                view = view[os.write(self._requests.fileno(), view[:_CHUNK]) :]
            except BrokenPipeError:
                raise _Gone from None
            except BlockingIOError:
                continue

    def _read(self, count: int, deadline: float) -> bytearray:
        content = bytearray(count)
        view = memoryview(content)
        while view:
            self._wait(self._answers.fileno(), select.POLLIN, deadline)
            received = os.readv(self._answers.fileno(), [view[:_CHUNK]])
            if received == 0:
                raise _Gone
            view = view[received:]
        return content

    @staticmethod
    def _wait(descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poll.poll(math.ceil(remaining * 1000)):
            raise TimeoutError

    def died_of_processor_time(self) -> bool:
        """Whether the processor limit ended it; waits for the end of a child whose pipes are closed."""
        try:
            return self._process.wait(timeout=1.0) == -signal.SIGXCPU
        except subprocess.TimeoutExpired:
            return False

    def kill(self) -> None:
        """Kill it; whoever borrowed it still has to `end` it."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, collect it and close its pipes."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()


class DecodePool:
    """Decodes films in `workers` child processes kept warm; safe for many threads.

    Contract: a child that crashes or passes `timeout_seconds` of wall-clock time on one film is killed and replaced;
    its film gets a FilmError and no other film notices. A thread that finds no idle child for `timeout_seconds` gets
    Busy. Use it as a context manager, or call `start` and `close`.
    """

    def __init__(self, workers: int = 1, timeout_seconds: float = 20.0) -> None:
        if workers < 1 or timeout_seconds <= 0:
            raise ValueError("a decode pool needs a worker and a positive timeout")
        self._workers = workers
        self._timeout_seconds = timeout_seconds
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        self._children: set[_Child] = set()
        self._lock = threading.Lock()
        self._open = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start the children; they import what they need while the caller goes on."""
        with self._lock:
            if self._open:
                raise RuntimeError("the decode pool is already started")
            self._open = True
        for _ in range(self._workers):
            self._add_child()

    def close(self) -> None:
        """Kill every child; a film being decoded gets DecodeFailed. Closing twice does nothing more."""
        idle: list[_Child] = []
        with self._lock:
            self._open = False
            while not self._idle.empty():
                idle.append(self._idle.get_nowait())
            borrowed, self._children = self._children.difference(idle), set()
        for child in idle:
            child.end()
        for child in borrowed:
            child.kill()

    def worker_pids(self) -> tuple[int, ...]:
        """Process numbers of the children, for health reports."""
        with self._lock:
            return tuple(sorted(child.pid for child in self._children))

    def decode(self, content: bytes, limits: Limits) -> Film:
        """The film in `content`. Raises FilmError, Busy, or ServiceError when no child can be started."""
        header, body = self._answer(content, limits, squeezed=False)
        return _film(header, body, hashlib.sha256(content).hexdigest())

    def decode_squeezed(self, content: bytes, limits: Limits) -> NDArray[np.uint8]:
        """The film in `content` as encoders read it, uint8 (256, 256) (`normalise.to_stored`). Raises as `decode` does."""
        header, body = self._answer(content, limits, squeezed=True)
        _check(header)
        try:
            return np.frombuffer(body, np.uint8).reshape(STORED_SIDE, STORED_SIDE)
        except ValueError:
            raise DecodeFailed("the decoder gave no readable answer") from None

    def _answer(self, content: bytes, limits: Limits, *, squeezed: bool) -> tuple[dict[str, Any], bytearray]:
        limits.check_bytes(len(content))
        child = self._borrow()
        survived = False
        try:
            child.await_ready()
            answer = child.exchange(content, limits, time.monotonic() + self._timeout_seconds, squeezed=squeezed)
            survived = True
        except TimeoutError:
            raise DecodeFailed("decoding took too long and was stopped") from None
        except _Gone:
            if child.died_of_processor_time():
                raise FilmTooLarge("decoding needs more processor time than one film may take") from None
            raise DecodeFailed("the decoder did not survive this file") from None
        except ValueError:
            raise DecodeFailed("the decoder gave no readable answer") from None
        finally:
            self._give_back(child, survived=survived)
        return answer

    def _borrow(self) -> _Child:
        """An idle child that lives; one that died idle (the kernel short of memory) is replaced, not handed out."""
        while True:
            if not self._open:
                raise RuntimeError("the decode pool is not started, or closed")
            try:
                child = self._idle.get(timeout=self._timeout_seconds)
            except queue.Empty:
                raise Busy(math.ceil(self._timeout_seconds)) from None
            if child.alive:
                return child
            self._give_back(child, survived=False)

    def _give_back(self, child: _Child, *, survived: bool) -> None:
        with self._lock:
            if survived and self._open:
                self._idle.put(child)
                return
            self._children.discard(child)
        child.end()
        self._add_child()

    def _add_child(self) -> None:
        with self._lock:
            if self._open:
                child = _Child()
                self._children.add(child)
                self._idle.put(child)


def _check(header: Mapping[str, Any]) -> None:
    """Raise the error that an answer names."""
    if "error" in header:
        raise _REFUSALS.get(str(header["error"]), DecodeFailed)(str(header.get("message", ""))[:_MAX_MESSAGE])


def _film(header: Mapping[str, Any], body: bytearray, digest: str) -> Film:
    """The answer as a film, or as the error it names; an answer out of form is DecodeFailed."""
    _check(header)
    try:
        frame = Frame(int(header["rows"]), int(header["columns"]), float(header["pixel_aspect"]))
        pixels = np.frombuffer(body, dtype=np.float32).reshape(frame.rows, frame.columns)
        return Film(
            pixels=pixels,
            frame=frame,
            digest=digest,
            media_type=str(header["media_type"]),
            view=View(header["view"]),
            notes=tuple(str(note) for note in header["notes"]),
            subject=Subject.from_json(header["subject"]),
        )
    except (KeyError, TypeError, ValueError):
        raise DecodeFailed("the decoder gave no readable answer") from None
