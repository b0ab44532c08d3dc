"""Diseases: each turns a scene into a changed scene and says, with exact bounds, what it put there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from eval.phantom import bones
from eval.phantom.exposure import BONE, LUNG, SOFT
from eval.phantom.grid import Grid, Map, dome, ellipsoid, step
from eval.phantom.lungs import heart_silhouette
from eval.phantom.scene import Scene, Truth, sign
from eval.phantom.tubes import project, strand
from knowledge_base.findings import Laterality

Outcome = tuple[Scene, tuple[Truth, ...]]


class Pathology(Protocol):
    """Contract:

    - `apply` never changes the scene it is given, and draws random numbers only from the scene's own streams;
    - every Truth it returns bounds the change it made to the line integral.
    """

    def apply(self, scene: Scene) -> Outcome:
        """The scene with the disease, and its truths."""
        ...


def filled(scene: Scene, share: Map, label: str, side: Laterality, relief: Map | float = 1.0) -> Outcome:
    """Replace `share` of the aerated lung by soft tissue; vessels drown in it. `relief` scales the added density."""
    delta = share * ((SOFT - LUNG) * scene.lung * relief - scene.vessels)
    return scene.changed(delta, 1 - share), (Truth(label, side, scene.bounds(delta)),)


@dataclass(frozen=True)
class PleuralEffusion:
    """Free fluid with a meniscus; `height` mm above the lateral costophrenic angle."""

    side: Laterality
    height: float = 75.0

    def apply(self, scene: Scene) -> Outcome:
        """Fluid fills the pleural space below a line that rises towards the chest wall."""
        grid, anatomy = scene.grid, scene.anatomy
        wall = float(anatomy.half_width(np.array(300.0)))
        angle = float(anatomy.diaphragm(np.array(wall), self.side is Laterality.LEFT))
        inward = np.clip(np.abs(grid.x) / wall, 0, 1.05)
        level = angle - self.height * (0.58 + 0.55 * inward**5 + 0.06 * (1 - inward) ** 2)
        depth = grid.y - level
        # Fluid behind the lung reaches higher than the line where it fills the whole depth.
        share = 0.86 * step(depth, 6.0) + 0.14 * step(depth + 14.0, 9.0)
        share = share * step(depth + 24.0, 3.0) * scene.half(self.side)
        return filled(scene, share, "Pleural Effusion", self.side)


@dataclass(frozen=True)
class Pneumothorax:
    """Air around a partly collapsed lung; `depth` mm between chest wall and pleural line at the apex."""

    side: Laterality
    depth: float = 26.0

    def apply(self, scene: Scene) -> Outcome:
        """Beyond the pleural line: air instead of lung, and no vessels."""
        grid, anatomy = scene.grid, scene.anatomy
        fade = 0.25 + 0.75 * step(215.0 - grid.y, 70.0)
        lower = np.maximum(grid.y - 1.15 * self.depth, 40.0)
        line = np.where(lower < 58.5, 0.0, anatomy.half_width(lower)) - self.depth * fade * 0.85
        beyond = (np.abs(grid.x) - line) * scene.half(self.side) - 500.0 * (1 - scene.half(self.side))
        # The mediastinum stays where it is; only the pleural cavity beside it can hold the air.
        share = step(beyond, 0.5) * (scene.lung > 0) * step(np.abs(grid.x) - 27.0, 2.0)
        pleura = SOFT * 7.0 * np.exp(-((beyond / 0.75) ** 2)) * np.clip(scene.lung / 30.0, 0, 1)
        pleura = pleura * step(grid.y - 60.0 - 1.15 * self.depth, 4.0)
        delta = pleura - share * (LUNG * scene.lung + scene.vessels)
        return scene.changed(delta, 1 - share), (Truth("Pneumothorax", self.side, scene.bounds(delta)),)


@dataclass(frozen=True)
class Nodule:
    """A round lesion of `diameter` mm (30 and more is a mass); `across` and `down` place it in the lung, 0 to 1."""

    side: Laterality
    across: float = 0.5
    down: float = 0.4
    diameter: float = 18.0

    def apply(self, scene: Scene) -> Outcome:
        """A slightly lobulated sphere."""
        x, y = scene.place(self.side, self.across, self.down)
        radius = self.diameter / 2
        turn = np.arctan2(scene.grid.y - y, scene.grid.x - x)
        phase = scene.rng(10).uniform(0, 2 * np.pi, 2)
        edge = radius * (1 + 0.05 * np.sin(3 * turn + phase[0]) + 0.03 * np.sin(7 * turn + phase[1]))
        away = np.hypot(scene.grid.x - x, scene.grid.y - y) / edge
        chord = np.minimum(scene.grid.blur(2 * radius * dome(away), 0.5), scene.lung)
        delta = (SOFT - LUNG) * chord
        aerated = 1 - chord / np.maximum(scene.lung, 1e-6)
        return scene.changed(delta, aerated), (Truth("Lung Lesion", self.side, scene.bounds(delta)),)


@dataclass(frozen=True)
class Consolidation:
    """Airspace filled by exudate in one zone; `density` in (0, 1]; optional air bronchogram."""

    side: Laterality
    zone: Literal["upper", "middle", "lower"] = "lower"
    density: float = 0.7
    bronchogram: bool = True

    def apply(self, scene: Scene) -> Outcome:
        """A soft-edged, uneven cloud within the lung."""
        grid = scene.grid
        across, down, a, b = {
            "upper": (0.50, 0.30, 40.0, 36.0),
            "middle": (0.42, 0.66, 42.0, 30.0),
            "lower": (0.42, 0.84, 52.0, 38.0),
        }[self.zone]
        centre = scene.place(self.side, across, down)
        rng = scene.rng(11)
        lumps = 0.17 * grid.noise(rng, 26.0) + 0.16 * grid.noise(rng, 11.0) + 0.12 * grid.noise(rng, 5.0)
        away = np.hypot((grid.x - centre[0]) / a, (grid.y - centre[1]) / b)
        share = self.density * step(1.0 - away + lumps, 0.45) * step(1.45 - away, 0.25) * scene.half(self.side)
        if self.bronchogram:
            share = share * (1 - 0.26 * np.clip(_bronchogram(grid, centre, sign(self.side)) / 3.0, 0, 1))
        return filled(scene, share, "Consolidation", self.side, relief=0.62)


def _bronchogram(grid: Grid, centre: tuple[float, float], side: int) -> Map:
    """Air-filled bronchi running out from the hilum through a consolidation, mm."""
    x0, y0 = side * 46.0, 186.0
    total = np.zeros((grid.rows, grid.columns))
    for bend in (-0.35, 0.0, 0.4):
        dx, dy = (centre[0] - x0) * 1.15, (centre[1] - y0) * 1.15
        end = np.array([x0 + dx - bend * dy * 0.6, y0 + dy + bend * dx * 0.6, -10.0])
        start = np.array([x0, y0, -20.0])
        middle = (start + end) / 2 + np.array([-4.0 * bend, 5.0 * bend, 0.0])
        total += project(grid, strand(np.stack([start, middle, end]), np.array([2.0, 1.5, 0.8]), grid.pitch))
    return total


@dataclass(frozen=True)
class Edema:
    """Interstitial and alveolar oedema of both lungs, perihilar; `severity` in (0, 1]."""

    severity: float = 0.6

    def apply(self, scene: Scene) -> Outcome:
        """Bat-wing haze, wide vessels, septal (Kerley B) lines at the bases; one truth per side."""
        grid = scene.grid
        rng = scene.rng(12)
        lumps = 1 + 0.20 * grid.noise(rng, 22.0) + 0.14 * grid.noise(rng, 8.0) + 0.12 * grid.noise(rng, 2.8)
        spread = np.hypot((np.abs(grid.x) - 52.0) / 56.0, (grid.y - 198.0) / 78.0)
        share = np.clip(0.48 * self.severity * np.exp(-(spread**2.4)) * lumps, 0, 0.8)
        delta = share * (SOFT - LUNG) * scene.lung * 0.8 + 0.8 * self.severity * grid.blur(scene.vessels, 1.2)
        delta = delta + self.severity * _septal_lines(grid, scene) * (scene.lung > 5)
        sides = (Laterality.RIGHT, Laterality.LEFT)
        truths = tuple(Truth("Edema", side, scene.bounds(delta * scene.half(side))) for side in sides)
        return scene.changed(delta, 1 - share), truths


def _septal_lines(grid: Grid, scene: Scene) -> Map:
    """Short horizontal lines reaching the lateral pleura, as line integral."""
    rng, total = scene.rng(13), np.zeros((grid.rows, grid.columns))
    for side in (-1, 1):
        for y in np.arange(236.0, 292.0, 5.2):
            wall = float(scene.anatomy.half_width(np.array(y))) - 1.5
            long, tilt = rng.uniform(9, 17), rng.normal(0, 1.2)
            ends = np.array(
                [
                    (side * wall, y, 0.0),
                    (side * (wall - long / 2), y + tilt / 2, 0.0),
                    (side * (wall - long), y + tilt, 0.0),
                ]
            )
            total += project(grid, strand(ends, 0.55, grid.pitch, depth=2.6))
    return (SOFT - LUNG) * total


@dataclass(frozen=True)
class Atelectasis:
    """Plate-like atelectasis: a nearly horizontal band above the dome, `length` mm long."""

    side: Laterality
    length: float = 62.0

    def apply(self, scene: Scene) -> Outcome:
        """A thin ribbon of airless lung."""
        x, y = scene.place(self.side, 0.45, 0.88)
        reach, s = self.length / 2, sign(self.side)
        ends = np.array([(x - s * reach, y + 5.0, 0), (x, y - 1.0, 8), (x + s * reach, y - 3.0, 0)], dtype=np.float64)
        ribbon = project(scene.grid, strand(ends, np.array([1.4, 2.4, 1.2]), scene.grid.pitch, depth=13.0))
        delta = (SOFT - LUNG) * np.minimum(ribbon, scene.lung)
        return scene.changed(delta), (Truth("Atelectasis", self.side, scene.bounds(delta)),)


@dataclass(frozen=True)
class Cardiomegaly:
    """A heart so wide that the cardiothoracic ratio is `ratio`; `render` widens the patient's heart for it."""

    ratio: float = 0.58

    def apply(self, scene: Scene) -> Outcome:
        """The box of the heart that the scene already has."""
        box = scene.bounds(heart_silhouette(scene.grid, scene.anatomy))
        return scene, (Truth("Cardiomegaly", None, box),)


