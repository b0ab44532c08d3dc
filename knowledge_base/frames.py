"""Frames between the embedded store and its client: two lengths, a JSON header, a block of 4-byte words.

Both ends run on one machine, so words are in its own byte order. Only the standard library is imported: the engine
process starts with nothing else but qdrant_edge.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

LENGTHS: Final = struct.Struct("<II")
_ID_WORDS: Final = 4
_ID_BYTES: Final = 16
MAX_FRAME: Final = 512 * 1024 * 1024


class FrameError(ValueError):
    """Bytes that are not a frame."""


def encode(header: dict[str, Any], block: bytes = b"") -> bytes:
    """One frame. NaN in the header is refused: it is not JSON."""
    body = json.dumps(header, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(body) + len(block) > MAX_FRAME:
        raise FrameError(f"a frame of {len(body) + len(block)} bytes is over the limit of {MAX_FRAME}")
    return LENGTHS.pack(len(body), len(block)) + body + block


def lengths(prefix: bytes) -> tuple[int, int]:
    """Byte lengths of header and block from the 8-byte prefix."""
    header, block = LENGTHS.unpack(prefix)
    if header + block > MAX_FRAME:
        raise FrameError(f"a frame of {header + block} bytes is over the limit of {MAX_FRAME}")
    return header, block


def decode_header(body: bytes) -> dict[str, Any]:
    """The header of a frame."""
    try:
        header = json.loads(body)
    except ValueError as error:
        raise FrameError("the header of a frame is not JSON") from error
    if not isinstance(header, dict):
        raise FrameError("the header of a frame is not an object")
    return header


class Words:
    """Reads a block front to back as runs of float32, uint32 or ids of four words."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._at = 0

    def floats(self, count: int) -> list[float]:
        """The next `count` float32 values."""
        return array("f", self._take(count)).tolist()

    def integers(self, count: int) -> list[int]:
        """The next `count` uint32 values."""
        return array("I", self._take(count)).tolist()

    def ids(self, count: int) -> list[UUID]:
        """The next `count` ids."""
        run = self._take(_ID_WORDS * count)
        return [UUID(bytes=run[at : at + _ID_BYTES]) for at in range(0, len(run), _ID_BYTES)]

    def hits(self, counts: Iterable[int]) -> list[list[tuple[UUID, float]]]:
        """Ranked lists as `hit_words` wrote them one after the other. FrameError unless that is all there is."""
        lists = [list(zip(self.ids(count), self.floats(count), strict=True)) for count in counts]
        if self._at != len(self._block):
            raise FrameError("the block of a frame is longer than its header says")
        return lists

    def _take(self, count: int) -> bytes:
        run = self._block[self._at : self._at + 4 * count]
        if len(run) != 4 * count:
            raise FrameError("the block of a frame is shorter than its header says")
        self._at += 4 * count
        return run


def hit_words(found: Sequence[tuple[UUID, float]]) -> bytes:
    """A ranked list as words: its ids, then its scores."""
    return b"".join(identity.bytes for identity, _ in found) + float_words([score for _, score in found])


def float_words(values: list[float]) -> bytes:
    """Values as float32 words."""
    return array("f", values).tobytes()
