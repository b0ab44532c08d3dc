"""From path lengths to a picture: Beer-Lambert attenuation, scatter, quantum noise, detector, display curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from eval.phantom.grid import Grid, Map

SOFT, LUNG, BONE = 0.0175, 0.0046, 0.046
"""Linear attenuation in mm^-1 near 70 keV effective, hardened by the body (NIST XCOM, ICRU-44 tissues; lung inflated)."""


@dataclass(frozen=True)
class Technique:
    """How the film is taken and shown. Photons are per mm^2 at the open detector; blur in mm.

    `grid_leak` is the scatter that passes the anti-scatter grid, as a fraction of the primary beam averaged around.
    `equalise` in [0, 1] is how much of the coarse contrast the manufacturer's processing takes away; `sharpen` is
    the gain of its fine-detail band. `low` and `high` are line integrals shown near black and near white,
    `contrast` the steepness between them, `fog` the level of the unexposed display. `marker` puts a lead L at the
    patient's left shoulder; `collimation` is the blades' shadow in mm.
    """

    photons: float = 6.0e5
    detector_blur: float = 0.16
    grid_leak: float = 0.10
    equalise: float = 0.28
    sharpen: float = 0.45
    low: float = 0.85
    high: float = 3.9
    contrast: float = 1.05
    fog: float = 0.03
    marker: bool = True
    collimation: float = 2.5


def expose(grid: Grid, line: Map, technique: Technique, rng: np.random.Generator) -> Map:
    """Line integrals (no unit) -> measured line integrals, with scatter and quantum noise."""
    primary = np.exp(-line)
    scatter = technique.grid_leak * (0.6 * grid.blur(primary, 22.0) + 0.4 * grid.blur(primary, 60.0))
    signal = gaussian_filter(primary + scatter, technique.detector_blur / grid.pitch)
    # Counts are in the thousands, where Poisson is normal; a fixed normal field keeps twin films comparable.
    count = technique.photons * grid.pitch**2 * signal
    noise = gaussian_filter(rng.standard_normal(signal.shape), 0.45)
    noise /= 0.63
    noisy = signal * (1 + noise / np.sqrt(count + 1.0))
    return np.asarray(-np.log(np.clip(noisy, 2e-4, None)))


def display(grid: Grid, measured: Map, technique: Technique) -> Map:
    """Measured line integrals -> display values in [0, 1], bone bright: equalised, sharpened, then a sigmoid."""
    middle = (technique.low + technique.high) / 2
    coarse = grid.blur(np.clip(measured, 0.3, 5.0), 26.0)
    # Metal would ring: real processing limits the gain at strong edges.
    fine = 0.15 * np.tanh((measured - grid.blur(measured, 1.6)) / 0.15)
    shown = measured - technique.equalise * (coarse - middle) + technique.sharpen * fine
    u = (shown - middle) / (technique.high - technique.low)
    curve = 0.5 + 0.5 * np.tanh(2 * technique.contrast * u) / np.tanh(technique.contrast)
    return np.asarray(technique.fog + (1 - technique.fog) * np.clip(curve, 0, 1))


def finish(grid: Grid, picture: Map, technique: Technique) -> Map:
    """Collimator blades and the lead letter at the patient's left shoulder."""
    if technique.marker:
        x, y = float(grid.x[0, -1]) - 24.0, float(grid.y[0, 0]) + 18.0
        stem = (np.abs(grid.x - x) < 1.5) & (np.abs(grid.y - y - 7.0) < 7.0)
        foot = (np.abs(grid.x - x - 3.0) < 4.5) & (np.abs(grid.y - y - 12.6) < 1.4)
        letter = grid.blur((stem | foot).astype(np.float64), 0.4)
        picture = picture * (1 - letter) + 0.97 * letter
    inside = (
        np.minimum(
            np.minimum(grid.x - grid.x[0, 0], grid.x[0, -1] - grid.x),
            np.minimum(grid.y - grid.y[0, 0], grid.y[-1, 0] - grid.y),
        )
        - technique.collimation
    )
    shade = np.clip(0.5 + inside / 1.5, 0, 1) if technique.collimation > 0 else np.ones_like(picture)
    return np.asarray(np.clip(picture * shade, 0, 1))
