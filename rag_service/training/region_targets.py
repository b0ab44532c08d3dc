"""What region queries are to answer: which concepts a film shows, where, and where the words of its report place them.

Boxes are (k, 4) float32 as centre x, centre y, width, height in fractions of the film; a side is the patient's, so its left is the
larger x. Of a structure that no source outlines the rectangle follows from the lungs and the heart: `structure_boxes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from rag_service.datasets import nih, openi, outlines
from rag_service.datasets.relevance import LEVELS, SIDES, traits
from rag_service.training.corpus import SOURCES, UNKNOWN, Corpus
from rag_service.training.region_prompts import Concept, is_structure

Floats = NDArray[np.float32]
Hull = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max."""

SPINE_WIDTH: Final = 0.12
DIAPHRAGM: Final = 6
"""The diaphragm is taken as the lowest part of so many of the lungs' height."""
_PRESENT, _SIDES, _LEVELS = 0, slice(1, 3), slice(3, 6)


@dataclass(frozen=True, eq=False)
class FilmTargets:
    """One film: `labels` (14,) 1, 0 or -1; `traits` (14, 6) where its source places each observation (see `datasets.relevance`);
    `drawn` boxes by concept; `lungs` the hull of both lungs as the film network sees them, for heights."""

    labels: NDArray[np.int8]
    traits: NDArray[np.float64]
    drawn: Mapping[Concept, Floats]
    lungs: Hull

    def presence(self, concept: Concept) -> int:
        """1, 0 or -1 for unknown: an observation that is placed elsewhere only is not here."""
        if is_structure(concept):
            return 1
        finding = FINDINGS.index(concept.name)
        label = int(self.labels[finding])
        if label != 1 or not (concept.side or concept.level):
            return label
        where = self.traits[finding]
        asked = [(concept.side, SIDES, where[_SIDES]), (concept.level, LEVELS, where[_LEVELS])]
        told = [_told(name, names, marked) for name, names, marked in asked if name]
        return 0 if 0 in told else UNKNOWN if UNKNOWN in told else 1

    def boxes(self, concept: Concept) -> Floats | None:
        """The boxes drawn for a concept; None where nobody drew it, empty where it was drawn elsewhere only."""
        if concept in self.drawn:
            return self.drawn[concept]
        whole = self.drawn.get(Concept(concept.name))
        if whole is None or is_structure(concept):
            return None
        return whole[[self._inside(box, concept) for box in whole]]

    def _inside(self, box: Floats, concept: Concept) -> bool:
        return concept.side in {"", side_of(float(box[0]))} and concept.level in {
            "",
            level_of(float(box[1]), self.lungs),
        }


def _told(name: str, names: Sequence[str], marked: NDArray[np.float64]) -> int:
    if marked[names.index(name)]:
        return 1
    return 0 if marked.any() else UNKNOWN


def side_of(x: float) -> str:
    """The patient's side of a place."""
    return "left" if x >= 0.5 else "right"


def level_of(y: float, lungs: Hull) -> str:
    """The third of the lungs' height."""
    top, bottom = lungs[1], lungs[3]
    return LEVELS[int(np.clip(3 * (y - top) / max(bottom - top, 1e-6), 0, 2))]


