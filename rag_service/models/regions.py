"""Regions of a film as vectors: what a zone, or any box drawn on the film, looks like to the network.

A region is the mean of the network's local features over its places, each weighed by how much of the region lies there and how
much the film shows there (ATTENTION + the highest finding). The features are centred and brought to REGION_WIDTH principal axes
first, so that the same sum serves the seven stored zones and a box that a reader draws.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING
from knowledge_base.zones import ZONES
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.imaging.film import Box

if TYPE_CHECKING:
    from rag_service.models.encoder import FilmReading

FILE: Final = "regions.json"
ATTENTION: Final = 0.1
"""Weight of a place where nothing is found."""
_LUNGS: Final = (len(FINDINGS), len(FINDINGS) + 1)
_HEART: Final = len(FINDINGS) + 2
_SHOWN: Final = tuple(i for i, f in enumerate(FINDINGS) if f != NO_FINDING)
_INSIDE: Final = 0.5
_TINY: Final = 1e-12
_LEAST: Final = 1e-3
"""Share that every place of a zone has, so that a zone the film does not show is still somewhere."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RegionAxes:
    """`mean` (W,) and `axes` (W, R): local features x become (x - mean) @ axes. `model` is the film model they belong to."""

    model: str
    mean: Floats
    axes: Floats

    def project(self, local: Floats) -> Floats:
        """Local features (W, h, w) -> (R, h, w)."""
        width, *places = local.shape
        flat = local.reshape(width, -1) - self.mean[:, None]
        return np.asarray((self.axes.T @ flat).reshape(-1, *places), np.float32)

    def save(self, folder: Path) -> None:
        """Write `regions.json`."""
        content = {"model": self.model, "width": len(self.mean), "mean": _text(self.mean), "axes": _text(self.axes)}
        sealed.write(folder / FILE, content)


def load_regions(folder: Path, model: str) -> RegionAxes | None:
    """The axes of `model` in `folder`; None when the folder has none. BadWeights when altered or of another model."""
    if not (folder / FILE).is_file():
        return None
    raw = sealed.read(folder / FILE)
    try:
        mean, axes = _array(raw["mean"]), _array(raw["axes"]).reshape(raw["width"], -1)
        found = RegionAxes(raw["model"], mean, axes)
    except (ValueError, TypeError, KeyError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder") from error
    if found.model != model:
        raise BadWeights(f"{FILE} belongs to {found.model}, the model is {model}")
    return found


def zone_vectors(places: Floats, local: Floats) -> Mapping[str, Floats]:
    """Unit vectors (R,) by zone, of a reading's `places` (17, h, w) and projected `local` (R, h, w)."""
    return {zone: _unit(mean) for zone, mean in zip(ZONES, zone_means(places, local), strict=True)}


def zone_means(places: Floats, local: Floats) -> Floats:
    """(7, R): the mean of `local` (R, h, w) over each zone of a film with these `places` (17, h, w)."""
    attention = _attention(places)
    return np.stack([_mean(share * attention, local) for share in zone_shares(places)])


def region_of(reading: FilmReading, box: Box) -> tuple[str, Floats] | None:
    """The zone that holds most of a box, and the box as a unit vector (R,); None where the model makes no regions."""
    if reading.places is None or reading.local is None:
        return None
    inside = _share_of(box, reading.places.shape[1:])
    zone = int(np.argmax((zone_shares(reading.places) * inside).sum((1, 2))))
    return ZONES[zone], _unit(_mean(inside * _attention(reading.places), reading.local))


def zone_shares(places: Floats) -> Floats:
    """(7, h, w): how much of each zone lies at each place: each lung's own map by thirds of its height, and the heart."""
    thirds = [places[channel] * third[:, None] for channel in _LUNGS for third in _thirds(places[channel])]
    return np.asarray(np.stack([*thirds, places[_HEART]]) + _LEAST, np.float32)


def _thirds(lung: Floats) -> Floats:
    """(3, h): how much of each row belongs to the upper, middle and lower third of a lung's map (h, w)."""
    rows = np.flatnonzero(lung.max(1) > _INSIDE)
    height = len(lung)
    top, bottom = (rows[0], rows[-1] + 1) if len(rows) >= len(ZONES) // 2 else (0, height)
    edges = top + (bottom - top) * np.arange(4)[:, None] / 3
    starts = np.arange(height)
    return np.asarray(np.clip(np.minimum(starts + 1, edges[1:]) - np.maximum(starts, edges[:-1]), 0, 1), np.float32)


def _attention(places: Floats) -> Floats:
    return np.asarray(ATTENTION + places[list(_SHOWN)].max(0), np.float32)


def _mean(weights: Floats, local: Floats) -> Floats:
    """Mean (R,) of `local` (R, h, w), each place weighed."""
    return np.asarray((local * weights).sum((1, 2)) / weights.sum(), np.float32)


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), _TINY), np.float32)


def _share_of(box: Box, shape: tuple[int, ...]) -> Floats:
    """(h, w): the share of each place that lies in the box."""
    height, width = shape
    rows = _overlap(box.y_min * height, box.y_max * height, height)
    columns = _overlap(box.x_min * width, box.x_max * width, width)
    return np.asarray(rows[:, None] * columns, np.float32)


def _overlap(low: float, high: float, count: int) -> Floats:
    starts = np.arange(count)
    return np.asarray(np.clip(np.minimum(starts + 1, high) - np.maximum(starts, low), 0, None), np.float32)


def _text(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _array(text: str) -> Floats:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("numbers that are not finite")
    return values
