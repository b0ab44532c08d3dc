"""What the frozen film network makes of films, and of moved copies of those on which someone drew: read once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from knowledge_base.records import digest
from rag_service.models.encoder import FilmEncoder, to_input
from rag_service.models.network import FilmNetwork
from rag_service.training import augment

BATCH: Final = 32
COPIES: Final = 6
"""Moved copies of a film on which someone drew."""

Half = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class FilmFeatures:
    """M films: `early` (M, C, h, w), `late` (M, D, h/2, w/2), `places` (M, 17, h, w) logits, `pooled` (M, P), all float16; `film`
    (M,) row of the corpus; `theta` (M, 2, 3) how the copy was moved, NaN for the film as it is.
    """

    early: Half
    late: Half
    places: Half
    pooled: Half
    film: NDArray[np.int64]
    theta: NDArray[np.float32]

    def joined(self, other: FilmFeatures) -> FilmFeatures:
        """These and those."""
        return FilmFeatures(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def features(
    encoder: FilmEncoder, films: NDArray[np.uint8], rows: NDArray[np.int64], drawn: NDArray[np.int64], cache: Path
) -> FilmFeatures:
    """Of the films `rows` as they are, then COPIES of each of `drawn`; kept under `cache` by model and rows.

    ValueError for an encoder that is not our own network.
    """
    if not isinstance(encoder.network, FilmNetwork):
        raise ValueError(f"{encoder.record.id} makes no maps that region queries can look at")
    network = encoder.network
    key = digest([encoder.record.sha256, rows.tolist(), drawn.tolist(), COPIES])[:16]
    path = cache / f"region-features-{key}.npz"
    if not path.is_file():
        found = _as_they_are(network, films, rows)
        for copy in range(COPIES):
            found = found.joined(_moved(network, films, drawn, copy))
        partial = path.with_suffix(".partial.npz")
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(partial, **{f.name: getattr(found, f.name) for f in fields(found)})
        partial.replace(path)
    with np.load(path, allow_pickle=False) as arrays:
        return FilmFeatures(*(arrays[f.name] for f in fields(FilmFeatures)))


def _as_they_are(network: FilmNetwork, films: NDArray[np.uint8], rows: NDArray[np.int64]) -> FilmFeatures:
    side = network.architecture.side
    parts = (to_input(films[part], side) for part in _parts(rows, "reading films"))
    return _read(network, parts, rows, np.full((len(rows), 2, 3), np.nan, np.float32))


def _moved(network: FilmNetwork, films: NDArray[np.uint8], rows: NDArray[np.int64], seed: int) -> FilmFeatures:
    """Films moved, from another device and painted on, as the film network's own training does; never mirrored."""
    generator, strength = torch.Generator().manual_seed(seed), augment.Strength()
    theta = augment.geometry(len(rows), strength, generator)

    def batches() -> Iterator[Tensor]:
        for start, part in enumerate(_parts(rows, f"moving films, copy {seed + 1}")):
            grey = torch.from_numpy(films[part]).float().div(255.0)[:, None]
            place = theta[start * BATCH : start * BATCH + len(part)]
            seen = augment.resample(grey, place, network.architecture.side)
            seen = augment.occlusion(augment.acquisition(seen, strength, generator), strength, generator)
            yield seen.sub(0.5).div(0.25)

    return _read(network, batches(), rows, theta.numpy())


def _parts(rows: NDArray[np.int64], what: str) -> Iterator[NDArray[np.int64]]:
    for start in tqdm(range(0, len(rows), BATCH), desc=what, unit="batch"):
        yield rows[start : start + BATCH]


@torch.inference_mode()
def _read(
    network: FilmNetwork, batches: Iterator[Tensor], rows: NDArray[np.int64], theta: NDArray[np.float32]
) -> FilmFeatures:
    read: list[tuple[Half, Half, Half, Half]] = []
    for films in batches:
        early, late = network.stages(films)
        found = network.read_maps(early, late)
        early_half, late_half, places, pooled = (
            part.numpy().astype(np.float16) for part in (early, late, found.places, found.pooled)
        )
        read.append((early_half, late_half, places, pooled))
    early_all, late_all, places_all, pooled_all = (np.concatenate(part) for part in zip(*read, strict=True))
    return FilmFeatures(early_all, late_all, places_all, pooled_all, rows, theta)
