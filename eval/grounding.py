"""python -m eval grounding DIR: do the boxes lie where radiologists drew theirs? NIH ChestX-ray14 reader boxes.

Two protocols. Detection, the main one, as ChEX's OD-NIH8: every finding is looked for on every film on which a reader drew
anything, a box is as sure as the finding's presence times the box's weight, and all films are ranked together. Grounding: the
finding is given, so only films on which it was drawn are looked at; there pointing (the middle of the heaviest box lies in a
reader's) and the best IoU are taken as well. Controls stand beside each figure, with the same presence: only their boxes differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval import films, scores
from eval.box_sources import BoxSource, Look, sources
from eval.detection import OVERLAPS, FilmHits, average_precisions, film_hits
from knowledge_base.findings import Laterality
from rag_service.datasets import nih
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.explain.anatomy import SIDED, side
from rag_service.explain.boxes import apparent_side
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.reader import Reader

RESAMPLES: Final = 200
OURS: Final = "service"
"""The boxes that a draft shows."""
AP: Final = {"ap_03": OVERLAPS.index(0.3), "ap_05": OVERLAPS.index(0.5)}
KINDS: Final = ("original", "markers_blacked_out")

Truth = Mapping[tuple[str, str], Sequence[Box]]
"""Film and finding -> the boxes that readers drew."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One finding on one film by one source of boxes; `pointed`, `iou` and `sided` None where no reader drew the finding."""

    hits: FilmHits
    pointed: bool | None = None
    iou: float | None = None
    sided: bool | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """Films in their order, and for each source and finding one `Scored` a film."""

    rows: Sequence[FilmRow]
    by_source: Mapping[str, Mapping[str, Sequence[Scored]]]


def measure(folder: Path, reader: Reader, split: Split | None, seed: int, limit: int | None = None) -> dict[str, Any]:
    """Both protocols, for the boxes of a draft and for every control, with intervals over patients and by kind of marker.

    DatasetError without a reader box, BadRequest for a model that draws no maps.
    """
    rows, truth = _drawn(folder, split, seed, limit)
    found = _look(rows, truth, reader, seed)
    patients = [r.patient for r in found.rows]
    every = np.arange(len(found.rows))
    ours = found.by_source[OURS]

    def figure(name: str) -> tuple[float, float] | None:
        return scores.interval(patients, lambda drawn: summary(ours, drawn)[name], seed, RESAMPLES)

    names = ("map_01_07", "hit_rate", "mean_iou")
    return {
        **summary(ours, every),
        "intervals": {name: figure(name) for name in names},
        "per_finding": {f: summary({f: s}, every) for f, s in ours.items()},
        "controls": {name: summary(s, every) for name, s in found.by_source.items() if name != OURS},
        "by_markers": {kind: _of_kind(found, kind) for kind in KINDS},
        "films": len(rows),
        "seed": seed,
        "signature": {"films": films.signature(list(rows)), "model": reader.encoder.record.id},
    }


def summary(scored: Mapping[str, Sequence[Scored]], rows: NDArray[np.int64]) -> dict[str, Any]:
    """The figures of some films; means over findings that have boxes, None where there is none."""
    chosen = {f: [s[i] for i in rows] for f, s in scored.items()}
    detected = _precisions({f: [x.hits for x in s] for f, s in chosen.items()})
    given = _precisions({f: [x.hits for x in s if x.hits.drawn] for f, s in chosen.items()})
    drawn = [x for s in chosen.values() for x in s if x.iou is not None]
    sided = [x.sided for x in drawn if x.sided is not None]
    return {
        "map_01_07": _mean(detected),
        **{name: None if detected is None else float(detected[i]) for name, i in AP.items()},
        "given_map_01_07": _mean(given),
        "hit_rate": scores.mean_known([None if x.pointed is None else float(x.pointed) for x in drawn]),
        "mean_iou": scores.mean_known([x.iou for x in drawn]),
        "side": float(np.mean(sided)) if sided else None,
        "sided": len(sided),
        "drawn": len(drawn),
        "boxes": sum(x.hits.drawn for x in drawn),
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{result['films']} films with reader boxes, seed {result['seed']}; mAP over IoU 0.1-0.7, detection over all these films;"
        " 'given' where the finding is known to be there"
    ]
    for name, interval in result["intervals"].items():
        low, high = interval or (float("nan"), float("nan"))
        lines.append(f"{name} interval [{low:.3f}, {high:.3f}]")
    heads = ("mAP", "AP@0.3", "AP@0.5", "given", "hit", "IoU", "side")
    lines.append(f"{'':28s} {'drawn':>5s} " + " ".join(f"{h:>6s}" for h in heads))
    parts = {"boxes of a draft": result}
    parts |= {f"  {f}": v for f, v in result["per_finding"].items()}
    parts |= {f"control {n}": v for n, v in result["controls"].items()}
    parts |= {f"films {kind}": v for kind, v in result["by_markers"].items() if v is not None}
    return "\n".join([*lines, *(_line(name, v) for name, v in parts.items())])


