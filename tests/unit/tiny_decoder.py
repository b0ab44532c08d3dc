"""A decoder small enough to build in a test: random weights, a film of a few numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from knowledge_base.findings import FINDINGS
from knowledge_base.zones import ZONES
from rag_service.models.decoder import save_decoder
from rag_service.models.decoder_network import DecoderNetwork, DecoderShape
from rag_service.models.decoder_sight import FilmTokens, Sight
from rag_service.models.vocabulary import Vocabulary, train_bpe

MODEL = "tiny@1-abababab"
TEXTS = ["The heart is enlarged.", "No pneumothorax.", "Small left pleural effusion.", "There is a fracture."] * 9
VOCABULARY = Vocabulary(train_bpe(TEXTS, 320))


def film_tokens(seed: int = 0, pooled: int = 8, axes: int = 4, cells: int = 25) -> FilmTokens:
    rng = np.random.default_rng(seed)
    tokens = {"film": rng.random((1, pooled)), "box": rng.random((1, 2 * axes)), "zones": rng.random((len(ZONES), 3))}
    return FilmTokens(
        {k: t.astype(np.float32) for k, t in tokens.items()}, rng.random((len(FINDINGS), cells)).astype(np.float32)
    )


SHAPE = DecoderShape(sees=film_tokens().shapes, width=16, hidden=16, heads=2, layers=1)


def network(seed: int = 0, shape: DecoderShape = SHAPE) -> DecoderNetwork:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    made = DecoderNetwork(shape, VOCABULARY).eval()
    torch.set_rng_state(state)
    return made


def saved(folder: Path, seed: int = 0) -> None:
    save_decoder(folder, MODEL, VOCABULARY, network(seed), Sight(), {"version": "1", "sample": "none"})
