"""What is kept of each labelled film for the ratio and the mask tokens, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval import readings
from knowledge_base.records import digest
from rag_service.datasets.films import FilmRow, Split
from rag_service.imaging.decode import decode
from rag_service.models.encoder import FilmEncoder
from rag_service.models.mask_tokens import mask_tokens
from rag_service.models.segmenter import Segmenter
from rag_service.models.structures import StructureMasks
from rag_service.report.cardiothoracic import cardiothoracic_ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Looks:
    """n films: `scores` (n, 14) before calibration, `pooled` (n, P), `ap` (n,), `ratio` (n,) with NaN where it was refused, tokens
    (n, 3 * W) of the film's own masks, and of masks that are the same for every film."""

    scores: Floats
    pooled: Floats
    ap: Floats
    ratio: Floats
    own: Floats
    fixed: Floats

    def at(self, rows: NDArray[np.int64]) -> Looks:
        """Only these films."""
        return Looks(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frontal films with labels (n, 14), NaN for unknown, and what was seen of each."""

    rows: tuple[FilmRow, ...]
    labels: Floats
    looks: Looks

    def of(self, split: Split) -> Labelled:
        """Those of one split."""
        kept = np.array([i for i, r in enumerate(self.rows) if r.split is split], np.int64)
        return Labelled(tuple(self.rows[i] for i in kept), self.labels[kept], self.looks.at(kept))

    @property
    def patients(self) -> list[str]:
        """By row."""
        return [r.patient for r in self.rows]


def read(
    rows: Sequence[FilmRow],
    encoder: FilmEncoder,
    segmenter: Segmenter,
    fixed: StructureMasks,
    cache: Path | None = readings.CACHE,
) -> Labelled:
    """Read every film as the service would. With `cache`, films unchanged since an earlier run are not read again."""
    stats = [(r.path.name, r.path.stat().st_size, r.path.stat().st_mtime_ns) for r in rows]
    key = digest([encoder.record.id, segmenter.record.id, digest(fixed.masks.tobytes().hex()), stats])[:32]
    kept = None if cache is None else cache / f"anatomy-{key}.npz"
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            looks = Looks(*(arrays[f.name] for f in fields(Looks)))
    else:
        looks = _looks([_look(r, encoder, segmenter, fixed) for r in tqdm(rows, desc="reading films", unit="film")])
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, **{f.name: getattr(looks, f.name) for f in fields(looks)})
    return Labelled(tuple(rows), readings.labels(rows), looks)


def _look(
    row: FilmRow, encoder: FilmEncoder, segmenter: Segmenter, fixed: StructureMasks
) -> tuple[NDArray[np.floating], ...]:
    film = decode(row.path.read_bytes())
    reading, structures = encoder.read(film), segmenter.read(film)
    ratio = cardiothoracic_ratio(structures).value
    return (
        reading.probabilities,
        reading.pooled,
        np.array(np.nan if reading.ap is None else reading.ap),
        np.array(np.nan if ratio is None else ratio),
        mask_tokens(reading, structures).ravel(),
        mask_tokens(reading, fixed).ravel(),
    )


def _looks(found: Sequence[tuple[NDArray[np.floating], ...]]) -> Looks:
    return Looks(*(np.stack(column).astype(np.float64) for column in zip(*found, strict=True)))


def mean_of(segmenter: Segmenter, rows: Sequence[FilmRow], count: int = 100) -> StructureMasks:
    """The mean of the segmenter's own answers on the first films, where no outlines are at hand."""
    found = [segmenter.read(decode(r.path.read_bytes())).chances for r in rows[:count]]
    return StructureMasks(np.mean(found, 0, np.float32))
