"""Pictures that are not frontal chest films: a lateral view and a CT slice, to see that the service can tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eval.phantom.anatomy import Anatomy
from eval.phantom.bones import DROP, MARROW, vertebra_height
from eval.phantom.exposure import BONE, LUNG, SOFT, Technique, display, expose, finish
from eval.phantom.grid import Grid, Knots, Map, along, dome, ellipsoid, join, polygon, step
from eval.phantom.tissue import TRUNK_DEPTH
from eval.phantom.tubes import project, strand, together

KYPHOSIS: Knots = ((0, -28), (60, -58), (130, -84), (200, -92), (280, -84), (360, -62), (440, -42))
"""z of the vertebral bodies against height, mm."""


def lateral(anatomy: Anatomy, *, rows: int = 1024, columns: int = 840, seed: int = 0) -> NDArray[np.float32]:
    """A left lateral film, the patient facing the viewer's left: float32 (rows, columns) in [0, 1], bone bright."""
    grid = Grid.of(rows, columns, anatomy.size, (0.0, 206.0))
    rng = np.random.default_rng([anatomy.seed, seed, 40])
    front = -grid.x
    lung, air = _lateral_lung(grid, anatomy, front)
    depth = along(TRUNK_DEPTH, grid.y) + 14.0 * anatomy.fat
    width = 2 * (anatomy.half_width(np.maximum(grid.y, 90.0)) + 26.0)
    trunk = width * dome((front + 6.0) / depth, 3.2) * step(grid.y - 34.0 - 0.25 * np.abs(front), 16.0)
    neck = 110.0 * dome((front + 18.0) / 52.0) * step(70.0 - grid.y, 25.0)
    soft = join(trunk, neck, power=4.0) * (1 + 0.012 * grid.noise(rng, 24.0)) - lung - air
    texture = 1 + 0.06 * grid.noise(rng, 12.0) + 0.06 * grid.noise(rng, 3.0)
    bone = _lateral_bone(grid, anatomy, front)
    # A lateral needs about twice the exposure of a frontal film: the same line integral is shown darker.
    line = 0.74 * (SOFT * np.clip(soft, 0, None) + LUNG * lung * texture + (BONE - SOFT) * bone)
    technique = Technique()
    shown = display(grid, expose(grid, np.asarray(line), technique, rng), technique)
    return finish(grid, shown, technique).astype(np.float32)


def _lateral_lung(grid: Grid, anatomy: Anatomy, front: Map) -> tuple[Map, Map]:
    """Chord across both lungs, and air in the trachea, mm."""
    depth, wide = anatomy.half_depth(grid.y), anatomy.half_width(grid.y)
    lean = along(((60, -30), (130, -14), (220, 0), (430, 0)), grid.y)
    cavity = 2 * wide * dome((front - lean) / np.maximum(depth, 1.0), 2.4) * (grid.y > 58.0)
    heart = ellipsoid(grid, (-36.0, 252.0), (46.0, 62.0, 56.0), 30.0)
    great = ellipsoid(grid, (-22.0, 168.0), (30.0, 66.0, 30.0), 8.0)
    roots = ellipsoid(grid, (2.0, 182.0), (20.0, 24.0, 22.0), 0.0)
    solid = grid.blur(join(heart, great, roots, power=2.4), 3.0)
    total = np.clip(cavity - solid - 22.0, 0, None)
    fall = 62.0 * np.clip((12.0 - front) / 96.0, 0, None) ** 2 + 22.0 * np.clip((front - 12.0) / 80.0, 0, None) ** 2
    # Between the two domes only the left lung is left.
    total = total * sum(0.5 * step(anatomy.dome_top(left) + fall - grid.y, 1.5) for left in (False, True))
    trachea = project(
        grid, strand(np.array([(8, -10, 0), (14, 60, 0), (24, 150, 0)], dtype=np.float64), 8.5, grid.pitch)
    )
    return grid.blur(total, 0.8), trachea


