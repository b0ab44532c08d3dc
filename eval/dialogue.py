"""python -m eval dialogue DIR: asking a film by phrases and by boxes, after ChEX's tasks, on films on which somebody drew.

SG, sentence grounding: a phrase, the author's own or made of a finding and the side of its boxes, is asked for, and its boxes
compared with those drawn. RC, region classification: a drawn box is pointed at, and its likeness to each finding's query ranks the
boxes of that finding before the others. RE, region explanation: the finding whose query the region is most like, against the one
drawn; and the sentence that the service answers for the box, by what the labeler reads in it and by METEOR against the author's.
Detection without a phrase is `eval grounding`; whether the other lung's prompt moves the box is `eval prompts`; whole reports are
`eval drafts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from eval import films, scores
from eval.box_sources import CENTRE
from eval.detection import average_precisions, film_hits
from eval.overlap import meteor, words
from eval.prompted import queries_of
from eval.radfact import mask
from knowledge_base.findings import Laterality, Polarity
from rag_service.datasets.drawn import Drawn, drawn
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.explain.anatomy import SIDED, side
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Box
from rag_service.models.region_queries import TextVectors
from rag_service.reader import Reader
from rag_service.report.labeler import shared_labeler

OVERLAPS: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
"""IoU of masks from which a phrase counts as grounded."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One finding of one film: the boxes drawn, those found for the phrase, of each drawn box its likeness to the query of every
    finding and the sentence answered for it, and the author's own `phrase`, "" for none.
    """

    row: FilmRow
    finding: str
    drawn: tuple[Box, ...]
    found: tuple[Box, ...]
    likeness: tuple[Mapping[str, float], ...]
    said: tuple[str | None, ...]
    phrase: str


def phrase(finding: str, drawn: Sequence[Box]) -> str:
    """What a reader would ask: the finding, with its side where all its boxes lie on one."""
    sides = {side(b.x_min, b.x_max) for b in drawn} if finding in SIDED else set()
    one = sides.pop() if len(sides) == 1 else Laterality.BILATERAL
    return finding.lower() if one is Laterality.BILATERAL else f"{one} {finding.lower()}"


def ask(
    folder: Path,
    split: Split | None,
    limit: int | None,
    reader: Reader,
    text: TextVectors,
    say: Callable[[FilmRow, Box], str | None],
) -> list[Asked]:
    """Everything drawn on at most `limit` films, the first ones; `say` answers a box of a film in a sentence, None for no answer.

    DatasetError when nothing is drawn on a film that is measured.
    """
    queries, by_film = queries_of(reader), _by_film(folder, split)
    if not by_film:
        raise DatasetError(f"{folder.name}/ holds no box of a film that is measured")
    answered = []
    for path, on_film in tqdm(list(by_film.items())[:limit], desc="asking films", unit="film"):
        film = decode(path.read_bytes())
        reading = reader.encoder.read(film)
        for one in on_film:
            boxes = tuple(Box(*place) for place in one.fractions(film.frame.columns, film.frame.rows))
            found = queries.answer(reading, one.phrase or phrase(one.finding, boxes), text).boxes
            likeness = tuple(queries.point(reading, b).likeness for b in boxes)
            said = tuple(say(one.row, b) for b in boxes)
            answered.append(Asked(one.row, one.finding, boxes, found, likeness, said, one.phrase))
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
        "region_sentences": _told(answered),
        "films": len({a.row.path for a in answered}),
        "seed": seed,
        "signature": {"films": films.signature([a.row for a in answered]), "model": model},
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    ground, regions, told = (result[k] for k in ("sentence_grounding", "region_classification", "region_explanation"))
    said = result["region_sentences"]
    low, high = ground["miou_ci"] or (None, None)
    shares = ", ".join(f"{n} at {least}" for least, n in ((k, f"{v:.3f}") for k, v in ground["grounded"].items()))
    areas = ", ".join(f"{f} {scores.shown(v)}" for f, v in regions["auroc"].items())
    return "\n".join(
        [
            f"{result['films']} films that somebody drew on, seed {result['seed']}",
            f"SG, {ground['phrases']} phrases: mIoU {ground['miou']:.3f} [{scores.shown(low)}, {scores.shown(high)}] (centre box"
            f" {ground['centre_miou']:.3f}), mAP 0.1-0.7 {scores.shown(ground['map_01_07'])}; grounded {shares}",
            f"RC, {regions['boxes']} boxes: macro-AUROC {scores.shown(regions['auroc_macro'])} ({areas})",
            f"RE: the region is most like its own finding in {told['right']} of {told['boxes']} boxes"
            f" ({scores.shown(told['share'])}; always the commonest: {scores.shown(told['commonest'])})",
            f"RE, sentences: {said['sentences']} of {said['asked']} boxes have one, {said['naming']} name the finding drawn; METEOR"
            f" {scores.shown(said['meteor'])}",
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


def _told(answered: Sequence[Asked]) -> dict[str, Any]:
    """The sentences answered for boxes: how many boxes have one, in how many the drawn finding is read as there or possible, and
    their mean METEOR against the author's phrase where there is one.
    """
    pairs = [(a, sentence) for a in answered for sentence in a.said]
    told = [(a, s) for a, s in pairs if s is not None]
    read = shared_labeler().read
    naming = [any(m.finding == a.finding and m.polarity is not Polarity.NEGATIVE for m in read(s)) for a, s in told]
    alike = [meteor(words(s), words(a.phrase)) for a, s in told if a.phrase]
    return {"asked": len(pairs), "sentences": len(told), "naming": sum(naming), "meteor": scores.mean_known(alike)}


def _by_film(folder: Path, split: Split | None) -> dict[Path, list[Drawn]]:
    found: dict[Path, list[Drawn]] = {}
    for one in drawn(folder):
        if split is None or one.row.split is split:
            found.setdefault(one.row.path, []).append(one)
    return found
