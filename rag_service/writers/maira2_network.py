"""MAIRA-2's network over the classes that transformers ships, so that no code of a model folder is run.

It is a Llava with two differences: the image's tokens are the backbone's last feature map (its hidden state after the layer norm),
and `projector_n_layers` linear layers, 4 in MAIRA-2, carry them to the language model (arXiv 2406.04449).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from transformers import AutoBackbone, LlavaConfig, LlavaForConditionalGeneration, LlavaModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutputWithPooling

PUBLISHED_NAMES: Final = {
    r"^language_model\.lm_head": "lm_head",
    r"^language_model\.model": "model.language_model",
    r"^vision_tower": "model.vision_tower",
    r"^multi_modal_projector": "model.multi_modal_projector",
}
"""Names of tensors as published -> as transformers names them today."""
_NOT_OURS: Final = frozenset({"model_type", "auto_map", "architectures", "transformers_version"})


class Projector(nn.Module):
    """Image tokens (B, T, vision width) -> (B, T, text width)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        steps: list[nn.Module] = [nn.Linear(config.vision_config.hidden_size, width)]
        for _ in range(config.projector_n_layers - 1):
            steps += [ACT2FN[config.projector_hidden_act], nn.Linear(width, width)]
        self.layers = nn.Sequential(*steps)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        projected: Tensor = self.layers(tokens)
        return projected


class Maira2Model(LlavaModel):  # type: ignore[no-untyped-call]
    """Backbone, projector and language model."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.vision_tower = AutoBackbone.from_config(config.vision_config)  # type: ignore[no-untyped-call]
        self.multi_modal_projector: Any = Projector(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Pixels (B, 3, S, S) -> `pooler_output`, for each image its patches' tokens (T, text width), the class token left out."""
        seen = self.vision_tower(pixel_values).feature_maps[-1]
        projected: Any = list(self.multi_modal_projector(seen[:, 1:]))
        return BaseModelOutputWithPooling(last_hidden_state=seen, pooler_output=projected)


class Maira2(LlavaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The whole, as `generate` wants it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Maira2Model(config)
        self.post_init()  # type: ignore[no-untyped-call]


def maira2_config(folder: Path) -> LlavaConfig:
    """Llava's configuration from MAIRA-2's `config.json`. ValueError or KeyError where it describes another network."""
    raw: Mapping[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    if raw["vision_config"].get("reshape_hidden_states", True) or raw["projector_n_layers"] < 1:
        raise ValueError("not the configuration of MAIRA-2")
    return LlavaConfig(**{name: value for name, value in raw.items() if name not in _NOT_OURS})
