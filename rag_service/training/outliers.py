"""Pictures that are no upright frontal chest film, made from films or from nothing, on tensors (B, 1, S, S) in [0, 1].

Training shows them to the box so that its radius grows on what it does not know; the gate is fitted and measured with
them. Every function is a pure function of its films and its generator, which lies on the films' device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

Maker = Callable[[Tensor, torch.Generator], Tensor]


def make(films: Tensor, generator: torch.Generator) -> Tensor:
    """For each film a picture of a kind drawn from KINDS, its grey levels stretched as the service stretches a film's."""
    drawn = torch.randint(len(KINDS), (len(films),), generator=generator, device=films.device)
    made = torch.empty_like(films)
    for number, maker in enumerate(KINDS.values()):
        chosen = drawn == number
        if chosen.any():
            made[chosen] = maker(films[chosen], generator)
    return stretched(made)


def stretched(films: Tensor) -> Tensor:
    """The 0.5th to the 99.5th percentile of each film's grey, estimated on every third pixel, mapped to [0, 1]."""
    sample = films[:, :, ::3, ::3].flatten(1)
    ends = torch.quantile(sample, torch.tensor([0.005, 0.995], device=films.device), dim=1).view(2, -1, 1, 1, 1)
    return ((films - ends[0]) / (ends[1] - ends[0]).clamp(min=1 / 255)).clamp(0, 1)


def uniform_noise(films: Tensor, generator: torch.Generator) -> Tensor:
    """Every pixel its own uniform grey."""
    return _rand(films, generator, *films.shape)


def gaussian_noise(films: Tensor, generator: torch.Generator) -> Tensor:
    """Normal grey around one half, coarse or fine."""
    fine = 0.5 + 0.2 * _randn(films, generator, *films.shape)
    cell = int(_rand(films, generator, 1).item() * 6) + 1
    coarse = functional.interpolate(fine[:, :, ::cell, ::cell], size=films.shape[-1], mode="bilinear")
    return coarse.clamp(0, 1)


def salt_and_pepper(films: Tensor, generator: torch.Generator) -> Tensor:
    """Black and white pixels alone."""
    share = 0.1 + 0.8 * _rand(films, generator, len(films), 1, 1, 1)
    return (_rand(films, generator, *films.shape) < share).to(films.dtype)


def natural(films: Tensor, generator: torch.Generator) -> Tensor:
    """Noise whose amplitude falls as 1/f^a, a in 0.7 ... 2, as in photographs of the world (Field, 1987)."""
    side = films.shape[-1]
    down, across = torch.fft.fftfreq(side, device=films.device), torch.fft.rfftfreq(side, device=films.device)
    frequency = torch.sqrt(down[:, None] ** 2 + across[None] ** 2).clamp(min=1 / side)
    exponent = 0.7 + 1.3 * _rand(films, generator, len(films), 1, 1, 1)
    spectrum = torch.fft.rfft2(_randn(films, generator, *films.shape)) * frequency.pow(-exponent)
    return stretched(torch.fft.irfft2(spectrum, s=(side, side)))


def blank(films: Tensor, generator: torch.Generator) -> Tensor:
    """One grey with a slope and a trace of texture: an unexposed plate."""
    down, across = _grid(films)
    slope = _spread(films, generator, 2, 0.05)
    grey = 0.1 + 0.8 * _rand(films, generator, len(films), 1, 1, 1)
    texture = 0.01 * _rand(films, generator, len(films), 1, 1, 1) * _randn(films, generator, *films.shape)
    return (grey + slope[0] * down + slope[1] * across + texture).clamp(0, 1)


def checkerboard(films: Tensor, generator: torch.Generator) -> Tensor:
    """Squares of two greys, turned and scaled at random."""
    down, across = _turned_grid(films, generator)
    cells = 2 + 14 * _rand(films, generator, len(films), 1, 1, 1)
    board = (torch.floor(down * cells) + torch.floor(across * cells)).remainder(2)
    margin = 0.4 * _rand(films, generator, 2, len(films), 1, 1, 1)
    return margin[0] + (1 - margin[0] - margin[1]) * board


