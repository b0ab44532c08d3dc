"""Made-up films as files: every depth, codec and layout a test wants."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film

ROWS, COLUMNS = 96, 80
UNCOMPRESSED = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
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


def lut_item(first: int, entries: NDArray[np.uint16], bits: int, first_vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", first_vr, [entries.size, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item
