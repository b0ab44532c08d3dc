"""Batched film augmentation on tensors (B, 1, S, S) in [0, 1]. Never mirrors: a film's sides are the patient's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Strength:
    """Half-ranges of the random changes, and the shares of films that are blurred or painted on."""

    rotation_degrees: float = 8.0
    zoom: float = 0.12
    aspect: float = 0.10
    shift: float = 0.06
    log_gamma: float = 0.35
    window: float = 0.08
    noise: float = 0.04
    blur_share: float = 0.25
    square_share: float = 0.5
    border_share: float = 0.15


def geometry(count: int, strength: Strength, generator: torch.Generator) -> Tensor:
    """Affine maps (count, 2, 3) that rotate, zoom, squeeze and move a film a little; for `resample`."""
    angle = _uniform(count, math.radians(strength.rotation_degrees), generator)
    zoom = torch.exp(_uniform(count, strength.zoom, generator))
    aspect = torch.exp(_uniform(count, strength.aspect / 2, generator))
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * zoom * aspect, -angle.sin() * zoom
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * zoom, angle.cos() * zoom / aspect
    theta[:, 0, 2] = _uniform(count, 2 * strength.shift, generator)
    theta[:, 1, 2] = _uniform(count, 2 * strength.shift, generator)
    return theta


def resample(films: Tensor, theta: Tensor, side: int) -> Tensor:
    """Films, or maps that lie over them, (B, K, S, S) moved by `theta` (B, 2, 3) and resampled to `side` pixels."""
    if side < films.shape[-1]:
        films = functional.interpolate(films, size=side, mode="bilinear", antialias=True)
    grid = functional.affine_grid(theta, [len(films), 1, side, side], align_corners=False)
    return functional.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def acquisition(films: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """What another device would change: gamma, window, noise, sharpness."""
    count = len(films)
    gamma = torch.exp(_uniform(count, strength.log_gamma, generator)).view(-1, 1, 1, 1)
    low = _uniform(count, strength.window, generator).view(-1, 1, 1, 1)
    high = 1.0 + _uniform(count, strength.window, generator).view(-1, 1, 1, 1)
    films = ((films.clamp(0, 1).pow(gamma) - low) / (high - low)).clamp(0, 1)
    blurred = torch.rand(count, generator=generator) < strength.blur_share
    if blurred.any():
        films = torch.where(blurred.view(-1, 1, 1, 1), functional.avg_pool2d(films, 3, 1, 1), films)
    sigma = strength.noise * torch.rand(count, 1, 1, 1, generator=generator)
    return (films + sigma * torch.randn(films.shape, generator=generator)).clamp(0, 1)


def occlusion(films: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Paint what is no finding: black or white squares where markers lie, and collimated borders."""
    films = films.clone()
    side = films.shape[-1]
    draw = torch.rand(len(films), 8, generator=generator).tolist()
    for film, (square, border, x, y, size, grey, edge, width) in zip(films, draw, strict=True):
        if square < strength.square_share:
            extent = int(side * (0.04 + 0.10 * size))
            top, left = _corner(y, side, extent), _corner(x, side, extent)
            film[:, top : top + extent, left : left + extent] = 0.0 if grey < 0.75 else 0.9
        if border < strength.border_share:
            depth = int(side * 0.10 * width) + 1
            film[:, *((slice(0, depth), slice(None)), (slice(-depth, None), slice(None)),
                      (slice(None), slice(0, depth)), (slice(None), slice(-depth, None)))[int(edge * 4)]] = 0.0  # fmt: skip
    return films


def _corner(draw: float, side: int, extent: int) -> int:
    """A place near either edge (outer quarter), where markers lie."""
    quarter = side * 0.22
    start = draw * 2 * quarter
    return int(start) if start < quarter else min(int(side - extent - (start - quarter)), side - extent)


def _uniform(count: int, half_range: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(count, generator=generator) - 1) * half_range
