"""The encoders as modules: normalised pixels (B, K, S, S) -> pooled features (B, D) and a grid (B, C, h, w).

Each is built from a configuration and filled strictly from a state dict: a missing or surplus tensor is an error, never a
random weight. No class is found by name in a file, no code of a model folder is run, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from rag_service import torchvision_ops
from rag_service.models.network import FilmNetwork

State = Mapping[str, Tensor]


class Dinov2(nn.Module):
    """DINOv2 and RAD-DINO: the class token and the patch tokens after the last norm."""

    def __init__(self, config: Mapping[str, Any], state: State) -> None:
        super().__init__()
        torchvision_ops.declare()
        from transformers import Dinov2Config, Dinov2Model

        self.model: Any = Dinov2Model(Dinov2Config.from_dict(dict(config)))
        self.model.load_state_dict(state)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the module."""
        tokens = self.model(pixel_values=pixels).last_hidden_state
        side = pixels.shape[-1] // self.model.config.patch_size
        return tokens[:, 0], tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


class OpenClip(nn.Module):
    """The vision tower of an open_clip model: the image embedding, not normalised, and the last block's patch tokens.

    The tower alone is built: `open_clip.create_model` would build the text tower too, whose configuration is on a hub.
    """

    def __init__(self, config: Mapping[str, Any], state: State) -> None:
        super().__init__()
        torchvision_ops.declare()
        from open_clip.model import _build_vision_tower

        model = config["model_cfg"]
        vision = {k: v for k, v in model["vision_cfg"].items() if k != "timm_model_pretrained"}
        self.tower: Any = _build_vision_tower(model["embed_dim"], vision, model.get("quick_gelu", False))
        self.tower.load_state_dict(_below(state, "visual."))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the module."""
        found = self.tower.forward_intermediates(pixels, indices=1)
        return found["image_features"], found["image_intermediates"][-1]


class XrvDenseNet(nn.Module):
    """torchxrayvision's DenseNet: mean over places of the rectified last maps, which are the grid."""

    def __init__(self, config: Mapping[str, Any], state: State) -> None:
        super().__init__()
        torchvision_ops.declare()
        from torchxrayvision.models import DenseNet

        # `weights` would fetch; operating points of its own classes are not used.
        self.model: Any = DenseNet(**{**config, "weights": None, "op_threshs": None})
        self.model.load_state_dict({k: v for k, v in state.items() if k != "op_threshs"})

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the module."""
        grid = torch.relu(self.model.features(pixels))
        return grid.mean((2, 3)), grid


class Sam2(nn.Module):
    """SAM 2's image encoder (Hiera and its pyramid): mean over places of the coarsest pyramid map, which is the grid."""

    def __init__(self, config: Mapping[str, Any], state: State) -> None:
        super().__init__()
        torchvision_ops.declare()
        from transformers import Sam2VisionConfig, Sam2VisionModel

        self.model: Any = Sam2VisionModel(Sam2VisionConfig.from_dict(dict(config["vision_config"])))
        self.model.load_state_dict(_below(state, "vision_encoder."))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the module."""
        grid = self.model(pixel_values=pixels).fpn_hidden_states[-1]
        return grid.mean((2, 3)), grid


class OwnTrunk(nn.Module):
    """Our film network up to its pooled features; its heads are not used."""

    def __init__(self, network: FilmNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the module."""
        reading = self.network(pixels)
        return reading.pooled, reading.maps


LOADERS: Final = {"dinov2": Dinov2, "open_clip": OpenClip, "torchxrayvision": XrvDenseNet, "sam2": Sam2}
"""By `EncoderRecord.loader`."""


def _below(state: State, prefix: str) -> dict[str, Tensor]:
    """The part of a state dict under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
