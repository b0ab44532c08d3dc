"""Grey rendering: from stored values to float32 in [0, 1], in the order DICOM sets (PS3.3 C.11, PS3.4 N.2).

A stored value has at most 16 bits, so the whole chain is worked out once per possible value in float64 and the
pixels only look it up: exact, and the same for a MONOCHROME1 film and its MONOCHROME2 twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import ConstantFilm, DecodeFailed, UnsupportedFilm

Stored: TypeAlias = NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.float64]

_BLOCK_PIXELS = 1 << 20
_TRIM = 1000
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_COLOURED_SPREAD = 24
_COLOURED_SHARE = 0.02


@dataclass(frozen=True)
class Lut:
    """A lookup table: `entries` (n,) for input values from `first` on, outside of which the end entries hold."""

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def __post_init__(self) -> None:
        if self.entries.ndim != 1 or self.entries.size == 0 or not 8 <= self.bits <= 16:
            raise DecodeFailed("a lookup table is empty or has entries of an impossible depth")

    def __call__(self, values: Floats) -> Floats:
        """Each value's entry."""
        position = np.clip(np.rint(values) - self.first, 0, self.entries.size - 1).astype(np.intp)
        greys: Floats = self.entries.astype(np.float64)[position]
        return greys


@dataclass(frozen=True)
class Window:
    """A window of modality values; `function` is LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1)."""

    center: float
    width: float
    function: str = "LINEAR"

    def usable(self) -> bool:
        """Whether the standard gives this window a meaning."""
        narrowest = self.width >= 1 if self.function == "LINEAR" else self.width > 0
        known = self.function in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
        return bool(known and narrowest and np.isfinite(self.center) and np.isfinite(self.width))

    def __call__(self, values: Floats) -> Floats:
        """Grey in [0, 1] of modality values."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4.0 * (values - self.center) / self.width, -700.0, 700.0)
            return 1.0 / (1.0 + np.exp(exponent))
        shift = 0.5 if self.function == "LINEAR" else 0.0
        center, width = self.center - shift, self.width - 2.0 * shift
        if width == 0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)


@dataclass(frozen=True)
class Rendering:
    """What a file asks for: modality LUT or rescale, then VOI LUT or window, then inversion.

    `padding` is the inclusive range of stored values outside the exposed field: black, and not counted.
    """

    modality_lut: Lut | None = None
    slope: float = 1.0
    intercept: float = 0.0
    voi_lut: Lut | None = None
    window: Window | None = None
    inverted: bool = False
    padding: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and np.isfinite(self.intercept)) or self.slope == 0:
            raise DecodeFailed("the rescale slope or intercept has no meaning")


def render(stored: Stored, low: int, high: int, rendering: Rendering) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Grey (rows, columns) in [0, 1] and the notes, of stored values that all lie in low..high.

    Raises ConstantFilm when all pixels outside the padding are equal, before or after the modality transform.
    """
    counts = _histogram(stored, low, high)
    domain = np.arange(low, high + 1, dtype=np.float64)
    notes: list[str] = []
    padded = np.zeros(domain.shape, dtype=bool)
    if rendering.padding is not None:
        padded = (domain >= rendering.padding[0]) & (domain <= rendering.padding[1])
        if counts[padded].any():
            notes.append("pixel_padding")
        counts[padded] = 0
    values = _modality(domain, rendering)
    _refuse_constant(values[counts > 0])
    grey = _values_of_interest(values, counts, rendering, notes)
    if rendering.inverted:
        grey = 1.0 - grey
    grey[padded] = 0.0
    return _look_up(stored, low, grey.astype(np.float32)), tuple(notes)


def _refuse_constant(values: Floats) -> None:
    if values.size == 0 or values.min() == values.max():
        raise ConstantFilm("every pixel has the same value")


def _modality(domain: Floats, rendering: Rendering) -> Floats:
    if rendering.modality_lut is not None:
        return rendering.modality_lut(domain)
    return domain * rendering.slope + rendering.intercept


def _values_of_interest(values: Floats, counts: NDArray[np.int64], rendering: Rendering, notes: list[str]) -> Floats:
    """Grey of every modality value: LUT first, else window, else the range that holds 99.8 % of the pixels."""
    present = counts > 0
    if rendering.voi_lut is not None:
        grey = _through_lut(values, rendering.voi_lut, notes)
        if _shows_something(grey, present):
            return grey
        notes.append("lut_ignored")
    elif rendering.window is not None:
        if rendering.window.usable() and _shows_something(grey := rendering.window(values), present):
            return grey
        notes.append("window_ignored")
    notes.append("window_from_percentiles")
    low, high = _percentiles(values[present], counts[present])
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def _shows_something(grey: Floats, present: NDArray[np.bool_]) -> bool:
    return bool(grey[present].min() < grey[present].max())


def _through_lut(values: Floats, lut: Lut, notes: list[str]) -> Floats:
    """Grey by a VOI LUT. Many writers declare 16 bits over entries of 12: such a depth is taken from the entries."""
    used = int(lut.entries.max()).bit_length()
    depth = lut.bits
    if used > depth or used <= depth - 2:
        notes.append("lut_depth_corrected")
        depth = max(used, 1)
    grey: Floats = lut(values) / (2**depth - 1)
    return grey


def _percentiles(values: Floats, counts: NDArray[np.int64]) -> tuple[float, float]:
    """The 0.1 and 99.9 percentiles; counted in whole pixels from both ends, so a negative gives the mirror image."""
    order = np.argsort(values)
    values, cumulated = values[order], np.cumsum(counts[order])
    trimmed = int(cumulated[-1]) // _TRIM
    low = float(values[np.searchsorted(cumulated, trimmed, side="right")])
    high = float(values[np.searchsorted(cumulated, cumulated[-1] - trimmed, side="left")])
    return (low, high) if low < high else (float(values[0]), float(values[-1]))


def luminance(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey (rows, columns) in [0, 1] of a grey picture stored as (rows, columns, 3).

    Raises UnsupportedFilm when over 2 % of its pixels are coloured (channels more than 24 of 255 apart), and
    ConstantFilm.
    """
    grey = np.empty(colours.shape[:2], dtype=np.float32)
    coloured = 0
    for block in _blocks(colours.shape[0], colours.shape[1]):
        part = colours[block]
        coloured += int(np.count_nonzero(part.max(axis=2) - part.min(axis=2) > _COLOURED_SPREAD))
        grey[block] = part.astype(np.float32) @ _LUMA
    if coloured > _COLOURED_SHARE * grey.size:
        raise UnsupportedFilm("a colour picture; a film is grey")
    if grey.min() == grey.max():
        raise ConstantFilm("every pixel has the same value")
    grey /= np.float32(255.0)
    return np.clip(grey, 0.0, 1.0, out=grey)


def _histogram(stored: Stored, low: int, high: int) -> NDArray[np.int64]:
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for block in _blocks(*stored.shape):
        counts += np.bincount(stored[block].ravel().astype(np.intp) - low, minlength=counts.size)
    return counts


def _look_up(stored: Stored, low: int, table: NDArray[np.float32]) -> NDArray[np.float32]:
    pixels = np.empty(stored.shape, dtype=np.float32)
    for block in _blocks(*stored.shape):
        pixels[block] = table[stored[block].astype(np.intp) - low]
    return pixels


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Bands of rows of about a megapixel: index arrays of a whole film would take eight bytes a pixel."""
    step = max(1, _BLOCK_PIXELS // columns)
    for start in range(0, rows, step):
        yield slice(start, start + step)
