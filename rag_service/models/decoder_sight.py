"""What the decoder looks at: a film as tokens of several kinds, from the film network, its region queries and its structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from knowledge_base.zones import ZONES
from rag_service.errors import BadWeights
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmReading
from rag_service.models.mask_tokens import mask_tokens
from rag_service.models.region_queries import RegionQueries, load_region_queries
from rag_service.models.segmenter import Segmenter, load_segmenter
from rag_service.models.structures import StructureMasks

QUERIES: Final = "queries"
MASKS: Final = "masks"
PLACE: Final = "place"
"""The token that shows where the finding in question lies; the others are the same for every finding."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FilmTokens:
    """Tokens (n, w) of a film by kind, and the places of each finding (14, h * w)."""

    tokens: Mapping[str, Floats]
    places: Floats

    def of(self, finding: str) -> dict[str, Floats]:
        """The tokens, with the one that shows where a finding lies."""
        return {**self.tokens, PLACE: self.places[[FINDINGS.index(finding)]]}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Kind -> (how many, how wide)."""
        return {kind: (len(t), t.shape[1]) for kind, t in self.of(FINDINGS[0]).items()}


@dataclass(frozen=True, eq=False)
class Sight:
    """What looks at films beside the film network; None where the decoder does without."""

    queries: RegionQueries | None = None
    segmenter: Segmenter | None = None

    @property
    def digests(self) -> dict[str, str]:
        """Kind of token -> the model that makes it, of those that are there."""
        found = {} if self.queries is None else {QUERIES: self.queries.digest}
        return found if self.segmenter is None else {**found, MASKS: self.segmenter.record.id}

    def look(self, film: Film, reading: FilmReading) -> FilmTokens:
        """A film with its reading. BadWeights where the film model has no places or no regions."""
        return self._tokens(reading, None if self.segmenter is None else self.segmenter.read(film))

    def look_stored(self, stored: NDArray[np.uint8], readings: Sequence[FilmReading]) -> list[FilmTokens]:
        """Films (B, 256, 256) as the corpus keeps them, with their readings."""
        structures = [None] * len(readings) if self.segmenter is None else self.segmenter.read_stored(stored)
        return [self._tokens(reading, masks) for reading, masks in zip(readings, structures, strict=True)]

    def _tokens(self, reading: FilmReading, structures: StructureMasks | None) -> FilmTokens:
        if reading.places is None or reading.regions is None:
            raise BadWeights("this film model makes no places and regions that the decoder can look at")
        tokens = {
            "film": reading.pooled[None],
            "box": reading.box.vector()[None],
            "zones": np.stack([reading.regions[z] for z in ZONES]),
        }
        if self.queries is not None:
            tokens[QUERIES] = self.queries.tokens(reading)
        if structures is not None:
            tokens[MASKS] = mask_tokens(reading, structures)
        return FilmTokens(tokens, reading.places[: len(FINDINGS)].reshape(len(FINDINGS), -1))


def load_sight(folder: Path, model: str, kinds: Sequence[str]) -> Sight:
    """What makes tokens of these kinds for the film model `model`, as far as the folder has it. BadWeights where it is damaged."""
    return Sight(
        load_region_queries(folder, model) if QUERIES in kinds else None,
        load_segmenter(folder) if MASKS in kinds else None,
    )
