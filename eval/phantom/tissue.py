"""Soft tissue: trunk, neck, shoulders, arms, breasts and what lies under the diaphragm. Thickness maps in mm."""

from __future__ import annotations

import numpy as np

from eval.phantom.anatomy import Anatomy
from eval.phantom.grid import Grid, Knots, Map, along, dome, ellipsoid, join, polygon, step

TRUNK_DEPTH: Knots = ((0, 74), (50, 88), (100, 102), (160, 111), (240, 116), (330, 116), (430, 112))
"""Half the front-to-back diameter of the trunk against height."""


def body(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> Map:
    """Chord of the whole body, as if it had no lungs and no bones."""
    wall = 18.0 + 20.0 * anatomy.fat
    # Latissimus and pectoral muscle fill the axilla; the flank is thinner.
    muscle = 13.0 * np.exp(-(((grid.y - 165) / 60) ** 2))
    width = anatomy.half_width(np.maximum(grid.y, 150.0)) + wall + muscle
    depth = along(TRUNK_DEPTH, grid.y) + 14.0 * (anatomy.fat - 0.35)
    # The trunk has no upper edge at the shoulders: they carry on from it, and the skin line belongs to them.
    below = np.clip(grid.y - _shoulder_line(grid, anatomy) + 6.0, 0, None)
    trunk = 2 * depth * dome(grid.x / width, 5.5) * np.sqrt(1 - np.exp(-below / 32.0))
    total = join(trunk, _neck(grid), _shoulders(grid, anatomy), power=4.0) + _fronts(grid, anatomy)
    mottle = 1 + 0.012 * grid.noise(rng, 24.0) + 0.006 * grid.noise(rng, 8.0)
    return np.asarray(total * mottle)


def _neck(grid: Grid) -> Map:
    """Column of the neck, fading where the trunk takes over."""
    width = 60.0 + 26.0 * np.exp((np.minimum(grid.y, 90.0) - 38.0) / 20.0)
    return np.asarray(124.0 * dome(grid.x / width, 2.4) * step(100.0 - grid.y, 30.0))


def _shoulder_line(grid: Grid, anatomy: Anatomy) -> Map:
    """Height of the skin over trapezius and deltoid at each x."""
    slope: Knots = ((0, 0), (46, 2), (62, 20), (90, 38), (130, 53), (165, 65), (190, 79), (215, 104), (240, 145))
    uneven = np.sign(grid.x) * np.minimum(np.abs(grid.x) / 80.0, 1.0) * 4.0 * float(anatomy.quirks[14])
    return along(slope, np.abs(grid.x)) + 4.0 * float(anatomy.quirks[6]) + uneven


def _shoulders(grid: Grid, anatomy: Anatomy) -> Map:
    """Shoulder girdle and upper arms, the arms held slightly away from the trunk."""
    below = grid.y - _shoulder_line(grid, anatomy)
    girdle = 146.0 * np.sqrt(np.clip(1 - np.exp(-np.clip(below, 0, None) / 26.0), 0, None))
    girdle = girdle * step(np.abs(grid.x) - 60.0, 40.0) * step(196.0 - 0.25 * np.abs(grid.x) - grid.y, 26.0)
    lean = 190.0 + 5.0 * float(anatomy.quirks[7]) + 0.13 * (grid.y - 110.0)
    arm = 112.0 * dome((np.abs(grid.x) - lean) / 46.0, 2.2) * step(grid.y - 96.0, 22.0)
    return join(girdle, arm, power=4.0)


def _fronts(grid: Grid, anatomy: Anatomy) -> Map:
    """Pectoral muscles, breasts and skin folds of the front wall."""
    shift = anatomy.shift(80.0)
    total = np.zeros((grid.rows, grid.columns))
    for side in (-1, 1):
        corners = [
            (side * x + shift, y)
            for x, y in ((22, 118), (60, 100), (112, 104), (158, 128), (148, 172), (118, 206), (70, 226), (30, 214))
        ]
        total += (17.0 if anatomy.sex == "male" else 9.0) * polygon(grid, corners, 11.0)
        if anatomy.sex == "female":
            drop = 6.0 * float(anatomy.quirks[8]) + 12.0 * anatomy.fat
            radii = (60.0 + 14 * anatomy.fat, 50.0 + 16 * anatomy.fat, 19.0 + 16 * anatomy.fat)
            breast = ellipsoid(grid, (side * 86.0 + shift, 236.0 + drop), radii, side * 12.0)
            # The upper slope of a breast is gradual, its lower fold sharp.
            total += (
                grid.blur(breast, 2.5) * step(grid.y - 218.0 - drop, 26.0) * step(side * (grid.x - shift) - 44.0, 20.0)
            )
    return total


def abdomen(grid: Grid, anatomy: Anatomy, cavity: Map) -> Map:
    """Chord of what stands under the domes inside the rib cage, mm: each dome falls away behind and in front of its ridge."""
    left = step(grid.x, 9.0)
    ridge = left * anatomy.diaphragm(grid.x, True) + (1 - left) * anatomy.diaphragm(grid.x, False)
    below = np.clip(grid.y - ridge, 0, None)
    half = cavity / 2
    depth = anatomy.half_depth(grid.y)
    summit = 0.25 * depth
    back = summit - (depth + summit) * np.sqrt(below / 62.0)
    front = summit + (depth - summit) * np.sqrt(below / 22.0)
    chord = np.clip(np.minimum(front, half) - np.maximum(back, -half), 0, None)
    return np.asarray(np.where(below > 0, chord, 0.0))


def bowel_gas(grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> Map:
    """Air under the left dome, mm: the gastric bubble with its level and a little in the splenic flexure."""
    top = anatomy.dome_top(left=True)
    jitter = rng.uniform(-1, 1, 8)
    x, y = 60.0 + 8 * jitter[0], top + 24.0 + 3 * jitter[1]
    bubble = ellipsoid(grid, (x, y), (25.0 + 5 * jitter[2], 12.0 + 3 * jitter[3], 24.0), -8.0)
    bubble *= 0.75 + 0.25 * step(y + 5.0 - grid.y, 2.0)
    total = bubble
    ragged = 1 + 0.25 * grid.noise(rng, 15.0)
    for k in range(3):
        at = (98.0 + 9 * jitter[4 + k] - 6 * k, top + 52.0 + 17 * k + 4 * jitter[3 + k])
        total = total + ellipsoid(grid, at, (11.0 + 2 * jitter[k], 8.0, 9.0), 30.0 * jitter[5])
    return grid.blur(np.clip(total * ragged - 2.0, 0, None), 0.9)
