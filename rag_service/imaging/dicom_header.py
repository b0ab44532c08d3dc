"""The header of a DICOM film: read without its patient, judged before any pixel is decoded."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from pydicom import dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
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
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from rag_service.errors import DecodeFailed, TruncatedFilm, UnsupportedFilm
from rag_service.imaging.limits import Limits

ACCEPTED = (
    "accepted are single-frame CR, DX and Secondary Capture DICOM films (uncompressed, RLE, JPEG, JPEG-LS or "
    "JPEG 2000), PNG and JPEG"
)
JPEG_2000 = frozenset({JPEG2000, JPEG2000Lossless})
NATIVE = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
_JPEG = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless}
_SYNTAXES = NATIVE | JPEG_2000 | _JPEG | {RLELossless}
_CLASS_NOTES: dict[str, tuple[str, ...]] = {
    ComputedRadiographyImageStorage: (),
    DigitalXRayImageStorageForPresentation: (),
    DigitalXRayImageStorageForProcessing: ("for_processing",),
    SecondaryCaptureImageStorage: ("secondary_capture",),
}
_MODALITIES = {"", "CR", "DX", "RG", "OT", "SC"}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_REQUIRED = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelData",
)
_READ = [
    *_REQUIRED,
    *("Modality", "ViewPosition", "NumberOfFrames", "PlanarConfiguration", "HighBit", "PixelRepresentation"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
]
_META_START = 132
_UNDEFINED_LENGTH = 0xFFFFFFFF
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class DicomHeader:
    """What pixels a film declares; `dataset` holds the few tags listed in `_READ` and nothing about the patient."""

    dataset: Dataset
    syntax: UID
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    notes: tuple[str, ...]


def read_dicom_header(stream: bytes, limits: Limits) -> DicomHeader:
    """Read the tags of interest and refuse what is cut, contradicts itself, passes a limit, or is no radiograph.

    Raises UnsupportedFilm, TruncatedFilm, DecodeFailed, FilmTooLarge. Nothing is inflated or decoded here.
    """
    syntax = _transfer_syntax(stream)
    try:
        dataset = dcmread(BytesIO(stream), specific_tags=list(_READ))
    except (EOFError, struct.error):
        raise TruncatedFilm("the DICOM file ends inside an element") from None
    _refuse_cut(dataset)
    notes = _judge_class(dataset)
    missing = [keyword for keyword in _REQUIRED if dataset.get(keyword) is None]
    if missing:
        raise TruncatedFilm(f"the DICOM file ends before, or lacks, {', '.join(missing)}")
    if (integer_of(dataset, "NumberOfFrames") or 1) != 1:
        raise UnsupportedFilm(f"several frames; {ACCEPTED}")
    header = DicomHeader(
        dataset=dataset,
        syntax=syntax,
        rows=_required_integer(dataset, "Rows"),
        columns=_required_integer(dataset, "Columns"),
        samples=_required_integer(dataset, "SamplesPerPixel"),
        bits_allocated=_required_integer(dataset, "BitsAllocated"),
        bits_stored=_required_integer(dataset, "BitsStored"),
        signed=integer_of(dataset, "PixelRepresentation") == 1,
        photometric=text_of(dataset, "PhotometricInterpretation"),
        notes=notes,
    )
    limits.check_size(header.rows, header.columns)
    _judge_bits(header)
    _judge_samples(header)
    return header


def _transfer_syntax(stream: bytes) -> UID:
    """The file meta group, always explicit little endian, is read by itself: deflate hides behind dcmread."""
    try:
        meta = read_dataset(BytesIO(stream[_META_START:]), False, True, stop_when=_after_meta)
    except (EOFError, struct.error):
        raise TruncatedFilm("the DICOM file ends before its transfer syntax") from None
    _refuse_cut(meta)
    if "TransferSyntaxUID" not in meta:
        raise TruncatedFilm("the DICOM file ends before its transfer syntax")
    syntax = UID(str(meta.TransferSyntaxUID))
    if syntax not in _SYNTAXES:
        raise UnsupportedFilm(f"transfer syntax {_known_name(syntax)}; {ACCEPTED}")
    return syntax


def _refuse_cut(dataset: Dataset) -> None:
    """Raise TruncatedFilm for an element with fewer bytes than it declares: pydicom reads what there is, silently."""
    for element in dataset.values():
        if not isinstance(element, RawDataElement) or element.length == _UNDEFINED_LENGTH:
            continue
        if len(element.value or b"") < element.length:
            raise TruncatedFilm("the DICOM file ends inside an element")


def _after_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _judge_class(dataset: Dataset) -> tuple[str, ...]:
    """Notes of an accepted SOP class; a class or modality that is no radiograph raises UnsupportedFilm."""
    if "SOPClassUID" not in dataset:
        raise TruncatedFilm("the DICOM file ends before, or lacks, SOPClassUID")
    sop_class = UID(str(dataset.SOPClassUID))
    if sop_class not in _CLASS_NOTES:
        raise UnsupportedFilm(f"a DICOM object of class {_known_name(sop_class)}; {ACCEPTED}")
    if text_of(dataset, "Modality") not in _MODALITIES:
        raise UnsupportedFilm(f"its modality is no radiography; {ACCEPTED}")
    return _CLASS_NOTES[sop_class]


def _judge_bits(header: DicomHeader) -> None:
    if not 1 <= header.bits_stored <= header.bits_allocated:
        raise DecodeFailed(f"{header.bits_stored} bits stored in {header.bits_allocated} allocated")
    if header.bits_allocated not in (8, 16) or header.bits_stored < 8:
        raise UnsupportedFilm(f"{header.bits_stored} bits stored in {header.bits_allocated}; 8 to 16 are accepted")
    high_bit = integer_of(header.dataset, "HighBit")
    if high_bit is not None and high_bit != header.bits_stored - 1:
        raise UnsupportedFilm(f"high bit {high_bit} with {header.bits_stored} bits stored is not accepted")


def _judge_samples(header: DicomHeader) -> None:
    if header.photometric not in _GREY + _COLOUR:
        raise UnsupportedFilm("photometric interpretation other than MONOCHROME1, MONOCHROME2, RGB or YBR")
    if header.samples != (1 if header.photometric in _GREY else 3):
        raise DecodeFailed(f"{header.samples} samples per pixel contradict the photometric interpretation")
    if header.samples == 3 and (header.bits_allocated != 8 or header.signed):
        raise UnsupportedFilm("of colour DICOM films only those of 8 unsigned bits are accepted")


def _known_name(uid: UID) -> str:
    """The dictionary's name; a UID it does not know is not repeated, it is free text from a stranger."""
    return f"'{uid.name}'" if uid in UID_dictionary else "unknown"


def integer_of(dataset: Dataset, keyword: str) -> int | None:
    """An integer element, None when absent or empty; DecodeFailed when it is anything else."""
    value = dataset.get(keyword)
    if value is None:
        return None
    if not isinstance(value, int):
        raise DecodeFailed(f"{keyword} is not one whole number")
    return int(value)


def _required_integer(dataset: Dataset, keyword: str) -> int:
    value = integer_of(dataset, keyword)
    if value is None:
        raise TruncatedFilm(f"the DICOM file lacks {keyword}")
    return value


def text_of(dataset: Dataset, keyword: str) -> str:
    """A code string in capitals, '' when absent; of several values the first."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    first = value if isinstance(value, str) else next(iter(value), "")
    return str(first).strip().upper()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from repeating element values in warnings and logs. Not for two threads of a process at once."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before
