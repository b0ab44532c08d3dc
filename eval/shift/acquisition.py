"""Acquisition shifts: what another device, screen or archive would change in a film. Strength 1 is the one trained with.

Shifts are painted on the stored film (256 x 256, already stretched), where training paints them: the stretch cannot undo them.
What training varies (gamma, window, noise, blur) takes its unit from `training.augment.Strength`; the units of the others are
stated here. Each film has draws of its own, by seed and shift and not by strength, so a film's curve is one change growing.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from rag_service.imaging.normalise import STORED_SIDE
from rag_service.training.augment import Strength

STRENGTHS: Final = (0.5, 1.0, 1.5, 2.0)
BORDER: Final = 0.05
"""Depth of the dark border on every edge, in fractions of the film."""
SQUARE: Final = 0.07
"""Side of the black square, in fractions of the film: at strength 2 the largest that training paints."""
LETTER: Final = 0.08
"""Height of the white letter, in fractions of the film."""
INSET: Final = 0.03
"""Distance of a marker from the edges, in fractions of the film."""
BEST_QUALITY, QUALITY_STEP = 90, 30
"""JPEG quality is 90 - 30 s."""
_GLYPHS: Final = {
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
}

Pixels = NDArray[np.float32]
Stored = NDArray[np.uint8]


@dataclass(frozen=True)
class Unit:
    """Strength 1: half-range of log gamma and of both window ends, deviation of noise (in grey of the whole range) and of
    blur (in stored pixels), and the share of films that training blurs."""

    log_gamma: float
    window: float
    noise: float
    blur: float
    blur_share: float


def unit(side: int, strength: Strength | None = None) -> Unit:
    """The training program's ranges, carried from network input of `side` pixels to the stored film.

    Training adds noise and a 3 x 3 mean at the input's resolution: noise on the stored film is raised by what the resampling
    to `side` takes away, blur is the Gaussian as wide as that mean.
    """
    trained = strength or Strength()
    return Unit(
        log_gamma=trained.log_gamma,
        window=trained.window,
        noise=trained.noise / _grain_left(side),
        blur=float(np.sqrt(2 / 3)) * STORED_SIDE / side,
        blur_share=trained.blur_share,
    )


def gamma(film: Pixels, s: float, rng: Generator, one: Unit) -> Pixels:
    """Brighter or darker mid-greys, at the edge of the range."""
    return np.asarray(np.power(film, np.float32(np.exp(_sign(rng) * s * one.log_gamma))), np.float32)


def window(film: Pixels, s: float, rng: Generator, one: Unit) -> Pixels:
    """Both ends of the grey scale moved to the edge of their range."""
    return _window(film, _sign(rng) * s * one.window, _sign(rng) * s * one.window)


def noise(film: Pixels, s: float, rng: Generator, one: Unit) -> Pixels:
    """White noise."""
    return film + np.float32(s * one.noise) * rng.standard_normal(film.shape, np.float32)


def blur(film: Pixels, s: float, _: Generator, one: Unit) -> Pixels:
    """Less sharpness."""
    return np.asarray(gaussian_filter(film, s * one.blur), np.float32)


def resolution(film: Pixels, s: float, _rng: Generator, _one: Unit) -> Pixels:
    """A detector with pixels 1 + s times as wide."""
    side = round(len(film) / (1 + s))
    small = Image.fromarray(film).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(film.shape[::-1], Image.Resampling.BILINEAR), np.float32)


def collimation(film: Pixels, s: float, _rng: Generator, _one: Unit) -> Pixels:
    """A dark border on every edge."""
    depth = round(s * BORDER * len(film))
    framed = np.zeros_like(film)
    inside = slice(depth, len(film) - depth)
    framed[inside, inside] = film[inside, inside]
    return framed


def markers(film: Pixels, s: float, rng: Generator, _: Unit) -> Pixels:
    """The letter of a side in its upper corner, and a black square in another corner, as on films with markers painted out."""
    name = ("R", "L")[int(rng.integers(2))]
    corner = int(rng.integers(3))
    marked = film.copy()
    glyph = np.array([[c == "1" for c in line] for line in _GLYPHS[name]])
    cell = max(round(s * LETTER * len(film) / len(glyph)), 1)
    shape = np.kron(glyph, np.ones((cell, cell), bool))
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]  # upper left, upper right, lower left, lower right on the screen
    own = places.pop(0 if name == "R" else 1)  # the patient's right lies on the viewer's left
    np.copyto(marked[_corner(own, shape.shape, len(film))], np.float32(0.95), where=shape)
    side = max(round(s * SQUARE * len(film)), 1)
    marked[_corner(places[corner], (side, side), len(film))] = 0.0
    return marked


def compression(film: Pixels, s: float, _rng: Generator, _one: Unit) -> Pixels:
    """JPEG by Pillow at quality 90 - 30 s."""
    packed = io.BytesIO()
    Image.fromarray(_stored(film)).save(packed, "JPEG", quality=round(BEST_QUALITY - QUALITY_STEP * s))
    return np.asarray(Image.open(packed), np.float32) / np.float32(255)


def device(film: Pixels, s: float, rng: Generator, one: Unit) -> Pixels:
    """The training program's own change of device with every range multiplied by s: drawn anywhere in the ranges."""
    exponent, low, high = rng.uniform(-s, s, 3) * (one.log_gamma, one.window, one.window)
    blurred, grain = rng.random(2)
    film = _window(np.power(film, np.float32(np.exp(exponent))), low, high)
    film = blur(film, s, rng, one) if blurred < one.blur_share else film
    return noise(film, s * grain, rng, one)


