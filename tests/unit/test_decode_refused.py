"""Files that are no film, cut, altered or beyond a limit: refused by name, or a film all the same."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    UltrasoundImageStorage,
)

from rag_service.errors import (
    ConstantFilm,
    DecodeFailed,
    FilmError,
    FilmTooLarge,
    NotAnImage,
    TruncatedFilm,
    UnsupportedFilm,
)
from rag_service.imaging.decode import decode
from rag_service.imaging.limits import Limits
from tests.unit.radiographs import (
    COLUMNS,
    ROWS,
    UNCOMPRESSED,
    chunk,
    dataset,
    encapsulated,
    file_of,
    film_of,
    full_window,
    lossless_jpeg,
    lut_item,
    radiograph,
    raster,
)


def png_header_only(rows: int, columns: int) -> bytes:
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def grey_picture_as(kind: str) -> bytes:
    return raster(radiograph(8).astype(np.uint8), kind)


def coloured() -> NDArray[np.uint8]:
    stored = radiograph(8).astype(np.uint8)
    return np.stack([stored, stored // 2, stored // 4], axis=2)


def refused_rasters() -> dict[str, tuple[bytes, type[FilmError]]]:
    grey = radiograph(8).astype(np.uint8)
    flat = np.full((ROWS, COLUMNS), 77, np.uint8)
    return {
        "empty": (b"", NotAnImage),
        "text": (b"no radiograph, only words\n" * 20, NotAnImage),
        "pdf": (b"%PDF-1.7\n" + b"x" * 300, NotAnImage),
        "zip": (b"PK\x03\x04" + b"x" * 300, NotAnImage),
        "tiff": (grey_picture_as("TIFF"), UnsupportedFilm),
        "gif": (grey_picture_as("GIF"), UnsupportedFilm),
        "bmp": (grey_picture_as("BMP"), UnsupportedFilm),
        "webp": (b"RIFF\x10\0\0\0WEBP" + b"x" * 50, UnsupportedFilm),
        "jpeg 2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"x" * 50, UnsupportedFilm),
        "constant png": (raster(flat), ConstantFilm),
        "constant 16-bit png": (raster(flat.astype(np.uint16) * 100), ConstantFilm),
        "constant rgb png": (raster(np.stack([flat] * 3, axis=2)), ConstantFilm),
        "constant jpeg": (raster(flat, "JPEG"), ConstantFilm),
        "huge png": (png_header_only(65535, 65535), FilmTooLarge),
        "png of no rows": (png_header_only(0, 500), DecodeFailed),
        "tiny png": (raster(grey[:60]), UnsupportedFilm),
        "colour png": (raster(coloured()), UnsupportedFilm),
        "colour jpeg": (raster(coloured(), "JPEG"), UnsupportedFilm),
        "cmyk jpeg": (cmyk(grey), UnsupportedFilm),
        "animated png": (animation(grey), UnsupportedFilm),
        "garbage png": (png_header_only(96, 80)[:-12] + chunk(b"IDAT", b"junk") + chunk(b"IEND", b""), DecodeFailed),
        "half the scan lines": (half_png(grey), DecodeFailed),
    }


def cmyk(grey: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).convert("CMYK").save(buffer, "JPEG")
    return buffer.getvalue()


def animation(grey: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG", save_all=True, append_images=[Image.fromarray(255 - grey)])
    return buffer.getvalue()


def half_png(grey: NDArray[np.uint8]) -> bytes:
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in grey))[:700]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 96, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", list(refused_rasters()))
def test_a_bad_picture_is_refused(name: str) -> None:
    content, error = refused_rasters()[name]
    with pytest.raises(error) as refusal:
        decode(content)
    assert type(refusal.value) is error


REFUSED_HEADERS: list[tuple[str, dict[str, object], type[FilmError]]] = [
    ("oversized", {"Rows": 65535, "Columns": 65535}, FilmTooLarge),
    ("no rows", {"Rows": 0}, DecodeFailed),
    ("small", {"Rows": 63}, UnsupportedFilm),
    ("more bits stored than allocated", {"BitsStored": 17, "HighBit": 16}, DecodeFailed),
    ("one bit", {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, UnsupportedFilm),
    ("32 bits", {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, UnsupportedFilm),
    ("other high bit", {"HighBit": 15}, UnsupportedFilm),
    ("more rows than pixels", {"Rows": 97}, TruncatedFilm),
    ("multi-frame", {"NumberOfFrames": 2}, UnsupportedFilm),
    ("absurd frame count", {"NumberOfFrames": 2**31 - 1}, UnsupportedFilm),
    ("CT class", {"SOPClassUID": CTImageStorage}, UnsupportedFilm),
    ("MR class", {"SOPClassUID": MRImageStorage}, UnsupportedFilm),
    ("US class", {"SOPClassUID": UltrasoundImageStorage}, UnsupportedFilm),
    ("unknown class", {"SOPClassUID": "1.2.3.4"}, UnsupportedFilm),
    ("CT modality", {"Modality": "CT"}, UnsupportedFilm),
    ("palette", {"PhotometricInterpretation": "PALETTE COLOR"}, UnsupportedFilm),
    ("three samples of grey", {"SamplesPerPixel": 3}, DecodeFailed),
    ("slope zero", {"RescaleSlope": 0, "RescaleIntercept": 0}, DecodeFailed),
    ("LUT without entries", {"VOILUTSequence": Sequence([Dataset()])}, DecodeFailed),
    ("LUT cut short", {"VOILUTSequence": Sequence([lut_item(0, np.arange(9, dtype=np.uint16), 16)])}, DecodeFailed),
]


@pytest.mark.parametrize(
    ("tags", "error"), [row[1:] for row in REFUSED_HEADERS], ids=[row[0] for row in REFUSED_HEADERS]
)
def test_a_bad_dicom_header_is_refused(tags: dict[str, Any], error: type[FilmError]) -> None:
    made = dataset(radiograph(12), 12, **tags)
    if "VOILUTSequence" in tags and "LUTDescriptor" in made.VOILUTSequence[0]:
        made.VOILUTSequence[0].LUTDescriptor = [4096, 0, 16]
    with pytest.raises(error) as refusal:
        film_of(made)
    assert type(refusal.value) is error
    assert "Zzyzx" not in str(refusal.value)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "Rows", "BitsAllocated", "PhotometricInterpretation", "PixelData"])
def test_a_dicom_file_without_a_required_tag_counts_as_cut(keyword: str) -> None:
    made = dataset(radiograph(12), 12)
    del made[keyword]
    with pytest.raises(TruncatedFilm, match=keyword):
        film_of(made)


def test_a_constant_dicom_film_is_refused_padding_aside() -> None:
    stored = np.full((ROWS, COLUMNS), 500, np.uint16)
    with pytest.raises(ConstantFilm):
        film_of(dataset(stored, 12))
    stored[:, :9] = 0
    made = dataset(stored, 12)
    made.add_new("PixelPaddingValue", "US", 0)
    with pytest.raises(ConstantFilm):
        film_of(made)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, MPEG2MPML, UID("1.2.3.4.5")])
def test_a_transfer_syntax_that_is_not_accepted_is_refused_with_the_list(syntax: UID) -> None:
    content = file_of(dataset(radiograph(12), 12))
    old, new = ExplicitVRLittleEndian.encode(), syntax.encode()
    size = len(new) + len(new) % 2
    packed = b"UI" + struct.pack("<H", size) + new.ljust(size, b"\0")
    content = content.replace(b"UI" + struct.pack("<H", 20) + old + b"\0", packed, 1)
    with pytest.raises(UnsupportedFilm, match="accepted are single-frame CR, DX"):
        decode(content)


def test_a_codestream_of_another_size_than_the_header_never_reaches_the_codec() -> None:
    stored = radiograph(8).astype(np.uint8)
    jpeg = bytearray(raster(stored, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(DecodeFailed, match="another size"):
        decode(encapsulated(stored, 8, bytes(jpeg), JPEGBaseline8Bit))
    size = b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1)
    with pytest.raises(DecodeFailed, match="another size"):
        decode(encapsulated(stored, 8, size + b"\x07\x01\x01" + b"\xff\xd9", JPEG2000))


@pytest.mark.parametrize(
    ("codestream", "error"),
    [
        (b"\xff\xd8\xff\xc0\x00\x04\x08\x00\xff\xd9", DecodeFailed),
        (b"\xff\xd8\xff\xda\x00\x04\x08\x00\xff\xd9", DecodeFailed),
        (b"\xff\xd8\xff\xff\xd0\xff\xe0\x00\x00\x00\x00", DecodeFailed),
        (b"\xff\xd8\xff\xe0\x00\x09\x00\x00\xff\xd9", TruncatedFilm),
        (b"\xff\xd8\xff\xe0\x00\x02", TruncatedFilm),
    ],
)
def test_a_broken_jpeg_header_is_refused(codestream: bytes, error: type[FilmError]) -> None:
    for content in (codestream, encapsulated(radiograph(8).astype(np.uint8), 8, codestream, JPEGBaseline8Bit)):
        with pytest.raises(error) as refusal:
            decode(content)
        assert type(refusal.value) is error


def test_want_of_memory_is_a_film_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rag_service.imaging.raster.Image.open", exhausted)
    with pytest.raises(FilmTooLarge, match="memory"):
        decode(raster(radiograph(8).astype(np.uint8)))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_garbage_in_place_of_compressed_pixels_is_refused(syntax: UID) -> None:
    garbage = np.random.default_rng(5).bytes(3000)
    with pytest.raises((DecodeFailed, TruncatedFilm)):
        decode(encapsulated(radiograph(12), 12, garbage, syntax))


def test_limits_are_checked_before_decoding() -> None:
    content = raster(radiograph(8).astype(np.uint8))
    with pytest.raises(FilmTooLarge, match="bytes"):
        decode(content, Limits(max_bytes=len(content) - 1))
    with pytest.raises(FilmTooLarge, match="pixels"):
        decode(content, Limits(max_pixels=ROWS * COLUMNS - 1))
    with pytest.raises(FilmTooLarge, match="pixels"):
        decode(file_of(dataset(radiograph(12), 12)), Limits(max_pixels=ROWS * COLUMNS - 1))
    with pytest.raises(ValueError, match="positive"):
        Limits(min_side=0)


# Cut and mutated files ----------------------------------------------------------------------------------------------


def whole_files() -> dict[str, bytes]:
    stored = radiograph(8).astype(np.uint8)
    files = {"png": raster(stored), "png16": raster(radiograph(16)), "jpeg": raster(stored, "JPEG")}
    for syntax in (*UNCOMPRESSED, RLELossless):
        made = dataset(radiograph(12), 12, **full_window(12), PixelSpacing=[0.1, 0.1], ViewPosition="PA")
        made.VOILUTSequence = Sequence([lut_item(0, np.arange(4096, dtype=np.uint16), 12)])
        if syntax == RLELossless:
            made.compress(syntax, generate_instance_uid=False)
        files[syntax.name] = file_of(made, syntax)
    for syntax in (JPEGLSLossless, JPEG2000Lossless):
        made = dataset(radiograph(12), 12)
        made.compress(syntax, generate_instance_uid=False)
        files[syntax.name] = file_of(made)
    files["DICOM JPEG"] = encapsulated(stored, 8, raster(stored, "JPEG"), JPEGBaseline8Bit)
    files["DICOM lossless JPEG"] = encapsulated(radiograph(12), 12, lossless_jpeg(radiograph(12), 12), JPEGLosslessSV1)
    return files


FILES = whole_files()


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_cut_anywhere_says_so(name: str) -> None:
    content = FILES[name]
    first = 132 if content[128:132] == b"DICM" else 3
    spare = 4 if content.endswith(b"\xfe\xff\xdd\xe0\0\0\0\0") else 0  # the length of a delimiter says nothing
    last = len(content) - spare - 1
    lengths = {first, last, *np.random.default_rng(11).integers(first, last, 60).tolist()}
    for length in sorted(lengths):
        with pytest.raises(TruncatedFilm):
            decode(content[:length])


def test_a_file_cut_in_its_signature_is_a_film_error() -> None:
    for content in FILES.values():
        for length in range(12):
            with pytest.raises(FilmError):
                decode(content[:length])


# Codecs written in C run on mutated bytes in the child only: see tests/integration/test_decode_pool.py.
MUTABLE = ["png", "png16", "jpeg", *(syntax.name for syntax in (*UNCOMPRESSED, RLELossless))]


@settings(max_examples=300, deadline=2000, derandomize=True, database=None)
@given(
    name=st.sampled_from(MUTABLE),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from([1, 4, 16]), st.binary(min_size=1, max_size=4)), max_size=6
    ),
    header_only=st.booleans(),
)
def test_a_mutated_file_is_a_film_or_a_film_error(
    name: str, edits: list[tuple[float, int, bytes]], header_only: bool
) -> None:
    content = bytearray(FILES[name])
    span = min(len(content), 1500) if header_only else len(content)
    for place, removed, added in edits:
        position = int(place * (span - 1))
        content[position : position + removed] = added
    try:
        film = decode(bytes(content), Limits(max_pixels=1_000_000))
    except FilmError as refusal:
        assert "Zzyzx" not in str(refusal)
    else:
        assert np.isfinite(film.pixels).all()
        assert 0.0 <= film.pixels.min() < film.pixels.max() <= 1.0


def test_nothing_of_the_patient_reaches_messages_warnings_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    made = dataset(radiograph(12), 12)
    content = file_of(made).replace(b"CR", b"Zz").replace(b"MONOCHROME2", b"Zzyzx^Canar")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UnsupportedFilm) as refusal:
            decode(content)
    assert "Zz" not in str(refusal.value) + caplog.text + "".join(str(warning.message) for warning in caught)
