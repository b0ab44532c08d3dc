"""Ask a film by words or by a box: boxes, presence, what lies there. The shipped region queries of a film model.

`answer` is the way in; `found` asks for all of QUERIES at once, `tokens` gives a decoder what it looks at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from knowledge_base.records import digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.imaging.film import Box
from rag_service.models.box_fusion import BoxChoice, fused
from rag_service.models.encoder import FilmReading
from rag_service.models.region_network import (
    QUERIES,
    FilmMaps,
    Located,
    QueryShape,
    RegionNetwork,
    Seen,
    gaussian_shares,
)

WEIGHTS_FILE: Final = "region-queries.safetensors"
LISTING_FILE: Final = "region-queries.json"
REMEDY: Final = "run `python -m rag_service.training region-queries --data DIR`"
LEAST_WEIGHT: Final = 0.5
"""Weight from which a further box is shown; the heaviest always is."""
OVERLAP: Final = 0.4
"""IoU with a heavier box from which a box says nothing new."""
_LEAST_SIDE: Final = 0.02
_SURE: Final = 1e-4

Floats = NDArray[np.float32]


class TextVectors(Protocol):
    """What turns words into the vectors that queries are made of: `models.text.TextEncoder`."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (len(texts), T)."""
        ...


@dataclass(frozen=True, eq=False)
class RegionAnswer:
    """What a film shows for one prompt or box.

    `boxes` up to three with weights, heaviest first; for a box asked about, that box. `presence` the probability that what the
    prompt says holds, calibrated for the 14 observations; None for a box, which claims nothing. `feature` (W,) of the region.
    `attention` (h, w), summing to 1: where it looked. `likeness` how near the region's feature is to each of QUERIES, in [-1, 1].
    """

    boxes: tuple[Box, ...]
    presence: float | None
    feature: Floats
    attention: Floats
    likeness: Mapping[str, float]

    @property
    def nearest(self) -> str:
        """Which of QUERIES the region is most like."""
        return max(self.likeness, key=self.likeness.__getitem__)


@dataclass(frozen=True, eq=False)
class RegionQueries:
    """The network made for the film model `model`. `temperature` divides the presence logits; `choice` is how its boxes and those
    of the place maps become one set; `digest` is the listing's.
    """

    model: str
    network: RegionNetwork
    temperature: float
    choice: BoxChoice
    digest: str

    @property
    def width(self) -> int:
        """W, of features and tokens."""
        return self.network.shape.width

    def answer(self, reading: FilmReading, asked: str | Box, text: TextVectors) -> RegionAnswer:
        """What the film shows of words, or under a box. BadWeights when the reading has no maps to ask."""
        return self.point(reading, asked) if isinstance(asked, Box) else self.ask(reading, text.encode([asked]))[0]

    @torch.inference_mode()
    def found(self, reading: FilmReading) -> dict[str, RegionAnswer]:
        """The answers to all of QUERIES."""
        seen, known = self._look(reading), self.network.known
        located = self.network.locate(seen, known)
        gate = self.network.gated(seen, located.features)
        logits = self.network.present(seen, gate, located.features, known)
        return dict(zip(QUERIES, self._answers(located, logits[0]), strict=True))

    def joined(self, places: Sequence[Box], answer: RegionAnswer) -> tuple[Box, ...]:
        """The boxes of a finding's place map and of its query as one set, heaviest first."""
        return fused(places, answer.boxes, self.choice)

    @torch.inference_mode()
    def ask(self, reading: FilmReading, vectors: Floats) -> list[RegionAnswer]:
        """One answer for each text vector (Q, T)."""
        seen, asked = self._look(reading), torch.from_numpy(vectors)
        located = self.network.locate(seen, torch.cat([self.network.known, asked]))
        known, features = located.features[:, : len(QUERIES)], located.features[:, len(QUERIES) :]
        logits = self.network.present(seen, self.network.gated(seen, known), features, asked)
        return self._answers(located, logits[0])

    @torch.inference_mode()
    def point(self, reading: FilmReading, box: Box) -> RegionAnswer:
        """What lies under a box; its attention is the soft box itself."""
        seen = self._look(reading)
        place = torch.tensor([[_centred(box)]], dtype=torch.float32)
        feature = self.network.point(seen, place)[0, 0]
        return RegionAnswer((box,), None, feature.numpy(), self._under(place[0, 0]), self._likeness(feature))

    @torch.inference_mode()
    def tokens(self, reading: FilmReading) -> Floats:
        """(21, W): the gated film as a whole, then the gated features of QUERIES in their order."""
        return np.asarray(self.tokens_of(maps_of([reading]))[0].numpy(), np.float32)

    def tokens_of(self, maps: FilmMaps) -> Tensor:
        """The same (B, 21, W) for B films at once."""
        seen = self.network.look(maps)
        return self.network.tokens(seen, self.network.locate(seen, self.network.known).features)

    def _look(self, reading: FilmReading) -> Seen:
        return self.network.look(maps_of([reading]))

    def _answers(self, located: Located, logits: Tensor) -> list[RegionAnswer]:
        """The last queries of a film, as many as there are presence logits."""
        boxes, weights, features, attention = (
            part[0, -len(logits) :] for part in (located.boxes, located.weights, located.features, located.attention)
        )
        side = self.network.shape.side
        presence, heavy = torch.sigmoid(logits / self.temperature).tolist(), torch.sigmoid(weights).numpy()
        likeness = self.network.likeness(features, self.network.known).tolist()
        return [
            RegionAnswer(
                boxes=shown(boxes[i].numpy(), heavy[i]),
                presence=presence[i],
                feature=features[i].numpy(),
                attention=attention[i].view(side, side).numpy(),
                likeness=dict(zip(QUERIES, likeness[i], strict=True)),
            )
            for i in range(len(logits))
        ]

    def _likeness(self, feature: Tensor) -> dict[str, float]:
        return dict(zip(QUERIES, self.network.likeness(feature, self.network.known).tolist(), strict=True))

    def _under(self, place: Tensor) -> Floats:
        side = self.network.shape.side
        shares = gaussian_shares(place, side).view(side, side)
        return np.asarray((shares / shares.sum()).numpy(), np.float32)


