"""Tubes, lines and metal: each adds to the line integral and bounds what it added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.phantom.grid import Grid, Map, ellipsoid, step
from eval.phantom.lungs import CARINA
from eval.phantom.scene import Scene, Truth
from eval.phantom.tubes import project, strand, together
from knowledge_base.findings import Laterality

Outcome = tuple[Scene, tuple[Truth, ...]]
Points = list[tuple[float, float]]
PLASTIC, BARIUM, METAL = 0.012, 0.11, 0.45
"""Excess over soft tissue, mm^-1: catheter wall with filler, radio-opaque stripe, steel and titanium."""


def wire(grid: Grid, points: Points, radius: float, per_mm: float, shell: float | None = None) -> Map:
    """Line integral of a wire or, with a `shell` in mm, of a hollow tube through `points` (x, y) mm."""
    path = strand(np.array([(x, y, 0.0) for x, y in points]), radius, grid.pitch)
    return per_mm * project(grid, path, shell=shell or 0.0, core=0.0 if shell else 1.0)


def laid(scene: Scene, delta: Map, label: str, side: Laterality | None = None) -> Outcome:
    """The scene with a device on it."""
    return scene.changed(delta), (Truth(label, side, scene.bounds(delta)),)


def shifted(points: Points, dx: float) -> Points:
    """The same course beside itself."""
    return [(x + dx, y) for x, y in points]


@dataclass(frozen=True)
class EndotrachealTube:
    """Tip `above_carina` mm above the carina; below zero it has gone down the right main bronchus."""

    above_carina: float = 45.0

    def apply(self, scene: Scene) -> Outcome:
        """Two faint walls and the stripe."""
        cx, cy = CARINA
        tip = cy - self.above_carina
        course: Points = [(1.0, -12.0), (1.5, 40.0), (-0.5, 85.0)]
        if self.above_carina < 0:
            course += [(cx, cy - 8.0), (cx + 0.9 * self.above_carina * 0.5, tip)]
        else:
            course += [(cx + 0.5, (85.0 + tip) / 2 + 4.0), (cx + 0.5, tip)] if tip > 92.0 else [(cx + 0.5, 92.0)]
        grid = scene.grid
        delta = wire(grid, course, 5.0, PLASTIC, shell=1.2) + wire(grid, shifted(course, 3.4), 0.8, BARIUM)
        return laid(scene, delta, "endotracheal tube")


@dataclass(frozen=True)
class NasogastricTube:
    """Feeding tube in the stomach, or, `misplaced`, through the right main bronchus into the lower lobe."""

    misplaced: bool = False

    def apply(self, scene: Scene) -> Outcome:
        """A thin tube with a stripe and a denser tip."""
        top = scene.anatomy.dome_top(left=True)
        course: Points = [(5.0, -12.0), (4.0, 60.0), (3.0, 130.0)]
        if self.misplaced:
            course = [
                (3.0, -12.0),
                (1.0, 70.0),
                (-2.0, 140.0),
                (-16.0, 168.0),
                (-36.0, 194.0),
                (-50.0, 232.0),
                (-62.0, 262.0),
            ]
        else:
            course += [(6.0, 200.0), (12.0, 262.0), (24.0, top + 8.0), (46.0, top + 34.0), (70.0, top + 48.0)]
        grid = scene.grid
        delta = wire(grid, course, 2.3, PLASTIC * 1.4, shell=0.8) + wire(grid, shifted(course, 1.2), 0.55, BARIUM)
        delta = delta + wire(grid, [course[-2], _midway(course[-2], course[-1]), course[-1]], 1.6, 0.03)
        return laid(scene, delta, "malpositioned nasogastric tube" if self.misplaced else "nasogastric tube")


def _midway(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The point between two points."""
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)


@dataclass(frozen=True)
class CentralVenousLine:
    """Right internal jugular line with its tip in the superior vena cava."""

    def apply(self, scene: Scene) -> Outcome:
        """One solid radio-opaque line."""
        course: Points = [(-52.0, -12.0), (-46.0, 34.0), (-34.0, 78.0), (-23.0, 112.0), (-20.0, 150.0), (-20.5, 176.0)]
        return laid(scene, wire(scene.grid, course, 1.25, 0.075), "central venous line", Laterality.RIGHT)


