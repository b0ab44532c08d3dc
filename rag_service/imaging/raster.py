"""PNG and JPEG films."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rag_service.errors import ConstantFilm, DecodeFailed, UnsupportedFilm
from rag_service.imaging.codestream import PNG_PALETTE, StreamHeader, read_jpeg_header, read_png_header
from rag_service.imaging.limits import Limits
from rag_service.imaging.rendering import Rendering, luminance, render

_HUFFMAN_DCT = {0xC0, 0xC1, 0xC2}
_ORIENTATION = 0x0112
_MAX_8_BIT = np.float32(255.0)


def decode_png(stream: bytes, limits: Limits) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Grey (rows, columns) in [0, 1] and the notes.

    Up to 8 bits are taken as display values; 16 bits carry no window, so their range is taken from percentiles.
    """
    header = read_png_header(stream)
    limits.check_size(header.rows, header.columns)
    return _open(stream, "PNG", header)


def decode_jpeg(stream: bytes, limits: Limits) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Grey (rows, columns) in [0, 1] and the notes; 8-bit Huffman baseline, extended or progressive only."""
    header = read_jpeg_header(stream)
    if header.kind not in _HUFFMAN_DCT or header.precision != 8 or header.components not in (1, 3):
        raise UnsupportedFilm("of plain JPEG files only baseline and progressive, 8 bits, grey or RGB are accepted")
    limits.check_size(header.rows, header.columns)
    return _open(stream, "JPEG", header)


def _open(stream: bytes, name: str, header: StreamHeader) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    with Image.open(BytesIO(stream), formats=[name]) as image:
        if image.size != (header.columns, header.rows):
            raise DecodeFailed("the codec reads another size than the header declares")
        upright, notes = _upright(image)
        notes += _conversions(header, "transparency" in image.info)
        if not upright.mode.startswith("I;16"):
            return _eight_bits(upright), notes
        pixels, more = _sixteen_bits(np.asarray(upright))
    return pixels, notes + more


def _upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture as its EXIF orientation wants it seen."""
    if image.getexif().get(_ORIENTATION, 1) not in range(2, 9):
        return image, ()
    return ImageOps.exif_transpose(image), ("exif_oriented",)


def _sixteen_bits(stored: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if stored.dtype.kind != "u" or stored.dtype.itemsize != 2:
        raise DecodeFailed("the codec gave pixels of an unexpected type")
    return render(stored, 0, 0xFFFF, Rendering())


def _eight_bits(image: Image.Image) -> NDArray[np.float32]:
    if image.mode in ("1", "L", "LA"):
        return _display_values(np.asarray(image.convert("L")))
    if image.mode in ("P", "PA", "RGB", "RGBA"):
        return luminance(np.asarray(image.convert("RGB")))
    raise UnsupportedFilm("of PNG and JPEG files only grey, palette and RGB pictures are accepted")


def _conversions(header: StreamHeader, transparent: bool) -> tuple[str, ...]:
    """Notes on what turns the file's components into grey."""
    notes = []
    if header.precision == 16 and header.components > 1:
        notes.append("sixteen_bits_reduced")
    if header.kind == PNG_PALETTE:
        notes.append("palette_to_grey")
    elif header.components >= 3:
        notes.append("colour_to_grey")
    if transparent or header.components in (2, 4):
        notes.append("alpha_dropped")
    return tuple(notes)


def _display_values(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    if stored.min() == stored.max():
        raise ConstantFilm("every pixel has the same value")
    pixels = stored.astype(np.float32)
    pixels /= _MAX_8_BIT
    return pixels
