"""Explain one finding on one film by several methods, and say how far they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from rag_service.errors import BadWeights
from rag_service.explain.explanation import Agreement, Explanation, agreement, fidelity, from_map, from_values
from rag_service.explain.occluded_films import OccludedReadings, occluded_readings
from rag_service.explain.occlusion import OccludedFilm, Scores
from rag_service.explain.saliency import Saliency
from rag_service.explain.superpixels import Superpixels, superpixels
from rag_service.explain_request import Method
from rag_service.imaging.film import Film
from rag_service.imaging.normalise import to_stored
from rag_service.models.encoder import FilmEncoder, FilmReading, to_input
from rag_service.models.network import FilmNetwork
from rag_service.models.region_queries import RegionQueries

SEED: Final = 20260
"""Of the parts that are left out: the same film is always explained in the same way."""


@dataclass(frozen=True, eq=False)
class Explained:
    """Explanations of a finding, the superpixels their values belong to, and the log-odds of the film and of its blur."""

    cut: Superpixels
    explanations: tuple[Explanation, ...]
    film: float
    blurred: float

    @property
    def agreements(self) -> tuple[Agreement, ...]:
        """Of each pair of methods."""
        return tuple(agreement(one, other, self.cut) for one, other in combinations(self.explanations, 2))


@dataclass(frozen=True, eq=False)
class Explainer:
    """Explains what `encoder` says of a film, and where `queries` look, where the model folder has them."""

    encoder: FilmEncoder
    queries: RegionQueries | None = None

    @property
    def methods(self) -> tuple[Method, ...]:
        """Those that this model has."""
        own = isinstance(self.encoder.network, FilmNetwork)
        absent = {Method.GRAD_CAM: not own, Method.ATTENTION: not own or self.queries is None}
        return tuple(m for m in Method if not absent.get(m, False))

    def explain(
        self, film: Film, reading: FilmReading, finding: str, methods: Sequence[Method] = (), seed: int = SEED
    ) -> Explained:
        """By `methods`, or all that there are. BadWeights for one that this model does not have."""
        if lacking := [m for m in methods if m not in self.methods]:
            raise BadWeights(f"this model has no explanation by {', '.join(lacking)}")
        stored = to_stored(film.pixels)
        cut = superpixels(stored)
        read = occluded_readings(OccludedFilm(stored, cut, self.scores(finding)), seed)
        makers: dict[Method, Callable[[], Explanation]] = {
            Method.GRAD_CAM: lambda: from_map(Method.GRAD_CAM, finding, self._grad_cam(reading, finding), cut),
            Method.SHAPLEY: lambda: from_values(Method.SHAPLEY, finding, read.shapley(), cut),
            Method.LIME: lambda: from_values(Method.LIME, finding, read.lime(), cut),
            Method.ATTENTION: lambda: from_map(Method.ATTENTION, finding, self._attention(reading, finding), cut),
        }
        made = tuple(_tried(makers[m], read) for m in methods or self.methods)
        return Explained(cut, made, read.film, read.blurred)

    def scores(self, finding: str) -> Scores:
        """Films (B, 256, 256) -> log-odds (B,) of a finding at the centres of their boxes, uncalibrated."""
        network, index = self.encoder.network, FINDINGS.index(finding)

        def of(films: NDArray[np.uint8]) -> NDArray[np.float64]:
            with torch.inference_mode():
                if isinstance(network, FilmNetwork):
                    centre = network(to_input(films, network.architecture.side)).centre
                else:
                    centre = network.read(films).centre
                return np.asarray(network.logits(centre)[:, index].double().numpy())

        return of

    @cached_property
    def _saliency(self) -> Saliency:
        if not isinstance(self.encoder.network, FilmNetwork):
            raise BadWeights("this model has no explanation by grad_cam")
        return Saliency(self.encoder.network)

    def _grad_cam(self, reading: FilmReading, finding: str) -> NDArray[np.float32]:
        return np.asarray(self._saliency.maps(reading.maps, [finding])[0], np.float32)

    def _attention(self, reading: FilmReading, finding: str) -> NDArray[np.float32]:
        if self.queries is None:
            raise BadWeights("this model has no explanation by attention")
        return np.asarray(self.queries.found(reading)[finding].attention, np.float32)


def _tried(make: Callable[[], Explanation], read: OccludedReadings) -> Explanation:
    """The explanation with its seconds, the films it takes included, and its fidelity to the films of the trial."""
    start = perf_counter()
    made = make()
    films = {Method.SHAPLEY: read.seconds[0], Method.LIME: sum(read.seconds)}.get(made.method, 0.0)
    faithful = fidelity(made.values, read.of.trials, read.tried)
    return replace(made, seconds=perf_counter() - start + films, fidelity=faithful)
