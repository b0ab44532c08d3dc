"""python -m eval sources DIR: does the overlap of two sources' box hulls say which source transfers best?

The hull of a source is, axis by axis, from a low quantile of c - r to a high quantile of c + r over its training films; two hulls
score the mean over axes of overlap over union. For every target with labels a light probe is trained on each other source's
training films and measured on the target's test films; the sources are then ranked by score and by what they achieved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, readings, scores, transfer
from eval.readings import Readings, labels
from rag_service.datasets import nih, openi, others
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.models.encoder import FilmEncoder
from rag_service.models.network import PRESENTATIONS

READERS: Final[Mapping[str, Callable[[Path], list[FilmRow]]]] = {
    "openi": openi.films,
    "nih": nih.films,
    "rocov2": others.rocov2,
    "cohen": others.cohen,
    "jsrt": others.jsrt,
    "paediatric": others.paediatric,
}
QUANTILE: Final = 0.05
"""Of the boxes' lower ends; the upper ends are cut as far from above."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """Frontal films of one source and one split, with their readings and labels (n, 14), NaN for unknown."""

    rows: tuple[FilmRow, ...]
    read: Readings
    labels: Floats


@dataclass(frozen=True, eq=False)
class Source:
    """A source's training films and its test films."""

    name: str
    train: Part
    test: Part


def load(folder: Path, encoder: FilmEncoder, limit: int | None, seed: int) -> list[Source]:
    """Every source present under `folder`; of each split at most `limit` films, drawn by `seed`.

    DatasetError when fewer than two are present, or one has no frontal film to train on or to test on.

    Of films whose source does not say how they lie, those are kept that the network takes for frontals.
    """
    found = []
    for name, reader in READERS.items():
        if (folder / name).is_dir():
            rows = [r for r in reader(folder / name) if r.presentation in {"frontal", None}]
            parts = (
                _part(name, _drawn(rows, split, limit, seed), split, encoder) for split in (Split.TRAIN, Split.TEST)
            )
            found.append(Source(name, *parts))
    if len(found) < 2:
        raise DatasetError(f"{folder.name}/ holds fewer than two of {', '.join(READERS)}")
    return found


def hull(read: Readings) -> tuple[Floats, Floats]:
    """Lower and upper ends (d,) of the hull of boxes (n, d)."""
    low = np.quantile(read.centre - read.radius, QUANTILE, axis=0)
    return low, np.quantile(read.centre + read.radius, 1 - QUANTILE, axis=0)


def overlap(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> float:
    """Mean over axes of overlap over union of two hulls, in [0, 1]; gaps between them count as part of the union."""
    shared = np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])
    union = np.maximum(one[1], other[1]) - np.minimum(one[0], other[0])
    return float(np.mean(np.maximum(shared, 0.0) / union))


def measure(sources: Sequence[Source], model: str, seed: int) -> dict[str, Any]:
    """Overlap of every pair, what each source achieves on each target, and how well each ranking of sources foretells it."""
    hulls = {s.name: hull(s.train.read) for s in sources}
    overlaps = {(a, b): overlap(hulls[a], hulls[b]) for a, b in combinations(hulls, 2)}
    pairs = overlaps | {(b, a): v for (a, b), v in overlaps.items()}
    far = {(s.name, t.name): _distance(s, t) for s in sources for t in sources}
    size = {s.name: int((~np.isnan(s.train.labels)).any(1).sum()) for s in sources}
    achieved = transfer.achieved([(s.name, s.train, s.test) for s in sources])
    rankings = {
        "hull_overlap": lambda source, target: pairs[source, target],
        "source_size": lambda source, _: float(size[source]),
        "centroid_distance": lambda source, target: -far[source, target],
    }
    return {
        "overlap": {f"{a}/{b}": v for (a, b), v in overlaps.items()},
        "transfer": [a.to_json() | {"overlap": pairs.get((a.source, a.target))} for a in achieved],
        "rankings": {name: transfer.foretold(achieved, rank, seed) for name, rank in rankings.items()},
        "sources": {
            s.name: {"train": len(s.train.rows), "test": len(s.test.rows), "labelled": size[s.name]} for s in sources
        },
        "seed": seed,
        "signature": {
            "films": films.signature([r for s in sources for part in (s.train, s.test) for r in part.rows]),
            "model": model,
            "hull": f"quantiles {QUANTILE:g} and {1 - QUANTILE:g}",
            "probe": transfer.PROBE,
            "permutations": transfer.PERMUTATIONS,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    names = list(result["sources"])
    lines = [", ".join(f"{n} {v['train']}+{v['test']} films" for n, v in result["sources"].items())]
    lines.append(f"{'hull overlap':12s}" + "".join(f"{n:>12s}" for n in names))
    for a in names:
        cells = [result["overlap"].get(f"{a}/{b}", result["overlap"].get(f"{b}/{a}")) for b in names]
        lines.append(f"{a:12s}" + "".join(f"{scores.shown(c):>12s}" for c in cells))
    lines.append("AUROC on the target's test films (own: a probe of the target's own training films)")
    for v in result["transfer"]:
        own = "  own" if v["source"] == v["target"] else ""
        counts = f"{v['positives']}/{v['films']}"
        lines.append(f"  {v['target']:10s} from {v['source']:10s} {v['finding']:22s} {v['auroc']:.3f} ({counts}){own}")
    for name, v in result["rankings"].items():
        by_target = ", ".join(f"{t} {scores.shown(r, 2)}" for t, r in v["by_target"].items())
        lines.append(
            f"ranked by {name}: rank correlation {scores.shown(v['correlation'])} (p {scores.shown(v['p'])}, "
            f"{v['groups']} target findings); by target {by_target or '-'}"
        )
        picked = ", ".join(f"{k} {scores.shown(v[k])}" for k in ("first", "average", "best"))
        lines.append(f"  mean AUROC of the source ranked first, of all, of the best: {picked}")
    return "\n".join(lines)


def _drawn(rows: Sequence[FilmRow], split: Split, limit: int | None, seed: int) -> list[FilmRow]:
    kept = [r for r in rows if r.split is split]
    if limit is None or len(kept) <= limit:
        return kept
    chosen = np.random.default_rng(seed).choice(len(kept), limit, replace=False)
    return [kept[i] for i in sorted(chosen.tolist())]


def _part(name: str, rows: Sequence[FilmRow], split: Split, encoder: FilmEncoder) -> Part:
    nothing = DatasetError(f"{name}/ holds no frontal film of the {split} split")
    if not rows:
        raise nothing
    read = readings.read(rows, encoder)
    frontal = read.presentation.argmax(1) == PRESENTATIONS.index("frontal")
    kept = [i for i, r in enumerate(rows) if r.presentation == "frontal" or frontal[i]]
    if not kept:
        raise nothing
    chosen = tuple(rows[i] for i in kept)
    return Part(chosen, read.at(kept), labels(chosen))


def _distance(one: Source, other: Source) -> float:
    return float(np.linalg.norm(one.train.read.centre.mean(0) - other.train.read.centre.mean(0)))
