"""RadFact's six numbers of grounded reports, with any judge of entailment (Bannur et al., 2024).

A report is a list of phrases, some with boxes. A phrase is logically entailed when phrases of the other report make it true. It is
spatially entailed when it is that, has boxes, and more than half of their pixels lie in the boxes of the phrases it rests on.
Precision asks this of the prediction's phrases, recall of the target's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import scores
from rag_service.datasets.films import DatasetError
from rag_service.imaging.film import Box
from rag_service.report.aspects import Verdict
from rag_service.report.entailment import Judge

SIDE: Final = 224
"""Pixels of the masks that boxes are compared on."""
LEAST_PRECISION: Final = 0.5
PARTS: Final = ("logical", "grounding", "spatial")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Phrase:
    """One finding in words; `boxes` is None, never empty, where it has no place."""

    text: str
    boxes: tuple[Box, ...] | None = None

    def __post_init__(self) -> None:
        if not self.text.strip() or self.boxes == ():
            raise ValueError("a phrase has words, and boxes or None")


@dataclass(frozen=True)
class Sample:
    """A predicted report and the one it should be."""

    name: str
    prediction: tuple[Phrase, ...]
    target: tuple[Phrase, ...]


@dataclass(frozen=True)
class Ratios:
    """Of one sample, each share by part; NaN where there is nothing to count."""

    precision: Mapping[str, float]
    recall: Mapping[str, float]


def read(path: Path) -> list[Sample]:
    """RadFact's JSON: [{example_id, prediction: [{text, boxes: [{x_min, y_min, x_max, y_max}] or null}], target: [...]}].

    DatasetError when it is none.
    """
    try:
        listed = json.loads(path.read_text("utf-8"))
        return [Sample(str(s["example_id"]), _phrases(s["prediction"]), _phrases(s["target"])) for s in listed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{path.name} is no list of samples as RadFact writes them") from error


def measure(samples: Sequence[Sample], judge: Judge, seed: int) -> dict[str, Any]:
    """The six numbers as means over samples, those that are NaN left out, F1 of the means, each with its bootstrap interval."""
    each = [ratios(s, judge) for s in samples]
    found = {part: np.array([(r.precision[part], r.recall[part]) for r in each]).reshape(-1, 2) for part in PARTS}
    names = [s.name for s in samples]
    result: dict[str, Any] = {"samples": len(samples), "seed": seed, "bootstrap": scores.RESAMPLES}
    for part, values in found.items():
        result[part] = {
            **_means(values),
            **{
                f"{name}_ci": scores.interval(names, lambda rows, v=values, n=name: _means(v[rows])[n], seed)  # type: ignore[misc]
                for name in ("precision", "recall", "f1")
            },
            "counted": {"precision": _known(values[:, 0]), "recall": _known(values[:, 1])},
        }
    return result


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['samples']} samples, seed {result['seed']}, {result['bootstrap']} resamples"]
    for part in PARTS:
        v = result[part]
        cells = [f"{n} {scores.shown(v[n])} {_interval(v[f'{n}_ci'])}" for n in ("precision", "recall", "f1")]
        lines.append(f"{part:10s} " + "  ".join(cells))
    return "\n".join(lines)


def ratios(sample: Sample, judge: Judge) -> Ratios:
    """The shares of one sample."""
    return Ratios(
        _shares(sample.prediction, sample.target, judge),
        _shares(sample.target, sample.prediction, judge),
    )


def evidence(hypothesis: str, phrases: Sequence[Phrase], judge: Judge) -> tuple[Phrase, ...]:
    """The phrases that alone make a text true; else those needed to do it together; none where it does not follow."""

    def holds(some: Sequence[Phrase]) -> bool:
        return bool(some) and judge([p.text for p in some], hypothesis) is Verdict.ENTAILED

    alone = tuple(p for p in phrases if holds((p,)))
    if alone or not holds(phrases):
        return alone
    return tuple(p for p in phrases if not holds([o for o in phrases if o is not p]))


def pixel_precision(boxes: Sequence[Box], among: Sequence[Box]) -> float:
    """Share of the pixels of some boxes that lie in others; 0 without any."""
    one, other = mask(boxes), mask(among)
    return float((one & other).sum() / one.sum()) if one.any() else 0.0


def _shares(phrases: Sequence[Phrase], others: Sequence[Phrase], judge: Judge) -> dict[str, float]:
    grounds = [evidence(p.text, others, judge) for p in phrases]
    placed = [(p.boxes, g) for p, g in zip(phrases, grounds, strict=True) if p.boxes]
    spatial = sum(_fits(boxes, g) for boxes, g in placed)
    return {
        "logical": _ratio(sum(map(bool, grounds)), len(phrases)),
        "grounding": _ratio(spatial, sum(bool(g) for _, g in placed)),
        "spatial": _ratio(spatial, len(placed)),
    }


def _fits(boxes: Sequence[Box], grounds: Sequence[Phrase]) -> bool:
    among = [b for g in grounds for b in g.boxes or ()]
    return pixel_precision(boxes, among) > LEAST_PRECISION


def mask(boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """(SIDE, SIDE) what boxes cover."""
    covered = np.zeros((SIDE, SIDE), bool)
    for b in boxes:
        x_min, y_min, x_max, y_max = (int(v * SIDE) for v in (b.x_min, b.y_min, b.x_max, b.y_max))
        covered[y_min:y_max, x_min:x_max] = True
    return covered


def _means(values: Floats) -> dict[str, float | None]:
    """Of (n, 2) precision and recall."""
    precision, recall = (scores.mean_known([None if np.isnan(v) else float(v) for v in column]) for column in values.T)
    if precision is None or recall is None:
        return {"precision": precision, "recall": recall, "f1": None}
    total = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2.0 * precision * recall / total if total else 0.0}


def _known(values: Floats) -> int:
    return int((~np.isnan(values)).sum())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _phrases(listed: Sequence[Mapping[str, Any]]) -> tuple[Phrase, ...]:
    return tuple(Phrase(str(p["text"]), _boxes(p.get("boxes"))) for p in listed)


def _boxes(listed: Sequence[Mapping[str, float]] | None) -> tuple[Box, ...] | None:
    return None if listed is None else tuple(Box(b["x_min"], b["y_min"], b["x_max"], b["y_max"]) for b in listed)


def _interval(found: tuple[float, float] | None) -> str:
    return "[-]" if found is None else f"[{found[0]:.3f}, {found[1]:.3f}]"
