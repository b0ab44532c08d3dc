"""What the segmenter of lungs and heart is trained on, and how far from it an answer is.

Outlines are known of few films and of one collection (JSRT), whose hearts are of usual size. Beside them count the rectangles that
readers of NIH ChestX-ray14 drew around enlarged hearts: a heart must reach to the edges of its rectangle and no further (the
projection term of BoxInst, Tian et al., CVPR 2021), and fill it as hearts do. On films of many scanners the place maps of the film
network sketch where the structures lie and where they do not: coarse, but drawn by a network that has seen thousands of films;
what lies between is not taught.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import trange

from rag_service.datasets import nih, outlines
from rag_service.datasets.films import Split
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import ANATOMY
from rag_service.training.corpus import UNKNOWN, Corpus

FILLED: Final = 0.6
"""Share of its rectangle that a heart fills at least: on JSRT's training films hardly one fills less."""
SKETCHED: Final = 900
"""Films that are sketched, drawn evenly from all that may be."""
PRESENT, ABSENT = 0.6, 0.03
"""Chances on the place maps from which on, and up to which, a sketch says what lies there."""
_TINY: Final = 1e-6
_BATCH: Final = 32
_SOURCES: Final = ("openi", "nih", "cohen")


class Targets(NamedTuple):
    """Films by row of the corpus, with what lies where: (n, 3, S, S) int8 of 1, 0 and -1 for a structure not marked."""

    rows: NDArray[np.int64]
    maps: NDArray[np.int8]

    @property
    def films(self) -> int:
        """How many."""
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Marked:
    """The training films: with outlines, with rectangles, and with sketches."""

    outlined: Targets
    boxed: Targets
    sketched: Targets

    @property
    def sample(self) -> str:
        """What they are, for the record."""
        return (
            f"training split: {self.outlined.films} films with outlines, {self.boxed.films} with rectangles, "
            f"{self.sketched.films} sketched by the film network"
        )


def marked(folder: Path, corpus: Corpus, encoder: FilmEncoder, side: int) -> Marked:
    """The training split's films; ValueError when none has outlines. A film model that draws no places sketches nothing."""
    outlined = corpus.rows(Split.TRAIN, "jsrt")
    if not len(outlined):
        raise ValueError(f"{folder.name}/ holds no film with outlines of lungs and heart")
    maps = [outlines.masks(folder / "jsrt" / "masks" / f"{corpus.studies[r]}.png", side) for r in outlined]
    return Marked(
        Targets(outlined, np.stack(maps).astype(np.int8)),
        _boxed(folder, corpus, side),
        _sketched(corpus, encoder, side),
    )


def _boxed(folder: Path, corpus: Corpus, side: int) -> Targets:
    """Hearts that a reader called enlarged."""
    rows = {corpus.studies[r]: int(r) for r in corpus.rows(Split.TRAIN, "nih")}
    drawn: dict[int, NDArray[np.int8]] = {}
    for box in nih.boxes(folder / "nih") if rows else ():
        row = rows.get(Path(box.image).stem)
        if box.finding == "Cardiomegaly" and row is not None:
            maps = drawn.setdefault(row, np.full((len(ANATOMY), side, side), UNKNOWN, np.int8))
            maps[ANATOMY.index("heart")] = _filled(box, side)
    films = sorted(drawn)
    stacked = np.stack([drawn[r] for r in films]) if films else np.zeros((0, len(ANATOMY), side, side), np.int8)
    return Targets(np.array(films, np.int64), stacked)


def _sketched(corpus: Corpus, encoder: FilmEncoder, side: int) -> Targets:
    """Frontal films as the film network's place maps have them."""
    rows = np.concatenate([corpus.rows(Split.TRAIN, source, "frontal") for source in _SOURCES])
    rows = rows[:: max(len(rows) // SKETCHED, 1)]
    found = []
    for start in trange(0, len(rows), _BATCH, desc="sketching", unit="batch"):
        readings = encoder.read_stored(np.asarray(corpus.films[rows[start : start + _BATCH]]))
        found += [_sketch(r.places[-len(ANATOMY) :], side) for r in readings if r.places is not None]
    if not found:
        return Targets(rows[:0], np.zeros((0, len(ANATOMY), side, side), np.int8))
    return Targets(rows, np.stack(found))


def _sketch(places: NDArray[np.float32], side: int) -> NDArray[np.int8]:
    """Chances (3, h, w) as marks (3, side, side)."""
    chances = functional.interpolate(torch.from_numpy(places)[None], size=side, mode="bilinear")[0].numpy()
    return np.where(chances >= PRESENT, 1, np.where(chances <= ABSENT, 0, UNKNOWN)).astype(np.int8)


def _filled(box: nih.ReaderBox, side: int) -> NDArray[np.int8]:
    inside = np.zeros((side, side), np.int8)
    x_min, y_min, x_max, y_max = (round(v * side) for v in (box.x_min, box.y_min, box.x_max, box.y_max))
    inside[y_min : max(y_max, y_min + 1), x_min : max(x_max, x_min + 1)] = 1
    return inside


def overlap_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy and 1 - Dice of (n, K, h, w) against targets in [0, 1], negative where unknown; 0 when nothing is known."""
    known = (targets >= 0).float()
    truth, chances = targets.clamp(min=0), torch.sigmoid(logits) * known
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    told = known.amax((2, 3))
    shared, both = (chances * truth).sum((2, 3)), (chances + truth).sum((2, 3))
    missed = (1 - (2 * shared + 1) / (both + 1)) * told
    return (entropy * known).sum() / known.sum().clamp(min=1) + missed.sum() / told.sum().clamp(min=1)


def box_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Of structures known by their rectangle (n, K, h, w), negative where not: 1 - Dice of the highest chance in each row and in
    each column against the rectangle's, cross-entropy outside it, and what is wanting inside to fill FILLED of it."""
    told = (targets.amax((2, 3)) >= 0).float()
    inside, chances = targets.clamp(min=0), torch.sigmoid(logits)
    missed = torch.stack([_edges(chances.amax(axis), inside.amax(axis)) for axis in (2, 3)]).sum(0)
    spilt = (functional.softplus(logits) * (1 - inside)).mean((2, 3))
    share = (chances * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
    return ((missed + spilt + (FILLED - share).clamp(min=0)) * told).sum() / told.sum().clamp(min=1)


def _edges(found: Tensor, wanted: Tensor) -> Tensor:
    return 1 - 2 * (found * wanted).sum(-1) / (found.square().sum(-1) + wanted.square().sum(-1) + _TINY)
