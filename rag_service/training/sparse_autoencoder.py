"""Trains a Matryoshka BatchTopK sparse autoencoder (see `rag_service.models.sparse_autoencoder`) on boxes.

Shapes: B points of a batch, d axes, m concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import trange

from rag_service.models.sparse_autoencoder import SparseAutoencoder

_LEAST_DEVIATION: Final = 1e-3


@dataclass(frozen=True)
class Recipe:
    """How an autoencoder is trained.

    `active` concepts a film on average, of `prefixes[-1]`. A concept silent for `dead_after` steps is revived: the `revived`
    likeliest of such explain what was left, with weight `auxiliary`. The threshold is a running mean with `memory`.
    """

    prefixes: tuple[int, ...] = (16, 32, 64, 128)
    active: int = 4
    steps: int = 2000
    batch: int = 256
    learning_rate: float = 1e-3
    auxiliary: float = 1.0
    revived: int = 32
    dead_after: int = 100
    memory: float = 0.99
    seed: int = 20260


class Autoencoder(nn.Module):
    """Standardised centres (B, d) -> activations (B, m) before any is cut, and back from a prefix of them."""

    def __init__(self, axes: int, concepts: int) -> None:
        super().__init__()
        self.decoder = nn.Parameter(functional.normalize(torch.randn(concepts, axes), dim=1))
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.encoder_bias = nn.Parameter(torch.zeros(concepts))
        self.decoder_bias = nn.Parameter(torch.zeros(axes))

    def forward(self, centres: Tensor) -> Tensor:
        """ReLU(W_enc (x - b_dec) + b_enc)."""
        return functional.relu((centres - self.decoder_bias) @ self.encoder.T + self.encoder_bias)

    def rebuilt(self, activations: Tensor, prefix: int) -> Tensor:
        """(B, d) from the first `prefix` activations."""
        return activations[:, :prefix] @ self.decoder[:prefix] + self.decoder_bias

    @torch.no_grad()
    def normalise(self) -> None:
        """Give the decoder's rows unit length."""
        self.decoder.copy_(functional.normalize(self.decoder, dim=1))


def batch_top_k(activations: Tensor, active: int) -> Tensor:
    """Keep the active * B largest of a batch (B, m), wherever they lie; the rest is 0."""
    flat = activations.flatten()
    kept = flat.topk(active * len(activations)).indices
    return torch.zeros_like(flat).scatter(0, kept, flat[kept]).view_as(activations)


def nested_loss(model: Autoencoder, centres: Tensor, activations: Tensor, prefixes: Sequence[int]) -> Tensor:
    """Sum over the prefixes of the mean squared error of what each rebuilds alone."""
    return torch.stack([functional.mse_loss(model.rebuilt(activations, m), centres) for m in prefixes]).sum()


def revival_loss(model: Autoencoder, residual: Tensor, every: Tensor, dead: Tensor, count: int) -> Tensor:
    """Mean squared error of what is left, (B, d), explained by at most `count` concepts of `dead` (m,); 0 when none is dead.

    `every` (B, m) are the activations before any was cut.
    """
    if not bool(dead.any()):
        return residual.new_zeros(())
    likeliest = (every * dead).topk(min(count, int(dead.sum())), dim=1)
    revived = torch.zeros_like(every).scatter(1, likeliest.indices, likeliest.values)
    return functional.mse_loss(revived @ model.decoder, residual)


def fit(centre: NDArray[np.float32], radius: NDArray[np.float32], recipe: Recipe) -> SparseAutoencoder:
    """The autoencoder of n boxes (n, d), as it will be read back from float16; the same boxes and recipe give the same one."""
    mean, deviation = centre.mean(0), np.maximum(centre.std(0), _LEAST_DEVIATION)
    state = torch.get_rng_state()
    torch.manual_seed(recipe.seed)
    try:
        model, threshold = _trained(
            torch.from_numpy((centre - mean) / deviation), torch.from_numpy(radius / deviation), recipe
        )
    finally:
        torch.set_rng_state(state)
    arrays = {"mean": mean, "deviation": deviation, **{n: p.detach().numpy() for n, p in model.named_parameters()}}
    rounded = {name: array.astype(np.float16).astype(np.float64) for name, array in arrays.items()}
    return SparseAutoencoder(**rounded, threshold=threshold, prefixes=recipe.prefixes)


def _trained(centres: Tensor, radius: Tensor, recipe: Recipe) -> tuple[Autoencoder, float]:
    """The model, and the running mean of the smallest activation that a batch kept."""
    model = Autoencoder(centres.shape[1], recipe.prefixes[-1])
    optimiser = torch.optim.Adam(model.parameters(), recipe.learning_rate, betas=(0.9, 0.99))
    silent = torch.zeros(recipe.prefixes[-1], dtype=torch.long)
    threshold = 0.0
    for step in trange(recipe.steps, desc="training concepts", unit="step"):
        x = _drawn(centres, radius, recipe.batch)
        every = model(x)
        kept = batch_top_k(every, recipe.active)
        residual = (x - model.rebuilt(kept, recipe.prefixes[-1])).detach()
        revival = revival_loss(model, residual, every, silent >= recipe.dead_after, recipe.revived)
        loss = nested_loss(model, x, kept, recipe.prefixes) + recipe.auxiliary * revival
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        model.normalise()
        silent = torch.where((kept > 0).any(0), 0, silent + 1)
        memory = recipe.memory if step else 0.0
        threshold = memory * threshold + (1 - memory) * float(kept.detach()[kept > 0].min())
    return model, threshold


def _drawn(centres: Tensor, radius: Tensor, batch: int) -> Tensor:
    """A batch (B, d): half of it centres, half of it points drawn evenly from boxes."""
    rows = torch.randint(len(centres), (batch,))
    within = (2 * torch.rand(batch, centres.shape[1]) - 1) * radius[rows]
    within[: batch // 2] = 0.0
    return centres[rows] + within
