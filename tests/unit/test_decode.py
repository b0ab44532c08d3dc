"""Decoding in this process: what is read and how it looks, what is refused and with which error."""

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
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
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
from rag_service.imaging.film import Film, View
from rag_service.imaging.limits import Limits

ROWS, COLUMNS = 96, 80
PATIENT = "Zzyzx^Canary"


def radiograph(bits: int) -> NDArray[np.uint16]:
    """A bright mediastinum between two dark lungs: (96, 80), from 0 to 2**bits - 1."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    lungs = np.exp(-((np.abs(x - 39.5) - 20) ** 2) / 80 - (y - 44.0) ** 2 / 600)
    film = 0.35 + 0.5 * y / ROWS - 0.6 * lungs + 0.02 * np.sin(x * 2.1)
    film = (film - film.min()) / (film.max() - film.min())
    return np.rint(film * (2**bits - 1)).astype(np.uint16)


def dataset(stored: NDArray[Any], bits: int, **tags: object) -> Dataset:
    """A small CR film of stored values, uncompressed, with a patient's name that no message may repeat."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = ComputedRadiographyImageStorage
    made.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    made.Modality = "CR"
    made.PatientName = PATIENT
    made.Rows, made.Columns = stored.shape[:2]
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated = stored.dtype.itemsize * 8
    made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    made.PixelData = stored.tobytes()
    made["PixelData"].VR = "OW"
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def file_of(made: Dataset, syntax: UID | None = None) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax is not None:
            made.file_meta.TransferSyntaxUID = syntax
        made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID", ComputedRadiographyImageStorage)
        buffer = io.BytesIO()
        dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def film_of(made: Dataset, syntax: UID | None = None) -> Film:
    return decode(file_of(made, syntax))


def raster(stored: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, kind, **options)
    return buffer.getvalue()


def encapsulated(stored: NDArray[Any], bits: int, codestream: bytes, syntax: UID, **tags: object) -> bytes:
    made = dataset(stored, bits, **tags)
    made.PixelData = encapsulate([codestream])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return file_of(made, syntax)


def lossless_jpeg(stored: NDArray[np.uint16], bits: int) -> bytes:
    """JPEG process 14, first predictor, every difference category coded in five bits (ITU-T T.81 H)."""
    values = stored.astype(int)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    coded = []
    for difference in (values - predicted).ravel():
        size = int(abs(difference)).bit_length()
        coded.append(f"{size:05b}")
        if size:
            coded.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(coded)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, bits, *stored.shape, 1, 1, 0x11, 0)
    table = struct.pack(">HHB", 0xFFC4, 2 + 1 + 16 + 17, 0) + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17))
    start = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + frame + table + start + scan + b"\xff\xd9"


