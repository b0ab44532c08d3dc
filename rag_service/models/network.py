"""The film network: a convolutional trunk, a box in latent space, and heads that read the box.

Shapes: B films, S pixels a side, D trunk channels, d box axes, F = 14 findings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from knowledge_base.findings import FINDINGS
from rag_service import torchvision_ops

PRESENTATIONS: Final = ("frontal", "lateral", "rotated", "inverted", "not_chest")
"""How a picture presents itself; only "frontal" is drafted."""


@dataclass(frozen=True)
class Architecture:
    """Everything needed to rebuild the network around a state dict. `side` is the input in pixels."""

    trunk: str = "regnetx_004"
    side: int = 208
    axes: int = 128
    text_width: int = 384
    joint_width: int = 128
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    radius_floor: float = 0.02

    def to_json(self) -> dict[str, object]:
        """Plain values, for the header of a weight file."""
        return asdict(self)


class Reading(NamedTuple):
    """One forward pass.

    `maps` (B, D, h, w), `pooled` (B, D), `centre` and `radius` (B, d), `presentation` (B, 5) logits.
    """

    maps: Tensor
    pooled: Tensor
    centre: Tensor
    radius: Tensor
    presentation: Tensor


class GeneralisedMean(nn.Module):
    """(B, D, h, w) -> (B, D): mean of x^p over places, to the 1/p; p is learned, so small lesions are not averaged away."""

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        power = self.power.clamp(1.0, 8.0)
        return maps.float().clamp(min=1e-5).pow(power).mean(dim=(2, 3)).pow(1.0 / power)


class FilmNetwork(nn.Module):
    """Film (B, 1, S, S), normalised by `imaging.normalise` -> Reading; `logits` reads findings from points of the box."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        torchvision_ops.declare()
        import timm  # imports torchvision, whose operators had to be declared first

        trunk: Any = timm.create_model(architecture.trunk, in_chans=1, num_classes=0, pretrained=False)
        self.trunk = trunk
        width, axes = int(trunk.num_features), architecture.axes
        self.pool = GeneralisedMean()
        self.norm = nn.LayerNorm(width)
        self.box_centre = nn.Linear(width, axes)
        self.box_radius = nn.Linear(width, axes)
        nn.init.zeros_(self.box_radius.weight)
        nn.init.constant_(self.box_radius.bias, -1.5)
        self.findings = nn.Linear(axes, len(FINDINGS))
        self.tags = nn.Linear(axes, len(architecture.tags))
        self.presentation = nn.Linear(width, len(PRESENTATIONS))
        self.film_joint = nn.Linear(axes, architecture.joint_width)
        self.text_joint = nn.Linear(architecture.text_width, architecture.joint_width)
        self.source_offset = nn.Embedding(max(len(architecture.sources), 1), len(FINDINGS))
        nn.init.zeros_(self.source_offset.weight)

    def forward(self, films: Tensor) -> Reading:
        """Read films of shape (B, 1, S, S)."""
        return self.read_maps(self.stages(films)[1])

    def stages(self, films: Tensor) -> tuple[Tensor, Tensor]:
        """Maps that enter the last trunk stage, stride 16, and those that leave it, stride 32."""
        trunk: Any = self.trunk
        early = trunk.s3(trunk.s2(trunk.s1(trunk.stem(films))))
        return early, trunk.final_conv(trunk.s4(early))

    def read_maps(self, maps: Tensor) -> Reading:
        """The heads over final maps (B, D, h, w)."""
        pooled = self.norm(self.pool(maps))
        radius = self.architecture.radius_floor + functional.softplus(self.box_radius(pooled))
        return Reading(maps, pooled, self.box_centre(pooled), radius, self.presentation(pooled))

    def logits(self, points: Tensor) -> Tensor:
        """Finding logits (..., F) at points (..., d) of latent space."""
        return self.findings(points)  # type: ignore[no-any-return]
