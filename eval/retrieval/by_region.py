"""Query by region: a radiologist's box on a film should find cases that state its finding, on that side.

The boxes are those of the films of an NIH folder. A box becomes a zone and a vector (`rag_service.models.regions`). A case that
affirms the finding by its tags has the grade 0.5 for the finding and 0.5 times the Jaccard index of the sides named for it and
the side of the box's zone (1 for the mediastinum, which has none, and where the finding's cases name none); any other case 0.
Films whose corner markers were blacked out are reported apart: a square may give a film away. Compared with chance and with
the box of the whole film; the searches ask, as the service does, with the film's box and probabilities beside the region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.retrieval.gallery import Gallery, distances
from eval.retrieval.measures import DEPTH, DIVERSIFIED, SHIPPED, Resamples, differences, figures, found_first, scored
from eval.retrieval.searches import Searches
from knowledge_base.findings import FINDINGS
from knowledge_base.records import BoxLatent
from knowledge_base.search import CaseQuery
from knowledge_base.store import PUBLIC
from knowledge_base.zones import ZONES
from rag_service.datasets import nih
from rag_service.datasets.films import FilmRow
from rag_service.datasets.relevance import SIDES
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.models.regions import region_of
from rag_service.reader import Reader

_SIDES: Final = slice(1, 1 + len(SIDES))

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """A reader's box as it is asked for: the film it lies on, its finding, zone and vector (R,), the film's box and its
    calibrated probabilities (14,).
    """

    row: FilmRow
    finding: str
    zone: str
    vector: NDArray[np.float32]
    box: BoxLatent
    probabilities: Floats


def regions(folder: Path, rows: Sequence[FilmRow], reader: Reader) -> list[Region]:
    """The reader boxes on these films; none where the folder has none or the model makes no regions."""
    by_film = {r.path.stem: r for r in rows}
    drawn: dict[str, list[nih.ReaderBox]] = {}
    for box in nih.boxes(folder):
        if Path(box.image).stem in by_film:
            drawn.setdefault(Path(box.image).stem, []).append(box)
    found = []
    for film, boxes in tqdm(drawn.items(), desc="reading films", unit="film"):
        reading = reader.encoder.read(decode(by_film[film].path.read_bytes()))
        chances = reader.calibration.probabilities(reading.probabilities)
        for b in boxes:
            region = region_of(reading, Box(b.x_min, b.y_min, b.x_max, b.y_max))
            if region is not None:
                found.append(Region(by_film[film], b.finding, *region, reading.box, chances))
    return found


def grades(asked: Sequence[Region], base: Gallery) -> Floats:
    """(q, m), as the module says."""
    found = np.zeros((len(asked), len(base)))
    for q, region in enumerate(asked):
        traits = base.traits[:, FINDINGS.index(region.finding)]
        wanted = np.array([float(region.zone.startswith(s)) for s in SIDES])
        named = traits[:, _SIDES]
        either = np.maximum(named, wanted).sum(1)
        agreed = np.where(either > 0, np.minimum(named, wanted).sum(1) / np.maximum(either, 1.0), 1.0)
        found[q] = traits[:, 0] * (0.5 + 0.5 * agreed)
    return found


def rankings(asked: Sequence[Region], base: Gallery, searches: Searches, seed: int) -> dict[str, Floats]:
    """Way -> (q, m), lower is nearer: chance, the whole film's box, the region's own list, and the searches by region."""
    boxes = np.stack([r.box.vector() for r in asked]).astype(np.float64)
    low = {
        "random": np.random.default_rng(seed).random((len(asked), len(base))),
        "box": distances(boxes, base.boxes),
        "region": -np.stack([_alike(r, base) for r in asked]),
    }
    rows = base.rows()
    for way, search in searches.ways.items():
        found = [[rows[h.case.id] for h in search.search(_query(r, way)).hits] for r in asked]
        low[way] = found_first(found, low["region"])
    return low


def measure(asked: Sequence[Region], base: Gallery, searches: Searches, seed: int) -> dict[str, Any]:
    """All boxes, those of films with their own markers and of films with blacked out ones, and each finding."""
    low, grade = rankings(asked, base, searches, seed), grades(asked, base)
    values = {way: scored(one, grade, np.zeros(grade.shape, bool)) for way, one in low.items()}
    resamples = Resamples.of([f"{r.row.source}/{r.row.patient}" for r in asked], seed)
    parts = {"all": np.arange(len(asked))}
    for name in sorted({r.row.markers for r in asked if r.row.markers}):
        parts[name] = np.array([i for i, r in enumerate(asked) if r.row.markers == name])
    for finding in sorted({r.finding for r in asked}):
        parts[finding] = np.array([i for i, r in enumerate(asked) if r.finding == finding])
    return {part: _part(values, rows, resamples) for part, rows in parts.items()}


def _part(values: Mapping[str, Floats], rows: NDArray[np.int64], resamples: Resamples) -> dict[str, Any]:
    drawn, of_part = resamples.at(rows), {way: v[rows] for way, v in values.items()}
    ours = ["region", *(w for w in SHIPPED if w in of_part)]
    return {
        "n": len(rows),
        "methods": {way: figures(v, drawn) for way, v in of_part.items()},
        "differences": differences(of_part, ours, ("random", "box"), drawn),
    }


def _alike(region: Region, base: Gallery) -> Floats:
    if base.regions is None:
        raise ValueError("the starter cases have no regions")
    return np.asarray(base.regions[:, ZONES.index(region.zone)] @ region.vector.astype(np.float64))


def _query(region: Region, way: str) -> CaseQuery:
    return CaseQuery(
        PUBLIC,
        box=region.box,
        probabilities=dict(zip(FINDINGS, region.probabilities.tolist(), strict=True)),
        region=(region.zone, region.vector),
        exclude_patient=(region.row.source, region.row.patient),
        limit=DEPTH,
        prefetch=DEPTH,
        diverse=way == DIVERSIFIED,
    )
