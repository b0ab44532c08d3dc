"""The skeleton: ribs, spine, clavicles, scapulae, humeri, sternum.

Every map is an equivalent path in mm of compact bone *in excess of* soft tissue: marrow counts by its own share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from eval.phantom.anatomy import Anatomy
from eval.phantom.grid import Grid, Map, dome, polygon, step
from eval.phantom.tubes import Strand, project, strand, together

DROP = (40.0, 54.0, 70.0, 86.0, 98.0, 107.0, 112.0, 112.0, 105.0, 96.0, 84.0, 62.0)
"""mm each rib falls between its head and its front end, ribs 1 to 12."""
END = (140.0, 146.0, 147.0, 146.0, 144.0, 140.0, 135.0, 128.0, 120.0, 114.0, 106.0, 84.0)
"""Degrees around the chest (0 = spine, 90 = flank, 180 = sternum) where bone gives way to cartilage."""
MARROW = 0.20
"""Excess attenuation of marrow bone relative to compact bone's."""


@dataclass(frozen=True)
class Break:
    """A displaced rib fracture: `side` +1 is the patient's left; `angle` as in END; `offset` mm of step-off."""

    side: int
    rib: int
    angle: float
    offset: float


def vertebra_height(number: float) -> float:
    """Height (mm) of the middle of thoracic vertebra `number` (1 to 12; 0 and less are cervical)."""
    return 62.0 + 22.2 * (number - 1) + 0.16 * (number - 1) * abs(number - 1)


def rib(grid: Grid, anatomy: Anatomy, side: int, number: int, broken: Break | None = None) -> Strand:
    """Centre line of one rib: a plane curve around the cavity, tilted forwards and down."""
    head, fall = vertebra_height(number) - 5.0, DROP[number - 1] * (1 + 0.04 * float(anatomy.quirks[9]))
    theta = np.radians(np.linspace(6.0, END[number - 1], 90))
    y = head + fall * (0.5 - 0.5 * np.cos(theta)) * 1.05 - 3.0 * np.exp(-(((theta - 0.45) / 0.25) ** 2))
    reach = 1.08 if number == 1 else 1.0
    x = (anatomy.half_width(y) * reach + 3.2) * np.sin(theta) ** 0.9
    z = -(anatomy.half_depth(y) + 3.0) * np.cos(theta)
    if broken is not None and (broken.side, broken.rib) == (side, number):
        away = np.degrees(theta) - broken.angle
        # The far fragment is displaced and comes back to the rib's course within some centimetres.
        y = y + broken.offset * (away > 0) * np.exp(-np.clip(away, 0, None) / 9.0)
    turn = np.radians(anatomy.rotation)
    points = np.stack([side * x * np.cos(turn) + z * np.sin(turn), y, z], axis=1)
    height = (4.3 if number > 1 else 5.6) + 1.2 * np.sin(theta) ** 2 + 1.0 * (theta > 2.2) * (theta - 2.2)
    # Head and neck of the rib are slender and lie under the transverse process.
    height = height * (0.55 + 0.45 * np.clip((theta - 0.10) / 0.25, 0, 1))
    slender = 0.5 + 0.5 * np.clip((theta - 0.10) / 0.45, 0, 1)
    return strand(points, height, grid.pitch, depth=3.5 * slender - 1.6 * (theta > 1.6) * np.clip(theta - 1.6, 0, 1))


def rib_map(grid: Grid, tube: Strand) -> Map:
    """Bone path of ribs: a thin compact shell around marrow."""
    return project(grid, tube, shell=1.0, core=MARROW, layers=3)


def ribs(grid: Grid, anatomy: Anatomy) -> Map:
    """All twelve pairs; where a rib turns along the beam its path is limited, as a real rib is flat there."""
    path = rib_map(grid, together([rib(grid, anatomy, s, n) for s in (-1, 1) for n in range(1, 13)]))
    return np.asarray(7.0 * np.tanh(path / 7.0)) * 1.25


