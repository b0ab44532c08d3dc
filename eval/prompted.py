"""python -m eval prompts DIR: does the other lung's prompt move the box, are structures where they are, does a box name its own?

A folder with JSRT's masks is measured for structures, any other for sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from eval import films, readings, scores
from knowledge_base.findings import FINDINGS
from rag_service.datasets import others, outlines
from rag_service.datasets.films import FilmRow, Split
from rag_service.errors import BadWeights
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmReading
from rag_service.models.region_network import STRUCTURES
from rag_service.models.region_queries import RegionQueries, TextVectors
from rag_service.reader import Reader

SIDES: Final = ("left", "right")
PROMPTS: Final = (
    "{} lung",
    "{} pleural effusion",
    "opacity in the {} lower lobe",
    "{} upper lobe nodule",
    "is there anything in the {} hemithorax",
)
"""Asked for either side; the last in words that training did not use."""
QUERY_OF: Final[Mapping[str, str]] = {"right lung": "right lung", "left lung": "left lung", "heart": "cardiac"}
"""Outlined structure -> the query that asks for it."""


def queries_of(reader: Reader) -> RegionQueries:
    """BadWeights where the model folder has none."""
    if reader.queries is None:
        raise BadWeights("the model folder has no region-queries.json: this model cannot be asked")
    return reader.queries


def measure(
    folder: Path, split: Split | None, limit: int | None, reader: Reader, text: TextVectors, seed: int
) -> dict[str, Any]:
    """Of at most `limit` films, the first ones: structures in a folder with masks, sides elsewhere."""
    if (folder / "masks").is_dir():
        rows = [r for r in others.jsrt(folder) if split is None or r.split is split][:limit]
        return {"structures": structures(rows, folder, reader)}
    queries = queries_of(reader)
    read = _readings(films.read(folder, split)[:limit], reader)
    return {"sides": sides(read, queries, text, seed), "words": said(read, queries, text)}


def said(
    read: Sequence[tuple[FilmRow, FilmReading]], queries: RegionQueries, text: TextVectors
) -> dict[str, float | None]:
    """Macro-AUROC of the findings by the presence of their names, and of their absence by that of the names denied."""
    asked = [f.lower() for f in FINDINGS[1:]]
    vectors = text.encode([*asked, *(f"no {words}" for words in asked)])
    presence = np.array([[a.presence for a in queries.ask(reading, vectors)] for _, reading in read], np.float64)
    labels = readings.labels([row for row, _ in read])[:, 1:]
    affirmed, denied = presence[:, : len(asked)], presence[:, len(asked) :]
    return {"affirmed": scores.macro_auroc(labels, affirmed), "denied": scores.macro_auroc(1 - labels, denied)}


def sides(
    read: Sequence[tuple[FilmRow, FilmReading]], queries: RegionQueries, text: TextVectors, seed: int
) -> dict[str, Any]:
    """Share of films on which the heaviest box of a prompt lies on the side it names, and on which both sides' prompts do."""
    vectors = text.encode([p.format(side) for p in PROMPTS for side in SIDES])
    landed = np.array([_landed(queries, reading, vectors) for _, reading in read])
    patients = [row.patient for row, _ in read]
    both = landed.all(2).mean(1)
    return {
        "films": len(read),
        "prompts": {p: {"side": float(landed[:, i].mean()), "both": float(landed[:, i].all(1).mean())}
                    for i, p in enumerate(PROMPTS)},
        "moved": float(both.mean()),
        "interval": scores.interval(patients, lambda drawn: float(both[drawn].mean()), seed),
    }  # fmt: skip


def _landed(queries: RegionQueries, reading: FilmReading, vectors: np.ndarray) -> np.ndarray:
    """(prompts, 2) whether each prompt's heaviest box lies on its side: the patient's left is the larger x."""
    middles = [(a.boxes[0].x_min + a.boxes[0].x_max) / 2 for a in queries.ask(reading, vectors)]
    across = np.array(middles).reshape(len(PROMPTS), len(SIDES))
    return np.stack([across[:, 0] > 0.5, across[:, 1] < 0.5], 1)


def structures(rows: Sequence[FilmRow], folder: Path, reader: Reader) -> dict[str, Any]:
    """On JSRT's outlines: IoU of each query's heaviest box with the outline's hull, and whether a box drawn around a structure is
    nearest to that structure's words among the six."""
    queries = queries_of(reader)
    overlaps: dict[str, list[float]] = {name: [] for name in QUERY_OF}
    named: dict[str, list[bool]] = {name: [] for name in QUERY_OF}
    for row, reading in _readings(rows, reader):
        answers, mask = queries.found(reading), folder / "masks" / f"{row.study}.png"
        if not mask.is_file():
            continue
        for name, outline in zip(outlines.BITS, outlines.masks(mask, 200), strict=True):
            hull = _hull(outline)
            overlaps[name].append(answers[QUERY_OF[name]].boxes[0].iou(hull))
            likeness = queries.point(reading, hull).likeness
            named[name].append(max(STRUCTURES, key=lambda s: likeness[s]) == QUERY_OF[name])
    return {
        "films": len(rows),
        "iou": {name: float(np.mean(v)) for name, v in overlaps.items() if v},
        "named": {name: float(np.mean(v)) for name, v in named.items() if v},
    }


def _readings(rows: Sequence[FilmRow], reader: Reader) -> Sequence[tuple[FilmRow, FilmReading]]:
    read = tqdm(rows, desc="asking films", unit="film")
    return [(row, reader.encoder.read(decode(row.path.read_bytes()))) for row in read]


def _hull(outline: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(outline.any(1)), np.flatnonzero(outline.any(0))
    height, width = outline.shape
    return Box(columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def table(result: Mapping[str, Any]) -> str:
    """Both parts for a reader; a part that was not measured is left out."""
    lines = []
    if (asked := result.get("sides")) is not None:
        low, high = asked["interval"] or (float("nan"), float("nan"))
        lines.append(
            f"prompts for either side on {asked['films']} films: both on their side {asked['moved']:.3f} [{low:.3f}, {high:.3f}]"
        )
        lines += [f"  {p:42s} side {v['side']:.3f} both {v['both']:.3f}" for p, v in asked["prompts"].items()]
    if (words := result.get("words")) is not None:
        shown = {name: scores.shown(value) for name, value in words.items()}
        lines.append(f"macro-AUROC by a finding's name {shown['affirmed']}, by 'no' and its name {shown['denied']}")
    if (found := result.get("structures")) is not None:
        lines.append(f"structures on {found['films']} outlined films")
        lines += [
            f"  {n:42s} IoU {v:.3f} a box on it named so {found['named'][n]:.3f}" for n, v in found["iou"].items()
        ]
    return "\n".join(lines)
