"""A film: pixels ready to read, and the frame of the original that every box refers to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from rag_service.imaging.subject import Subject


class View(StrEnum):
    """What the file itself says about the projection; UNKNOWN when it does not say."""

    PA = "PA"
    AP = "AP"
    LATERAL = "LATERAL"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Frame:
    """The original image: `rows` x `columns` pixels, and the pixel aspect (height of a pixel over its width)."""

    rows: int
    columns: int
    pixel_aspect: float = 1.0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or self.pixel_aspect <= 0:
            raise ValueError(f"not a frame: {self}")

    @property
    def square_pixels(self) -> tuple[int, int]:
        """(columns, rows) of the same image drawn with square pixels."""
        return self.columns, max(round(self.rows * self.pixel_aspect), 1)

    def to_pixels(self, box: Box) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) of a box in pixels of the original."""
        return (box.x_min * self.columns, box.y_min * self.rows, box.x_max * self.columns, box.y_max * self.rows)


@dataclass(frozen=True)
class Box:
    """A rectangle in fractions of the original film: 0 <= x_min < x_max <= 1, y downwards, `weight` in (0, 1]."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.x_min < self.x_max <= 1.0 and 0.0 <= self.y_min < self.y_max <= 1.0):
            raise ValueError(f"not a box in fractions of the film: {self}")
        if not 0.0 < self.weight <= 1.0:
            raise ValueError(f"a box's weight lies in (0, 1], got {self.weight}")

    @property
    def area(self) -> float:
        """Fraction of the film covered."""
        return (self.x_max - self.x_min) * (self.y_max - self.y_min)

    def iou(self, other: Box) -> float:
        """Intersection over union, in [0, 1]."""
        width = min(self.x_max, other.x_max) - max(self.x_min, other.x_min)
        height = min(self.y_max, other.y_max) - max(self.y_min, other.y_min)
        shared = max(width, 0.0) * max(height, 0.0)
        return shared / (self.area + other.area - shared)


@dataclass(frozen=True, eq=False)
class Film:
    """One decoded radiograph.

    `pixels` is float32 of shape (rows, columns) in [0, 1], read-only, bone bright whatever the file's photometric
    interpretation, at the original's resolution. `digest` is the SHA-256 of the bytes it came from. `notes` are
    stable codes of what decoding had to assume or apply (for instance "monochrome1_inverted"). `subject` is whose film a DICOM
    header says it is.
    """

    pixels: NDArray[np.float32]
    frame: Frame
    digest: str
    media_type: str
    view: View = View.UNKNOWN
    notes: tuple[str, ...] = ()
    subject: Subject = field(default=Subject(), repr=False)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.float32 or self.pixels.shape != (self.frame.rows, self.frame.columns):
            raise ValueError(f"pixels must be float32 of shape {(self.frame.rows, self.frame.columns)}")
        self.pixels.setflags(write=False)
