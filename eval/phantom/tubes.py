"""Curved tubes (ribs, vessels, bronchi, catheters) projected by depositing their volume on the film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from eval.phantom.grid import Grid, Map

SPACING = 0.9
"""Deposit spacing in pixels: below one, so that neighbouring deposits leave no gaps."""


@dataclass(frozen=True)
class Strand:
    """Samples along centre lines: `xyz` (n, 3) mm, unit `tangent` (n, 3), arc `length` (n,) mm, `radius` (n,) mm.

    `depth` (n,) mm is the half-axis perpendicular to `radius` (equal to it for round tubes).
    """

    xyz: Map
    tangent: Map
    length: Map
    radius: Map
    depth: Map


def strand(points: Map, radius: Map | float, pitch: float, depth: Map | float | None = None) -> Strand:
    """A smooth strand through `points` (k, 3) mm; `radius` is one number or one per point."""
    chord = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))))
    count = max(int(chord[-1] / (SPACING * pitch)), 4)
    at = (np.arange(count) + 0.5) * chord[-1] / count
    curve = CubicSpline(chord, points, bc_type="natural")
    velocity = curve(at, 1)
    speed = np.linalg.norm(velocity, axis=1)
    thick = np.interp(at, chord, np.broadcast_to(np.asarray(radius, dtype=np.float64), chord.shape))
    flat = thick if depth is None else np.interp(at, chord, np.broadcast_to(np.asarray(depth, np.float64), chord.shape))
    return Strand(curve(at), velocity / speed[:, None], speed * chord[-1] / count, thick, flat)


def together(strands: Sequence[Strand]) -> Strand:
    """All samples of several strands as one."""
    return Strand(
        *(
            np.concatenate([getattr(s, name) for s in strands])
            for name in ("xyz", "tangent", "length", "radius", "depth")
        )
    )


def deposit(grid: Grid, total: Map, x: Map, y: Map, amount: Map) -> None:
    """Add `amount` per point to `total`, shared bilinearly among the four nearest pixels and divided by their area."""
    column, row = (x - grid.x[0, 0]) / grid.pitch, (y - grid.y[0, 0]) / grid.pitch
    inside = (column >= 0) & (column < grid.columns - 1) & (row >= 0) & (row < grid.rows - 1)
    if not inside.any():
        return
    column, row, amount = column[inside], row[inside], amount[inside] / grid.pitch**2
    c0, r0 = column.astype(np.int64), row.astype(np.int64)
    fc, fr = column - c0, row - r0
    top, bottom = int(r0.min()), int(r0.max()) + 2
    cells = (bottom - top) * grid.columns
    base = (r0 - top) * grid.columns + c0
    for offset, share in (
        (0, (1 - fr) * (1 - fc)),
        (1, (1 - fr) * fc),
        (grid.columns, fr * (1 - fc)),
        (grid.columns + 1, fr * fc),
    ):
        part = np.bincount(base + offset, weights=amount * share, minlength=cells)
        total[top:bottom] += part[:cells].reshape(bottom - top, grid.columns)


def project(grid: Grid, tube: Strand, shell: float = 0.0, core: float = 1.0, layers: int = 1) -> Map:
    """Path length in mm through the tube, the core (deeper than `shell` mm) counted `core` times.

    `layers` > 1 spreads the deposit over the depth axis, which matters where the tube runs along the beam.
    """
    total = np.zeros((grid.rows, grid.columns))
    rows_needed = np.maximum(np.ceil(2 * tube.radius / (SPACING * grid.pitch)), 1).astype(int)
    rows_needed = 2 ** np.ceil(np.log2(rows_needed)).astype(int)
    for rows in np.unique(rows_needed):
        chosen = rows_needed == rows
        part = Strand(*(getattr(tube, n)[chosen] for n in ("xyz", "tangent", "length", "radius", "depth")))
        _project_alike(grid, total, part, int(rows), shell, core, layers)
    touched = np.flatnonzero(total.any(axis=1))
    if touched.size:
        near = slice(max(int(touched[0]) - 3, 0), int(touched[-1]) + 4)
        total[near] = gaussian_filter(total[near], 0.6)
    return total


def _project_alike(grid: Grid, total: Map, tube: Strand, rows: int, shell: float, core: float, layers: int) -> None:
    """Add to `total` the samples whose cross-section is cut into the same number of `rows`."""
    u = (np.arange(rows) + 0.5) / rows * 2 - 1
    across = np.stack([-tube.tangent[:, 1], tube.tangent[:, 0]], axis=1)
    size = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.where(size > 1e-3, across / np.maximum(size, 1e-9), np.array([0.0, 1.0]))
    # The other axis of the cross-section, tangent x across, seen on the film: long only where the tube runs in depth.
    other = np.stack([-tube.tangent[:, 2] * across[:, 1], tube.tangent[:, 2] * across[:, 0]], axis=1)
    chord = 2 * tube.depth[:, None] * np.sqrt(1 - u * u)
    hole = np.maximum(tube.radius - shell, 0.0)
    inner = np.sqrt(np.clip(1 - (u * tube.radius[:, None] / np.maximum(hole, 1e-6)[:, None]) ** 2, 0, None))
    inner = inner * 2 * np.maximum(tube.depth - shell, 0.0)[:, None]
    weight = (chord - (1 - core) * inner) * (2 * tube.radius * tube.length / rows / layers)[:, None]
    for v in (np.arange(layers) + 0.5) / layers * 2 - 1:
        x = tube.xyz[:, :1] + u * (tube.radius * across[:, 0])[:, None] + (v * chord / 2) * other[:, :1]
        y = tube.xyz[:, 1:2] + u * (tube.radius * across[:, 1])[:, None] + (v * chord / 2) * other[:, 1:]
        deposit(grid, total, x.ravel(), y.ravel(), weight.ravel())
