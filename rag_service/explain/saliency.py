"""Class activation maps by `grad-cam`, over the last trunk stage alone: the early stages are run once, in the reading."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from knowledge_base.findings import FINDINGS
from rag_service.models.network import FilmNetwork

MAP_SIDE: Final = 64
"""Saliency maps are returned at this many cells a side, over the whole film."""


class LastStage(nn.Module):
    """Early maps (B, C, h, w) -> finding logits (B, 14) at the centre of the box.

    `exit` is its own, so that a hook on it hears nothing of the films that the network reads meanwhile.
    """

    def __init__(self, network: FilmNetwork) -> None:
        super().__init__()
        self.exit = nn.Identity()
        trunk: Any = network.trunk
        self.stage = trunk.layer4
        self._network = (network,)  # a tuple: the heads are used, not registered a second time

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        network = self._network[0]
        reading = network.read_maps(maps, self.exit(self.stage(maps)))
        return network.logits(reading.centre)


class Saliency:
    """Maps for several findings of one film in one pass; one film at a time, whichever thread asks."""

    def __init__(self, network: FilmNetwork) -> None:
        self._tail = LastStage(network).eval()
        self._lock = Lock()  # grad-cam hangs hooks on the tail: two films at once would get each other's maps

    def maps(self, early: Tensor, findings: Sequence[str]) -> NDArray[np.float32]:
        """float32 (len(findings), 64, 64) in [0, 1] from the reading's `maps` (C, h, w); all zero where nothing speaks for it."""
        if not findings:
            return np.zeros((0, MAP_SIDE, MAP_SIDE), np.float32)
        from pytorch_grad_cam import GradCAMElementWise
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        batch = early.detach().clone()[None].repeat(len(findings), 1, 1, 1)
        targets = [ClassifierOutputTarget(FINDINGS.index(f)) for f in findings]
        # Element-wise: the pooling weighs places unequally, so the mean gradient of a channel says little about a place.
        with (
            self._lock,
            torch.enable_grad(),
            GradCAMElementWise(model=self._tail, target_layers=[self._tail.exit]) as cam,
        ):
            return _resized(np.asarray(cam(input_tensor=batch.requires_grad_(True), targets=targets), np.float32))


def _resized(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    resized = torch.nn.functional.interpolate(torch.from_numpy(maps)[:, None], size=MAP_SIDE, mode="bilinear")
    return resized[:, 0].clamp(0, 1).numpy()
