"""The training corpus: every film of every source as one uint8 pack, with masked labels, tags, captions, and places.

A caption says what its author wanted to show: what the labeler reads in it is taken as present, and where it reads any
pathology the other observations as absent. The source's own offset absorbs that captions show more than they deny.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from rag_service.datasets import nih, openi, others
from rag_service.datasets.films import FilmRow, Split
from rag_service.datasets.mesh import Tag
from rag_service.imaging.normalise import STORED_SIDE, squeeze, stretch
from rag_service.models.network import PRESENTATIONS
from rag_service.report.labeler import Labeler, overall

READERS: Final[dict[str, Callable[[Path], list[FilmRow]]]] = {
    "openi": openi.films,
    "nih": nih.films,
    "rocov2": others.rocov2,
    "cohen": others.cohen,
    "not_chest": others.not_chest,
    "jsrt": others.jsrt,
    "paediatric": others.paediatric,
}
SOURCES: Final = tuple(READERS)
DOMAINS: Final = (*SOURCES, "openi/lateral")
"""What has a base rate of its own for each finding: the sources, and Open-i's laterals."""
PLACE_SIDE: Final = 64
"""Cells a side of the place targets."""
UNKNOWN: Final = -1
MIN_TAG_FILMS: Final = 25
_PROJECTIONS: Final = {"PA": 0, "AP": 1, "AP Supine": 1}