def fracture_change(grid: Grid, anatomy: Anatomy, broken: Break) -> Map:
    """Difference of bone path that the break makes, with a lucent line between the fragments."""
    whole = rib(grid, anatomy, broken.side, broken.rib)
    parted = rib(grid, anatomy, broken.side, broken.rib, broken)
    theta = np.linspace(6.0, END[broken.rib - 1], whole.xyz.shape[0])
    parted_theta = np.linspace(6.0, END[broken.rib - 1], parted.xyz.shape[0])
    gap = np.abs(parted_theta - broken.angle) < 1.0
    near = np.abs(theta - broken.angle) < 28.0
    parted_near = (np.abs(parted_theta - broken.angle) < 28.0) & ~gap
    return rib_map(grid, _only(parted, parted_near)) - rib_map(grid, _only(whole, near))


def _only(tube: Strand, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Strand:
    """Some of a strand's samples."""
    return Strand(tube.xyz[chosen], tube.tangent[chosen], tube.length[chosen], tube.radius[chosen], tube.depth[chosen])


def spine(grid: Grid, anatomy: Anatomy) -> Map:
    """Vertebral bodies with end plates, discs as gaps, pedicles and spinous processes."""
    axis = anatomy.shift(-60.0) + 2.5 * float(anatomy.quirks[10]) * np.sin(grid.y / 140.0)
    total = np.zeros((grid.rows, grid.columns))
    for number in range(-4, 17):
        top, bottom = vertebra_height(number - 0.5), vertebra_height(number + 0.5)
        centre, half = (top + bottom) / 2, (bottom - top) / 2 - 2.0
        width = 11.5 + 0.62 * max(number, 0) if number > 0 else 11.0
        rows = slice(*np.searchsorted(grid.y[:, 0], (centre - half - 16, centre + half + 16)))
        y, x = grid.y[rows] - centre, grid.x - axis[rows]
        waist = width * (0.90 + 0.10 * (np.abs(y) / half) ** 2)
        inside = step(waist - np.abs(x), 0.8) * step(half - np.abs(y), 0.8)
        body = (3.5 + 0.13 * max(number, 0)) * inside * (0.55 + 0.45 * dome(np.clip(x / waist, -1, 1), 2.0))
        plates = 1.8 * step(waist - np.abs(x), 0.8) * np.exp(-(((np.abs(y) - half) / 0.9) ** 2))
        walls = 1.1 * step(half - np.abs(y), 1.0) * np.exp(-(((np.abs(x) - waist + 0.8) / 0.9) ** 2))
        total[rows] += body + plates + walls + _arch(x, y, width)
    return total


def _arch(x: Map, y: Map, width: float) -> Map:
    """Pedicles as rings, the spinous process as a drop, transverse processes as bars; coordinates from the body's centre."""
    ring = np.hypot((np.abs(x) - 0.62 * width) / 2.6, (y + 3.0) / 4.0)
    pedicle = 2.6 * np.exp(-(((ring - 1) / 0.35) ** 2)) + 1.0 * (ring < 1)
    drop = 4.0 * np.exp(-((x / 2.4) ** 2) - ((y - 9.0) / 5.0) ** 2)
    bar = (
        2.4
        * step(3.6 - np.abs(y + 4.0 + 0.1 * np.abs(x)), 1.0)
        * step(np.abs(x) - width, 1.5)
        * step(31.0 - np.abs(x), 2.0)
    )
    return np.asarray(pedicle + drop + bar)


def girdle(grid: Grid, anatomy: Anatomy) -> Map:
    """Clavicles, scapulae and humeri of both sides."""
    total = np.zeros((grid.rows, grid.columns))
    for side in (-1, 1):
        lift = 3.0 * float(anatomy.quirks[11]) * side
        total += _clavicle(grid, anatomy.shift(70.0), side, lift)
        total += _scapula(grid, side, lift) + _humerus(grid, side, lift)
    return total


def _clavicle(grid: Grid, shift: float, side: int, lift: float) -> Map:
    """S-shaped tube from the manubrium to the acromion."""
    knots = np.array(
        [(13, 103, 70), (28, 101, 72), (52, 96, 68), (80, 88, 48), (108, 79, 22), (134, 76, 4), (152, 79, -6)],
        dtype=np.float64,
    )
    knots[:, 0] = side * knots[:, 0] + shift * np.linspace(1.0, 0.2, len(knots))
    knots[:, 1] += lift * np.linspace(0.2, 1.0, len(knots))
    width = np.array([8.6, 7.0, 5.6, 5.2, 5.6, 6.6, 6.4])
    return project(grid, strand(knots, width, grid.pitch, depth=0.82 * width), shell=1.5, core=MARROW, layers=2)


def _scapula(grid: Grid, side: int, lift: float) -> Map:
    """Blade with its thick borders, spine, acromion, coracoid and glenoid."""

    def line(points: list[tuple[float, float]], width: float | list[float], flat: float = 0.7) -> Map:
        xyz = np.array([(side * x, y + lift, -50.0 + 4 * k) for k, (x, y) in enumerate(points)], dtype=np.float64)
        thick = np.broadcast_to(np.asarray(width, dtype=np.float64), len(points))
        return project(grid, strand(xyz, thick, grid.pitch, depth=flat * thick), shell=0.9, core=0.12)

    blade = [
        (side * x, y + lift)
        for x, y in (
            (152, 112),
            (128, 92),
            (112, 96),
            (104, 116),
            (106, 160),
            (116, 206),
            (124, 214),
            (132, 196),
            (146, 150),
        )
    ]
    total = 1.3 * polygon(grid, blade, 1.0)
    total += line([(153, 124), (144, 156), (133, 192), (123, 215)], [4.2, 3.8, 3.4, 2.6])
    total += 0.6 * line([(112, 97), (104, 118), (106, 160), (117, 205)], 1.8)
    total += line([(107, 118), (125, 102), (146, 90), (163, 86), (172, 92)], [2.2, 3.2, 4.2, 6.0, 5.0])
    total += line([(150, 108), (143, 100), (138, 99), (136, 106)], [4.5, 4.2, 4.0, 3.6])
    total += line([(154, 104), (157, 116), (154, 130)], [3.2, 4.4, 3.4], 1.6)
    return total


def _humerus(grid: Grid, side: int, lift: float) -> Map:
    """Head and shaft."""
    knots = np.array(
        [
            (166, 94, -20),
            (167, 97, -20),
            (169, 103, -20),
            (174, 118, -18),
            (184, 146, -14),
            (192, 200, -10),
            (200, 270, -8),
            (212, 360, -8),
        ],
        dtype=np.float64,
    )
    knots[:, 0] *= side
    knots[:, 1] += lift
    width = np.array([3.0, 12.0, 18.0, 21.0, 15.0, 11.5, 11.0, 11.0])
    return project(grid, strand(knots, width, grid.pitch, depth=0.9 * width), shell=2.2, core=0.14)


def sternum(grid: Grid, anatomy: Anatomy) -> Map:
    """Manubrium and body: barely seen through the spine."""
    shift = anatomy.shift(85.0)
    upper = [(-26, 96), (-30, 108), (-17, 142), (17, 142), (30, 108), (26, 96), (0, 101)]
    lower = [(-15, 145), (-18, 200), (-15, 246), (15, 246), (18, 200), (15, 145)]
    return sum(
        (1.8 * polygon(grid, [(x + shift, y) for x, y in part], 1.2) for part in (upper, lower)),
        np.zeros((grid.rows, grid.columns)),
    )


def skeleton(grid: Grid, anatomy: Anatomy, rng: Generator) -> Map:
    """All bone, with the uneven texture of marrow."""
    total = ribs(grid, anatomy) + spine(grid, anatomy) + girdle(grid, anatomy) + sternum(grid, anatomy)
    return np.asarray(total * (1 + 0.07 * grid.noise(rng, 3.0) + 0.05 * grid.noise(rng, 1.3)))
