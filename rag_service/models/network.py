"""The film network: a convolutional trunk, maps of where findings lie, a box in latent space, and heads that read the box.

Shapes: B films, S pixels a side, C and D trunk channels, P pooled features, d box axes, F = 14 findings.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from knowledge_base.findings import FINDINGS
from rag_service import torchvision_ops

PRESENTATIONS: Final = ("frontal", "lateral", "rotated", "inverted", "not_chest")
"""How a picture presents itself; only "frontal" is drafted."""
ANATOMY: Final = ("right lung", "left lung", "heart")
"""What the place maps outline beside the findings; sides are the patient's."""
PEAK: Final = 2.0
"""Sharpness of the smooth maximum over places."""


DROPPED: Final = 0.3
"""Share of the pooled features that training leaves out at random: a few thousand films are soon known by heart."""


@dataclass(frozen=True)
class Architecture:
    """Everything needed to rebuild the network around a state dict. `side` is the input in pixels, `trunk` a timm ResNet."""

    trunk: str = "resnet18"
    side: int = 224
    axes: int = 128
    text_width: int = 384
    joint_width: int = 128
    place_width: int = 96
    tags: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    radius_floor: float = 0.02

    def to_json(self) -> dict[str, object]:
        """Plain values, for the header of a weight file."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Reading:
    """One forward pass of any film model.

    `maps` (B, D, h, w), `pooled` (B, P), `centre` and `radius` (B, d), `presentation` (B, 5) logits.
    """

    maps: Tensor
    pooled: Tensor
    centre: Tensor
    radius: Tensor
    presentation: Tensor


@dataclass(frozen=True, eq=False)
class PlacedReading(Reading):
    """A reading by our own network, which also says where and how the film was taken.

    `places` (B, F + 3, 2h, 2w) logits of findings and anatomy at each place; `local` (B, place_width, 2h, 2w) the features
    they are read from; `projection` (B,) logit of AP against PA.
    """

    places: Tensor
    local: Tensor
    projection: Tensor


class GeneralisedMean(nn.Module):
    """(B, D, h, w) -> (B, D): mean of x^p over places, to the 1/p; p is learned, so small lesions are not averaged away."""

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        power = self.power.clamp(1.0, 8.0)
        return maps.float().clamp(min=1e-5).pow(power).mean(dim=(2, 3)).pow(1.0 / power)


class Places(nn.Module):
    """Where things are: maps of stride 16 (B, C, 2h, 2w) and 32 (B, D, h, w) -> logits (B, F + 3, 2h, 2w).

    The first F channels are the findings, the last three right lung, left lung and heart.
    """

    def __init__(self, early: int, late: int, width: int) -> None:
        super().__init__()
        self.from_early = nn.Conv2d(early, width, 1, bias=False)
        self.from_late = nn.Conv2d(late, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, len(FINDINGS) + len(ANATOMY), 1)
        self.out.bias = nn.Parameter(torch.full((self.out.out_channels,), -3.0))  # few places show anything

    def forward(self, early: Tensor, late: Tensor) -> Tensor:
        """See the class."""
        return self.read(self.local(early, late))

    def local(self, early: Tensor, late: Tensor) -> Tensor:
        """Features (B, width, 2h, 2w) of each place."""
        coarse = functional.interpolate(self.from_late(late), size=early.shape[-2:], mode="bilinear")
        joined = functional.relu(self.norm(self.from_early(early) + coarse))
        return functional.relu(self.mix(joined))

    def read(self, local: Tensor) -> Tensor:
        """Logits of features that `local` gave."""
        return self.out(local).float()  # type: ignore[no-any-return]


class FilmNetwork(nn.Module):
    """Film (B, 1, S, S), normalised by `imaging.normalise` -> Reading; `logits` reads findings from points of the box."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        torchvision_ops.declare()
        import timm  # imports torchvision, whose operators had to be declared first

        trunk: Any = timm.create_model(architecture.trunk, in_chans=1, num_classes=0, pretrained=False)
        self.trunk = trunk
        late, axes = int(trunk.num_features), architecture.axes
        early = int(trunk.feature_info[-2]["num_chs"])
        self.pool, self.pool_early = GeneralisedMean(), GeneralisedMean()
        self.norm = nn.LayerNorm(late + early)
        self.dropout = nn.Dropout(DROPPED)
        self.places = Places(early, late, architecture.place_width)
        width = late + early + len(FINDINGS)
        self.box_centre = nn.Linear(width, axes)
        self.box_radius = nn.Linear(width, axes)
        nn.init.zeros_(self.box_radius.weight)
        nn.init.constant_(self.box_radius.bias, -1.5)
        self.findings = nn.Linear(axes, len(FINDINGS))
        self.tags = nn.Linear(axes, len(architecture.tags))
        self.presentation = nn.Linear(width, len(PRESENTATIONS))
        self.projection = nn.Linear(width, 1)
        self.film_joint = nn.Linear(axes, architecture.joint_width)
        self.text_joint = nn.Linear(architecture.text_width, architecture.joint_width)
        self.domain_offset = nn.Embedding(max(len(architecture.domains), 1), len(FINDINGS))
        nn.init.zeros_(self.domain_offset.weight)

    def forward(self, films: Tensor) -> PlacedReading:
        """Read films of shape (B, 1, S, S)."""
        return self.read_maps(*self.stages(films))

    def stages(self, films: Tensor) -> tuple[Tensor, Tensor]:
        """Maps that enter the last trunk stage, stride 16, and those that leave it, stride 32."""
        trunk: Any = self.trunk
        stem = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(films))))
        early = trunk.layer3(trunk.layer2(trunk.layer1(stem)))
        return early, trunk.layer4(early)

    def read_maps(self, early: Tensor, maps: Tensor) -> PlacedReading:
        """The heads over maps of both strides, (B, C, 2h, 2w) and (B, D, h, w)."""
        local = self.places.local(early, maps)
        places = self.places.read(local)
        peaks = self.peaks(places)
        means = self.dropout(self.norm(torch.cat([self.pool(maps), self.pool_early(early)], 1)))
        pooled = torch.cat([means, 0.25 * peaks], 1)
        radius = self.architecture.radius_floor + functional.softplus(self.box_radius(pooled))
        centre, presentation = self.box_centre(pooled), self.presentation(pooled)
        projection = self.projection(pooled)[:, 0]
        return PlacedReading(maps, pooled, centre, radius, presentation, places, local, projection)

    @staticmethod
    def peaks(places: Tensor) -> Tensor:
        """Smooth maximum (B, F) of the finding channels of place logits (B, F + 3, h, w), whatever their number of places."""
        flat = places[:, : len(FINDINGS)].flatten(2) * PEAK
        return (torch.logsumexp(flat, 2) - math.log(flat.shape[-1])) / PEAK

    def logits(self, points: Tensor) -> Tensor:
        """Finding logits (..., F) at points (..., d) of latent space."""
        return self.findings(points)  # type: ignore[no-any-return]