@dataclass(frozen=True)
class Pacemaker:
    """Left pectoral generator, leads to right atrium and right ventricle."""

    def apply(self, scene: Scene) -> Outcome:
        """Can with battery and circuit, header, two leads with their tips."""
        grid, (x, y) = scene.grid, (100.0, 122.0)
        away = np.hypot((grid.x - x) / 24.0, (grid.y - y) / 22.0) ** 2.0
        box = np.abs((grid.x - x) / 24.0) ** 3.2 + np.abs((grid.y - y) / 21.0) ** 3.2
        can = 1.1 * step(1 - box, 0.06) + 0.5 * step(1 - box, 0.06) * step(box - 0.80, 0.08)
        can = can + 0.9 * step(0.36 - away, 0.05) * step(grid.y - y + 2.0, 0.8)
        can = can + 0.7 * ((np.abs(grid.x - x + 8) < 4) & (np.abs(grid.y - y + 9) < 3))
        atrial: Points = [
            (84, 106),
            (74, 94),
            (52, 94),
            (24, 100),
            (-8, 116),
            (-20, 140),
            (-23, 190),
            (-24, 222),
            (-34, 226),
            (-38, 210),
        ]
        ventricular: Points = [
            (82, 110),
            (70, 97),
            (50, 97),
            (24, 103),
            (-6, 120),
            (-18, 146),
            (-21, 196),
            (-18, 246),
            (4, 270),
            (34, 274),
            (58, 272),
        ]
        leads = wire(grid, atrial, 0.85, 0.40) + wire(grid, ventricular, 0.85, 0.40)
        tips = sum((ellipsoid(grid, p, (1.5, 2.2, 1.5)) for p in ((-38.0, 210.0), (58.0, 272.0))), np.zeros_like(leads))
        return laid(scene, grid.blur(can, 0.4) + leads + 0.5 * tips, "pacemaker", Laterality.LEFT)


@dataclass(frozen=True)
class SternalWires:
    """Cerclage wires after sternotomy."""

    count: int = 6

    def apply(self, scene: Scene) -> Outcome:
        """Twisted loops down the midline."""
        turn, shift = np.linspace(0, 2 * np.pi, 25), scene.anatomy.shift(85.0)
        rng, loops = scene.rng(20), []
        for y in np.linspace(112, 236, self.count):
            tilt, width = rng.normal(0, 0.10), rng.uniform(9, 12)
            loop = np.stack(
                [shift + width * np.cos(turn), y + tilt * width * np.cos(turn) + 4.0 * np.sin(turn), 10 * np.sin(turn)],
                axis=1,
            )
            knot = np.array(
                [(shift + 1, y + 4, 10), (shift + 3, y + 7, 12), (shift + 1.5, y + 9, 12)], dtype=np.float64
            )
            loops += [strand(loop, 0.42, scene.grid.pitch), strand(knot, 0.7, scene.grid.pitch)]
        return laid(scene, METAL * project(scene.grid, together(loops)), "sternal wires")


@dataclass(frozen=True)
class EcgLeads:
    """Monitoring electrodes with their cables."""

    def apply(self, scene: Scene) -> Outcome:
        """Snap electrodes on the chest wall, cables leaving the film."""
        grid = scene.grid
        spots: tuple[Points, ...] = (
            [(-112, 104), (-122, 86), (-104, 60), (-112, 20), (-104, -12)],
            [(112, 100), (126, 84), (112, 52), (122, 18), (116, -12)],
            [(118, 286), (140, 262), (146, 200), (168, 130), (180, 60)],
        )
        total = np.zeros((grid.rows, grid.columns))
        for course in spots:
            total += wire(grid, course, 0.6, 0.30)
            total += 0.35 * (ellipsoid(grid, course[0], (5.2, 5.2, 0.5)) > 0) + 0.12 * ellipsoid(
                grid, course[0], (2.2, 2.2, 2.2)
            )
        return laid(scene, grid.blur(total, 0.3), "ECG leads")
