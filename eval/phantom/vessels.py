"""Pulmonary vessels: random trees grown from the hila, tapering towards the pleura."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from eval.phantom.anatomy import Anatomy
from eval.phantom.grid import Grid, Map
from eval.phantom.tubes import Strand, project

ROOTS = (
    # side, start (x, y, z), direction, radius mm: segmental arteries and veins; lower ones are wider (gravity).
    (-1, (34, 172, 0), (0.35, -1.0, 0.05), 3.1),
    (-1, (38, 176, 10), (0.8, -0.75, 0.5), 2.8),
    (-1, (40, 180, -12), (0.9, -0.45, -0.4), 2.8),
    (-1, (42, 188, 8), (1.0, 0.15, 0.5), 2.9),
    (-1, (40, 192, -14), (0.9, 0.55, -0.55), 3.3),
    (-1, (38, 196, -6), (0.62, 1.0, 0.1), 4.4),
    (-1, (36, 198, -20), (0.3, 1.0, -0.35), 4.4),
    (-1, (34, 204, 14), (0.95, 0.4, 0.4), 3.1),
    (1, (38, 160, 0), (0.3, -1.0, 0.05), 3.0),
    (1, (42, 162, 10), (0.8, -0.75, 0.5), 2.8),
    (1, (44, 166, -12), (0.95, -0.35, -0.4), 2.8),
    (1, (46, 174, 8), (1.0, 0.2, 0.5), 2.9),
    (1, (46, 178, -18), (0.9, 0.6, -0.5), 3.2),
    (1, (46, 182, -14), (0.66, 1.0, -0.15), 4.2),
    (1, (44, 186, -30), (0.34, 1.0, -0.4), 4.2),
    (1, (44, 178, 18), (0.95, 0.55, 0.4), 2.9),
)
STEP = 3.0
"""mm between bends."""
THINNEST = 0.25
"""Radius in mm at which a branch is no longer followed."""


def pulmonary_vessels(grid: Grid, anatomy: Anatomy, rng: Generator) -> Map:
    """Chord of vessels in mm."""
    return project(grid, _samples(_trees(anatomy, rng), grid.pitch))


def _trees(anatomy: Anatomy, rng: Generator) -> list[tuple[Map, Map, Map]]:
    """All (start, end, radius) segments; every branch of one generation grows at the same time."""
    shift = anatomy.shift(5.0)
    place: Map = np.array([(s * p[0] + shift, p[1], p[2]) for s, p, _, _ in ROOTS], dtype=np.float64)
    place += rng.normal(0, 2.0, place.shape)
    heading: Map = _unit(np.array([(s * d[0], d[1], d[2]) for s, _, d, _ in ROOTS]) + rng.normal(0, 0.08, place.shape))
    radius: Map = np.array([r for *_, r in ROOTS]) * rng.uniform(0.9, 1.1, len(ROOTS))
    # Arteries and veins run side by side, each with its own branching.
    place = np.concatenate([place, place + rng.normal(0, 4.0, place.shape)])
    heading = _unit(np.concatenate([heading, heading + rng.normal(0, 0.22, heading.shape)]))
    radius = np.concatenate([radius, radius * 0.72])
    segments: list[tuple[Map, Map, Map]] = []
    for _generation in range(17):
        # A branch is about six radii long before it divides.
        steps = np.maximum((radius * rng.uniform(2.4, 5.6, radius.size) + 5.0) / STEP, 1).astype(int)
        alive = np.ones(radius.size, dtype=bool)
        for k in range(int(steps.max())):
            growing = alive & (steps > k)
            if not growing.any():
                break
            heading = _unit(heading + rng.normal(0, 0.09, heading.shape))
            end = place + STEP * heading
            segments.append((place[growing], end[growing], radius[growing]))
            # Side branches too small to follow take their share along the way.
            radius = np.where(growing, radius * 0.988, radius)
            place = np.where(growing[:, None], end, place)
            alive &= _inside(place, anatomy)
        place, heading, radius = _divide(place[alive], heading[alive], radius[alive], rng)
        if radius.size == 0:
            break
    return segments


def _divide(place: Map, heading: Map, radius: Map, rng: Generator) -> tuple[Map, Map, Map]:
    """Two daughters per branch, the wider one going on more nearly straight (r0^3 = r1^3 + r2^3, Murray 1926)."""
    share = rng.uniform(0.5, 0.86, radius.size)
    axis = _unit(np.cross(heading, rng.normal(0, 1, heading.shape)))
    out_p, out_h, out_r = [], [], []
    for part, sign in ((share, 1.0), (1 - share, -1.0)):
        angle = np.radians(62.0) * (1 - part) * sign
        turned = heading * np.cos(angle)[:, None] + np.cross(axis, heading) * np.sin(angle)[:, None]
        out_p.append(place)
        out_h.append(_unit(turned))
        out_r.append(radius * part ** (1 / 2.6))
    p, h, r = np.concatenate(out_p), np.concatenate(out_h), np.concatenate(out_r)
    keep = r > THINNEST
    return p[keep], h[keep], r[keep]


def _inside(place: Map, anatomy: Anatomy) -> NDArray[np.bool_]:
    """True for points in the lung, short of the pleura and clear of the heart."""
    x, y, z = place.T
    width, depth = anatomy.half_width(y), anatomy.half_depth(y)
    left = x > 0
    ridge = np.where(left, anatomy.diaphragm(x, True), anatomy.diaphragm(x, False))
    edge = np.where(left, anatomy.border(y, True), anatomy.border(y, False))
    in_cage = (x / width) ** 2 + (z / depth) ** 2 < 0.93
    in_front_of_heart = (np.abs(x) < edge - 6) & (np.abs(z) < 40) & (y > 195)
    return np.asarray(in_cage & (y > 66) & (y < ridge + 12 * (z < 0)) & ~in_front_of_heart & (np.abs(x) > 18))


def _samples(segments: list[tuple[Map, Map, Map]], pitch: float) -> Strand:
    """Deposit points along straight segments."""
    start, end, radius = (np.concatenate(part) for part in zip(*segments, strict=True))
    count = max(int(STEP / (0.9 * pitch)), 1)
    at = (np.arange(count) + 0.5) / count
    xyz = (start[:, None, :] + (end - start)[:, None, :] * at[None, :, None]).reshape(-1, 3)
    tangent = np.repeat(_unit(end - start), count, axis=0)
    thick = np.repeat(radius, count)
    return Strand(xyz, tangent, np.full(thick.shape, STEP / count), thick, thick)


def _unit(vectors: Map) -> Map:
    """Rows scaled to length one."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))
