"""Masked classical edits of a stored film: take an opacity away, or lay one on. What lies outside the edit is never written.

An edit has two masks: EDIT, the pixels that may change, and KEEP, all others. A device inside the edited region is kept by
cutting it out of EDIT. After Perez et al., "Poisson image editing", 2003 (the membrane, without guidance), in place of the
diffusion model of RadEdit (arXiv 2312.12865).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from scipy.sparse.linalg import spsolve

from rag_service.imaging.film import Box

RING: Final = 8
"""Pixels around an edit whose grain and steps it is matched to."""
GRAIN: Final = 2.0
"""Deviation, in pixels, of the Gaussian that parts grain from shape."""
STEP_LIMIT: Final = 2.0
"""Mean step across the edge of an edit, over the mean step in the ring, above which the edge shows."""
SATURATED_LIMIT: Final = 0.02
"""Share of edited pixels newly driven to black or white above which an edit is not used."""
VISIBLE: Final = 2.0
"""Mean change, in grey levels of 255, below which an edit changed nothing one could see."""

Mask = NDArray[np.bool_]
Stored = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edit:
    """A film before and after, uint8 (256, 256), the mask of what may change, and the device cut out of it, if any."""

    before: Stored
    after: Stored
    edit: Mask
    device: Mask

    def __post_init__(self) -> None:
        if not self.edit.any():
            raise ValueError("an edit has pixels")
        if (self.edit & self.device).any():
            raise ValueError("what is kept cannot be edited")

    @property
    def kept(self) -> int:
        """Pixels that had to stay."""
        return int((~self.edit).sum())

    @property
    def kept_changed(self) -> int:
        """Of those, how many are not bit-identical: 0, or the edit is a fault."""
        return int(((self.before != self.after) & ~self.edit).sum())

    @property
    def touches_device(self) -> bool:
        """Whether the kept device lies in or against the edited region."""
        return bool((binary_dilation(self.edit) & self.device).any())


def removed(film: Stored, region: Mask, device: Mask, rng: Generator) -> Edit:
    """The region filled from its rim, with the grain of its ring. The device is not written, nor does it shine into the fill."""
    grey = film.astype(np.float64)
    return _written(film, laplace(grey, region) + grain(grey, region, rng), region, device)


def added(film: Stored, region: Mask, device: Mask, height: float, rng: Generator) -> Edit:
    """A soft opacity in the region: it takes away `height` of what is missing to white at its middle, nothing at its rim."""
    grey = film.astype(np.float64) / 255.0
    depth = distance_transform_edt(region)
    dome = np.sin(np.pi / 2 * depth / max(float(depth.max()), 1.0)) ** 2
    cloud = 1.0 + 0.25 * _unit_noise(grey.shape, 4.0, rng)
    return _written(
        film, 255.0 * (1.0 - (1.0 - grey) * (1.0 - np.clip(height * dome * cloud, 0.0, 1.0))), region, device
    )


def laplace(grey: Floats, region: Mask) -> Floats:
    """`grey` with the region replaced by the harmonic function that meets its rim; the film's own edge lets nothing through."""
    index = np.full(grey.shape, -1)
    index[region] = np.arange(region.sum())
    size = int(region.sum())
    rows, columns, degree, known = [], [], np.zeros(size), np.zeros(size)
    for inside, outside in _neighbours(grey.shape):
        for here, there in ((inside, outside), (outside, inside)):
            mine, other, value = index[here], index[there], grey[there]
            at = mine >= 0
            np.add.at(degree, mine[at], 1.0)
            linked = at & (other >= 0)
            rows.append(mine[linked])
            columns.append(other[linked])
            np.add.at(known, mine[at & (other < 0)], value[at & (other < 0)])
    links = sparse.coo_array(
        (np.ones(sum(map(len, rows))), (np.concatenate(rows), np.concatenate(columns))), (size, size)
    )
    filled = grey.copy()
    filled[region] = spsolve(sparse.csc_array(sparse.diags_array(degree) - links), known)
    return filled


