"""An audit log that shows when a line is missing: JSON lines, each carrying the SHA-256 of the one before.

Files are named by the first sequence number in them and read in that order; the clock is written down and never used
for order. A line is in the operating system's hands before `append` returns: it survives a kill of every process. It is
forced to the disk when a file is full and when the log is closed, so a power cut may take the lines of the last seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from knowledge_base.errors import DiskLow, StoreUnavailable

NONE_BEFORE: Final = "0" * 64
"""What the first event carries as the digest of the one before."""
FILE_BYTES: Final = 64 << 20
_LOCK: Final = "audit.lock"


@dataclass(frozen=True)
class Head:
    """The last event of a log: its sequence number (0: none yet) and the SHA-256 of its line."""

    sequence: int = 0
    digest: str = NONE_BEFORE


@dataclass(frozen=True)
class Audit:
    """What reading a log back showed: how many events follow on one another, the last, and the first fault if any."""

    events: int
    head: Head
    fault: str | None


class AuditLog:
    """The log in `folder`, which is made with the first event. Several processes and threads may append.

    `append` raises `DiskLow` when the line cannot be written and `StoreUnavailable` when the folder cannot be used: a
    read that cannot be written down is not answered.
    """

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._turn = threading.Lock()
        self._last: tuple[Path | None, int, Head] = (None, 0, Head())

    def append(self, event: Mapping[str, Any]) -> Head:
        """Write one event, adding `sequence`, `time` (UTC) and `previous`; returns the new head."""
        with self._turn, _folder_errors(), self._locked():
            path, size, head = self._end()
            if path is None or size >= self._file_bytes:
                if path is not None:
                    _sync(path)
                path, size = self._folder / f"audit-{head.sequence + 1:012d}.jsonl", 0
            stamp = {"sequence": head.sequence + 1, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
            line = json.dumps({**stamp, **event, "previous": head.digest}, separators=(",", ":")).encode()
            _write(path, size, line + b"\n")
            head = Head(head.sequence + 1, hashlib.sha256(line).hexdigest())
            self._last = (path, size + len(line) + 1, head)
            return head

    def close(self) -> None:
        """Force the last file to the disk."""
        with self._turn:
            if self._last[0] is not None:
                _sync(self._last[0])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _end(self) -> tuple[Path | None, int, Head]:
        """Last file, its size and its last event, read again when another process has written since."""
        files = log_files(self._folder)
        if not files:
            return None, 0, Head()
        size = files[-1].stat().st_size
        if (files[-1], size) == self._last[:2]:
            return self._last
        return _whole_end(files)


def log_files(folder: Path) -> list[Path]:
    """The files of a log, in the order of their events."""
    return sorted(folder.glob("audit-*.jsonl"))


def read_events(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each event with the SHA-256 of its line, in order. Raises `ValueError` at a line that is no event."""
    for path in log_files(folder):
        with path.open("rb") as file:
            for line in file:
                event = json.loads(line)
                if not isinstance(event, dict) or not line.endswith(b"\n"):
                    raise ValueError(f"a line of {path.name} is no event")
                yield event, hashlib.sha256(line[:-1]).hexdigest()


def check_chain(folder: Path, expected: str | None = None) -> Audit:
    """Follow the chain from the first event to the last.

    `expected` is the digest of a head noted earlier: the chain alone cannot show that its own end was cut off.
    """
    head, count, met = Head(), 0, expected is None
    try:
        for event, digest in read_events(folder):
            if event.get("previous") != head.digest or event.get("sequence") != head.sequence + 1:
                return Audit(count, head, f"event {event.get('sequence')} does not follow on {head.sequence}")
            head, count = Head(head.sequence + 1, digest), count + 1
            met = met or digest == expected
    except ValueError:
        return Audit(count, head, f"what follows event {head.sequence} is no event")
    return Audit(count, head, None if met else "the event of the expected digest is not in the log")


def _whole_end(files: list[Path]) -> tuple[Path | None, int, Head]:
    """As `AuditLog._end`; a line that a kill cut short is cut off: the read it was for was never answered."""
    path = files[-1]
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        os.truncate(path, len(whole))
    if not whole:
        path.unlink()
        return _whole_end(files[:-1]) if files[:-1] else (None, 0, Head())
    line = whole[whole.rfind(b"\n", 0, -1) + 1 : -1]
    try:
        sequence = int(json.loads(line)["sequence"])
    except (ValueError, KeyError, TypeError):
        raise StoreUnavailable("the audit log is damaged: run `python -m indexer audit verify`") from None
    return path, len(whole), Head(sequence, hashlib.sha256(line).hexdigest())


def _write(path: Path, size: int, line: bytes) -> None:
    """Append the line to a file of that size, or leave the file as it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size)
            raise DiskLow("the disk of the audit log is full")
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable("the audit log cannot be written") from error
