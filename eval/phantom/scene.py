"""A patient projected without disease, ready for findings and devices to be laid on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eval.phantom import bones, lungs, tissue, vessels
from eval.phantom.anatomy import Anatomy
from eval.phantom.exposure import BONE, LUNG, SOFT
from eval.phantom.grid import Grid, Map
from knowledge_base.findings import Laterality
from rag_service.imaging.film import Box

VISIBLE = 0.08
"""A finding's box holds every pixel where it changes attenuation by at least this share of its greatest change."""


@dataclass(frozen=True)
class Truth:
    """What is on the film and where: a CheXpert name or a device's, the patient's side, the exact bounds."""

    label: str
    laterality: Laterality | None
    box: Box


@dataclass(frozen=True, eq=False)
class Scene:
    """The line integral so far (`line`, no unit) and what of the lung is still open to change.

    `lung` is the chord of aerated lung in mm, `vessels` the line integral of the vessels in it.
    """

    grid: Grid
    anatomy: Anatomy
    line: Map
    lung: Map
    vessels: Map
    cavity: Map
    seed: int

    def changed(self, delta: Map, aerated: Map | float = 1.0) -> Scene:
        """The scene with `delta` added to its line integral and `aerated` of the lung left (with its vessels)."""
        return replace(self, line=self.line + delta, lung=self.lung * aerated, vessels=self.vessels * aerated)

    def rng(self, stream: int) -> np.random.Generator:
        """Random numbers of one purpose: adding a finding must not reshuffle another's."""
        return np.random.default_rng([self.anatomy.seed, self.seed, stream])

    def half(self, side: Laterality) -> Map:
        """1 on the patient's `side` of the midline, else 0; BILATERAL is everything."""
        if side is Laterality.BILATERAL:
            return np.ones_like(self.grid.x)
        return np.asarray((self.grid.x > 0) == (side is Laterality.LEFT)).astype(np.float64)

    def place(self, side: Laterality, across: float, down: float) -> tuple[float, float]:
        """Point (x, y) in mm: `across` from mediastinum (0) to chest wall (1), `down` from apex (0) to dome (1)."""
        left = side is Laterality.LEFT
        y = np.array(66.0 + down * (self.anatomy.dome_top(left) - 66.0))
        inner, outer = float(self.anatomy.border(y, left)), float(self.anatomy.half_width(y))
        return (sign(side) * (inner + across * (outer - inner)), float(y))

    def bounds(self, change: Map) -> Box:
        """Box around the visible part of a change of line integral or of a mask."""
        size = np.abs(change)
        if not size.max() > 0:
            raise ValueError("the finding lies outside the film or the lung: it changes nothing")
        seen = size >= VISIBLE * size.max()
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        return Box(
            float(columns[0] / self.grid.columns),
            float(rows[0] / self.grid.rows),
            float((columns[-1] + 1) / self.grid.columns),
            float((rows[-1] + 1) / self.grid.rows),
        )


def sign(side: Laterality) -> int:
    """Direction of x for a side of the patient; BILATERAL has none."""
    if side is Laterality.BILATERAL:
        raise ValueError("this finding needs one side")
    return 1 if side is Laterality.LEFT else -1


def healthy(grid: Grid, anatomy: Anatomy, seed: int) -> Scene:
    """The patient without findings."""
    rng = [np.random.default_rng([anatomy.seed, 2, k]) for k in range(4)]
    inside = lungs.chest(grid, anatomy)
    texture = 1 + 0.05 * grid.noise(rng[3], 16.0) + 0.02 * grid.noise(rng[3], 4.0) + 0.02 * grid.noise(rng[3], 1.8)
    # Standing up, blood and weight make the bases denser than the apices.
    texture = texture * (1 + 0.22 * np.clip((grid.y - 190.0) / 100.0, -1, 1))
    tree = vessels.pulmonary_vessels(grid, anatomy, rng[0])
    # A vessel seen end-on cannot be longer than the lung it lies in; the central ones merge into the hilum.
    tree = 14.0 * np.tanh(np.minimum(tree, inside.lung) / 14.0) + inside.bronchi * (inside.lung > 1)
    gas = tissue.bowel_gas(grid, anatomy, rng[1])
    soft = tissue.body(grid, anatomy, rng[2]) - inside.lung - inside.airway - gas
    blood = 1.7 * (SOFT - LUNG) * tree
    bone = (BONE - SOFT) * bones.skeleton(grid, anatomy, rng[3])
    line = SOFT * np.clip(soft, 0, None) + LUNG * inside.lung * texture + blood + bone
    return Scene(grid, anatomy, np.asarray(line), inside.lung, blood, inside.cavity, seed)
