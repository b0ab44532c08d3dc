"""python -m eval dialogue DIR: asking a film by phrases and by boxes, on films with readers' boxes, after ChEX's tasks.

SG, sentence grounding: a phrase made of a finding and the side of its boxes is asked for, and its boxes compared with the readers'.
RC, region classification: a reader's box is pointed at, and its likeness to each finding's query ranks the boxes of that finding
before the others. RE, region explanation: the finding whose query the region is most like, against the reader's. Detection without
a phrase is `eval grounding`; whether the other lung's prompt moves the box is `eval prompts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from eval import films, scores
from eval.box_sources import CENTRE
from eval.detection import average_precisions, film_hits
from eval.prompted import queries_of
from eval.radfact import mask
from knowledge_base.findings import Laterality
from rag_service.datasets import nih
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.explain.anatomy import SIDED, side
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.models.region_queries import TextVectors
from rag_service.reader import Reader

OVERLAPS: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
"""IoU of masks from which a phrase counts as grounded."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One finding of one film: the boxes its readers drew, those found for the phrase, and of each drawn box its likeness to the
    query of every finding."""

    row: FilmRow
    finding: str
    drawn: tuple[Box, ...]
    found: tuple[Box, ...]
    likeness: tuple[Mapping[str, float], ...]


def phrase(finding: str, drawn: Sequence[Box]) -> str:
    """What a reader would ask: the finding, with its side where all its boxes lie on one."""
    sides = {side(b.x_min, b.x_max) for b in drawn} if finding in SIDED else set()
    one = sides.pop() if len(sides) == 1 else Laterality.BILATERAL
    return finding.lower() if one is Laterality.BILATERAL else f"{one} {finding.lower()}"


def ask(folder: Path, split: Split | None, limit: int | None, reader: Reader, text: TextVectors) -> list[Asked]:
    """Every finding with readers' boxes of at most `limit` films, the first ones. DatasetError when there is none."""
    queries, wanted = queries_of(reader), _drawn(folder)
    rows = [r for r in films.read(folder, split) if r.path.stem in wanted][:limit]
    if not rows:
        raise DatasetError(f"{folder.name}/ holds no reader box of a film that is measured")
    answered = []
    for row in tqdm(rows, desc="asking films", unit="film"):
        reading = reader.encoder.read(decode(row.path.read_bytes()))
        for finding, drawn in wanted[row.path.stem].items():
            found = queries.answer(reading, phrase(finding, drawn), text).boxes
            likeness = tuple(queries.point(reading, b).likeness for b in drawn)
            answered.append(Asked(row, finding, tuple(drawn), found, likeness))
    return answered


def measure(answered: Sequence[Asked], model: str, seed: int) -> dict[str, Any]:
    """Everything `dialogue --json` writes."""
    names = sorted({a.finding for a in answered})
    patients = [a.row.patient for a in answered]
    overlaps = np.array([mask_iou(a.found, a.drawn) for a in answered])
    return {
        "sentence_grounding": {
            "miou": float(overlaps.mean()),
            "miou_ci": scores.interval(patients, lambda drawn: float(overlaps[drawn].mean()), seed),
            "grounded": {f"{least:g}": float((overlaps >= least).mean()) for least in OVERLAPS},
            "map_01_07": _map(answered, names),
            "phrases": len(answered),
            "centre_miou": float(np.mean([mask_iou((CENTRE,), a.drawn) for a in answered])),
        },
        "region_classification": _classified(answered, names),
        "region_explanation": _explained(answered, names),
        "films": len({a.row.path for a in answered}),
        "seed": seed,
        "signature": {"films": films.signature([a.row for a in answered]), "model": model},
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    ground, regions, told = (result[k] for k in ("sentence_grounding", "region_classification", "region_explanation"))
    low, high = ground["miou_ci"] or (None, None)
    shares = ", ".join(f"{n} at {least}" for least, n in ((k, f"{v:.3f}") for k, v in ground["grounded"].items()))
    areas = ", ".join(f"{f} {scores.shown(v)}" for f, v in regions["auroc"].items())
    return "\n".join(
        [
            f"{result['films']} films with reader boxes, seed {result['seed']}",
            f"SG, {ground['phrases']} phrases: mIoU {ground['miou']:.3f} [{scores.shown(low)}, {scores.shown(high)}] (centre box"
            f" {ground['centre_miou']:.3f}), mAP 0.1-0.7 {scores.shown(ground['map_01_07'])}; grounded {shares}",
            f"RC, {regions['boxes']} boxes: macro-AUROC {scores.shown(regions['auroc_macro'])} ({areas})",
            f"RE: the region is most like its own finding in {told['right']} of {told['boxes']} boxes"
            f" ({scores.shown(told['share'])}; always the commonest: {scores.shown(told['commonest'])})",
        ]
    )


def mask_iou(found: Sequence[Box], drawn: Sequence[Box]) -> float:
    """Intersection over union of what two sets of boxes cover."""
    one, other = mask(found), mask(drawn)
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


def _map(answered: Sequence[Asked], names: Sequence[str]) -> float | None:
    """Each phrase is asked on its own films, so all are as sure."""
    found = [average_precisions([film_hits(a.found, 1.0, a.drawn) for a in answered if a.finding == f]) for f in names]
    return scores.mean_known([None if f is None else float(f.mean()) for f in found])


def _classified(answered: Sequence[Asked], names: Sequence[str]) -> dict[str, Any]:
    likeness = [(a.finding, found) for a in answered for found in a.likeness]
    areas = {
        f: scores.auroc(np.array([float(own == f) for own, _ in likeness]), np.array([v[f] for _, v in likeness]))
        for f in names
    }
    return {"auroc": areas, "auroc_macro": scores.mean_known(list(areas.values())), "boxes": len(likeness)}


def _explained(answered: Sequence[Asked], names: Sequence[str]) -> dict[str, Any]:
    """Among the findings that readers drew here."""
    own = [a.finding for a in answered for _ in a.likeness]
    right = sum(max(names, key=v.__getitem__) == a.finding for a in answered for v in a.likeness)
    commonest = max(own.count(f) for f in names)
    return {"right": right, "boxes": len(own), "share": right / len(own), "commonest": commonest / len(own)}


def _drawn(folder: Path) -> dict[str, dict[str, list[Box]]]:
    """Film and finding -> the readers' boxes."""
    found: dict[str, dict[str, list[Box]]] = {}
    for b in nih.boxes(folder):
        box = Box(b.x_min, b.y_min, b.x_max, b.y_max)
        found.setdefault(Path(b.image).stem, {}).setdefault(b.finding, []).append(box)
    return found