@dataclass(frozen=True)
class RibFracture:
    """A displaced fracture of one rib; `angle` degrees around the chest (0 = spine, 90 = flank)."""

    side: Laterality
    rib: int = 6
    angle: float = 62.0
    offset: float = 4.5

    def apply(self, scene: Scene) -> Outcome:
        """The rib's course with a step and a gap, less its healthy course."""
        broken = bones.Break(sign(self.side), self.rib, self.angle, self.offset)
        delta = (BONE - SOFT) * bones.fracture_change(scene.grid, scene.anatomy, broken)
        return scene.changed(delta), (Truth("Fracture", self.side, scene.bounds(delta)),)


@dataclass(frozen=True)
class HiatalHernia:
    """Stomach behind the heart with an air-fluid level; `width` mm."""

    width: float = 60.0

    def apply(self, scene: Scene) -> Outcome:
        """A rounded mass above the domes, its upper part holding air."""
        a, y = self.width / 2, scene.anatomy.dome_top(left=True) - 20.0
        mass = ellipsoid(scene.grid, (8.0, y), (a, 0.85 * a, 0.8 * a))
        air = 0.7 * mass * step(y - 2.0 - scene.grid.y, 0.8) * step(mass - 18.0, 3.0)
        delta = (SOFT - LUNG) * np.minimum(mass, scene.lung) - SOFT * air
        return scene.changed(delta), (Truth("Hiatal Hernia", None, scene.bounds(delta)),)
