"""Features of films, and of their changed copies, from a frozen encoder: computed once and kept beside the run."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from knowledge_base.records import digest
from rag_service.models.encoders.record import FeatureExtractor
from rag_service.training import augment

BATCH: Final = 16


class Change(Protocol):
    """Makes a changed copy of films.

    Contract: uint8 (B, 256, 256) -> the same shape and type; `start` is the place of the first film in its list, so that
    the same list is changed the same way; `name` says everything the change depends on.
    """

    @property
    def name(self) -> str:
        """See the class."""
        ...

    def __call__(self, films: NDArray[np.uint8], start: int) -> NDArray[np.uint8]:
        """See the class."""
        ...


@dataclass(frozen=True)
class OtherDevice:
    """What another device would have made of the film: `augment.acquisition` at a strength, by seed."""

    strength: augment.Strength
    seed: int

    @property
    def name(self) -> str:
        """Strength and seed."""
        return digest(["other device", asdict(self.strength), self.seed])

    def __call__(self, films: NDArray[np.uint8], start: int) -> NDArray[np.uint8]:
        """See `Change`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + start)
        grey = torch.from_numpy(films).float().div(255.0)[:, None]
        shifted = augment.acquisition(grey, self.strength, generator)
        return np.asarray(shifted[:, 0].mul(255.0).round().byte().numpy(), np.uint8)


@dataclass(frozen=True)
class Turned:
    """Each film turned by one, two or three quarters, in turn."""

    name: str = "turned"

    def __call__(self, films: NDArray[np.uint8], start: int) -> NDArray[np.uint8]:
        """See `Change`."""
        return np.stack([np.rot90(f, 1 + (start + i) % 3) for i, f in enumerate(films)])


@dataclass(frozen=True)
class Inverted:
    """Black for white."""

    name: str = "inverted"

    def __call__(self, films: NDArray[np.uint8], start: int) -> NDArray[np.uint8]:  # noqa: ARG002  (the same everywhere)
        """See `Change`."""
        return 255 - films


@dataclass(frozen=True)
class FeatureCache:
    """Pooled features of one encoder, kept under `folder` by encoder, content of the films, and change."""

    extractor: FeatureExtractor
    folder: Path

    def pooled(
        self, films: NDArray[np.uint8], rows: NDArray[np.int64], change: Change | None = None
    ) -> NDArray[np.float32]:
        """float32 (len(rows), D) of `films[rows]`, changed when asked."""
        path = self.folder / f"{self._key(films, rows, change)}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False), np.float32)
        parts = [np.zeros((0, self.extractor.record.width), np.float32)]
        for start in tqdm(range(0, len(rows), BATCH), desc=f"{self.extractor.record.name} features", unit="batch"):
            some = films[rows[start : start + BATCH]]
            parts.append(self.extractor.features(some if change is None else change(some, start)).pooled.numpy())
        found = np.concatenate(parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, found, allow_pickle=False)
        partial.replace(path)
        return found

    def _key(self, films: NDArray[np.uint8], rows: NDArray[np.int64], change: Change | None) -> str:
        content = hashlib.sha256()
        for start in range(0, len(rows), 256):
            content.update(films[rows[start : start + 256]].tobytes())
        return digest([self.extractor.record.id, content.hexdigest(), None if change is None else change.name])[:32]
