"""The film plane in millimetres, and the few shapes everything else is projected with.

Coordinates: x in mm from the midline, positive towards the viewer's right (the patient's left); y in mm from the film's
upper edge, downwards; z in mm along the beam, positive towards the front of the patient. All maps are (rows, columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter, zoom

Map: TypeAlias = NDArray[np.floating[Any]]
Knots: TypeAlias = tuple[tuple[float, float], ...]

FILM_HEIGHT = 404.0
"""mm shown from top to bottom: a 14 x 17 inch cassette (432 mm) collimated to the chest."""


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a film: `x` is (1, columns), `y` is (rows, 1), both mm; `pitch` is mm per pixel."""

    rows: int
    columns: int
    pitch: float
    x: Map
    y: Map

    @classmethod
    def of(cls, rows: int, columns: int, size: float, centre: tuple[float, float] = (0.0, 208.0)) -> Grid:
        """A film of FILM_HEIGHT mm seen by a patient `size` times the reference build (coordinates shrink by it).

        `centre` is the point (x, y) of the patient, mm, in the middle of the film.
        """
        if rows < 64 or columns < 64:
            raise ValueError(f"a film needs at least 64 x 64 pixels, got {rows} x {columns}")
        pitch = FILM_HEIGHT / size / rows
        x = centre[0] + (np.arange(columns) + 0.5 - columns / 2) * pitch
        y = centre[1] + (np.arange(rows) + 0.5 - rows / 2) * pitch
        return cls(rows, columns, pitch, x[None, :], y[:, None])

    def blur(self, picture: Map, sigma: float) -> Map:
        """Gaussian blur of `sigma` mm; wide ones are computed on a coarse copy, where they cost nothing."""
        sigma_pixels = sigma / self.pitch
        step = int(sigma_pixels // 4)
        if step < 2:
            return np.asarray(gaussian_filter(picture, sigma_pixels, mode="nearest"))
        rows, columns = -(-self.rows // step), -(-self.columns // step)
        padded = np.pad(picture, ((0, rows * step - self.rows), (0, columns * step - self.columns)), mode="edge")
        coarse = padded.reshape(rows, step, columns, step).mean(axis=(1, 3))
        smooth = gaussian_filter(coarse, sigma_pixels / step, mode="nearest")
        return np.asarray(zoom(smooth, step, order=1, grid_mode=True, mode="nearest"))[: self.rows, : self.columns]

    def noise(self, rng: np.random.Generator, scale: float) -> Map:
        """Smooth random field of unit variance whose grain is `scale` mm; zero where pixels are too coarse to show it."""
        if scale < 1.5 * self.pitch:
            return np.zeros((self.rows, self.columns))
        step = scale / 2
        field = rng.standard_normal((int(570 / step), int(570 / step)))
        field = gaussian_filter(field, 1.0, mode="wrap")
        field /= field.std()
        at_y, at_x = (self.y.ravel() + 80) / step, (self.x.ravel() + 285) / step
        return bilinear(field, at_y, at_x)


def bilinear(field: Map, at_y: Map, at_x: Map) -> Map:
    """`field` sampled on the product of two index vectors (a separable bilinear look-up)."""
    y0 = np.clip(at_y.astype(int), 0, field.shape[0] - 2)
    x0 = np.clip(at_x.astype(int), 0, field.shape[1] - 2)
    fy, fx = (at_y - y0)[:, None], at_x - x0
    columns = field[:, x0] * (1 - fx) + field[:, x0 + 1] * fx
    return np.asarray(columns[y0] * (1 - fy) + columns[y0 + 1] * fy)


@lru_cache(maxsize=64)
def spline(knots: Knots) -> PchipInterpolator:
    """Shape-preserving cubic through (position, value) knots: anatomy's outlines must not overshoot."""
    at, value = zip(*knots, strict=True)
    return PchipInterpolator(at, value, extrapolate=True)


def along(knots: Knots, at: Map) -> Map:
    """The spline through `knots`, held constant beyond its ends."""
    return np.asarray(spline(knots)(np.clip(at, knots[0][0], knots[-1][0])))


def step(distance: Map, width: float) -> Map:
    """Smooth step from 0 (distance << -width) to 1 (distance >> width)."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / width))


def dome(u: Map, power: float = 2.0) -> Map:
    """Relative chord of a (super)ellipse at |u| <= 1: 1 in the middle, 0 with a vertical tangent at the edge."""
    return np.asarray(np.sqrt(np.clip(1.0 - np.abs(u) ** power, 0.0, None)))


def join(*chords: Map, power: float = 3.0) -> Map:
    """Chord of bodies that overlap in depth: between the largest and the sum."""
    return np.asarray(sum(np.clip(c, 0, None) ** power for c in chords) ** (1 / power))


def ellipsoid(grid: Grid, centre: tuple[float, float], radii: tuple[float, float, float], angle: float = 0.0) -> Map:
    """Chord in mm through an ellipsoid at `centre` (x, y), semi-axes (a, b, depth) mm, turned by `angle` degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    dx, dy = grid.x - centre[0], grid.y - centre[1]
    u, v = (dx * c + dy * s) / radii[0], (-dx * s + dy * c) / radii[1]
    return np.asarray(2 * radii[2] * np.sqrt(np.clip(1 - u * u - v * v, 0, None)))


def polygon(grid: Grid, corners: Sequence[tuple[float, float]], soft: float) -> Map:
    """Filled polygon in [0, 1] with an edge softened by `soft` mm."""
    from skimage.draw import polygon2mask

    x0, y0 = float(grid.x[0, 0]), float(grid.y[0, 0])
    vertices = np.array([((y - y0) / grid.pitch, (x - x0) / grid.pitch) for x, y in corners])
    filled: Map = polygon2mask((grid.rows, grid.columns), vertices)  # type: ignore[no-untyped-call]
    return grid.blur(filled.astype(np.float64), soft)
