"""Our masks against JSRT's outlines and against rectangles that radiologists drew, with controls beside them.

Controls: the mean of the training films' outlines laid on every film; and the film network's own place maps, where it draws any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from eval import scores
from rag_service.datasets import others, outlines
from rag_service.datasets.films import FilmRow, Split, split_of
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import ANATOMY
from rag_service.models.segmenter import Segmenter
from rag_service.models.structures import INSIDE, StructureMasks
from rag_service.report.cardiothoracic import cardiothoracic_ratio

SIDE: Final = 200
"""Pixels a side at which masks are compared: JSRT's own here."""
WIDTH_OF: Final[Mapping[str, str]] = {"cardiomediastinum": "heart"}
"""A rectangle that holds more than the structure: only how far both reach to the sides is compared."""

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Rectangles of one film."""

    path: Path
    patient: str
    outlines: tuple[outlines.Outline, ...]


def truth(row: FilmRow) -> Masks:
    """(3, SIDE, SIDE) of a JSRT film."""
    return outlines.masks(row.path.parent.parent / "masks" / f"{row.study}.png", SIDE) > 0


def mean_masks(rows: Sequence[FilmRow]) -> StructureMasks | None:
    """The mean outlines of JSRT films; None without any."""
    return StructureMasks(np.mean([truth(r) for r in rows], 0, np.float32)) if rows else None


def measure(
    rows: Sequence[FilmRow], segmenter: Segmenter, encoder: FilmEncoder, mean: StructureMasks | None, seed: int
) -> dict[str, Any]:
    """IoU and Dice of JSRT films by structure and in all, those of the controls, and the error of the cardiothoracic ratio."""
    found: dict[str, list[Masks]] = {"ours": [], "mean_mask": [], "place_maps": []}
    ratios = []
    for row in tqdm(rows, desc="outlines", unit="film"):
        film = decode(row.path.read_bytes())
        ours, places = segmenter.read(film), encoder.read(film).places
        found["ours"].append(sized(ours.masks.astype(np.float32)))
        if mean is not None:
            found["mean_mask"].append(mean.masks)
        if places is not None:
            found["place_maps"].append(StructureMasks(resized(places[-len(ANATOMY) :])).masks)
        drawn = cardiothoracic_ratio(StructureMasks(truth(row).astype(np.float32)))
        ratios.append((cardiothoracic_ratio(ours).value, drawn.value))
    true = np.stack([truth(r) for r in rows])
    names = [r.patient for r in rows]
    return {
        "films": len(rows),
        **{kind: _scored(np.stack(masks), true, names, seed) for kind, masks in found.items() if masks},
        "ratio": _errors(ratios, names, seed),
    }


def drawn(folder: Path, split: Split | None) -> list[Drawn]:
    """Films of `folder` with rectangles of lungs or cardiomediastinum, by `anatomy_devices/` and by Cohen's own file.

    The films are grouped by Cohen's patients; one that his table does not name is its own.
    """
    rows = {r.path.stem: r for r in others.cohen(folder / "cohen")} if (folder / "cohen").is_dir() else {}
    own = folder / "anatomy_devices"
    paths = {p.stem: p for p in (own / "images").glob("*")}
    known = outlines.object_boxes(own) if paths else []
    known += [o for o in outlines.lung_boxes(folder / "cohen") if o.film in rows and o.film not in paths]
    by_film: dict[str, list[outlines.Outline]] = {}
    for outline in known:
        by_film.setdefault(outline.film, []).append(outline)
    found = []
    for film, boxes in sorted(by_film.items()):
        patient = rows[film].patient if film in rows else film
        if (film in paths or film in rows) and split in {None, split_of("cohen", patient)}:
            found.append(Drawn(paths.get(film) or rows[film].path, patient, tuple(boxes)))
    return found


def measure_boxes(
    films: Sequence[Drawn], segmenter: Segmenter, mean: StructureMasks | None, seed: int
) -> dict[str, Any]:
    """IoU of the rectangle around each structure with the one that was drawn, ours and the mean mask's; 0 where none is found."""
    gathered: dict[str, list[tuple[str, float, float | None]]] = {}
    for film in tqdm(films, desc="rectangles", unit="film"):
        ours = segmenter.read(decode(film.path.read_bytes()))
        for outline in film.outlines:
            theirs = None if mean is None else _iou(mean, outline)
            gathered.setdefault(outline.structure, []).append((film.patient, _iou(ours, outline), theirs))
    return {structure: _boxes(entries, seed) for structure, entries in gathered.items()}


