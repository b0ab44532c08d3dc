"""Decoding in this process: what is read and how it looks, what is refused and with which error."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from rag_service.imaging.decode import decode
from rag_service.imaging.film import View
from tests.unit.radiographs import (
    COLUMNS,
    ROWS,
    UNCOMPRESSED,
    chunk,
    dataset,
    encapsulated,
    film_of,
    full_window,
    lossless_jpeg,
    lut_item,
    radiograph,
    raster,
)


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
