"""A film network small enough to build in a test: random weights, 64 pixels a side, four axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rag_service.gate import Gate, GateThresholds
from rag_service.models.catalogue import ModelRecord
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import Architecture, FilmNetwork
from rag_service.ood import NEIGHBOURS, SCORES, Combination, Reference

TINY = Architecture("test_resnet", 64, 4, joint_width=8, place_width=8, tags=("normal", "lung"), domains=("openi",))


@pytest.fixture(scope="session")
def make_network() -> Callable[[int], FilmNetwork]:
    """A network by seed; running statistics are made to vary so that batch norm does something."""

    def make(seed: int) -> FilmNetwork:
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        network = FilmNetwork(TINY).eval()
        with torch.no_grad():
            network.box_radius.weight.normal_(0.0, 0.05)
            network.box_centre.weight.normal_(0.0, 0.2)
        torch.set_rng_state(state)
        return network

    return make


@pytest.fixture
def encoder(make_network: Callable[[int], FilmNetwork]) -> FilmEncoder:
    record = ModelRecord("tiny", "1", "tiny.safetensors", "ab" * 32, "p@1", "none", TINY.to_json())
    return FilmEncoder(record, make_network(0))


@pytest.fixture(scope="session")
def stored() -> NDArray[np.uint8]:
    """Six films as the corpus stores them, uint8 (6, 256, 256): smooth blobs, each elsewhere."""
    rng = np.random.default_rng(5)
    down, across = np.mgrid[0:256, 0:256] / 256
    films = []
    for _ in range(6):
        x, y, size = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.3)
        grey = np.exp(-((across - x) ** 2 + (down - y) ** 2) / size**2) + 0.2 * rng.random((256, 256))
        films.append(np.rint(255 * grey / grey.max()).astype(np.uint8))
    return np.stack(films)


@pytest.fixture(scope="session")
def open_gate() -> Callable[[str, int], Gate]:
    """A gate by model and width of its features that turns no film away; its combined score is the Mahalanobis distance."""

    def make(model: str, width: int) -> Gate:
        axes = np.eye(2, width)
        reference = Reference(np.zeros(width), axes, np.ones(2), 1.0, np.zeros((NEIGHBOURS, 2)))
        nothing, one = dict.fromkeys(SCORES, 0.0), dict.fromkeys(SCORES, 1.0)
        combination = Combination(nothing, one, {**nothing, "mahalanobis": 1.0}, 0.0)
        return Gate(GateThresholds(model, {}, combination, 1e9, "ab" * 32, 0.01), reference)

    return make