def _line(name: str, figures: Mapping[str, Any]) -> str:
    keys = ("map_01_07", "ap_03", "ap_05", "given_map_01_07", "hit_rate", "mean_iou", "side")
    return f"{name:28s} {figures['drawn']:5d} " + " ".join(f"{scores.shown(figures[k]):>6s}" for k in keys)


def _of_kind(found: Found, kind: str) -> dict[str, Any] | None:
    """Films with one kind of corner markers; None when there is none."""
    rows = np.array([i for i, r in enumerate(found.rows) if r.markers == kind], np.int64)
    return summary(found.by_source[OURS], rows) if len(rows) else None


def _precisions(hits: Mapping[str, Sequence[FilmHits]]) -> NDArray[np.float64] | None:
    """(7,): mean over the findings with boxes."""
    known = [p for p in map(average_precisions, hits.values()) if p is not None]
    return np.mean(known, 0) if known else None


def _mean(precisions: NDArray[np.float64] | None) -> float | None:
    return None if precisions is None else float(precisions.mean())


def _drawn(folder: Path, split: Split | None, seed: int, limit: int | None) -> tuple[list[FilmRow], Truth]:
    """The films on which a reader drew, at most `limit` of them, by chance."""
    rows = {r.path.stem: r for r in films.read(folder, split)}
    truth: dict[tuple[str, str], list[Box]] = {}
    for b in nih.boxes(folder):
        if (film := Path(b.image).stem) in rows:
            truth.setdefault((film, b.finding), []).append(Box(b.x_min, b.y_min, b.x_max, b.y_max))
    drawn = list(dict.fromkeys(film for film, _ in truth))
    if not drawn:
        raise DatasetError(f"{folder.name}/ holds no reader box of a film that is measured")
    if limit is not None and limit < len(drawn):
        chosen = np.random.default_rng(seed).choice(len(drawn), limit, replace=False)
        drawn = [drawn[i] for i in sorted(chosen)]
    return [rows[film] for film in drawn], truth


def _look(rows: Sequence[FilmRow], truth: Truth, reader: Reader, seed: int) -> Found:
    """Every source's boxes of every finding that any of these films has, film by film."""
    stems = {r.path.stem for r in rows}
    findings = list(dict.fromkeys(finding for film, finding in truth if film in stems))
    found: dict[str, dict[str, list[Scored]]] = {}
    asked = sources(reader, seed)
    for row in tqdm(rows, desc="reading films", unit="film"):
        look = Look(reader, reader.encoder.read(decode(row.path.read_bytes())), findings)
        for source in asked:
            for finding, scored in _scored(
                source, look, {f: truth.get((row.path.stem, f), ()) for f in findings}
            ).items():
                found.setdefault(source.name, {}).setdefault(finding, []).append(scored)
    return Found(rows, found)


def _scored(source: BoxSource, look: Look, truth: Mapping[str, Sequence[Box]]) -> dict[str, Scored]:
    boxes = source.boxes(look)
    return {f: score(boxes.get(f) or (), look.presence[f], drawn, f) for f, drawn in truth.items()}


def score(found: Sequence[Box], presence: float, truth: Sequence[Box], finding: str) -> Scored:
    """One finding on one film, boxes heaviest first."""
    hits = film_hits(found, presence, truth)
    if not truth:
        return Scored(hits)
    return Scored(
        hits,
        pointed=any(_holds(t, found[0]) for t in truth) if found else False,
        iou=max((f.iou(t) for f in found for t in truth), default=0.0),
        sided=_side_right(tuple(found), truth, finding),
    )


def _holds(truth: Box, found: Box) -> bool:
    x, y = (found.x_min + found.x_max) / 2, (found.y_min + found.y_max) / 2
    return truth.x_min <= x <= truth.x_max and truth.y_min <= y <= truth.y_max


def _side_right(found: tuple[Box, ...], truth: Sequence[Box], finding: str) -> bool | None:
    """None for findings without a side, and where the reader's boxes or ours lie on both."""
    if finding not in SIDED:
        return None
    readers = {side(t.x_min, t.x_max) for t in truth}
    ours = apparent_side(found, finding)
    if len(readers) != 1 or Laterality.BILATERAL in readers or ours in {None, Laterality.BILATERAL}:
        return None
    return ours in readers
