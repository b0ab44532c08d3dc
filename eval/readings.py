"""What the film network says of many films, as arrays; read once and kept, so that measurements start from the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from knowledge_base.findings import FINDINGS
from knowledge_base.records import digest
from rag_service.datasets.films import FilmRow
from rag_service.imaging.decode import decode
from rag_service.models.encoder import FilmEncoder, FilmReading

CACHE: Final = Path("build/readings")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Readings:
    """n films, row by row with the list they were read from.

    `scores` (n, 14) BL-TTA probabilities before calibration and `spread` (n, 14) their standard deviation over the samples;
    `centre` and `radius` (n, d) the boxes; `pooled` (n, D) trunk features; `presentation` (n, 5) in the order of PRESENTATIONS;
    `ap` (n,) probability of an AP projection, NaN where the model does not say.
    """

    scores: Floats
    spread: Floats
    centre: Floats
    radius: Floats
    pooled: Floats
    presentation: Floats
    ap: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, rows: Sequence[int] | NDArray[np.int64]) -> Readings:
        """Only these rows, in this order."""
        return Readings(*(getattr(self, f.name)[np.asarray(rows, np.int64)] for f in fields(self)))


def of(found: Sequence[FilmReading]) -> Readings:
    """Readings as arrays."""
    return Readings(
        scores=np.stack([r.probabilities for r in found]).astype(np.float64),
        spread=np.stack([r.spread for r in found]).astype(np.float64),
        centre=np.stack([r.box.centre for r in found]).astype(np.float64),
        radius=np.stack([r.box.radius for r in found]).astype(np.float64),
        pooled=np.stack([r.pooled for r in found]).astype(np.float64),
        presentation=np.stack([r.presentation for r in found]).astype(np.float64),
        ap=np.array([np.nan if r.ap is None else r.ap for r in found]),
    )


def read(rows: Sequence[FilmRow], encoder: FilmEncoder, cache: Path | None = CACHE) -> Readings:
    """Decode and read every film as the service would. With `cache`, films unchanged since an earlier run are not read again."""
    paths = [r.path for r in rows]
    kept = None if cache is None else cache / f"{_key(paths, encoder)}.npz"
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return Readings(*(arrays[f.name] for f in fields(Readings)))
    found = of([encoder.read(decode(p.read_bytes())) for p in tqdm(paths, desc="reading films", unit="film")])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, **{f.name: getattr(found, f.name) for f in fields(found)})
        partial.replace(kept)
    return found


def labels(rows: Sequence[FilmRow]) -> Floats:
    """(n, 14): 1, 0, or NaN where the source does not say."""
    return np.array([[float(r.labels[f]) if f in r.labels else np.nan for f in FINDINGS] for r in rows])


def _key(paths: Sequence[Path], encoder: FilmEncoder) -> str:
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return digest([encoder.record.id, encoder.bl_tta, stats])[:32]