def resized(maps: NDArray[np.float32], side: int = SIDE) -> NDArray[np.float32]:
    """Maps (K, h, w) at `side` cells, bilinear."""
    found = functional.interpolate(torch.from_numpy(maps)[None], size=side, mode="bilinear")[0]
    return np.asarray(found.numpy(), np.float32)


def sized(maps: NDArray[np.float32]) -> Masks:
    """Masks (K, h, w) at SIDE."""
    return np.asarray(resized(maps) >= INSIDE)


def overlap(found: Masks, true: Masks) -> tuple[Floats, Floats]:
    """IoU and Dice (n, 3) of masks (n, 3, S, S)."""
    shared = (found & true).sum((2, 3), dtype=np.float64)
    either, both = (found | true).sum((2, 3)), found.sum((2, 3)) + true.sum((2, 3))
    return shared / np.maximum(either, 1), 2 * shared / np.maximum(both, 1)


def _scored(found: Masks, true: Masks, names: Sequence[str], seed: int) -> dict[str, Any]:
    iou, dice = overlap(found, true)
    return {
        "miou": float(iou.mean()),
        "miou_ci": scores.interval(names, lambda rows: float(iou[rows].mean()), seed),
        "dice": float(dice.mean()),
        "structures": {
            s: {
                "iou": float(iou[:, i].mean()),
                "iou_ci": scores.interval(names, lambda rows, i=i: float(iou[rows, i].mean()), seed),  # type: ignore[misc]
                "dice": float(dice[:, i].mean()),
            }
            for i, s in enumerate(ANATOMY)
        },
    }


def _errors(ratios: Sequence[tuple[float | None, float | None]], names: Sequence[str], seed: int) -> dict[str, Any]:
    """Ours against the ratio of the drawn outlines."""
    kept = [i for i, (ours, theirs) in enumerate(ratios) if ours is not None and theirs is not None]
    gaps = np.array([ratios[i][0] - ratios[i][1] for i in kept])  # type: ignore[operator]
    of = [names[i] for i in kept]
    return {
        "films": len(ratios),
        "measured": len(kept),
        "mean_absolute_error": float(np.abs(gaps).mean()) if kept else None,
        "ci": scores.interval(of, lambda rows: float(np.abs(gaps[rows]).mean()), seed) if kept else None,
        "bias": float(gaps.mean()) if kept else None,
    }


def _iou(structures: StructureMasks, outline: outlines.Outline) -> float:
    hull = structures.hull(WIDTH_OF.get(outline.structure, outline.structure))
    if hull is None:
        return 0.0
    wanted = Box(outline.x_min, outline.y_min, outline.x_max, outline.y_max)
    if outline.structure in WIDTH_OF:
        wanted = Box(outline.x_min, hull.y_min, outline.x_max, hull.y_max)
    return hull.iou(wanted)


def _boxes(entries: Sequence[tuple[str, float, float | None]], seed: int) -> dict[str, Any]:
    names, ours = [e[0] for e in entries], np.array([e[1] for e in entries])
    return {
        "boxes": len(entries),
        "iou": float(ours.mean()),
        "ci": scores.interval(names, lambda rows: float(ours[rows].mean()), seed),
        "mean_mask": scores.mean_known([e[2] for e in entries]),
    }