def full_window(bits: int) -> dict[str, float]:
    """The LINEAR window that maps 0 to 0 and the largest stored value to 1."""
    return {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


# What is read -------------------------------------------------------------------------------------------------------


def test_a_grey_png_of_8_bits_is_its_values_over_255() -> None:
    stored = radiograph(8).astype(np.uint8)
    film = decode(raster(stored))
    np.testing.assert_array_equal(film.pixels, stored.astype(np.float32) / np.float32(255))
    assert (film.media_type, film.view, film.notes) == ("image/png", View.UNKNOWN, ())
    assert (film.frame.rows, film.frame.columns, film.frame.pixel_aspect) == (96, 80, 1.0)
    assert not film.pixels.flags.writeable


def test_the_digest_is_the_sha256_of_the_bytes() -> None:
    import hashlib

    content = raster(radiograph(8).astype(np.uint8))
    assert decode(content).digest == hashlib.sha256(content).hexdigest()


def test_a_16_bit_png_keeps_its_depth_and_takes_its_range_from_the_pixels() -> None:
    stored = radiograph(12)
    film = decode(raster(stored))
    assert film.notes == ("window_from_percentiles",)
    assert np.unique(film.pixels).size > 1500
    assert (film.pixels.min(), film.pixels.max()) == (0.0, 1.0)
    inside = (film.pixels > 0) & (film.pixels < 1)
    assert np.corrcoef(film.pixels[inside], stored[inside])[0, 1] > 0.999999


@pytest.mark.parametrize(
    ("mode", "notes"),
    [
        ("RGB", ("colour_to_grey",)),
        ("RGBA", ("colour_to_grey", "alpha_dropped")),
        ("LA", ("alpha_dropped",)),
        ("P", ("palette_to_grey",)),
    ],
)
def test_a_grey_png_in_disguise_is_read_as_grey(mode: str, notes: tuple[str, ...]) -> None:
    stored = radiograph(8).astype(np.uint8)
    picture = Image.fromarray(stored)
    if mode == "P":
        picture.putpalette([value for value in range(256) for _ in range(3)])
    else:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    film = decode(buffer.getvalue())
    np.testing.assert_allclose(film.pixels, stored / 255, atol=1e-6)
    assert film.notes == notes


def test_a_one_bit_png_is_read() -> None:
    film = decode(raster(radiograph(8) > 90))
    assert set(np.unique(film.pixels)) == {0.0, 1.0}


def test_a_16_bit_png_with_alpha_is_read_at_8_bits_and_says_so() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 96, 16, 4, 0, 0, 0))
    words = np.stack([radiograph(16), np.full((ROWS, COLUMNS), 65535, np.uint16)], axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in words)
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    film = decode(content)
    assert film.notes == ("sixteen_bits_reduced", "alpha_dropped")
    np.testing.assert_allclose(film.pixels, radiograph(16) / 65535, atol=1 / 255)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_grey_jpeg_is_read(options: dict[str, bool]) -> None:
    stored = radiograph(8).astype(np.uint8)
    film = decode(raster(stored, "JPEG", quality=98, **options))
    np.testing.assert_allclose(film.pixels, stored / 255, atol=0.03)
    assert (film.media_type, film.notes) == ("image/jpeg", ())


@pytest.mark.parametrize(("orientation", "turns"), [(6, -1), (3, 2), (8, 1)])
def test_a_jpeg_is_turned_as_exif_says(orientation: int, turns: int) -> None:
    stored = radiograph(8).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    film = decode(raster(stored, "JPEG", quality=98, exif=exif))
    np.testing.assert_allclose(film.pixels, np.rot90(stored, turns) / 255, atol=0.03)
    assert film.notes == ("exif_oriented",)


UNCOMPRESSED = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_uncompressed_films_of_every_depth_give_exact_greys(syntax: UID, bits: int) -> None:
    stored = radiograph(bits)
    words = stored.astype(">u2") if syntax == ExplicitVRBigEndian else stored
    film = film_of(dataset(words, bits, **full_window(bits)), syntax)
    np.testing.assert_allclose(film.pixels, stored / (2**bits - 1), atol=1e-6)
    assert film.notes == ()
    assert film.media_type == "application/dicom"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_lossless_codecs_give_the_uncompressed_film(syntax: UID, bits: int, kind: type) -> None:
    stored = radiograph(bits).astype(kind)
    made = dataset(stored, bits, **full_window(bits))
    plain = film_of(made)
    made.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(film_of(made).pixels, plain.pixels)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
def test_lossless_jpeg_gives_the_uncompressed_film(syntax: UID) -> None:
    stored = radiograph(12)
    film = decode(encapsulated(stored, 12, lossless_jpeg(stored, 12), syntax, **full_window(12)))
    np.testing.assert_allclose(film.pixels, stored / 4095, atol=1e-6)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_lossy_jpeg_in_dicom_is_close(syntax: UID) -> None:
    stored = radiograph(8).astype(np.uint8)
    content = encapsulated(stored, 8, raster(stored, "JPEG", quality=98), syntax, **full_window(8))
    np.testing.assert_allclose(decode(content).pixels, stored / 255, atol=0.03)


