"""All of it: what a folder holds is measured, what it lacks is left out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from eval import films
from eval.anatomy import looks, outlines, ratio, tokens
from eval.films import signature
from eval.scores import shown
from rag_service.datasets import openi, others
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.models.encoder import FilmEncoder
from rag_service.models.segmenter import Segmenter
from rag_service.models.structures import StructureMasks
from rag_service.report.cardiothoracic import RatioLimits

Row = TypeVar("Row")


@dataclass(frozen=True, eq=False)
class Models:
    """What is measured: the segmenter with the limits of its ratio, and the film network it stands beside."""

    segmenter: Segmenter
    limits: RatioLimits | None
    encoder: FilmEncoder


def measure(folder: Path, models: Models, split: Split | None, limit: int | None, seed: int) -> dict[str, Any]:
    """JSON of masks, rectangles, ratio and tokens, each with its films; at most `limit` films of each set and split, drawn by seed.

    `folder` holds jsrt/, anatomy_devices/, cohen/ and openi/, or is JSRT itself. DatasetError when it holds none of them.
    """
    outlined = _jsrt(folder)
    mean = outlines.mean_masks([r for r in outlined if r.split is Split.TRAIN])
    measured = _drawn([r for r in outlined if split in {None, r.split}], limit, seed)
    boxed = _drawn(outlines.drawn(folder, split), limit, seed)
    labelled = _labelled(folder, limit, seed)
    if not (measured or boxed or labelled):
        raise DatasetError(f"{folder.name}/ holds no film with outlines, rectangles or labels")
    result: dict[str, Any] = {
        "masks": outlines.measure(measured, models.segmenter, models.encoder, mean, seed) if measured else None,
        "boxes": outlines.measure_boxes(boxed, models.segmenter, mean, seed) if boxed else None,
        **_on_labels(labelled, models, mean, split, seed),
        "seed": seed,
        "signature": {
            "films": signature([*measured, *labelled]),
            "segmenter": models.segmenter.record.id,
            "model": models.encoder.record.id,
        },
    }
    return {"miou": result["masks"]["ours"]["miou"] if result["masks"] else None, **result}


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"segmenter {result['signature']['segmenter']}, seed {result['seed']}"]
    if result["masks"]:
        lines += _masks_lines(result["masks"])
    for structure, v in (result["boxes"] or {}).items():
        what = "width" if structure in outlines.WIDTH_OF else "rectangle"
        lines.append(
            f"{what} of {structure:18s} n {v['boxes']:4d}  IoU {v['iou']:.3f} {_interval(v['ci'])}"
            f"  mean mask {shown(v['mean_mask'])}"
        )
    if result["ratio"]:
        lines += _ratio_lines(result["ratio"])
    if result["tokens"]:
        lines += _tokens_lines(result["tokens"])
    return "\n".join(lines)


def _on_labels(
    rows: Sequence[FilmRow], models: Models, mean: StructureMasks | None, split: Split | None, seed: int
) -> dict[str, Any]:
    """The ratio and the tokens; None without labelled films."""
    if not rows:
        return {"ratio": None, "tokens": None}
    fixed = mean or looks.mean_of(models.segmenter, rows)
    read = looks.read(rows, models.encoder, models.segmenter, fixed)
    asked = read if split is None else read.of(split)
    probed = tokens.measure(read, split or Split.TEST, seed)
    return {"ratio": ratio.measure(asked, models.limits, seed), "tokens": probed}


def _jsrt(folder: Path) -> list[FilmRow]:
    for candidate in (folder / "jsrt", folder):
        if (candidate / "masks").is_dir():
            return others.jsrt(candidate)
    return []


def _labelled(folder: Path, limit: int | None, seed: int) -> list[FilmRow]:
    if not (folder / "openi").is_dir():
        return []
    rows = films.labelled([r for r in openi.films(folder / "openi") if r.presentation == "frontal"])
    return [r for split in Split for r in _drawn([r for r in rows if r.split is split], limit, seed)]


def _drawn(rows: list[Row], limit: int | None, seed: int) -> list[Row]:
    return rows if limit is None or len(rows) <= limit else random.Random(seed).sample(rows, limit)  # noqa: S311


def _masks_lines(masks: dict[str, Any]) -> list[str]:
    lines = [f"outlines, {masks['films']} films"]
    for kind in ("ours", "mean_mask", "place_maps"):
        if kind in masks:
            v = masks[kind]
            each = "  ".join(f"{s} IoU {e['iou']:.3f} Dice {e['dice']:.3f}" for s, e in v["structures"].items())
            lines.append(f"  {kind:10s} mIoU {v['miou']:.3f} {_interval(v['miou_ci'])} Dice {v['dice']:.3f}  {each}")
    v = masks["ratio"]
    error = f"{shown(v['mean_absolute_error'], 4)} {_interval(v['ci'], 4)}, bias {shown(v['bias'], 4)}"
    return [*lines, f"  cardiothoracic ratio: mean absolute error {error}, measured on {v['measured']} of {v['films']}"]


def _ratio_lines(v: dict[str, Any]) -> list[str]:
    gap = v["ratio_less_network"]
    lines = [
        f"cardiothoracic ratio for Cardiomegaly: AUROC {shown(v['auroc'])} {_interval(v['auroc_ci'])},"
        f" film network {shown(v['network_auroc'])}, difference {shown(gap['difference'])} {_interval(gap['ci'])};"
        f" {v['positives']} of {v['labelled']} enlarged, refused on {v['refused']} of {v['films']}"
    ]
    for name, said in (v["limits"] or {}).items():
        if isinstance(said, dict):
            lines.append(f"  {name.replace('_', ' ')}: contradicted {said['contradicted']} of {said['films']}")
    return lines


def _tokens_lines(v: dict[str, Any]) -> list[str]:
    lines = [f"linear probes of the 14 findings, films {v['films']}"]
    for name in ("without", "with", "fixed_masks"):
        p = v[name]
        lines.append(
            f"  {name:12s} macro-AUROC {shown(p['auroc'], 4)} {_interval(p['auroc_ci'])} macro-F1 {shown(p['f1'])}"
        )
    for name in ("with_less_without", "with_less_fixed_masks"):
        area, f1 = v[name]["auroc"], v[name]["f1"]
        lines.append(
            f"  {name.replace('_', ' ')}: AUROC {shown(area['difference'], 4)} {_interval(area['interval'], 4)}"
            f" p {shown(area['p_value'])}, F1 {shown(f1['difference'])} {_interval(f1['ci'])}"
        )
    return lines


def _interval(ends: tuple[float, float] | None, places: int = 3) -> str:
    return "[-]" if ends is None else f"[{ends[0]:.{places}f}, {ends[1]:.{places}f}]"
