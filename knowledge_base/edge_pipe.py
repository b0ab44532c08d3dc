"""The client's end of the embedded engine: starts the process, exchanges frames within a time budget, sees it die."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from knowledge_base.errors import DiskLow, StoreError, StoreInUse, StoreProtocolError, StoreUnavailable
from knowledge_base.frames import FrameError, decode_header, encode, lengths

_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 10.0


class EngineDied(StoreUnavailable):
    """The engine process ended while a call was in flight: whether that call took effect is not known."""


class EnginePipe:
    """A running engine process. One call at a time: the caller holds the lock.

    Raises `StoreInUse` when another process owns `path`, `StoreUnavailable` when the engine does not start.
    """

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self._path = path
        self._serial = 0
        self._received = bytearray()
        command = [sys.executable, "-m", "knowledge_base.edge_engine", str(path), str(os.getpid()), str(reserve_bytes)]
        root = str(Path(__file__).resolve().parent.parent)
        search = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        theirs_in, self._in = os.pipe()
        self._out, theirs_out = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs_in,
                stdout=theirs_out,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": search},
                start_new_session=True,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        try:
            self._raise_refusal(self._receive(time.monotonic() + _START_SECONDS)[0])
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the engine has not ended."""
        return self._process.poll() is None

    def call(self, request: dict[str, Any], block: bytes, deadline: float) -> tuple[dict[str, Any], bytes]:
        """Send a request, return the answer's header and block; `deadline` is in `time.monotonic` seconds.

        Raises `EngineDied`, `StoreUnavailable` when the deadline passes (a late answer is thrown away by the next
        call), and what the engine answered as an error.
        """
        self._serial += 1
        self._send(encode(request | {"id": self._serial}, block), deadline)
        while True:
            header, words = self._receive(deadline)
            if header.get("id") == self._serial:
                self._raise_refusal(header)
                return header, words

    def stop(self) -> None:
        """End the process: politely by closing its input, then by force."""
        os.close(self._in)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        os.close(self._out)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def _send(self, frame: bytes, deadline: float) -> None:
        view = memoryview(frame)
        while view:
            self._wait(self._in, select.POLLOUT, deadline, sending=len(view) != len(frame))
            try:
                view = view[os.write(self._in, view[: 1 << 20]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._death() from None

    def _receive(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        try:
            header, block = lengths(self._exactly(8, deadline))
            body = self._exactly(8 + header + block, deadline)
            del self._received[: 8 + header + block]
            return decode_header(body[8 : 8 + header]), body[8 + header :]
        except FrameError as error:
            self.kill()
            raise StoreProtocolError(f"the embedded engine answered no frame: {error}") from error

    def _exactly(self, count: int, deadline: float) -> bytes:
        """The first `count` bytes received and not yet consumed; they stay until a whole frame is there."""
        while len(self._received) < count:
            self._wait(self._out, select.POLLIN, deadline, sending=False)
            try:
                piece = os.read(self._out, 1 << 20)
            except BlockingIOError:
                continue
            if not piece:
                raise self._death()
            self._received += piece
        return bytes(self._received[:count])

    def _wait(self, descriptor: int, event: int, deadline: float, *, sending: bool) -> None:
        """Until the descriptor is ready; a frame cut by the deadline leaves the pipe unusable, so the engine goes."""
        poll = select.poll()
        poll.register(descriptor, event)
        left = deadline - time.monotonic()
        if left > 0 and poll.poll(left * 1000.0):
            return
        if sending:
            self.kill()
        raise StoreUnavailable("the embedded engine did not answer within its time budget")

    def _death(self) -> StoreError:
        """The error for an engine that ended: a full disk shows as SIGBUS in its memory-mapped files."""
        status = self._process.wait()
        if status == -signal.SIGBUS:
            return DiskLow(f"the disk under {self._path} is full: the embedded engine stopped")
        return EngineDied(f"the embedded engine ended with status {status}")

    def _raise_refusal(self, header: dict[str, Any]) -> None:
        if (error := header.get("error")) is None:
            return
        match error["kind"]:
            case "held":
                raise StoreInUse(str(self._path), error["pid"])
            case "disk":
                raise DiskLow(error["text"])
            case _:
                raise StoreProtocolError(f"the embedded engine refused: {error['text']}")
