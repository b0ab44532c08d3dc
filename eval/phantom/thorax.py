"""Render the phantom: anatomy, then disease, then devices, then the film they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.phantom.anatomy import Anatomy
from eval.phantom.exposure import Technique, display, expose, finish
from eval.phantom.grid import Grid
from eval.phantom.lungs import heart_silhouette
from eval.phantom.pathology import Cardiomegaly, Pathology
from eval.phantom.scene import Scene, Truth, healthy
from knowledge_base.findings import Laterality
from rag_service.imaging.film import Box


@dataclass(frozen=True, eq=False)
class Phantom:
    """A film of float32 (rows, columns) in [0, 1], bone bright, and everything true about it.

    `cardiothoracic_ratio` is measured on the model, not on pixels; the anatomy boxes bound the aerated lungs (as they
    would be without disease) and the heart's shadow.
    """

    pixels: NDArray[np.float32]
    findings: tuple[Truth, ...]
    cardiothoracic_ratio: float
    right_lung: Box
    left_lung: Box
    heart: Box


def render(
    anatomy: Anatomy,
    pathologies: Sequence[Pathology] = (),
    devices: Sequence[Pathology] = (),
    *,
    rows: int = 1024,
    columns: int = 840,
    seed: int = 0,
    technique: Technique | None = None,
) -> Phantom:
    """The film of one patient; equal arguments give equal bytes. `seed` is the exposure's, `anatomy.seed` the person's.

    Raises ValueError where a finding cannot be seen on the film or contradicts another.
    """
    technique = technique or Technique()
    anatomy = _with_heart(anatomy, pathologies)
    grid = Grid.of(rows, columns, anatomy.size, anatomy.centre)
    scene = well = healthy(grid, anatomy, seed)
    truths: list[Truth] = []
    for item in (*pathologies, *devices):
        scene, found = item.apply(scene)
        truths += found
    pixels = finish(grid, display(grid, expose(grid, scene.line, technique, scene.rng(1)), technique), technique)
    return Phantom(
        pixels.astype(np.float32),
        tuple(truths),
        anatomy.cardiothoracic_ratio,
        _lung_box(well, Laterality.RIGHT),
        _lung_box(well, Laterality.LEFT),
        well.bounds(heart_silhouette(grid, anatomy)),
    )


def _lung_box(scene: Scene, side: Laterality) -> Box:
    """Bounds of one lung where it is most of the depth of the chest: not behind the dome or the heart."""
    return scene.bounds(np.asarray(scene.lung > np.maximum(20.0, 0.65 * scene.cavity)) * scene.half(side))


def _with_heart(anatomy: Anatomy, pathologies: Sequence[Pathology]) -> Anatomy:
    """The patient with the heart width that a Cardiomegaly asks for (bisection on the exact ratio)."""
    wanted = [p.ratio for p in pathologies if isinstance(p, Cardiomegaly)]
    if not wanted:
        return anatomy
    if len(wanted) > 1 or not 0.5 < wanted[0] <= 0.70:
        raise ValueError(f"one enlarged heart with a ratio in (0.5, 0.70], got {wanted}")
    low, high = 0.75, 1.7
    for _ in range(30):
        width = (low + high) / 2
        trial = replace(anatomy, heart_width=width).cardiothoracic_ratio
        low, high = (width, high) if trial < wanted[0] else (low, width)
    return replace(anatomy, heart_width=(low + high) / 2)
