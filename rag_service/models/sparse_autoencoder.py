"""A Matryoshka BatchTopK sparse autoencoder as it serves: arrays in, sparse activations out.

d box axes, m concepts in nested prefixes m_1 < ... < m_G = m. Of a standardised centre x the activations are
a = ReLU(W_enc (x - b_dec) + b_enc), those up to a learned threshold set to 0; x is rebuilt as W_dec a + b_dec.
BatchTopK: Bussmann et al., arXiv 2412.06410. Matryoshka: Bussmann et al., arXiv 2503.17547. On chest films: arXiv 2507.12950.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """`mean` and `deviation` (d,) standardise a centre; `encoder` and `decoder` (m, d), decoder rows of unit length;
    `encoder_bias` (m,), `decoder_bias` (d,). ValueError when the arrays do not fit one another or are not finite."""

    mean: Floats
    deviation: Floats
    encoder: Floats
    encoder_bias: Floats
    decoder: Floats
    decoder_bias: Floats
    threshold: float
    prefixes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.encoder.ndim != 2 or not self.prefixes:
            raise ValueError("an autoencoder needs encoder rows and prefixes")
        concepts, axes = self.encoder.shape
        wanted = [(axes,), (axes,), (concepts, axes), (concepts,), (concepts, axes), (axes,)]
        if [a.shape for a in self.arrays.values()] != wanted:
            raise ValueError(f"the arrays do not fit {concepts} concepts of {axes} axes")
        if not all(np.isfinite(a).all() for a in self.arrays.values()) or not self.threshold >= 0:
            raise ValueError("the arrays must be finite and the threshold must not be negative")
        if [0, *self.prefixes] != sorted({0, *self.prefixes}) or self.prefixes[-1] != concepts:
            raise ValueError(f"the prefixes must grow from 1 or more to {concepts}")

    @property
    def arrays(self) -> dict[str, Floats]:
        """The six arrays by name, as they are stored."""
        return {name: getattr(self, name) for name in ARRAYS}

    @cached_property
    def directions(self) -> Floats:
        """(m, d): how a centre moves for one unit of each activation."""
        return self.decoder * self.deviation

    def standardised(self, centres: NDArray[np.floating]) -> Floats:
        """Centres (..., d) as the autoencoder takes them."""
        return np.asarray((centres.astype(np.float64) - self.mean) / self.deviation)

    def activations(self, centres: NDArray[np.floating]) -> Floats:
        """Sparse activations (..., m) >= 0 of box centres (..., d)."""
        found = (self.standardised(centres) - self.decoder_bias) @ self.encoder.T + self.encoder_bias
        return np.where(found > self.threshold, found, 0.0)

    def rebuilt(self, activations: Floats, prefix: int) -> Floats:
        """Standardised centres (..., d) from the first `prefix` concepts alone."""
        return np.asarray(activations[..., :prefix] @ self.decoder[:prefix] + self.decoder_bias)


ARRAYS: Final = tuple(f.name for f in fields(SparseAutoencoder) if f.name not in {"threshold", "prefixes"})