def _lateral_bone(grid: Grid, anatomy: Anatomy, front: Map) -> Map:
    """Vertebrae in profile, sternum, and ribs sloping forwards and down; excess mm of compact bone."""
    column = along(KYPHOSIS, grid.y)
    total = np.zeros((grid.rows, grid.columns))
    for number in range(-3, 17):
        half = 8.6 + 0.3 * number
        y = grid.y - vertebra_height(number)
        inside = step(13.0 + 0.3 * number - np.abs(front - column), 1.0)
        total += inside * (8.5 * step(half - np.abs(y), 0.8) + 3.5 * np.exp(-(((np.abs(y) - half) / 0.9) ** 2)))
    strands = []
    for side in (-1, 1):
        for number, fall in enumerate(DROP, start=1):
            head = vertebra_height(number) + 3.0 * side
            z = np.linspace(-1.0, 0.55, 24) * float(anatomy.half_depth(np.array(head + fall / 2)))
            y = head + fall * (z - z[0]) / (z[-1] - z[0]) + 5.0 * np.sin(np.linspace(0, np.pi, 24))
            strands.append(strand(np.stack([-z, y, np.zeros_like(z)], axis=1), 4.6, grid.pitch, depth=3.8))
    sternum = polygon(grid, [(-66, 98), (-78, 140), (-92, 240), (-99, 240), (-86, 140), (-74, 98)], 0.8)
    return total + project(grid, together(strands), shell=0.9, core=MARROW) + 5.0 * sternum


def ct_slice(anatomy: Anatomy, *, size: int = 512, level: float = 210.0, seed: int = 0) -> NDArray[np.float32]:
    """One axial CT slice at height `level` mm in a mediastinal-lung window: float32 (size, size) in [0, 1], bone bright.

    The patient's front is up, the right side on the viewer's left. Window -1000 to 400 HU.
    """
    rng = np.random.default_rng([anatomy.seed, seed, 41])
    across = (np.arange(size) + 0.5 - size / 2) * 400.0 / size
    x, z = across[None, :], -across[:, None]
    at = np.array(level)
    wide, deep = float(anatomy.half_width(at)), float(anatomy.half_depth(at))

    def oval(centre: tuple[float, float], radii: tuple[float, float], power: float = 2.0) -> Map:
        u, v = (x - centre[0]) / radii[0], (z - centre[1]) / radii[1]
        return step(1.0 - np.abs(u) ** power - np.abs(v) ** power, 0.03)

    picture = np.full((size, size), -1000.0)
    inside_skin, muscle = oval((0, 0), (wide + 34, deep + 28), 2.4), oval((0, 0), (wide + 20, deep + 18), 2.4)
    left, right = float(anatomy.border(at, True)), float(anatomy.border(at, False))
    layers = [
        (inside_skin, -100.0),
        (muscle, 50.0),
        (oval((0, 2), (wide, deep), 2.4), -840.0),
        (oval(((left - right) / 2, 22.0), ((left + right) / 2, 48.0)), 45.0),
        (oval((0, -50), (26, 44)), 45.0),
        (oval((20, -46), (12, 12)), 55.0),
        (oval((0, -66), (17, 14)), 260.0),
        (oval((0, -88), (8, 8)), 20.0),
    ]
    for angle in np.radians((28, 52, 78, 102, 126, 150)):
        for side in (-1, 1):
            centre = (side * (wide + 6) * np.sin(angle), -(deep + 6) * np.cos(angle))
            layers.append((oval(centre, (9.0 - 4 * abs(np.sin(angle)), 4.0 + 5 * abs(np.sin(angle)))), 420.0))
    for mask, hounsfield in layers:
        picture = picture * (1 - mask) + hounsfield * mask
    picture += rng.normal(0, 18.0, picture.shape)
    return np.clip((picture + 1000.0) / 1400.0, 0, 1).astype(np.float32)