def maps_of(readings: Sequence[FilmReading]) -> FilmMaps:
    """Readings as the network takes them. BadWeights when the film model makes no such maps."""
    if any(r.places is None or r.late is None for r in readings):
        raise BadWeights("this film model makes no maps that region queries can look at")
    places = np.stack([r.places for r in readings if r.places is not None])
    return FilmMaps(
        early=torch.stack([r.maps for r in readings]).float(),
        late=torch.stack([r.late for r in readings if r.late is not None]).float(),
        places=torch.logit(torch.from_numpy(places), eps=_SURE),
        pooled=torch.from_numpy(np.stack([r.pooled for r in readings])),
    )


def shown(boxes: Floats, weights: Floats) -> tuple[Box, ...]:
    """Boxes (R, 4) as centre and size -> the heaviest, and those of LEAST_WEIGHT that are no second look at the same place."""
    order = np.argsort(-weights, kind="stable").tolist()
    kept: list[Box] = []
    for index in order:
        box = _box(boxes[index], float(weights[index]))
        if not kept or (box.weight >= LEAST_WEIGHT and all(box.iou(k) < OVERLAP for k in kept)):
            kept.append(box)
    return tuple(kept)


def _box(place: Floats, weight: float) -> Box:
    """Centre and size, clipped to the film and no thinner than _LEAST_SIDE."""
    centre, half = place[:2].astype(float), np.maximum(place[2:].astype(float), _LEAST_SIDE) / 2
    low = np.clip(centre - half, 0.0, 1.0 - _LEAST_SIDE)
    high = np.clip(centre + half, low + _LEAST_SIDE, 1.0)
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]), max(weight, _SURE))


def _centred(box: Box) -> tuple[float, float, float, float]:
    return (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2, box.x_max - box.x_min, box.y_max - box.y_min


def save_region_queries(
    folder: Path, model: str, network: RegionNetwork, temperature: float, choice: BoxChoice, sample: str
) -> None:
    """Write the weights (float16) and the sealed listing that carries their digest. `sample` says what they were trained on."""
    path = folder / WEIGHTS_FILE
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, path)
    listing = {
        "model": model,
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "shape": network.shape.to_json(),
        "queries": list(QUERIES),
        "temperature": temperature,
        "boxes": asdict(choice),
        "sample": sample,
    }
    sealed.write(folder / LISTING_FILE, listing)


def load_region_queries(folder: Path, model: str) -> RegionQueries | None:
    """The region queries of film model `model` in `folder`; None when the folder has none.

    BadWeights, with the remedy, when either file is altered, or they are another model's.
    """
    if not (folder / LISTING_FILE).is_file():
        return None
    listing = sealed.read_made_for(folder / LISTING_FILE, model, "region queries were made", REMEDY)
    content = sealed.weights(folder / WEIGHTS_FILE, listing.get("weights"), REMEDY)
    return _built(listing, content)


def _built(listing: dict[str, Any], content: bytes) -> RegionQueries:
    try:
        network = RegionNetwork(QueryShape(**listing["shape"]))
        network.load_state_dict({k: v.float() for k, v in load(content).items()})
        temperature, choice = float(listing["temperature"]), BoxChoice(**listing["boxes"])
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise BadWeights(f"{LISTING_FILE} and {WEIGHTS_FILE} do not fit each other; {REMEDY}") from error
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()) or not temperature > 0:
        raise BadWeights(
            f"{WEIGHTS_FILE} holds numbers that are not finite, or its temperature is not positive; {REMEDY}"
        )
    return RegionQueries(listing["model"], network.eval(), temperature, choice, digest(listing))
