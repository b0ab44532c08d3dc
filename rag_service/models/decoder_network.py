"""The network of the decoder: film tokens and words in, words out, over a small T5 of the transformers library.

Shapes: B tasks, N film tokens, L words read, T words written, D the width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from rag_service import torchvision_ops
from rag_service.models.vocabulary import END, PAD, SLOTS, Vocabulary

SEGMENTS: Final = 3 + SLOTS
"""What a word read belongs to: the decision, what was asked, the earlier report, or one of the slots."""


@dataclass(frozen=True)
class DecoderShape:
    """Everything needed to rebuild the network beside its vocabulary. `sees`: kind of film token -> (how many, how wide)."""

    sees: Mapping[str, tuple[int, int]]
    width: int = 192
    hidden: int = 768
    heads: int = 6
    layers: int = 2
    dropout: float = 0.1


@dataclass(frozen=True, eq=False)
class Batch:
    """B tasks: film tokens (B, n, w) and whether they are looked at (B,), by kind; `words` and `segments` (B, L), words padded."""

    films: Mapping[str, Tensor]
    seen: Mapping[str, Tensor]
    words: Tensor
    segments: Tensor


class DecoderNetwork(nn.Module):
    """T5 (Raffel et al., JMLR 2020) over film tokens and words: an encoder, and a decoder with cross attention."""

    def __init__(self, shape: DecoderShape, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.shape = shape
        self.pad = vocabulary.mark(PAD)
        self.seen = nn.ModuleDict({kind: _eye(wide, shape.width) for kind, (_, wide) in shape.sees.items()})
        self.places = nn.ParameterDict(
            {k: nn.Parameter(0.02 * torch.randn(n, shape.width)) for k, (n, _) in shape.sees.items()}
        )
        self.segments = nn.Embedding(SEGMENTS, shape.width)
        self.language: Any = _language(shape, vocabulary)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder takes: embeddings (B, N + L, D), and which of them count (B, N + L)."""
        sees = self.shape.sees
        looked = torch.cat([self.seen[k](batch.films[k]) + self.places[k] for k in sees], 1)
        seen = torch.cat([batch.seen[k][:, None].expand(-1, count) for k, (count, _) in sees.items()], 1)
        read = self.language.get_input_embeddings()(batch.words) + self.segments(batch.segments)
        return torch.cat([looked, read], 1), torch.cat([seen, batch.words != self.pad], 1).long()

    def forward(self, batch: Batch, written: Tensor) -> Tensor:
        """Logits (B, T, vocabulary) of each next word, `written` (B, T) being those before it."""
        embedded, counts = self.inputs(batch)
        told = self.language(inputs_embeds=embedded, attention_mask=counts, decoder_input_ids=written)
        return told.logits  # type: ignore[no-any-return]


def _eye(wide: int, width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, width))


def _language(shape: DecoderShape, vocabulary: Vocabulary) -> nn.Module:
    torchvision_ops.declare()
    from transformers import T5Config, T5ForConditionalGeneration  # imports torchvision

    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=shape.width,
        d_kv=shape.width // shape.heads,
        d_ff=shape.hidden,
        num_heads=shape.heads,
        num_layers=shape.layers,
        num_decoder_layers=shape.layers,
        dropout_rate=shape.dropout,
        pad_token_id=vocabulary.mark(PAD),
        eos_token_id=vocabulary.mark(END),
    )
    return T5ForConditionalGeneration(config)
