"""Headers of compressed pixel streams (JPEG, JPEG-LS, JPEG 2000, PNG), read before any codec sees them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rag_service.errors import DecodeFailed, TruncatedFilm, UnsupportedFilm

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_PALETTE = 3
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_JPEG_LS = 0xF7
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class StreamHeader:
    """Size in pixels, number of components, bits per component, and the format's own kind.

    `kind` is the start-of-frame marker of a JPEG or JPEG-LS stream, the colour type of a PNG, 0 for JPEG 2000.
    """

    rows: int
    columns: int
    components: int
    precision: int
    kind: int


def read_jpeg_header(stream: bytes) -> StreamHeader:
    """Frame header of a JPEG or JPEG-LS stream that is complete up to its end marker.

    Raises TruncatedFilm when the stream stops early, DecodeFailed when it is not made of JPEG segments.
    """
    header: StreamHeader | None = None
    for marker, start, stop in _jpeg_segments(stream):
        if marker in _FRAMES:
            if stop - start < 6:
                raise DecodeFailed("the JPEG frame header is too short")
            precision, rows, columns, components = struct.unpack_from(">BHHB", stream, start)
            header = StreamHeader(rows, columns, components, precision, marker)
        if marker == _START_OF_SCAN:
            if header is None:
                raise DecodeFailed("the JPEG stream has no frame header before its first scan")
            require_end_marker(stream, stop)
            return header
    raise TruncatedFilm("the JPEG stream ends before its first scan")


def _jpeg_segments(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start of content, end of content) of each segment up to the first scan."""
    position = 2
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            raise DecodeFailed("the JPEG stream has bytes between its segments")
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        stop = position + 2 + length
        if length < 2:
            raise DecodeFailed("a JPEG segment has an impossible length")
        if stop > len(stream):
            raise TruncatedFilm("the JPEG stream ends inside a segment")
        yield marker, position + 4, stop
        position = stop


def require_end_marker(stream: bytes, start: int) -> None:
    """Raise TruncatedFilm unless an end-of-image marker (FF D9; JPEG 2000 uses the same) follows `start`."""
    if stream.rfind(_END_OF_IMAGE, start) < 0:
        raise TruncatedFilm("the compressed pixels stop before their end marker")


def read_jpeg2000_header(stream: bytes) -> StreamHeader:
    """Size segment of a raw JPEG 2000 codestream (ISO 15444-1 A.5.1), which must reach its end marker.

    Raises TruncatedFilm when it stops early, DecodeFailed when it does not start as a codestream.
    """
    if not stream.startswith(b"\xff\x4f\xff\x51"):
        raise DecodeFailed("the pixels are not a JPEG 2000 codestream")
    if len(stream) < 43:
        raise TruncatedFilm("the JPEG 2000 codestream ends in its header")
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    require_end_marker(stream, 42)
    return StreamHeader(bottom - top, right - left, components, (stream[42] & 0x7F) + 1, 0)


def read_png_header(stream: bytes) -> StreamHeader:
    """IHDR of a PNG whose chunks reach IEND; an animation is refused.

    Raises TruncatedFilm without IEND, DecodeFailed when IHDR is not first, UnsupportedFilm for an animation.
    """
    header: StreamHeader | None = None
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(stream):
        length, name = struct.unpack_from(">I4s", stream, position)
        if header is None:
            header = _image_header(stream, position, length, name)
        if name == b"acTL":
            raise UnsupportedFilm("an animated PNG has several frames, a film has one")
        if name == b"IEND":
            return header
        position += 12 + length
    raise TruncatedFilm("the PNG file stops before its end chunk")


def _image_header(stream: bytes, position: int, length: int, name: bytes) -> StreamHeader:
    if name != b"IHDR" or length != 13:
        raise DecodeFailed("the PNG file does not start with its header chunk")
    if position + 25 > len(stream):
        raise TruncatedFilm("the PNG file ends in its header chunk")
    columns, rows, depth, colour = struct.unpack_from(">IIBB", stream, position + 8)
    components = {0: 1, 2: 3, PNG_PALETTE: 1, 4: 2, 6: 4}.get(colour)
    if components is None or depth not in (1, 2, 4, 8, 16):
        raise DecodeFailed("the PNG header names a colour type or bit depth that does not exist")
    return StreamHeader(rows, columns, components, depth, colour)
