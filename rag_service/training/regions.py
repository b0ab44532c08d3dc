"""Fits the axes of region vectors, and makes the region vectors of stored films."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from knowledge_base.zones import REGION_WIDTH, ZONES
from rag_service.models.encoder import FilmEncoder, to_input
from rag_service.models.network import FilmNetwork
from rag_service.models.regions import RegionAxes, zone_means, zone_vectors

BATCH: Final = 32
Films = NDArray[np.uint8]
Floats = NDArray[np.float32]


def fit_regions(encoder: FilmEncoder, films: Films) -> RegionAxes | None:
    """The REGION_WIDTH principal axes of all zones of stored films (N, 256, 256); None for an encoder without place maps."""
    if not isinstance(encoder.network, FilmNetwork):
        return None
    means = np.concatenate([zone_means(places, local) for places, local in _local(encoder.network, films)])
    mean = means.mean(0)
    _, _, axes = np.linalg.svd(means - mean, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]  # one direction on every machine
    kept = np.zeros((len(mean), REGION_WIDTH), np.float32)  # a narrower network leaves the last axes empty
    kept[:, : len(axes)] = axes[:REGION_WIDTH].T
    return RegionAxes(encoder.record.id, mean, kept)


def region_vectors(encoder: FilmEncoder, axes: RegionAxes, films: Films) -> Floats:
    """Unit vectors (N, 7, R) of stored films (N, 256, 256), zones in the order of ZONES."""
    assert isinstance(encoder.network, FilmNetwork)  # noqa: S101  (axes are fitted to no other network)
    found = [zone_vectors(places, axes.project(local)) for places, local in _local(encoder.network, films)]
    return np.stack([np.stack([vectors[z] for z in ZONES]) for vectors in found])


def _local(network: FilmNetwork, films: Films) -> Iterator[tuple[Floats, Floats]]:
    """Places (17, h, w) and local features (W, h, w) of each film."""
    for start in tqdm(range(0, len(films), BATCH), desc="reading regions", unit="batch"):
        with torch.inference_mode():
            early, late = network.stages(to_input(films[start : start + BATCH], network.architecture.side))
            local = network.places.local(early, late)
            places = torch.sigmoid(network.places.read(local))
        yield from zip(places.numpy(), local.float().numpy(), strict=True)
