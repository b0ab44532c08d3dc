"""Where the boxes that are measured come from: a draft's, its two parts alone, Grad-CAM, and three that do not look at the film."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from knowledge_base.findings import FINDINGS
from rag_service.errors import BadRequest
from rag_service.explain.anatomy import prior
from rag_service.explain.boxes import boxes
from rag_service.explain.places import place_maps
from rag_service.explain.saliency import Saliency
from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmReading
from rag_service.models.network import FilmNetwork
from rag_service.models.region_queries import RegionAnswer
from rag_service.reader import Reader

CENTRE: Final = Box(0.25, 0.25, 0.75, 0.75)
_SMALLEST, _LARGEST = 0.1, 0.6
"""Sides of a random box, in fractions of the film."""

Boxes = Mapping[str, Sequence[Box] | None]


@dataclass(frozen=True)
class Look:
    """A film's reading, and the findings that are looked for on it."""

    reader: Reader
    reading: FilmReading
    findings: Sequence[str]

    @cached_property
    def answers(self) -> Mapping[str, RegionAnswer] | None:
        """What the region queries answer; None where the model folder has none."""
        return None if self.reader.queries is None else self.reader.queries.found(self.reading)

    @cached_property
    def presence(self) -> Mapping[str, float]:
        """How likely each finding is: by its query, and by the network where there are no queries."""
        heads = dict(zip(FINDINGS, self.reading.probabilities.tolist(), strict=True))
        asked = {} if self.answers is None else {f: self.answers[f].presence for f in self.findings}
        return {f: heads[f] if asked.get(f) is None else asked[f] or 0.0 for f in self.findings}


@dataclass(frozen=True)
class BoxSource:
    """A name, and how it makes the boxes of the findings of a film, heaviest first."""

    name: str
    boxes: Callable[[Look], Boxes]


def sources(reader: Reader, seed: int) -> list[BoxSource]:
    """The service's own boxes first, then the controls."""
    chance = np.random.default_rng(seed)
    found = [
        BoxSource("service", _service),
        BoxSource("place maps", _places),
        BoxSource("class prior", lambda look: {f: boxes(prior(f), f) for f in look.findings}),
        BoxSource("centre", lambda look: dict.fromkeys(look.findings, (CENTRE,))),
        BoxSource("random", lambda look: {f: (_random(chance),) for f in look.findings}),
    ]
    if reader.queries is not None:
        found.append(BoxSource("queries", _queries))
    if isinstance(reader.encoder.network, FilmNetwork):
        cam = Saliency(reader.encoder.network)
        found.append(BoxSource("Grad-CAM", lambda look: _maps(look, cam.maps(look.reading.maps, look.findings))))
    return found


def _service(look: Look) -> Boxes:
    found = look.reader.boxes(look.reading, look.findings)
    if look.reading.places is None:
        raise BadRequest(f"{look.reader.encoder.record.id} draws no maps of where a finding lies")
    return found


def _places(look: Look) -> Boxes:
    assert look.reading.places is not None  # noqa: S101  (the service's boxes were asked for first)
    return _maps(look, place_maps(look.reading.places, look.findings))


def _queries(look: Look) -> Boxes:
    assert look.answers is not None  # noqa: S101  (this source is there only with queries)
    return {f: look.answers[f].boxes for f in look.findings}


def _maps(look: Look, maps: np.ndarray) -> Boxes:
    return {f: boxes(m, f) for f, m in zip(look.findings, maps, strict=True)}


def _random(chance: np.random.Generator) -> Box:
    width, height = chance.uniform(_SMALLEST, _LARGEST, 2)
    x, y = chance.uniform(0, 1 - width), chance.uniform(0, 1 - height)
    return Box(float(x), float(y), float(x + width), float(y + height))
