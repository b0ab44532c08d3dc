"""Reads a film: its box in latent space, BL-TTA probabilities, how it presents itself, and where findings show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from knowledge_base.records import BoxLatent
from rag_service.errors import BadWeights
from rag_service.imaging.film import Film
from rag_service.imaging.normalise import PREPROCESSING, to_stored
from rag_service.models.box_head import HeadedBackbone, is_headed, load_headed
from rag_service.models.catalogue import ModelRecord, load_record
from rag_service.models.network import PRESENTATIONS, FilmNetwork, PlacedReading, Reading
from rag_service.models.regions import RegionAxes, load_regions, zone_vectors
from rag_service.models.weights import load_network

BL_TTA_SAMPLES: Final = 8
BL_TTA_SEED: Final = 20260


@dataclass(frozen=True, eq=False)
class FilmReading:
    """What the network says of one film, uncalibrated.

    `probabilities` and `spread` (14,): mean and standard deviation of sigmoid(head(c + r*u)) over the BL-TTA samples;
    `presentation` (5,) softmax in the order of PRESENTATIONS; `pooled` (P,) features; `maps` (C, h, w): the maps that the
    last trunk stage starts from, for saliency, or the grid of another encoder; `places` (17, h, w): how likely each finding,
    right lung, left lung and heart lie at each place; `ap`: probability of an AP projection, of a frontal. Both None where
    the model is not our own network. `local` (R, h, w): features of each place on the axes of region vectors; `regions`: a unit
    vector (R,) for each zone. Both None where the model folder has no such axes. `late` (D, h/2, w/2): the maps that the last trunk
    stage ends with; None where the model is not our own network.
    """

    box: BoxLatent
    probabilities: NDArray[np.float64]
    spread: NDArray[np.float64]
    presentation: NDArray[np.float64]
    pooled: NDArray[np.float32]
    maps: Tensor
    places: NDArray[np.float32] | None = None
    ap: float | None = None
    local: NDArray[np.float32] | None = None
    regions: Mapping[str, NDArray[np.float32]] | None = None
    late: Tensor | None = None


def samples(axes: int, count: int = BL_TTA_SAMPLES, seed: int = BL_TTA_SEED) -> Tensor:
    """(count, axes) in (-1, 1): a scrambled Sobol set and its mirror image, so odd terms cancel; the same every time."""
    if count == 1:
        return torch.zeros(1, axes)
    half = torch.quasirandom.SobolEngine(axes, scramble=True, seed=seed).draw(count // 2) * 2 - 1  # type: ignore[no-untyped-call]
    return torch.cat([half, -half])


def to_input(stored: NDArray[np.uint8], side: int) -> Tensor:
    """uint8 films (B, 256, 256), already stretched -> network input (B, 1, side, side)."""
    films = torch.from_numpy(np.ascontiguousarray(stored)).float().div_(255.0)[:, None]
    return functional.interpolate(films, size=side, mode="bilinear", antialias=True).sub(0.5).div(0.25)


class FilmEncoder:
    """A loaded film network, or a box head over another encoder, with its record; reads films one at a time or many."""

    def __init__(
        self,
        record: ModelRecord,
        network: FilmNetwork | HeadedBackbone,
        bl_tta: int = BL_TTA_SAMPLES,
        axes: RegionAxes | None = None,
    ) -> None:
        self.record = record
        self._region_axes = axes
        self.network = network.eval()
        self.axes = network.findings.in_features
        self.bl_tta = bl_tta
        self._samples = samples(self.axes, bl_tta)
        self.finding_weights: NDArray[np.float32] = network.findings.weight.detach().numpy()

    def read(self, film: Film) -> FilmReading:
        """Read one decoded film."""
        return self.read_stored(to_stored(film.pixels)[None])[0]

    def read_stored(self, stored: NDArray[np.uint8]) -> list[FilmReading]:
        """Read films (B, 256, 256) that were squeezed and stretched before. BadWeights when the network yields NaN."""
        with torch.inference_mode():
            early, reading = self._look(stored)
            mean, spread = self._bl_tta(reading.centre, reading.radius, self._samples)
        finite = (mean, reading.centre, reading.radius, reading.presentation)
        if not all(bool(torch.isfinite(t).all()) for t in finite):
            raise BadWeights(f"{self.record.id} produced numbers that are not finite")
        presentation = torch.softmax(reading.presentation, 1)
        placed = reading if isinstance(reading, PlacedReading) else None
        found = [
            FilmReading(
                box=BoxLatent(reading.centre[i].numpy(), reading.radius[i].numpy()),
                probabilities=mean[i].double().numpy(),
                spread=spread[i].double().numpy(),
                presentation=presentation[i].double().numpy(),
                pooled=reading.pooled[i].numpy(),
                maps=early[i],
                places=None if placed is None else torch.sigmoid(placed.places[i]).numpy(),
                ap=None if placed is None else float(torch.sigmoid(placed.projection[i])),
                late=None if placed is None else placed.maps[i],
            )
            for i in range(len(stored))
        ]
        return found if placed is None else [self._with_regions(r, placed.local[i]) for i, r in enumerate(found)]

    def _with_regions(self, reading: FilmReading, features: Tensor) -> FilmReading:
        """The reading with its region vectors, from local features (W, h, w), where the model folder has axes for them."""
        if self._region_axes is None or reading.places is None:
            return reading
        local = self._region_axes.project(features.float().numpy())
        return replace(reading, local=local, regions=zone_vectors(reading.places, local))

    def probabilities_at(self, centre: NDArray[np.floating], radius: NDArray[np.floating]) -> NDArray[np.float64]:
        """The probabilities (..., 14), uncalibrated, of boxes (..., d) wherever they lie; a film's own box gives its own."""
        return self.over_box(centre, radius, self.bl_tta)[0]

    def over_box(
        self, centre: NDArray[np.floating], radius: NDArray[np.floating], count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """BL-TTA over boxes (..., d) with `count` samples (1: the centre alone): mean and spread, (..., 14) each."""
        points = self._samples if count == self.bl_tta else samples(self.axes, count)
        middle, reach = (torch.from_numpy(np.asarray(part, np.float32)) for part in (centre, radius))
        with torch.inference_mode():
            mean, spread = self._bl_tta(middle, reach, points)
        return mean.double().numpy(), spread.double().numpy()

    def _bl_tta(self, centre: Tensor, radius: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (..., 14) of the findings' probabilities over c + r*u, u each of `points` (N, d)."""
        chances = torch.sigmoid(self.network.logits(centre[..., None, :] + radius[..., None, :] * points))
        return chances.mean(-2), chances.std(-2, correction=0)

    def _look(self, stored: NDArray[np.uint8]) -> tuple[Tensor, Reading]:
        """Maps (B, C, h, w) as in `FilmReading`, and the reading."""
        if isinstance(self.network, HeadedBackbone):
            reading = self.network.read(stored)
            return reading.maps, reading
        early, maps = self.network.stages(to_input(stored, self.network.architecture.side))
        return early, self.network.read_maps(early, maps)


def presentation_of(reading: FilmReading) -> str:
    """The likeliest presentation."""
    return PRESENTATIONS[int(np.argmax(reading.presentation))]


def load_encoder(folder: Path) -> FilmEncoder:
    """The encoder whose record lies in `folder`, its digest checked first. BadWeights otherwise; never random weights."""
    record = load_record(folder)
    if record.preprocessing != PREPROCESSING:
        raise BadWeights(f"{record.id} expects preprocessing {record.preprocessing}, this version does {PREPROCESSING}")
    network = load_headed(record, folder) if is_headed(record) else load_network(record, folder)
    return FilmEncoder(record, network, axes=load_regions(folder, record.id))
