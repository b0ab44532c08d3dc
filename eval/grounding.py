"""python -m eval grounding DIR: do the boxes lie where radiologists drew theirs? NIH ChestX-ray14 reader boxes.

Per reader-boxed finding of a film: best IoU of our boxes with a reader's, whether the heaviest box's middle lies in one
(pointing), and whether the stated side is the reader's. Controls: the finding's own region prior, without the film, and boxes
from Grad-CAM of the same network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from eval import films, scores
from knowledge_base.findings import Laterality
from rag_service.datasets import nih
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.errors import BadRequest
from rag_service.explain.anatomy import SIDED, prior, side
from rag_service.explain.boxes import apparent_side, boxes
from rag_service.explain.places import place_maps
from rag_service.explain.saliency import Saliency
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import FilmNetwork
from rag_service.reader import Reader

MIN_IOU: Final = 0.1


def measure(folder: Path, reader: Reader, split: Split | None, seed: int) -> dict[str, Any]:
    """Mean IoU, share with IoU >= 0.1, pointing and side accuracy with their denominators, by finding and in all."""
    network = reader.encoder.network
    cam = Saliency(network) if isinstance(network, FilmNetwork) else None
    rows = {r.path.stem: r for r in films.read(folder, split)}
    wanted: dict[tuple[str, str], list[nih.ReaderBox]] = {}
    for box in nih.boxes(folder):
        if Path(box.image).stem in rows:
            wanted.setdefault((Path(box.image).stem, box.finding), []).append(box)
    if not wanted:
        raise DatasetError(f"{folder.name}/ holds no reader box of a film that is measured")
    scored = [
        _score(rows[film], finding, drawn, reader.encoder, cam)
        for (film, finding), drawn in tqdm(wanted.items(), unit="film")
    ]
    patients = [rows[film].patient for film, _ in wanted]
    groups = {"all": list(range(len(scored)))}
    for index, (_, finding) in enumerate(wanted):
        groups.setdefault(finding, []).append(index)
    iou = np.array([s["iou"] for s in scored])
    return {
        "findings": {name: _means([scored[i] for i in rows_of]) for name, rows_of in groups.items()},
        "iou_ci": scores.interval(patients, lambda drawn: float(iou[drawn].mean()), seed),
        "seed": seed,
        "signature": {"films": films.signature(list(rows.values())), "model": reader.encoder.record.id},
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    low, high = result["iou_ci"] or (float("nan"), float("nan"))
    lines = [f"mean IoU interval over all [{low:.3f}, {high:.3f}], seed {result['seed']}"]
    lines.append(
        f"{'finding':18s} {'n':>4s} {'IoU':>6s} {'>=0.1':>6s} {'point':>6s} {'side':>6s} {'of':>4s}"
        f" {'prior IoU':>9s} {'Grad-CAM':>9s}"
    )
    for name, v in result["findings"].items():
        sided = "-" if v["side"] is None else f"{v['side']:.3f}"
        numbers = f"{v['n']:4d} {v['iou']:6.3f} {v['hit']:6.3f} {v['pointing']:6.3f}"
        lines.append(
            f"{name:18s} {numbers} {sided:>6s} {v['sided']:4d} {v['prior_iou']:9.3f} {_cell(v['cam_iou']):>9s}"
        )
    return "\n".join(lines)


def _score(
    row: FilmRow, finding: str, drawn: Sequence[nih.ReaderBox], encoder: FilmEncoder, cam: Saliency | None
) -> dict[str, Any]:
    reading = encoder.read(decode(row.path.read_bytes()))
    if reading.places is None:
        raise BadRequest(f"{encoder.record.id} draws no maps of where a finding lies")
    found = boxes(place_maps(reading.places, [finding])[0], finding)
    control = boxes(prior(finding), finding) or ()
    looked = None if cam is None else boxes(cam.maps(reading.maps, [finding])[0], finding) or ()
    truth = [Box(d.x_min, d.y_min, d.x_max, d.y_max) for d in drawn]
    return {
        "iou": _best(found or (), truth),
        "prior_iou": _best(control, truth),
        "cam_iou": None if looked is None else _best(looked, truth),
        "pointing": any(_holds(t, found[0]) for t in truth) if found else False,
        "side": _side_right(found, truth, finding),
    }


def _best(found: Sequence[Box], truth: Sequence[Box]) -> float:
    return max((f.iou(t) for f in found for t in truth), default=0.0)


def _holds(truth: Box, found: Box) -> bool:
    x, y = (found.x_min + found.x_max) / 2, (found.y_min + found.y_max) / 2
    return truth.x_min <= x <= truth.x_max and truth.y_min <= y <= truth.y_max


def _side_right(found: tuple[Box, ...] | None, truth: Sequence[Box], finding: str) -> bool | None:
    """None for findings without a side, and where the reader's boxes or ours lie on both."""
    if finding not in SIDED:
        return None
    readers = {side(t.x_min, t.x_max) for t in truth}
    ours = apparent_side(found, finding)
    if len(readers) != 1 or Laterality.BILATERAL in readers or ours in {None, Laterality.BILATERAL}:
        return None
    return ours in readers


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sided = [r["side"] for r in rows if r["side"] is not None]
    return {
        "n": len(rows),
        "iou": float(np.mean([r["iou"] for r in rows])),
        "hit": float(np.mean([r["iou"] >= MIN_IOU for r in rows])),
        "pointing": float(np.mean([r["pointing"] for r in rows])),
        "side": float(np.mean(sided)) if sided else None,
        "sided": len(sided),
        "prior_iou": float(np.mean([r["prior_iou"] for r in rows])),
        "cam_iou": scores.mean_known([r["cam_iou"] for r in rows]),
    }