def centred(hull: Hull) -> Floats:
    """(1, 4)."""
    x_min, y_min, x_max, y_max = hull
    return np.array([[(x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min]], np.float32)


def join(*hulls: Hull) -> Hull:
    """The hull of several."""
    low, high = np.min(hulls, 0), np.max(hulls, 0)
    return (float(low[0]), float(low[1]), float(high[2]), float(high[3]))


def structure_boxes(right: Hull | None, left: Hull | None, heart: Hull | None) -> dict[Concept, Floats]:
    """Boxes of the structures that follow from the hulls of the lungs and the heart, and of the thirds of each lung.

    By convention here: the mediastinum fills the gap between the lungs, widened to the heart, over the lungs' height; the diaphragm
    is the lowest DIAPHRAGM-th of both; the spine a strip of SPINE_WIDTH midway between them from their top down to the film's edge.
    """
    found = {} if heart is None else {Concept("cardiac"): centred(heart)}
    for side, lung in (("right", right), ("left", left)):
        if lung is not None:
            found[Concept(f"{side} lung")] = centred(lung)
            found |= {Concept("lung", side, z): centred(_third(lung, i)) for i, z in enumerate(LEVELS)}
    if right is None or left is None:
        return found
    both = join(right, left)
    height = (both[3] - both[1]) / DIAPHRAGM
    middle = (right[2] + left[0]) / 2
    found[Concept("diaphragm")] = centred((both[0], both[3] - height, both[2], both[3]))
    found[Concept("spine")] = centred((middle - SPINE_WIDTH / 2, both[1], middle + SPINE_WIDTH / 2, 1.0))
    if heart is not None:
        inner = (min(right[2], heart[0]), both[1], max(left[0], heart[2]), max(heart[3], both[3] - height))
        found[Concept("mediastinum")] = centred(inner)
    return found


def _third(lung: Hull, index: int) -> Hull:
    top, third = lung[1], (lung[3] - lung[1]) / 3
    return (lung[0], top + index * third, lung[2], top + (index + 1) * third)


def hull_of(mask: NDArray[np.bool_]) -> Hull | None:
    """The rectangle around a mask (S, S); None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def drawn_boxes(folder: Path, corpus: Corpus) -> dict[int, dict[Concept, Floats]]:
    """Boxes that people drew, by row of the corpus: reader boxes of NIH, outlines of JSRT, rectangles on Cohen's films."""
    rows = {(SOURCES[s], study): i for i, (s, study) in enumerate(zip(corpus.source, corpus.studies, strict=True))}
    found: dict[int, dict[Concept, Floats]] = {}
    for box in nih.boxes(folder / "nih"):
        if (row := rows.get(("nih", Path(box.image).stem))) is not None:
            place = centred((box.x_min, box.y_min, box.x_max, box.y_max))
            held = found.setdefault(row, {})
            held[Concept(box.finding)] = np.concatenate([held.get(Concept(box.finding), place[:0]), place])
    for row, hulls in _outlined(folder, rows).items():
        found[row] = structure_boxes(hulls.get("right lung"), hulls.get("left lung"), hulls.get("heart"))
        if "cardiomediastinum" in hulls:
            found[row][Concept("mediastinum")] = centred(hulls["cardiomediastinum"])
    return found


def _outlined(folder: Path, rows: Mapping[tuple[str, str], int]) -> dict[int, dict[str, Hull]]:
    """Hulls of lungs, heart and cardiomediastinum by row, of JSRT and Cohen."""
    found: dict[int, dict[str, Hull]] = {}
    objects = folder / "anatomy_devices"
    marked = outlines.object_boxes(objects) if objects.is_dir() else []
    for outline in (*outlines.lung_boxes(folder / "cohen"), *marked):
        if (row := rows.get(("cohen", outline.film))) is not None:
            hull = (outline.x_min, outline.y_min, outline.x_max, outline.y_max)
            found.setdefault(row, {})[outline.structure] = hull
    for (source, study), row in rows.items():
        mask = folder / "jsrt" / "masks" / f"{study}.png"
        if source == "jsrt" and mask.is_file():
            hulls = {n: hull_of(m > 0) for n, m in zip(outlines.BITS, outlines.masks(mask, 200), strict=True)}
            found[row] = {n: h for n, h in hulls.items() if h is not None}
    return found


def placed(
    folder: Path, corpus: Corpus, drawn: Mapping[int, Mapping[Concept, Floats]], lungs: Sequence[Hull]
) -> Floats:
    """(N, 14, 6) where each source places each observation: Open-i's MeSH tags, and the sides and heights of drawn boxes."""
    found = np.zeros((len(corpus.studies), len(FINDINGS), 6), np.float32)
    read = openi.films(folder / "openi") if (folder / "openi").is_dir() else []
    tags = {r.study: r.tags for r in read if r.tags is not None}
    for row, study in enumerate(corpus.studies):
        if SOURCES[corpus.source[row]] == "openi" and study in tags:
            found[row] = traits(tags[study] or ())
    for row, by_concept in drawn.items():
        for concept, boxes in by_concept.items():
            for box in () if is_structure(concept) else boxes:
                where = found[row, FINDINGS.index(concept.name)]
                where[_SIDES][SIDES.index(side_of(float(box[0])))] = 1
                where[_LEVELS][LEVELS.index(level_of(float(box[1]), lungs[row]))] = 1
    return found
