"""DICOM films: from a judged header to grey pixels, frame and view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

from rag_service.errors import DecodeFailed, TruncatedFilm
from rag_service.imaging.codestream import read_jpeg2000_header, read_jpeg_header
from rag_service.imaging.dicom_header import (
    JPEG_2000,
    NATIVE,
    DicomHeader,
    integer_of,
    quiet_pydicom,
    read_dicom_header,
    text_of,
)
from rag_service.imaging.film import Frame, View
from rag_service.imaging.limits import Limits
from rag_service.imaging.rendering import Lut, Rendering, Window, luminance, render
from rag_service.imaging.subject import Subject, read_subject

_VIEWS = {"PA": View.PA, "AP": View.AP, "LL": View.LATERAL, "RL": View.LATERAL, "LATERAL": View.LATERAL}
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_ASPECTS = (0.1, 10.0)


def decode_dicom(stream: bytes, limits: Limits) -> tuple[NDArray[np.float32], Frame, View, tuple[str, ...], Subject]:
    """Grey (rows, columns) in [0, 1], bone bright, with frame, view, notes and subject; overlays and shutters are left off."""
    with quiet_pydicom():
        header = _judge_pixels(read_dicom_header(stream, limits))
        pixels, notes = _render(_decode_pixels(header), header)
        aspect, more = _pixel_aspect(header.dataset)
        view = _VIEWS.get(text_of(header.dataset, "ViewPosition"), View.UNKNOWN)
        subject = read_subject(stream)
    frame = Frame(header.rows, header.columns, aspect)
    return pixels, frame, view, header.notes + notes + more, subject


def _judge_pixels(header: DicomHeader) -> DicomHeader:
    """Compare the encoded pixels with the header before a codec runs; the header with its true depth comes back."""
    content = header.dataset.PixelData
    if header.syntax == RLELossless:
        return header
    if header.syntax not in NATIVE:
        return _judge_codestream(header, b"".join(generate_fragments(_after_offsets(content))))
    expected = header.rows * header.columns * header.samples * header.bits_allocated // 8
    if header.photometric == "YBR_FULL_422":
        expected = expected * 2 // 3
    if len(content) < expected:
        raise TruncatedFilm(f"{len(content)} bytes of pixels, the header declares {expected}")
    return header


def _decode_pixels(header: DicomHeader) -> NDArray[Any]:
    """Stored values, (rows, columns) or (rows, columns, 3), sign-extended and without bits above BitsStored."""
    stored, _ = get_decoder(header.syntax).as_array(header.dataset, index=0)
    shape = (header.rows, header.columns) if header.samples == 1 else (header.rows, header.columns, 3)
    if stored.shape != shape or stored.dtype.kind not in "ui" or stored.dtype.itemsize > 2:
        raise DecodeFailed("the codec gave pixels of another shape or type than the header declares")
    return stored


def _after_offsets(content: bytes) -> bytes:
    """Encapsulated pixels without their first item, the basic offset table (PS3.5 A.4)."""
    if content[:4] != b"\xfe\xff\x00\xe0" or len(content) < 8:
        raise DecodeFailed("the compressed pixels do not start with an offset table")
    return content[8 + int.from_bytes(content[4:8], "little") :]


def _judge_codestream(header: DicomHeader, codestream: bytes) -> DicomHeader:
    """A codec allocates what its own stream declares, so that must be what the DICOM header declares.

    A stream deeper than BitsStored is believed over the header: cutting its high bits would fold bright into dark.
    """
    declared = read_jpeg2000_header(codestream) if header.syntax in JPEG_2000 else read_jpeg_header(codestream)
    if (declared.rows, declared.columns, declared.components) != (header.rows, header.columns, header.samples):
        raise DecodeFailed("the compressed pixels are of another size than the header declares")
    if declared.precision > header.bits_allocated:
        raise DecodeFailed("the compressed pixels have more bits than the header allocates")
    if declared.precision <= header.bits_stored:
        return header
    header.dataset.BitsStored, header.dataset.HighBit = declared.precision, declared.precision - 1
    return replace(header, bits_stored=declared.precision, notes=(*header.notes, "bits_stored_exceeded"))


def _render(stored: NDArray[Any], header: DicomHeader) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if header.samples == 3:
        return luminance(stored.astype(np.uint8, copy=False)), ("colour_to_grey",)
    span = 1 << header.bits_stored
    low = -span // 2 if header.signed else 0
    if int(stored.min()) < low or int(stored.max()) >= low + span:
        raise DecodeFailed("the codec gave values beyond the bits stored")
    inverse_shape = text_of(header.dataset, "PresentationLUTShape") == "INVERSE"
    notes = []
    if header.photometric == "MONOCHROME1":
        notes.append("monochrome1_inverted")
    elif inverse_shape:
        notes.append("presentation_lut_inverted")
    if len(_numbers(header.dataset, "WindowCenter")) > 1 and not header.dataset.get("VOILUTSequence"):
        notes.append("first_of_several_windows")
    inverted = inverse_shape or header.photometric == "MONOCHROME1"
    rendering = _rendering(header.dataset, header.signed, inverted)
    pixels, more = render(stored, low, low + span - 1, rendering)
    return pixels, (*notes, *more)


def _rendering(dataset: Dataset, signed: bool, inverted: bool) -> Rendering:
    modality_lut = _first_lut(dataset, "ModalityLUTSequence", signed)
    slope, intercept = _numbers(dataset, "RescaleSlope"), _numbers(dataset, "RescaleIntercept")
    rescaled = modality_lut is None and bool(slope) and bool(intercept)
    negative = modality_lut is None and (signed or (rescaled and intercept[0] < 0))
    return Rendering(
        modality_lut=modality_lut,
        slope=slope[0] if rescaled else 1.0,
        intercept=intercept[0] if rescaled else 0.0,
        voi_lut=_first_lut(dataset, "VOILUTSequence", negative),
        window=_window(dataset),
        inverted=inverted,
        padding=_padding(dataset, signed),
    )


def _window(dataset: Dataset) -> Window | None:
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    if not centers or not widths:
        return None
    return Window(centers[0], widths[0], text_of(dataset, "VOILUTFunction") or "LINEAR")


def _first_lut(dataset: Dataset, keyword: str, negative_input: bool) -> Lut | None:
    """The first table of a LUT sequence (PS3.3 C.11.1, C.11.2); its first input is signed where its input is."""
    items = dataset.get(keyword)
    if not items:
        return None
    item = items[0]
    if "LUTDescriptor" not in item or "LUTData" not in item:
        raise DecodeFailed(f"{keyword} lacks its descriptor or its entries")
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    if negative_input and first >= 1 << 15:
        first -= 1 << 16
    little = dataset.original_encoding[1] is not False
    return Lut(first, _lut_entries(item.LUTData, count or 1 << 16, little), bits)


def _lut_entries(content: bytes | int | Iterable[int], count: int, little_endian: bool) -> NDArray[np.uint16]:
    """`count` entries: words, or bytes when there are only so many (8-bit entries may be packed two to a word)."""
    if isinstance(content, int):
        content = [content]
    if not isinstance(content, bytes):
        words = np.array(list(content), dtype=np.int64).astype(np.uint16)
        if words.size >= count:
            return words[:count]
        content = words.astype("<u2").tobytes()
        little_endian = True
    if len(content) >= 2 * count:
        return np.frombuffer(content, dtype="<u2" if little_endian else ">u2", count=count).astype(np.uint16)
    if len(content) < count:
        raise DecodeFailed("a lookup table has fewer entries than it declares")
    return np.frombuffer(content, dtype=np.uint8, count=count).astype(np.uint16)


def _padding(dataset: Dataset, signed: bool) -> tuple[int, int] | None:
    value = integer_of(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer_of(dataset, "PixelPaddingRangeLimit")
    ends = (value, value if limit is None else limit)
    if signed:
        ends = (_as_signed(ends[0]), _as_signed(ends[1]))
    return min(ends), max(ends)


def _as_signed(value: int) -> int:
    return value - (1 << 16) if value >= 1 << 15 else value


def _pixel_aspect(dataset: Dataset) -> tuple[float, tuple[str, ...]]:
    """Height over width of a pixel: every one of these elements gives the vertical value first."""
    for keyword in _SPACINGS:
        values = _numbers(dataset, keyword)
        if len(values) == 2 and min(values) > 0 and np.isfinite(values).all():
            aspect = values[0] / values[1]
            if _ASPECTS[0] <= aspect <= _ASPECTS[1]:
                return aspect, ()
            return 1.0, ("pixel_aspect_ignored",)
    return 1.0, ()


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The values of a decimal or integer string element, [] when absent or empty."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, str):
        return []
    return [float(part) for part in value] if isinstance(value, Iterable) else [float(value)]
