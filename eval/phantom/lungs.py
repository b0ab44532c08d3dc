"""The rib cage's contents: lungs, heart and great vessels, airways. Chords in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.phantom.anatomy import Anatomy
from eval.phantom.grid import Grid, Knots, Map, along, dome, ellipsoid, join, step
from eval.phantom.tissue import abdomen
from eval.phantom.tubes import Strand, project, strand, together

HEART_DEPTH: Knots = ((40, 40), (62, 50), (100, 74), (135, 92), (180, 110), (230, 130), (280, 132), (330, 104))
"""Front-to-back extent of mediastinum and heart against height."""
CARINA = (-2.0, 152.0)
"""Where the trachea divides, mm: slightly to the patient's right, pushed by the aortic arch."""


@dataclass(frozen=True)
class Chest:
    """Chords in mm: `cavity` (inside of the rib cage), aerated `lung`, `airway` (its air), walls of the `bronchi`."""

    cavity: Map
    lung: Map
    airway: Map
    bronchi: Map


def chest(grid: Grid, anatomy: Anatomy) -> Chest:
    """Everything between the ribs."""
    cavity = rib_cage(grid, anatomy)
    heart = mediastinum(grid, anatomy)
    under = abdomen(grid, anatomy, cavity)
    solid = (
        join(heart, under, power=2.6) + hila(grid, anatomy) + descending_aorta(grid, anatomy) * step(cavity - 60, 30.0)
    )
    lung = np.clip(cavity - solid, 0, None)
    # Vertebrae and the tissue beside them take the midline, from the sulcus of one lung to the other's.
    beside = step(np.abs(grid.x - anatomy.shift(-45.0)) - 17.0, 5.0)
    behind = 0.55 * step(anatomy.dome_top(True) - 14.0 - grid.y, 9.0)
    lung = lung * (beside + (1 - beside) * behind)
    # Beyond the mediastinum a bronchus replaces lung, not soft tissue, and its air hardly shows.
    airway, bronchi = airways(grid, anatomy)
    airway = airway * np.clip(heart / 50.0 + step(70.0 - grid.y, 8.0), 0, 1)
    return Chest(cavity, np.asarray(grid.blur(lung, 0.7)), airway, bronchi)


def rib_cage(grid: Grid, anatomy: Anatomy) -> Map:
    """Chord of the inside of the rib cage."""
    width, depth = anatomy.half_width(grid.y), anatomy.half_depth(grid.y)
    inside = 2 * depth * dome(grid.x / np.maximum(width, 1.0), 2.7)
    return np.asarray(np.where(grid.y > 58.0, inside, 0.0))


def mediastinum(grid: Grid, anatomy: Anatomy) -> Map:
    """Chord of heart and great vessels, from the two border lines and a depth profile."""
    shift = anatomy.shift(25.0)
    right, left = anatomy.border(grid.y, False), anatomy.border(grid.y, True)
    middle, half = shift + (left - right) / 2, (left + right) / 2
    u = (grid.x - middle) / half
    # Vessels are blunt in section, the heart is round.
    blunt = dome(u, 3.0)
    rounded = dome(u, 2.3)
    low = step(grid.y - 195.0, 25.0)
    depth = along(HEART_DEPTH, grid.y) * (1 + 0.3 * (anatomy.heart_width - 1) * low)
    return np.asarray(depth * (blunt * (1 - low) + rounded * low))


def heart_silhouette(grid: Grid, anatomy: Anatomy) -> Map:
    """1 inside the heart's shadow (below the great vessels, above its base on the diaphragm), 0 outside."""
    floor = np.where(grid.x > 0, anatomy.diaphragm(grid.x, True), anatomy.diaphragm(grid.x, False)) + 12.0
    return np.asarray((mediastinum(grid, anatomy) > 0) & (grid.y > 176.0) & (grid.y < floor)).astype(np.float64)


def hila(grid: Grid, anatomy: Anatomy) -> Map:
    """Soft mass of the lung roots beside the heart, mm; the left stands higher than the right."""
    shift = anatomy.shift(5.0)
    right = join(
        ellipsoid(grid, (-43.0 + shift, 194.0), (8.0, 24.0, 10.5), -14.0),
        ellipsoid(grid, (-33.0 + shift, 172.0), (13.0, 17.0, 10.0), 20.0),
    )
    left = join(
        ellipsoid(grid, (38.0 + shift, 164.0), (13.0, 13.0, 11.0), 15.0),
        ellipsoid(grid, (47.0 + shift, 182.0), (7.5, 20.0, 10.0), 10.0),
    )
    return grid.blur(right + left, 1.8)


def descending_aorta(grid: Grid, anatomy: Anatomy) -> Map:
    """Chord of the aorta's descending limb beside the spine."""
    centre = along(((120, 22), (150, 21), (230, 18), (330, 8)), grid.y) + anatomy.shift(-35.0)
    return np.asarray(21.0 * dome((grid.x - centre) / 12.0) * step(grid.y - 132.0, 6.0))


def airways(grid: Grid, anatomy: Anatomy) -> tuple[Map, Map]:
    """Air in trachea and bronchi (mm), and the soft walls of the central bronchi (mm)."""
    trunk, branches = bronchial_tree(grid, anatomy)
    air = join(*(project(grid, t) for t in trunk), power=4.0) + 0.2 * project(grid, branches)
    walls = Strand(branches.xyz, branches.tangent, branches.length, branches.radius + 1.2, branches.depth + 1.2)
    return air, np.clip(project(grid, walls) - project(grid, branches), 0, None)


def bronchial_tree(grid: Grid, anatomy: Anatomy) -> tuple[tuple[Strand, ...], Strand]:
    """Centre lines of trachea and main bronchi, and of lobar bronchi."""
    shift, (cx, cy) = anatomy.shift(-10.0), CARINA
    at = np.array([shift, 0.0, 0.0])
    trachea = np.array([(0, -10, 0), (0, 60, -8), (-2, 110, -16), (cx, cy, -20)]) + at
    right = np.array([(cx - 1, cy - 4, -20), (-14, cy + 12, -22), (-26, cy + 24, -24), (-36, cy + 38, -26)]) + at
    left = np.array([(cx + 1, cy - 4, -20), (14, cy + 9, -22), (31, cy + 20, -26), (46, cy + 30, -30)]) + at
    trunk = (
        strand(trachea, 8.4, grid.pitch),
        strand(right, np.array([7.5, 6.8, 6, 5]), grid.pitch),
        strand(left, np.array([7, 6.2, 5.4, 4.6]), grid.pitch),
    )
    lobar = [
        ((-26, cy + 22, -24), (-40, cy + 17, -26), (-54, cy + 8, -26)),
        ((-36, cy + 38, -26), (-43, cy + 58, -30), (-52, cy + 88, -36)),
        ((-38, cy + 42, -24), (-52, cy + 58, -6), (-64, cy + 70, 8)),
        ((42, cy + 27, -28), (54, cy + 20, -22), (66, cy + 4, -18)),
        ((46, cy + 30, -30), (54, cy + 52, -36), (62, cy + 84, -44)),
    ]
    branches = [strand(np.array(p, dtype=np.float64) + at, np.array([3.4, 2.6, 1.6]), grid.pitch) for p in lobar]
    return trunk, together(branches)