def shuffled(films: Tensor, generator: torch.Generator) -> Tensor:
    """A film cut into 3 x 3 ... 8 x 8 tiles that are laid down in another order."""
    count, side = len(films), films.shape[-1]
    tiles = 3 + int(_rand(films, generator, 1).item() * 6)
    edge = -(-side // tiles)
    padded = functional.interpolate(films, size=edge * tiles, mode="bilinear")
    pieces = functional.unfold(padded, edge, stride=edge)
    order = _rand(films, generator, count, 1, tiles * tiles).argsort(-1).expand(-1, pieces.shape[1], -1)
    whole = functional.fold(pieces.gather(2, order), (edge * tiles, edge * tiles), edge, stride=edge)
    return functional.interpolate(whole, size=side, mode="bilinear")


def close_up(films: Tensor, generator: torch.Generator) -> Tensor:
    """A detail of a film, a sixth to a third of its side, at any angle."""
    scale = 1 / 6 + (1 / 6) * _rand(films, generator, len(films))
    angle = 2 * math.pi * _rand(films, generator, len(films))
    shift = _spread(films, generator, 2, 0.6).flatten(1)
    theta = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[0]], -1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), shift[1]], -1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, list(films.shape), align_corners=False)
    return functional.grid_sample(films, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def section(films: Tensor, generator: torch.Generator) -> Tensor:
    """A bright-rimmed oval with a mottled inside on black: the look of a CT or MR section."""
    down, across = _turned_grid(films, generator)
    height, width = 0.45 + 0.45 * _rand(films, generator, 2, len(films), 1, 1, 1)
    reach = torch.sqrt((down / height) ** 2 + (across / width) ** 2)
    rim = torch.exp(-(((reach - 0.92) / 0.05) ** 2))
    return (reach < 1).to(films.dtype) * (0.7 * natural(films, generator) + 0.5 * rim).clamp(0, 1)


def sector(films: Tensor, generator: torch.Generator) -> Tensor:
    """Speckle in a fan on black: the look of an ultrasound picture."""
    down, across = _grid(films)
    depth = 1.6 + 0.3 * _rand(films, generator, len(films), 1, 1, 1)
    half = 0.4 + 0.5 * _rand(films, generator, len(films), 1, 1, 1)
    away, angle = torch.hypot(down + 1, across), torch.atan2(across, down + 1)
    speckle = natural(films, generator) * _rand(films, generator, *films.shape).sqrt()
    return ((away < depth) & (away > 0.2) & (angle.abs() < half)).to(films.dtype) * speckle


def photograph(films: Tensor, generator: torch.Generator) -> Tensor:
    """A film on a light box as a telephone sees it: in perspective, on a background, unevenly lit, with glare and moire."""
    count = len(films)
    down, across = _grid(films)
    tilt = 1 + _spread(films, generator, 1, 0.25)[0] * down + _spread(films, generator, 1, 0.25)[0] * across
    angle = _spread(films, generator, 1, math.radians(15))[0]
    zoom = 1.1 + 0.4 * _rand(films, generator, count, 1, 1, 1)
    x = zoom * (angle.cos() * across - angle.sin() * down) / tilt
    y = zoom * (angle.sin() * across + angle.cos() * down) / tilt
    grid = torch.cat([x, y], 1).permute(0, 2, 3, 1)
    film = functional.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    inside = ((x.abs() < 1) & (y.abs() < 1)).to(films.dtype)
    background = _rand(films, generator, count, 1, 1, 1) * (0.6 + 0.4 * natural(films, generator))
    return _lit(inside * film + (1 - inside) * background, generator)


def _lit(scene: Tensor, generator: torch.Generator) -> Tensor:
    """A scene with the cast of its lamp, dark corners, a reflection, and the ripple of two rasters."""
    count = len(scene)
    down, across = _grid(scene)
    cast = torch.exp(_spread(scene, generator, 1, 0.4)[0])
    corners = 1 - 0.5 * _rand(scene, generator, count, 1, 1, 1) * (down**2 + across**2)
    place, size = _spread(scene, generator, 2, 0.7), 0.1 + 0.25 * _rand(scene, generator, count, 1, 1, 1)
    glare = torch.exp(-((down - place[0]) ** 2 + (across - place[1]) ** 2) / size**2)
    wave = 40 + 80 * _rand(scene, generator, 2, count, 1, 1, 1)
    ripple = 0.06 * _rand(scene, generator, count, 1, 1, 1) * torch.sin(wave[0] * down + wave[1] * across)
    lit = scene.clamp(0, 1).pow(cast) * corners + 0.8 * _rand(scene, generator, count, 1, 1, 1) * glare + ripple
    return (0.1 + 0.8 * lit + 0.02 * _randn(scene, generator, *scene.shape)).clamp(0, 1)


def turned(films: Tensor, generator: torch.Generator) -> Tensor:
    """Each film turned by 90, 180 or 270 degrees."""
    turns = torch.randint(1, 4, (len(films),), generator=generator, device=films.device).tolist()
    return torch.stack([torch.rot90(film, k, (1, 2)) for film, k in zip(films, turns, strict=True)])


def inverted(films: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001  (the signature of every kind)
    """Bone dark, air bright."""
    return 1 - films


KINDS: Final = MappingProxyType(
    {
        "uniform_noise": uniform_noise,
        "gaussian_noise": gaussian_noise,
        "salt_and_pepper": salt_and_pepper,
        "natural": natural,
        "blank": blank,
        "checkerboard": checkerboard,
        "shuffled": shuffled,
        "close_up": close_up,
        "section": section,
        "sector": sector,
        "photograph": photograph,
    }
)
"""What `make` draws from: kinds that show no chest, or show it as no radiograph does. Turned and inverted films are
chest films still, and the network learns to name them."""


def _grid(films: Tensor) -> tuple[Tensor, Tensor]:
    """Places (1, 1, S, 1) downwards and (1, 1, 1, S) across, in (-1, 1)."""
    side = films.shape[-1]
    line = (torch.arange(side, device=films.device, dtype=films.dtype) + 0.5) * (2 / side) - 1
    return line.view(1, 1, -1, 1), line.view(1, 1, 1, -1)


def _turned_grid(films: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    down, across = _grid(films)
    angle = _spread(films, generator, 1, math.pi)[0]
    return angle.cos() * down + angle.sin() * across, angle.cos() * across - angle.sin() * down


def _rand(films: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=films.device, dtype=films.dtype)


def _randn(films: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device=films.device, dtype=films.dtype)


def _spread(films: Tensor, generator: torch.Generator, count: int, half_range: float) -> Tensor:
    """(count, B, 1, 1, 1) uniform in (-half_range, half_range)."""
    return (2 * _rand(films, generator, count, len(films), 1, 1, 1) - 1) * half_range
