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
        return tuple(m for m in Method if m in {Method.SHAPLEY, Method.LIME, *self._drawn})

    def explain(self, film: Film, reading: FilmReading, finding: str, methods: Sequence[Method] = ()) -> Explained:
        """By `methods`, or all that there are. BadWeights for one that this model does not have."""
        if lacking := [m for m in methods if m not in self.methods]:
            raise BadWeights(f"this model has no explanation by {', '.join(lacking)}")
        stored = to_stored(film.pixels)
        cut = superpixels(stored)
        read = occluded_readings(OccludedFilm(stored, cut, self.scores(finding)), SEED)

        def make(method: Method) -> Explanation:
            if method in self._drawn:
                return from_map(method, finding, self._drawn[method](reading, finding), cut)
            return from_values(method, finding, read.lime() if method is Method.LIME else read.shapley(), cut)

        made = tuple(_tried(m, make, read) for m in methods or self.methods)
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
    def _drawn(self) -> dict[Method, Callable[[FilmReading, str], NDArray[np.floating]]]:
        """What draws a map from a reading and the name of a finding: nothing where the model is not our own network."""
        network, queries = self.encoder.network, self.queries
        if not isinstance(network, FilmNetwork):
            return {}
        saliency = Saliency(network)
        drawn: dict[Method, Callable[[FilmReading, str], NDArray[np.floating]]] = {
            Method.GRAD_CAM: lambda reading, finding: saliency.maps(reading.maps, [finding])[0]
        }
        if queries is not None:
            drawn[Method.ATTENTION] = lambda reading, finding: queries.found(reading)[finding].attention
        return drawn


def _tried(method: Method, make: Callable[[Method], Explanation], read: OccludedReadings) -> Explanation:
    """The explanation with its seconds, the films it takes included, and its fidelity to the films of the trial."""
    start = perf_counter()
    made = make(method)
    films = {Method.SHAPLEY: read.seconds[0], Method.LIME: sum(read.seconds)}.get(method, 0.0)
    faithful = fidelity(made.values, read.of.trials, read.tried)
    return replace(made, seconds=perf_counter() - start + films, fidelity=faithful)