def test_signed_values_with_rescale_give_exact_greys() -> None:
    stored = (radiograph(12).astype(np.int32) - 2048).astype(np.int16)
    made = dataset(stored, 12, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=-1000.5, WindowWidth=2001)
    expected = np.clip((stored * 2.0 - 100 + 1001) / 2000 + 0.5, 0, 1)
    np.testing.assert_allclose(film_of(made).pixels, expected, atol=1e-6)


def test_the_three_window_functions_follow_the_standard() -> None:
    stored = radiograph(12)
    x = stored.astype(float)
    expected = {
        "LINEAR": np.clip((x - 1499.5) / 999 + 0.5, 0, 1),
        "LINEAR_EXACT": np.clip((x - 1500) / 1000 + 0.5, 0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - 1500) / 1000)),
    }
    for function, grey in expected.items():
        made = dataset(stored, 12, WindowCenter=1500, WindowWidth=1000, VOILUTFunction=function)
        np.testing.assert_allclose(film_of(made).pixels, grey, atol=1e-6)


def test_the_first_of_several_windows_is_taken_and_noted() -> None:
    several = dataset(radiograph(12), 12, WindowCenter=[2048, 100], WindowWidth=[4096, 50])
    film = film_of(several)
    np.testing.assert_allclose(film.pixels, radiograph(12) / 4095, atol=1e-6)
    assert film.notes == ("first_of_several_windows",)


@pytest.mark.parametrize(("center", "width"), [(2000, 0), (2000, -5), (60000, 100)])
def test_a_window_that_shows_nothing_gives_way_to_percentiles(center: int, width: int) -> None:
    film = film_of(dataset(radiograph(12), 12, WindowCenter=center, WindowWidth=width))
    assert film.notes == ("window_ignored", "window_from_percentiles")
    assert (film.pixels.min(), film.pixels.max()) == (0.0, 1.0)


def test_percentiles_leave_single_hot_pixels_out() -> None:
    stored = radiograph(10).copy()
    stored[0, 0] = 65535
    film = film_of(dataset(stored, 16))
    assert film.pixels[0, 0] == 1.0
    assert film.pixels.mean() == pytest.approx(float((radiograph(10) / 1023).mean()), abs=0.01)


