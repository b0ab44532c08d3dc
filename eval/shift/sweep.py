"""Reads films under many changes, several changes to a decoding, with one network or with two side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rag_service.datasets.films import FilmRow
from rag_service.imaging.decode import decode
from rag_service.imaging.normalise import STORED_SIDE, squeeze, stretch
from rag_service.models.encoder import FilmEncoder
from rag_service.reader import Reader

BATCH: Final = 16
SIDE: Final = STORED_SIDE

Floats = NDArray[np.float64]
Stored = NDArray[np.uint8]
Name = TypeVar("Name", bound=Hashable)


def stored(path: Path) -> Stored:
    """A film as the network is given it: uint8 (256, 256), squeezed and stretched."""
    return np.asarray(np.rint(stretch(squeeze(decode(path.read_bytes()).pixels)) * 255.0), np.uint8)


def own_seed(row: FilmRow) -> int:
    """A number that is the film's own, whichever other films are measured with it."""
    return int.from_bytes(hashlib.sha256(f"{row.source}/{row.study}/{row.path.name}".encode()).digest()[:6], "big")


def read(
    rows: Sequence[FilmRow], readers: Sequence[Reader], changes: Mapping[Name, Callable[[Stored, int], Stored]]
) -> list[dict[Name, Floats]]:
    """For each reader, change -> calibrated probabilities (n, 14). A change is given the stored film and its own seed."""
    found: list[dict[Name, list[Floats]]] = [{name: [] for name in changes} for _ in readers]
    for start in tqdm(range(0, len(rows), BATCH), desc="reading shifted films", unit="batch"):
        batch = rows[start : start + BATCH]
        films = [(stored(r.path), own_seed(r)) for r in batch]
        for name, change in changes.items():
            changed = np.stack([change(film, seed) for film, seed in films])
            for reader, kept in zip(readers, found, strict=True):
                kept[name].append(raw(changed, reader.encoder))
    return [
        {name: reader.calibration.probabilities(np.concatenate(parts)) for name, parts in kept.items()}
        for reader, kept in zip(readers, found, strict=True)
    ]


def probabilities(films: Sequence[Stored], reader: Reader) -> Floats:
    """Calibrated probabilities (n, 14) of stored films."""
    parts = [raw(np.stack(films[i : i + BATCH]), reader.encoder) for i in range(0, len(films), BATCH)]
    return reader.calibration.probabilities(np.concatenate(parts))


def raw(films: Stored, encoder: FilmEncoder) -> Floats:
    """Scores (B, 14) of films (B, 256, 256) before calibration."""
    return np.stack([r.probabilities for r in encoder.read_stored(films)])
