"""A phantom as a file: PNG, JPEG and DICOM, in the variants that clinics send."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eval.phantom.grid import FILM_HEIGHT
from eval.phantom.thorax import Phantom

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_LS_LOSSLESS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
RLE: Final = "1.2.840.10008.1.2.5"
TRANSFER_SYNTAXES: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, JPEG_BASELINE, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE)
"""What can be written. JPEG Lossless (.57, .70) cannot: no installed library encodes it."""

STORAGE: Final = {"DX": "1.2.840.10008.5.1.4.1.1.1.1", "CR": "1.2.840.10008.5.1.4.1.1.1"}
UID_ROOT: Final = "1.2.826.0.1.3680043.8.498."
"""pydicom's root, under which anyone may make instance identifiers."""


def quantised(phantom: Phantom, bits: int) -> NDArray[np.uint16]:
    """Pixels as whole numbers 0 ... 2**bits - 1."""
    if not 1 <= bits <= 16:
        raise ValueError(f"1 to 16 bits, got {bits}")
    levels: NDArray[np.uint16] = np.rint(phantom.pixels.astype(np.float64) * (2**bits - 1)).astype(np.uint16)
    return levels


def png(phantom: Phantom, bits: Literal[8, 16] = 8) -> bytes:
    """Grayscale PNG of 8 or 16 bits."""
    from PIL import Image

    levels = quantised(phantom, bits)
    out = BytesIO()
    Image.fromarray(levels.astype(np.uint8) if bits == 8 else levels).save(out, "PNG")
    return out.getvalue()


def jpeg(phantom: Phantom, quality: int = 95) -> bytes:
    """Grayscale baseline JPEG."""
    from PIL import Image

    out = BytesIO()
    Image.fromarray(quantised(phantom, 8).astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def dicom(
    phantom: Phantom,
    *,
    bits_stored: Literal[8, 10, 12, 14, 16] = 12,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    transfer_syntax: str = EXPLICIT_LITTLE,
    signed: bool = False,
    window: tuple[float, float] | None = None,
    modality: Literal["DX", "CR"] = "DX",
    view: Literal["PA", "AP"] = "PA",
) -> bytes:
    """A complete CR or DX file. MONOCHROME1 and MONOCHROME2 twins show the same picture.

    `signed` stores two's complement values with a rescale intercept that undoes the shift; `window` is (centre, width)
    in rescaled values. Raises ValueError for a combination that the transfer syntax cannot hold.
    """
    from pydicom.filewriter import dcmwrite

    if transfer_syntax not in TRANSFER_SYNTAXES:
        raise ValueError(f"cannot write transfer syntax {transfer_syntax}; can write {', '.join(TRANSFER_SYNTAXES)}")
    if transfer_syntax == JPEG_BASELINE and (bits_stored != 8 or signed):
        raise ValueError("JPEG baseline holds unsigned 8-bit samples only")
    stored = quantised(phantom, bits_stored)
    if photometric == "MONOCHROME1":
        stored = np.uint16(2**bits_stored - 1) - stored
    dataset = _described(phantom, stored, photometric, modality, view)
    _add_pixels(dataset, stored, bits_stored, signed)
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = window
    _compress(dataset, stored, transfer_syntax)
    out = BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _described(phantom: Phantom, stored: NDArray[np.uint16], photometric: str, modality: str, view: str) -> Any:
    """Dataset with everything but pixels; identifiers follow from the picture, so that equal films are equal files."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    ident = [phantom.pixels.tobytes().hex()[:4096], photometric, modality, str(int(stored.sum(dtype=np.int64)))]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = UID(STORAGE[modality])
    dataset.SOPInstanceUID = generate_uid(prefix=UID_ROOT, entropy_srcs=[*ident, "instance"])
    dataset.StudyInstanceUID = generate_uid(prefix=UID_ROOT, entropy_srcs=[*ident, "study"])
    dataset.SeriesInstanceUID = generate_uid(prefix=UID_ROOT, entropy_srcs=[*ident, "series"])
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "PHANTOM^ONE", "PHANTOM-0001", "O"
    dataset.PatientBirthDate, dataset.AccessionNumber, dataset.ReferringPhysicianName = "", "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20000101", "000000", "PHANTOM"
    dataset.SeriesNumber, dataset.InstanceNumber = "1", "1"
    dataset.Manufacturer, dataset.StudyDescription = "DIGITAL PHANTOM", "SYNTHETIC CHEST, NOT A PATIENT"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = modality, "CHEST", view
    dataset.PatientOrientation = ["L", "F"]
    pitch = FILM_HEIGHT / phantom.pixels.shape[0]
    dataset.ImagerPixelSpacing = [f"{pitch:.5f}", f"{pitch:.5f}"]
    if modality == "DX":
        dataset.PresentationIntentType, dataset.ImageLaterality = "FOR PRESENTATION", "U"
        dataset.PixelIntensityRelationship, dataset.BurnedInAnnotation = "LOG", "NO"
        dataset.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
        dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
        dataset.LossyImageCompression = "00"
    dataset.PhotometricInterpretation = photometric
    return dataset


def _add_pixels(dataset: Any, stored: NDArray[np.uint16], bits: int, signed: bool) -> None:
    """Pixel description and native pixel data; signed samples are shifted down by half the range."""
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(signed)
    half = 2 ** (bits - 1) if signed else 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(half), "1", "US"
    kind = ("i" if signed else "u") + str(dataset.BitsAllocated // 8)
    raw = (stored.astype(np.int32) - half).astype("<" + kind).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"


def _compress(dataset: Any, stored: NDArray[np.uint16], transfer_syntax: str) -> None:
    """Give the dataset its transfer syntax, encoding the pixels where the syntax asks for it."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    if transfer_syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    elif transfer_syntax == JPEG_BASELINE:
        from PIL import Image

        out = BytesIO()
        Image.fromarray(stored.astype(np.uint8)).save(out, "JPEG", quality=95)
        dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
        dataset.PixelData = encapsulate([out.getvalue()])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"
        dataset.LossyImageCompressionRatio = f"{stored.size / len(out.getvalue()):.1f}"
    else:
        dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
        dataset.compress(transfer_syntax, generate_instance_uid=False)