@dataclass(frozen=True)
class PlaceTargets:
    """Where things lie on one film: (64, 64) uint8 maps by channel of the network's places; a channel that is absent is unknown."""

    maps: Mapping[int, NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Corpus:
    """N films. `films` uint8 (N, 256, 256); `labels` int8 (N, 14), `tags` int8 (N, T): 1, 0 or -1 for unknown;
    `presentation` and `projection` (1 AP, 0 PA) int8 (N,), -1 for unknown; `source` and `domain` int8 (N,); `split` str (N,);
    `texts` N strings, "" for none; `places` by row, of the films that have any."""

    films: NDArray[np.uint8]
    labels: NDArray[np.int8]
    tags: NDArray[np.int8]
    tag_names: tuple[str, ...]
    presentation: NDArray[np.int8]
    projection: NDArray[np.int8]
    source: NDArray[np.int8]
    domain: NDArray[np.int8]
    split: NDArray[np.str_]
    texts: tuple[str, ...]
    studies: tuple[str, ...]
    places: Mapping[int, PlaceTargets]

    def rows(self, split: Split, source: str | None = None, presentation: str | None = None) -> NDArray[np.int64]:
        """Indices of the films of a split, of one source and one presentation when given."""
        keep = self.split == split.value
        if source is not None:
            keep &= self.source == SOURCES.index(source)
        if presentation is not None:
            keep &= self.presentation == PRESENTATIONS.index(presentation)
        return np.flatnonzero(keep)


def read(folder: Path) -> list[FilmRow]:
    """Rows of every source present under `folder`, named as the sources are; a source that is absent is left out."""
    return [row for name, reader in READERS.items() if (folder / name).is_dir() for row in reader(folder / name)]


def tag_names(rows: Sequence[FilmRow]) -> tuple[str, ...]:
    """MeSH headings frequent enough to learn from, by the training split alone, most frequent first."""
    counts = Counter(h for r in rows if r.split is Split.TRAIN and r.presentation == "frontal" for h in _headings(r))
    return tuple(name for name, count in sorted(counts.items(), key=lambda x: (-x[1], x[0])) if count >= MIN_TAG_FILMS)


def build(folder: Path, cache: Path) -> Corpus:
    """Read and squeeze every film once; the pack under `cache` is used again when the list of films is the same."""
    rows = [_captioned(r) if r.source == "rocov2" else r for r in read(folder)]
    names = tag_names(rows)
    return Corpus(
        films=_pack(rows, cache),
        labels=np.array([[_ternary(r.labels.get(f)) for f in FINDINGS] for r in rows], np.int8),
        tags=np.array([_tag_row(r, names) for r in rows], np.int8),
        tag_names=names,
        presentation=np.array([_presentation(r) for r in rows], np.int8),
        projection=np.array([_PROJECTIONS.get(r.view or "", UNKNOWN) for r in rows], np.int8),
        source=np.array([SOURCES.index(r.source) for r in rows], np.int8),
        domain=np.array([_domain(r) for r in rows], np.int8),
        split=np.array([r.split.value for r in rows]),
        texts=tuple(r.text for r in rows),
        studies=tuple(r.study for r in rows),
        places=_places(rows, folder),
    )


def stored_film(path: Path) -> NDArray[np.uint8]:
    """A trusted local film, squeezed and stretched as the service would, uint8 (256, 256)."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L"), np.float32) / 255.0
    return np.asarray(np.rint(stretch(squeeze(grey)) * 255.0), np.uint8)


def _pack(rows: Sequence[FilmRow], cache: Path) -> NDArray[np.uint8]:
    cache.mkdir(parents=True, exist_ok=True)
    listing, pack = cache / "films.json", cache / "films.npy"
    names = [f"{r.source}/{r.path.name}" for r in rows]
    if listing.is_file() and json.loads(listing.read_text()) == names:
        return np.load(pack, mmap_mode="r")  # type: ignore[no-any-return]
    films = np.empty((len(rows), STORED_SIDE, STORED_SIDE), np.uint8)
    for index, row in enumerate(tqdm(rows, desc="squeezing films", unit="film")):
        films[index] = stored_film(row.path)
    np.save(pack, films)
    listing.write_text(json.dumps(names))
    return films


def _captioned(row: FilmRow) -> FilmRow:
    """A film of a published figure with the observations that the labeler reads in its caption."""
    read_in = overall(_labeler().read_report(row.text))
    present = {f for f, p in read_in.items() if p is not Polarity.NEGATIVE and f != NO_FINDING}
    if present:
        return replace(row, labels={f: f in present for f in FINDINGS})
    denied = {f: False for f, p in read_in.items() if p is Polarity.NEGATIVE and f != NO_FINDING}
    return replace(row, labels=denied | ({NO_FINDING: True} if NO_FINDING in read_in else {}))


@cache
def _labeler() -> Labeler:
    return Labeler()


def _domain(row: FilmRow) -> int:
    lateral = row.source == "openi" and row.presentation == "lateral"
    return DOMAINS.index("openi/lateral" if lateral else row.source)


def _places(rows: Sequence[FilmRow], folder: Path) -> dict[int, PlaceTargets]:
    """Radiologists' boxes of NIH films, and JSRT's outlines of lungs and heart, by row."""
    drawn: dict[str, dict[int, NDArray[np.uint8]]] = {}
    for box in nih.boxes(folder / "nih") if (folder / "nih").is_dir() else ():
        maps = drawn.setdefault(Path(box.image).stem, {})
        target = maps.setdefault(FINDINGS.index(box.finding), np.zeros((PLACE_SIDE, PLACE_SIDE), np.uint8))
        x_min, y_min, x_max, y_max = (round(v * PLACE_SIDE) for v in (box.x_min, box.y_min, box.x_max, box.y_max))
        target[y_min : max(y_max, y_min + 1), x_min : max(x_max, x_min + 1)] = 1
    found = {}
    for index, row in enumerate(rows):
        if row.source == "nih" and row.study in drawn:
            found[index] = PlaceTargets(drawn[row.study])
        elif row.source == "jsrt" and (mask := folder / "jsrt" / "masks" / f"{row.study}.png").is_file():
            found[index] = PlaceTargets(_outlines(mask))
    return found


def _outlines(path: Path) -> dict[int, NDArray[np.uint8]]:
    """JSRT's bit mask (1 right lung, 2 left lung, 4 heart) as maps of the anatomy channels."""
    with Image.open(path) as image:
        bits = np.asarray(image.resize((PLACE_SIDE, PLACE_SIDE), Image.Resampling.NEAREST))
    return {len(FINDINGS) + i: ((bits & bit) > 0).astype(np.uint8) for i, bit in enumerate((1, 2, 4))}


def _headings(row: FilmRow) -> set[str]:
    return {Tag.parse(t).heading for t in row.tags or ()}


def _tag_row(row: FilmRow, names: Sequence[str]) -> list[int]:
    if row.tags is None:
        return [UNKNOWN] * len(names)
    headings = _headings(row)
    return [int(n in headings) for n in names]


def _ternary(value: bool | None) -> int:
    return UNKNOWN if value is None else int(value)


def _presentation(row: FilmRow) -> int:
    return UNKNOWN if row.presentation is None else PRESENTATIONS.index(row.presentation)