def grain(grey: Floats, region: Mask, rng: Generator) -> Floats:
    """Noise as rough as the ring around the region, falling to nothing at its rim."""
    rough = grey - gaussian_filter(grey, GRAIN)
    noise = rng.standard_normal(grey.shape)
    noise = noise - gaussian_filter(noise, GRAIN)
    scale = 1.4826 * float(np.median(np.abs(rough[ring(region)]))) / float(noise.std())  # ribs and rims are no grain
    return np.asarray(scale * noise * np.clip(distance_transform_edt(region) / 3.0, 0.0, 1.0))


def faults(done: Edit) -> tuple[str, ...]:
    """Why an edit is not good enough to measure with; empty when it is."""
    now, was = done.after[done.edit].astype(np.float64), done.before[done.edit].astype(np.float64)
    saturated = (np.isin(now, (0.0, 255.0)) & ~np.isin(was, (0.0, 255.0))).mean()
    found = {
        "kept_part_changed": done.kept_changed > 0,
        "edge_shows": edge_step(done) > STEP_LIMIT,
        "saturated": saturated > SATURATED_LIMIT,
        "nothing_changed": np.abs(now - was).mean() < VISIBLE,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def edge_step(done: Edit) -> float:
    """Mean grey step across the edge of the edit (a kept device's own edge aside), over the mean step in the ring before."""
    around = ring(done.edit | done.device)
    after, before = done.after.astype(np.float64), done.before.astype(np.float64)
    across, usual = [], []
    for here, there in _neighbours(done.before.shape):
        edge = (done.edit[here] != done.edit[there]) & ~done.device[here] & ~done.device[there]
        across.append(np.abs(after[here] - after[there])[edge])
        usual.append(np.abs(before[here] - before[there])[around[here] & around[there]])
    steps, natural = np.concatenate(across), np.concatenate(usual)
    return float(steps.mean() / max(float(natural.mean()), 1.0)) if len(steps) and len(natural) else 0.0


def ring(region: Mask) -> Mask:
    """The pixels around a region, RING deep."""
    return np.asarray(binary_dilation(region, iterations=RING) & ~region)


def rectangle(box: Box, side: int) -> Mask:
    """The pixels of a box, (side, side)."""
    mask = np.zeros((side, side), bool)
    rows = slice(int(box.y_min * side), int(np.ceil(box.y_max * side)))
    mask[rows, int(box.x_min * side) : int(np.ceil(box.x_max * side))] = True
    return mask


def ellipse(box: Box, side: int, grow: float = 1.0) -> Mask:
    """The ellipse inscribed in a box grown by a factor about its middle, (side, side)."""
    cells = (np.arange(side) + 0.5) / side
    across, down = np.meshgrid(cells, cells)
    width, height = grow * (box.x_max - box.x_min) / 2, grow * (box.y_max - box.y_min) / 2
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    return np.asarray(((across - x) / width) ** 2 + ((down - y) / height) ** 2 <= 1.0)


def _written(film: Stored, wanted: Floats, region: Mask, device: Mask) -> Edit:
    edit = region & ~device
    after = film.copy()
    after[edit] = np.clip(np.rint(wanted[edit]), 0, 255).astype(np.uint8)
    return Edit(film, after, edit, device)


def _unit_noise(shape: tuple[int, ...], sigma: float, rng: Generator) -> Floats:
    noise = np.asarray(gaussian_filter(rng.standard_normal(shape), sigma), np.float64)
    return np.asarray(noise / noise.std())


def _neighbours(shape: tuple[int, ...]) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Pairs of views whose elements are neighbours: across, then down."""
    every = slice(None)
    return [
        ((every, slice(None, shape[1] - 1)), (every, slice(1, None))),
        ((slice(None, shape[0] - 1), every), (slice(1, None), every)),
    ]