def lut_item(first: int, entries: NDArray[np.uint16], bits: int, first_vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", first_vr, [entries.size, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def test_a_voi_lut_comes_before_the_window() -> None:
    stored = radiograph(10)
    entries = (np.arange(1000) ** 2 // 16).astype(np.uint16)
    made = dataset(stored, 10, **full_window(10), VOILUTSequence=Sequence([lut_item(20, entries, 16)]))
    expected = entries[np.clip(stored.astype(int) - 20, 0, 999)] / 65535
    film = film_of(made)
    np.testing.assert_allclose(film.pixels, expected, atol=1e-6)
    assert film.notes == ()


def test_the_entries_of_a_lut_follow_the_byte_order_of_the_file() -> None:
    entries = (np.arange(1024) * 64).astype(np.uint16)
    item = lut_item(0, entries, 16)
    item.LUTData = entries.astype(">u2").tobytes()
    made = dataset(radiograph(10).astype(">u2"), 10, VOILUTSequence=Sequence([item]))
    np.testing.assert_allclose(film_of(made, ExplicitVRBigEndian).pixels, radiograph(10) * 64 / 65535, atol=1e-6)


def test_the_entries_of_a_lut_may_be_words() -> None:
    item = lut_item(0, np.arange(1024, dtype=np.uint16), 10)
    item.add_new("LUTData", "US", list(range(1024)))
    film = film_of(dataset(radiograph(10), 10, VOILUTSequence=Sequence([item])))
    np.testing.assert_allclose(film.pixels, radiograph(10) / 1023, atol=1e-6)


def test_a_lut_that_shows_one_grey_gives_way_to_percentiles() -> None:
    item = lut_item(0, np.full(1024, 700, np.uint16), 10)
    film = film_of(dataset(radiograph(10), 10, VOILUTSequence=Sequence([item])))
    assert film.notes == ("lut_ignored", "window_from_percentiles")


def test_entries_of_8_bits_may_be_packed() -> None:
    item = lut_item(0, np.arange(256, dtype=np.uint16), 8)
    item.LUTData = bytes(range(256))
    film = film_of(dataset(radiograph(8), 8, VOILUTSequence=Sequence([item])))
    np.testing.assert_allclose(film.pixels, radiograph(8) / 255, atol=1e-6)


def test_a_modality_lut_comes_before_the_window() -> None:
    stored = radiograph(10)
    entries = (np.arange(1024)[::-1] * 4).astype(np.uint16)
    made = dataset(stored, 10, **full_window(12), ModalityLUTSequence=Sequence([lut_item(0, entries, 12)]))
    np.testing.assert_allclose(film_of(made).pixels, (1023 - stored.astype(int)) * 4 / 4095, atol=1e-6)


def test_a_voi_lut_of_signed_values_starts_below_zero() -> None:
    stored = (radiograph(10).astype(np.int32) - 512).astype(np.int16)
    item = lut_item(-512, np.arange(1024, dtype=np.uint16), 10, first_vr="SS")
    film = film_of(dataset(stored, 10, VOILUTSequence=Sequence([item])))
    np.testing.assert_allclose(film.pixels, radiograph(10) / 1023, atol=1e-6)


def test_a_lut_whose_declared_depth_is_wrong_is_not_rendered_black() -> None:
    item = lut_item(0, np.arange(1024, dtype=np.uint16), 16)
    film = film_of(dataset(radiograph(10), 10, VOILUTSequence=Sequence([item])))
    np.testing.assert_allclose(film.pixels, radiograph(10) / 1023, atol=1e-6)
    assert film.notes == ("lut_depth_corrected",)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("rendering", ["none", "window", "sigmoid", "lut"])
def test_monochrome1_and_its_monochrome2_twin_look_the_same(bits: int, rendering: str) -> None:
    stored, top = radiograph(bits), 2**bits - 1
    positive = dataset(stored, bits)
    negative = dataset(top - stored, bits, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    if rendering in ("window", "sigmoid"):
        shift = 1 if rendering == "window" else 0
        center, width = top // 3, top // 2
        positive.WindowCenter, negative.WindowCenter = center, top - center + shift
        positive.WindowWidth = negative.WindowWidth = width
        positive.VOILUTFunction = negative.VOILUTFunction = "LINEAR" if shift else "SIGMOID"
    if rendering == "lut":
        curve = np.rint(65535 * (np.arange(top + 1) / top) ** 2).astype(np.uint16)[: 2**16 - 1]
        positive.VOILUTSequence = Sequence([lut_item(0, curve, 16)])
        mirrored = (65535 - curve)[::-1]
        negative.VOILUTSequence = Sequence([lut_item(top + 1 - curve.size, mirrored, 16)])
    bright, turned = film_of(positive), film_of(negative)
    np.testing.assert_allclose(turned.pixels, bright.pixels, atol=1e-6)
    assert "monochrome1_inverted" in turned.notes
    assert "monochrome1_inverted" not in bright.notes


def test_an_inverse_presentation_lut_alone_turns_the_film_over() -> None:
    film = film_of(dataset(radiograph(12), 12, **full_window(12), PresentationLUTShape="INVERSE"))
    np.testing.assert_allclose(film.pixels, 1 - radiograph(12) / 4095, atol=1e-6)
    assert film.notes == ("presentation_lut_inverted",)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_range(photometric: str) -> None:
    stored = radiograph(12) // 4 + 100
    stored[:, :8] = 4095
    made = dataset(stored, 12, PhotometricInterpretation=photometric)
    made.add_new("PixelPaddingValue", "US", 4095)
    film = film_of(made)
    assert (film.pixels[:, :8] == 0).all()
    assert (film.pixels[:, 8:].min(), film.pixels[:, 8:].max()) == (0.0, 1.0)
    assert "pixel_padding" in film.notes


def test_signed_padding_may_be_a_range() -> None:
    stored = (radiograph(12).astype(np.int32) // 2 - 500).astype(np.int16)
    stored[:8], stored[8:16] = -2000, -1990
    made = dataset(stored, 16)
    made.add_new("PixelPaddingValue", "SS", -2000)
    made.add_new("PixelPaddingRangeLimit", "SS", -1990)
    film = film_of(made)
    assert (film.pixels[:16] == 0).all()
    assert film.pixels[16:].mean() == pytest.approx(float(radiograph(12)[16:].mean() / 4095), abs=0.02)


def test_overlay_bits_above_bits_stored_are_cut_off() -> None:
    film = film_of(dataset(radiograph(12) | np.uint16(0x8000), 12, **full_window(12)))
    np.testing.assert_allclose(film.pixels, radiograph(12) / 4095, atol=1e-6)
    assert film.notes == ()


def test_compressed_pixels_deeper_than_bits_stored_are_not_folded() -> None:
    stored = radiograph(12)
    content = encapsulated(stored, 10, lossless_jpeg(stored, 12), JPEGLosslessSV1, **full_window(12))
    film = decode(content)
    np.testing.assert_allclose(film.pixels, stored / 4095, atol=1e-6)
    assert film.notes == ("bits_stored_exceeded",)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_signed_values_survive_compression(syntax: UID) -> None:
    stored = (radiograph(12).astype(np.int32) - 2048).astype(np.int16)
    made = dataset(stored, 12, WindowCenter=0, WindowWidth=4096)
    made.compress(syntax, generate_instance_uid=False)
    np.testing.assert_allclose(film_of(made).pixels, radiograph(12) / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "aspect"),
    [
        ({"PixelSpacing": ["0.2", "0.1"]}, 2.0),
        ({"ImagerPixelSpacing": [0.1, 0.2]}, 0.5),
        ({"PixelAspectRatio": ["3", "2"]}, 1.5),
        ({"PixelSpacing": [0, 0]}, 1.0),
        ({"PixelSpacing": ["100", "1"]}, 1.0),
        ({}, 1.0),
    ],
)
def test_the_pixel_aspect_is_height_over_width(tags: dict[str, object], aspect: float) -> None:
    assert film_of(dataset(radiograph(12), 12, **tags)).frame.pixel_aspect == pytest.approx(aspect)


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("PA", View.PA),
        ("AP", View.AP),
        ("LL", View.LATERAL),
        ("RL", View.LATERAL),
        ("LATERAL", View.LATERAL),
        ("", View.UNKNOWN),
        ("LLD", View.UNKNOWN),
        (None, View.UNKNOWN),
    ],
)
def test_the_view_is_what_the_file_says(position: str | None, view: View) -> None:
    tags = {} if position is None else {"ViewPosition": position}
    assert film_of(dataset(radiograph(12), 12, **tags)).view is view


@pytest.mark.parametrize(
    ("sop_class", "modality", "notes"),
    [
        (DigitalXRayImageStorageForPresentation, "DX", ()),
        (DigitalXRayImageStorageForProcessing, "DX", ("for_processing",)),
        (SecondaryCaptureImageStorage, "OT", ("secondary_capture",)),
    ],
)
def test_accepted_classes_and_their_notes(sop_class: UID, modality: str, notes: tuple[str, ...]) -> None:
    made = dataset(radiograph(12), 12, **full_window(12), SOPClassUID=sop_class, Modality=modality)
    assert film_of(made).notes == notes


def test_a_grey_secondary_capture_stored_as_rgb_is_read() -> None:
    stored = radiograph(8).astype(np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    made = dataset(np.stack([stored] * 3, axis=2), 8, SOPClassUID=SecondaryCaptureImageStorage, **tags)
    film = film_of(made)
    np.testing.assert_allclose(film.pixels, stored / 255, atol=1e-6)
    assert film.notes == ("secondary_capture", "colour_to_grey")


# What is refused ----------------------------------------------------------------------------------------------------


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