def device_edge(film: Pixels, s: float, rng: Generator, one: Unit) -> Pixels:
    """Gamma, window, blur and noise together, each film at the edge of every range: harder than anything trained with."""
    film = np.clip(window(gamma(film, s, rng, one), s, rng, one), 0, 1)
    return noise(blur(film, s, rng, one), s, rng, one)


SHIFTS: Final[Mapping[str, Callable[[Pixels, float, Generator, Unit], Pixels]]] = {
    "gamma": gamma,
    "window": window,
    "noise": noise,
    "blur": blur,
    "resolution": resolution,
    "collimation": collimation,
    "markers": markers,
    "compression": compression,
    "device": device,
    "device_edge": device_edge,
}


def shifted(film: Stored, name: str, strength: float, seed: tuple[int, ...], one: Unit) -> Stored:
    """A stored film under a shift; at strength 0 the film itself. `seed` is the run's and the film's own."""
    if strength == 0:
        return film
    rng = np.random.default_rng([*seed, zlib.crc32(name.encode())])
    return _stored(SHIFTS[name](film.astype(np.float32) / np.float32(255), strength, rng, one))


def black_square(film: Stored, corner: tuple[int, int], share: float) -> Stored:
    """A black square of `share` of the film's side in a corner (lower?, right?)."""
    painted = film.copy()
    side = round(share * len(film))
    painted[_corner(corner, (side, side), len(film))] = 0
    return painted


def _stored(film: Pixels) -> Stored:
    return np.asarray(np.rint(np.clip(film, 0, 1) * 255), np.uint8)


def _window(film: Pixels, low: float, high: float) -> Pixels:
    """The scale from `low` to 1 + `high` drawn out to the whole range."""
    return np.asarray(np.clip((film - np.float32(low)) / np.float32(1 + high - low), 0, 1), np.float32)


def _corner(place: tuple[int, int], shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    inset = round(INSET * side)
    starts = (side - inset - extent if far else inset for far, extent in zip(place, shape, strict=True))
    rows, columns = (slice(start, start + extent) for start, extent in zip(starts, shape, strict=True))
    return rows, columns


def _sign(rng: Generator) -> int:
    return int(rng.integers(2)) * 2 - 1


def _grain_left(side: int) -> float:
    """The share of white noise's deviation that is left when a stored film is resampled to the network's input."""
    grain = np.random.default_rng(0).standard_normal((1, 1, STORED_SIDE, STORED_SIDE))
    resampled = functional.interpolate(torch.from_numpy(grain), size=side, mode="bilinear", antialias=True)
    return float(resampled.std()) / float(grain.std())
