"""The patient: build, breath and the outlines of the chest, all in mm of the reference build."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from eval.phantom.grid import Knots, Map, along, spline

CAVITY_WIDTH: Knots = (
    (58, 42),
    (60, 54),
    (65, 68),
    (73, 80),
    (88, 95),
    (112, 108),
    (145, 117),
    (185, 124),
    (235, 131),
    (275, 134),
    (315, 133),
    (350, 130),
    (390, 125),
    (430, 119),
)
"""Half-width of the rib cage's inner face against height."""
CAVITY_DEPTH: Knots = (
    (57, 0),
    (60, 12),
    (66, 24),
    (78, 38),
    (104, 56),
    (145, 72),
    (205, 86),
    (260, 92),
    (330, 92),
    (430, 84),
)
RIGHT_BORDER: Knots = (
    (40, 40),
    (58, 52),
    (62, 43),
    (70, 35),
    (84, 29),
    (100, 25),
    (135, 25),
    (162, 28),
    (180, 30),
    (200, 35),
    (220, 41),
    (243, 45),
    (265, 45),
    (284, 41),
    (304, 30),
    (330, 22),
)
"""Right edge of mediastinum and heart (mm to the patient's right): vena cava, right atrium."""
LEFT_BORDER: Knots = (
    (40, 40),
    (58, 52),
    (62, 43),
    (70, 35),
    (84, 29),
    (100, 25),
    (116, 29),
    (127, 35),
    (138, 36),
    (149, 32),
    (158, 29),
    (169, 34),
    (184, 40),
    (203, 50),
    (224, 61),
    (245, 72),
    (264, 80),
    (280, 83),
    (292, 82),
    (306, 72),
    (330, 40),
)
"""Left edge: subclavian artery, aortic knuckle, pulmonary trunk, left ventricle to the apex."""
HEART_TOP = 188.0
"""Height above which the border belongs to the great vessels and does not widen with the heart."""


@dataclass(frozen=True)
class Anatomy:
    """One patient. `size` scales everything (1.0 = a man of about 178 cm); angles in degrees; `seed` varies the person.

    `heart_width` multiplies the heart's transverse diameter; `inspiration` in [-1, 1] lowers the diaphragm;
    `rotation` is about the long axis, positive bringing the front of the chest to the viewer's right;
    `fat` in [0, 1] thickens the body wall.
    """

    sex: Literal["female", "male"] = "male"
    size: float = 1.0
    heart_width: float = 1.0
    inspiration: float = 0.0
    rotation: float = 0.0
    fat: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "size": (0.75, 1.2),
            "heart_width": (0.75, 1.7),
            "inspiration": (-1.0, 1.0),
            "rotation": (-15.0, 15.0),
            "fat": (0.0, 1.0),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], got {getattr(self, name)}")

    @cached_property
    def quirks(self) -> Map:
        """Sixteen standard normal numbers in [-2, 2] that make this person differ from the reference."""
        return np.clip(np.random.default_rng([self.seed, 1]).standard_normal(16), -2, 2)

    @property
    def centre(self) -> tuple[float, float]:
        """Point of the patient (x, y) in mm on which the film is centred: nobody stands exactly in the middle."""
        return (7.0 * float(self.quirks[12]), 206.0 + 3.0 * float(self.quirks[13]))

    def shift(self, z: float) -> float:
        """Sideways displacement (mm) that rotation gives to what lies `z` mm in front of the axis."""
        return z * float(np.sin(np.radians(self.rotation)))

    def half_width(self, y: Map) -> Map:
        """Half-width of the rib cage's inside at height `y`, mm."""
        return np.asarray(spline(CAVITY_WIDTH)(y)) * (1 + 0.015 * float(self.quirks[0]))

    def half_depth(self, y: Map) -> Map:
        """Half-depth of the rib cage's inside at height `y`, mm."""
        return along(CAVITY_DEPTH, y) * (1 + 0.03 * float(self.quirks[1]))

    def border(self, y: Map, left: bool) -> Map:
        """Distance of the mediastinal border from the midline at height `y`, mm, without rotation."""
        base = along(LEFT_BORDER if left else RIGHT_BORDER, y)
        base = base + (1.5 * self.quirks[2] * np.exp(-(((y - 135) / 16) ** 2)) if left else 0.0)
        grown = self.heart_width * (1 + 0.03 * float(self.quirks[3]))
        # An enlarged heart grows to the left more than to the right.
        gain = (grown - 1) * (1.15 if left else 0.75)
        weight = 0.5 + 0.5 * np.tanh((y - HEART_TOP - 16) / 20)
        return np.asarray(base * (1 + gain * weight))

    def dome_top(self, left: bool) -> float:
        """Height of a hemidiaphragm's summit, mm; the right one stands higher."""
        return 280.0 + 16.0 * self.inspiration + (12.0 + 3.0 * float(self.quirks[4]) if left else 0.0)

    def diaphragm(self, x: Map, left: bool) -> Map:
        """Height of the dome's ridge at lateral position |x|, mm."""
        summit, top = 58.0 + 3.0 * float(self.quirks[5]), self.dome_top(left)
        away = np.abs(x) - summit
        lateral = 50.0 * (np.clip(away, 0, None) / 78.0) ** 2.3
        medial = 12.0 * (np.clip(-away, 0, None) / 45.0) ** 2
        return np.asarray(top + lateral + medial)

    @property
    def cardiothoracic_ratio(self) -> float:
        """Greatest heart width over greatest inner chest width at or above the domes: the radiologist's measurement."""
        y = np.arange(HEART_TOP + 10, self.dome_top(left=True) + 6, 0.5)
        heart = float(self.border(y, True).max() + self.border(y, False).max())
        chest = np.arange(180.0, self.dome_top(left=False) + 20, 0.5)
        return heart / (2 * float(self.half_width(chest).max()))
