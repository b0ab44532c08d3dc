"""Frames between the service and its decode child: a JSON header and raw bytes, each with its length before it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

MAX_HEADER_BYTES = 64 * 1024
_LENGTHS = struct.Struct(">IQ")


def pack_start(header: Mapping[str, object], body_bytes: int) -> bytes:
    """The bytes that go before a body of `body_bytes` bytes."""
    encoded = json.dumps(header).encode()
    return _LENGTHS.pack(len(encoded), body_bytes) + encoded


def read_start(read_exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], int]:
    """(header, length of the body that follows). Raises ValueError for a frame that breaks the form."""
    header_bytes, body_bytes = _LENGTHS.unpack(read_exactly(_LENGTHS.size))
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError("a frame header is too long")
    header = json.loads(read_exactly(header_bytes))
    if not isinstance(header, dict):
        raise ValueError("a frame header is not an object")
    return header, body_bytes
