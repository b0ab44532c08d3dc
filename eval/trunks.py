"""python -m eval trunks DIR: short training runs side by side, to say what pretraining, sources and trunk are worth.

Every variant is trained by the program that trains the shipped model, for the same few steps at a small size, and scored at
the centre of its box on Open-i test studies, frontal films. The figures say which choice is better, not how good the
shipped model is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from eval import scores, significance
from eval.scores import Floats
from knowledge_base.records import digest
from rag_service.datasets.films import Split
from rag_service.models.encoder import to_input
from rag_service.models.network import FilmNetwork
from rag_service.models.text import load_text_encoder
from rag_service.training.corpus import SOURCES, Corpus, build
from rag_service.training.loop import PLANS, Plan, Trainer, text_vectors

WORK: Final = Path("build/training")
BASE: Final = "pretrained"
TIMED_SIDE: Final = 192
"""Pixels a side at which a trunk is timed: what the shipped model reads."""


@dataclass(frozen=True)
class Variant:
    """One choice; all else is the short plan's."""

    pretrained: bool = True
    trunk: str = "resnet18"
    sources: tuple[str, ...] = SOURCES


VARIANTS: Final[Mapping[str, Variant]] = {
    BASE: Variant(),
    "no_pretraining": Variant(pretrained=False),
    "single_source": Variant(sources=("openi",)),
    "resnet10t": Variant(pretrained=False, trunk="resnet10t"),
}
"""`resnet10t` is to be read beside `no_pretraining`: a trunk of its shape has not been pretrained."""


def measure(folder: Path, pretrained: Path, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    """Everything `trunks --json` writes. `pretrained` is a checkpoint of `rag_service.training pretrain`."""
    corpus = build(folder, WORK / "cache")
    vectors = text_vectors(corpus.texts, load_text_encoder().encode, WORK / "cache")
    rows = corpus.rows(Split.TEST, "openi", "frontal")
    rows = rows[(corpus.labels[rows] >= 0).any(1)]
    studies = [corpus.studies[r] for r in rows]
    names, labels = _labels(corpus, rows, studies)
    found: dict[str, list[Floats]] = {}
    speed: dict[str, float] = {}
    for name, variant in VARIANTS.items():
        for seed in seeds:
            network = _trained(corpus, vectors, variant, pretrained, replace(PLANS["short"], seed=seed, steps=steps))
            found.setdefault(name, []).append(_by_study(_scores(network, corpus, rows), studies, names))
            speed[name] = milliseconds(network)
    return {
        "variants": {n: _figures(labels, p, speed[n]) for n, p in found.items()},
        "paired": {
            n: significance.over_studies(labels, np.mean(found[BASE], 0), np.mean(p, 0), names, seeds[0])
            for n, p in found.items()
            if n != BASE
        },
        "studies": len(names),
        "seeds": list(seeds),
        "signature": {"films": digest(sorted(names)), "steps": steps, "side": PLANS["short"].stages[0][1]},
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    signature = result["signature"]
    lines = [
        f"{signature['steps']} steps at {signature['side']} px, seeds {result['seeds']}, {result['studies']} test studies",
        f"{'variant':16s} {'AUROC':>7s} {'ms':>6s}   pretrained less this",
    ]
    for name, v in result["variants"].items():
        line = f"{name:16s} {v['macro_auroc']:7.3f} {v['ms_per_film']:6.1f}"
        if name in result["paired"]:
            test = result["paired"][name]
            low, high = test["interval"] or (float("nan"), float("nan"))
            line += f"   {test['difference']:+.3f} [{low:+.3f}, {high:+.3f}] p {test['p_value']:.3f}"
        lines.append(line)
    return "\n".join(lines)


def _trained(
    corpus: Corpus, vectors: NDArray[np.float32], variant: Variant, pretrained: Path, plan: Plan
) -> FilmNetwork:
    plan = replace(plan, trunk=variant.trunk, sources=variant.sources)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(corpus, vectors, plan, Path(folder))
        if variant.pretrained:
            trainer.start_from(pretrained)
        trainer.run()
    return trainer.averaged.eval()


def _scores(network: FilmNetwork, corpus: Corpus, rows: NDArray[np.int64]) -> Floats:
    found = []
    with torch.inference_mode():
        for some in np.array_split(rows, max(len(rows) // 32, 1)):
            films = to_input(corpus.films[some], PLANS["short"].stages[0][1])
            found.append(torch.sigmoid(network.logits(network(films).centre)))
    return np.asarray(torch.cat(found).double().numpy())


def milliseconds(network: FilmNetwork, repeats: int = 10) -> float:
    """Median time of one film of TIMED_SIDE, in ms."""
    film = torch.zeros(1, 1, TIMED_SIDE, TIMED_SIDE)
    taken = []
    with torch.inference_mode():
        network(film)
        for _ in range(repeats):
            begun = perf_counter()
            network(film)
            taken.append(1000 * (perf_counter() - begun))
    return float(np.median(taken))


def _labels(corpus: Corpus, rows: NDArray[np.int64], studies: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    names, first = np.unique(studies, return_index=True)
    labels = corpus.labels[rows][first].astype(np.float64)
    return tuple(names.tolist()), np.where(labels < 0, np.nan, labels)


def _by_study(p: Floats, studies: Sequence[str], names: Sequence[str]) -> Floats:
    where = np.searchsorted(names, studies)
    total = np.zeros((len(names), p.shape[1]))
    np.add.at(total, where, p)
    return np.asarray(total / np.bincount(where)[:, None])


def _figures(labels: Floats, per_seed: Sequence[Floats], speed: float) -> dict[str, Any]:
    found = [scores.macro_auroc(labels, p) for p in per_seed]
    return {
        "macro_auroc": scores.mean_known(found),
        "sd": float(np.std([f or 0.0 for f in found], ddof=1)) if len(found) > 1 else None,
        "per_seed": found,
        "ms_per_film": speed,
    }
