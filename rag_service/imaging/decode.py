"""Bytes from a stranger to a Film, or a typed refusal.

Notes a film may carry, in the order they are met:

    for_processing             a DX film for processing: not windowed for reading
    secondary_capture          a Secondary Capture: a picture of a film
    bits_stored_exceeded       compressed pixels deeper than BitsStored; read at their own depth
    monochrome1_inverted       stored with bone dark, turned over
    presentation_lut_inverted  MONOCHROME2 whose presentation LUT shape is INVERSE, turned over
    first_of_several_windows   the file offers several windows
    pixel_padding              pixels outside the exposed field were painted black
    lut_depth_corrected        the VOI LUT's declared depth contradicts its entries
    lut_ignored                the VOI LUT would have shown one grey only
    window_ignored             the window has no meaning, or would have shown one grey only
    window_from_percentiles    no usable window: 0.1 to 99.9 percentile of the pixels
    pixel_aspect_ignored       a pixel aspect outside 0.1 to 10
    exif_oriented              turned as EXIF says
    sixteen_bits_reduced       a 16-bit PNG with colour or alpha, read at 8 bits
    colour_to_grey, palette_to_grey, alpha_dropped
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from rag_service.errors import DecodeFailed, FilmError, FilmTooLarge, NotAnImage, TruncatedFilm, UnsupportedFilm
from rag_service.imaging.codestream import PNG_SIGNATURE
from rag_service.imaging.dicom_film import decode_dicom
from rag_service.imaging.dicom_header import ACCEPTED
from rag_service.imaging.film import Film, Frame, View
from rag_service.imaging.limits import Limits
from rag_service.imaging.raster import decode_jpeg, decode_png

if TYPE_CHECKING:
    from rag_service.imaging.decode_pool import DecodePool

PNG, JPEG, DICOM = "image/png", "image/jpeg", "application/dicom"
_OTHER_IMAGES = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)


def decode(data: bytes, limits: Limits = Limits(), *, pool: DecodePool | None = None) -> Film:  # noqa: B008
    """The film in `data`: pixels (rows, columns) float32 in [0, 1], bone bright, its digest that of `data`.

    With a pool the codecs run in a child process that the limits on memory and processor time bind. Without one
    they run here, after the checks on bytes and header, in one thread at a time: for local files one trusts.
    Raises FilmError only (and what `DecodePool.decode` adds).
    """
    limits.check_bytes(len(data))
    if pool is not None:
        return pool.decode(data, limits)
    media_type = _media_type(data)
    try:
        return _DECODERS[media_type](data, limits)
    except FilmError:
        raise
    except MemoryError:
        raise FilmTooLarge("decoding needs more memory than one film may take") from None
    except Exception as error:  # noqa: BLE001 - codecs raise anything and may quote the file: keep the type alone
        raise DecodeFailed(f"the decoder refused the content ({type(error).__name__})") from None


def _media_type(data: bytes) -> str:
    """By signature. Raises NotAnImage, UnsupportedFilm for an image of another format, TruncatedFilm."""
    if data.startswith(PNG_SIGNATURE):
        return PNG
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data[128:132] == b"DICM":
        return DICOM
    if data and PNG_SIGNATURE.startswith(data):
        raise TruncatedFilm("the file ends in its signature")
    for signature, name in _OTHER_IMAGES:
        if data.startswith(signature):
            raise UnsupportedFilm(f"a {name} file; {ACCEPTED}")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        raise UnsupportedFilm(f"a WebP file; {ACCEPTED}")
    raise NotAnImage(f"the file is empty; {ACCEPTED}" if not data else f"not a known image file; {ACCEPTED}")


def _film_of_png(data: bytes, limits: Limits) -> Film:
    pixels, notes = decode_png(data, limits)
    return Film(pixels, Frame(*pixels.shape), _digest(data), PNG, View.UNKNOWN, notes)


def _film_of_jpeg(data: bytes, limits: Limits) -> Film:
    pixels, notes = decode_jpeg(data, limits)
    return Film(pixels, Frame(*pixels.shape), _digest(data), JPEG, View.UNKNOWN, notes)


def _film_of_dicom(data: bytes, limits: Limits) -> Film:
    pixels, frame, view, notes, subject = decode_dicom(data, limits)
    return Film(pixels, frame, _digest(data), DICOM, view, notes, subject)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_DECODERS: dict[str, Callable[[bytes, Limits], Film]] = {
    PNG: _film_of_png,
    JPEG: _film_of_jpeg,
    DICOM: _film_of_dicom,
}
