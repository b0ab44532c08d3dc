"""A box in latent space over a frozen encoder: centre, radius, findings and presentation from its pooled features.

Shapes: B films, D features, d box axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from knowledge_base.findings import FINDINGS
from rag_service.errors import BadWeights
from rag_service.models.catalogue import ModelRecord, verified
from rag_service.models.encoders.load import load_extractor
from rag_service.models.encoders.record import FeatureExtractor
from rag_service.models.network import PRESENTATIONS, Reading

BACKBONE_FOLDER: Final = "backbone"
"""The encoder's files, inside the model folder."""


@dataclass(frozen=True)
class HeadShape:
    """Everything needed to rebuild a head around a state dict."""

    width: int
    axes: int
    radius_floor: float = 0.02


class BoxReading(NamedTuple):
    """`centre` and `radius` (B, d), `presentation` (B, 5) logits."""

    centre: Tensor
    radius: Tensor
    presentation: Tensor


class BoxHead(nn.Module):
    """Pooled features (B, D) -> box and presentation; `logits` reads findings from points of the box."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.width))
        self.register_buffer("scale", torch.ones(shape.width))
        self.box_centre = nn.Linear(shape.width, shape.axes)
        self.box_radius = nn.Linear(shape.width, shape.axes)
        nn.init.zeros_(self.box_radius.weight)
        nn.init.constant_(self.box_radius.bias, -1.5)
        self.findings = nn.Linear(shape.axes, len(FINDINGS))
        self.presentation = nn.Linear(shape.width, len(PRESENTATIONS))

    def standardise(self, pooled: Tensor) -> None:
        """Take mean and spread of features (n, D) from the films that the head is trained on; encoders differ in both."""
        self.mean = pooled.mean(0)
        self.scale = pooled.std(0, correction=0).clamp(min=1e-6)

    def forward(self, pooled: Tensor) -> BoxReading:
        """See the class."""
        even = (pooled - self.mean) / self.scale
        radius = self.shape.radius_floor + functional.softplus(self.box_radius(even))
        return BoxReading(self.box_centre(even), radius, self.presentation(even))

    def logits(self, points: Tensor) -> Tensor:
        """Finding logits (..., 14) at points (..., d) of latent space."""
        return self.findings(points)  # type: ignore[no-any-return]


class HeadedBackbone:
    """A frozen encoder with a box head: what a film encoder reads with in place of our own network."""

    def __init__(self, backbone: FeatureExtractor, head: BoxHead) -> None:
        self.backbone, self.head = backbone, head
        self.findings = head.findings

    def eval(self) -> Self:
        """In evaluation mode; the encoder always is."""
        self.head.eval()
        return self

    def read(self, stored: NDArray[np.uint8]) -> Reading:
        """The reading of uint8 films (B, 256, 256); its `maps` are the encoder's grid."""
        seen = self.backbone.features(stored)
        box = self.head(seen.pooled)
        return Reading(seen.grid, seen.pooled, box.centre, box.radius, box.presentation)

    def logits(self, points: Tensor) -> Tensor:
        """See `BoxHead.logits`."""
        return self.head.logits(points)


def is_headed(record: ModelRecord) -> bool:
    """Whether a film model's record describes a box head over an encoder rather than our own network."""
    return isinstance(record.architecture, dict) and "backbone" in record.architecture


def load_headed(record: ModelRecord, folder: Path) -> HeadedBackbone:
    """The head and the encoder under it, both digests checked first. BadWeights otherwise; never random weights."""
    path = verified(record, folder)
    described: dict[str, Any] = dict(record.architecture)
    name, expected = described.pop("backbone"), described.pop("backbone_sha256", None)
    try:
        head = BoxHead(HeadShape(**described))
        head.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise BadWeights(f"{record.file} does not fit its architecture (expected sha256 {record.sha256})") from error
    backbone = load_extractor(name, folder / BACKBONE_FOLDER)
    if backbone.record.sha256 != expected:
        raise BadWeights(f"the encoder under {record.id}: expected sha256 {expected}, found {backbone.record.sha256}")
    return HeadedBackbone(backbone, head)
