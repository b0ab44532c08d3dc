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

        self.model: Any = _filled(Dinov2Model, Dinov2Config, config, state)

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
        from transformers import Sam2Config, Sam2Model

        self.model: Any = _filled(Sam2Model, Sam2Config, config, state).vision_encoder

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


def _filled(model: Any, configuration: Any, config: Mapping[str, Any], state: State) -> Any:
    """A transformers model of this configuration and state, ValueError when a tensor is missing or surplus.

    transformers fills it, for it alone knows the names that tensors had when older versions saved them; it would leave what is
    missing random and say so in passing. Attention is named, since a configuration may ask for a kernel to be fetched.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    shape = configuration.from_dict({k: v for k, v in config.items() if k != "quantization_config"})
    filled, report = model.from_pretrained(
        None,
        config=shape,
        state_dict=dict(state),
        attn_implementation="sdpa",
        local_files_only=True,
        output_loading_info=True,
    )
    if any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise ValueError("tensors are missing or surplus")
    return filled
