"""python -m eval ablations DIR: what each part of the box-latent head is worth, on one frozen encoder's features.

Heads alone are trained, so that 5 seeds of every variant take minutes. A seed changes a head's initial weights, its samples of
the box and the order of films; the split of patients stays as it is. Scored on Open-i test studies, frontal films.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eval import scores, significance
from eval.scores import Floats
from knowledge_base.findings import FINDINGS
from knowledge_base.records import digest
from rag_service.calibrators import Platt
from rag_service.datasets.films import DatasetError, Split
from rag_service.models.box_head import BoxHead
from rag_service.models.encoder import BL_TTA_SAMPLES, samples
from rag_service.models.encoders.record import FeatureExtractor
from rag_service.operating_points import flags, most_accurate
from rag_service.training import augment
from rag_service.training.box_head import Bank, HeadPlan, bank, train_head
from rag_service.training.corpus import SOURCES, Corpus, build
from rag_service.training.features import FeatureCache, OtherDevice

WORK: Final = Path("build/ablations")
SHIFTS: Final = (0.5, 1.0, 1.5, 2.0)
"""Device shifts of test films, as multiples of the training strength."""
SHIFT_SEED: Final = 101
"""Not among the seeds of the training copies: test films are shifted as no training film was."""
_TRAIN_SOURCES: Final = ("openi", "nih", "cohen")
HEADLINE: Final = "macro_auroc"


@dataclass(frozen=True)
class Variant:
    """One way of training a head and of reading it: `plan` replaces parts of the box head's plan."""

    plan: Mapping[str, bool] = field(default_factory=dict)
    sources: tuple[str, ...] = _TRAIN_SOURCES
    at_centre: bool = False


VARIANTS: Final[Mapping[str, Variant]] = {
    "box": Variant(),
    "point": Variant({"box": False}, at_centre=True),
    "no_bl_tta": Variant(at_centre=True),
    "single_source": Variant(sources=("openi",)),
    "in_box_only": Variant({"contained": False}),
    "pixel_only": Variant({"box": False, "contained": False, "shown_shifted": True}, at_centre=True),
    "none": Variant({"box": False, "contained": False}, at_centre=True),
    "box_and_pixel": Variant({"shown_shifted": True}),
}
"""`box` has samples in the box, and copies that must fall into it. `point`: the same with radius 0. `in_box_only`: no copies.
`pixel_only`: copies are shown as films, to a point. `none`: neither. `no_bl_tta`: `box` read at its centre."""


@dataclass(frozen=True, eq=False)
class Studies:
    """n films gathered into m studies: `where` (n,) the study of each film, labels (m, 14) NaN for unknown."""

    where: NDArray[np.int64]
    names: tuple[str, ...]
    labels: Floats

    def mean(self, films: Floats) -> Floats:
        """Films (n, 14) -> studies (m, 14)."""
        total = np.zeros((len(self.names), films.shape[1]))
        np.add.at(total, self.where, films)
        return total / np.bincount(self.where)[:, None]


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything the variants share: training films by source, calibration and test films, and test films shifted."""

    train: Bank
    sources: NDArray[np.int8]
    held: Bank
    test: Tensor
    shifted: Mapping[float, Tensor]
    studies: Studies


@dataclass(frozen=True, eq=False)
class Trial:
    """One head, read: calibrated probabilities of test studies (m, 14), and the figures they make."""

    p: Floats
    figures: Mapping[str, float | None]


def measure(folder: Path, extractor: FeatureExtractor, seeds: int, seed: int, limit: int | None) -> dict[str, Any]:
    """Everything `ablations --json` writes; seeds are `seed`, `seed` + 1, ..."""
    corpus = build(folder, WORK / "cache")
    rows = {s: _rows(corpus, s, _TRAIN_SOURCES if s is Split.TRAIN else ("openi",), limit) for s in Split}
    if not all(len(r) for r in rows.values()):
        raise DatasetError(f"{folder.name}/ holds no labelled frontal films of every split")
    bench = _bench(FeatureCache(extractor, WORK / "features"), corpus, rows)
    trials = _trials(bench, range(seed, seed + seeds))
    return {
        "variants": {name: _over_seeds([t.figures for t in found]) for name, found in trials.items()},
        "paired": {name: _paired(bench.studies, trials, name, seed) for name in trials if name != "box"},
        "films": {str(s): len(r) for s, r in rows.items()},
        "studies": len(bench.studies.names),
        "seeds": list(range(seed, seed + seeds)),
        "split": "fixed: a seed changes initial weights, samples and order",
        "signature": {
            "films": digest(sorted(bench.studies.names)),
            "model": extractor.record.id,
            "plan": asdict(HeadPlan()),
            "bl_tta": BL_TTA_SAMPLES,
            "strength": asdict(augment.Strength()),
            "bootstrap": scores.RESAMPLES,
        },
    }


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    names = (HEADLINE, "element_accuracy", "label_f1_macro", "label_f1_micro", "brier", "ece", *map(_loss, SHIFTS))
    short = ("AUROC", "accuracy", "F1 macro", "F1 micro", "Brier", "ECE", *(f"loss {s:g}x" for s in SHIFTS))
    films = ", ".join(f"{v} {k}" for k, v in result["films"].items())
    lines = [
        f"{result['signature']['model']}: films {films}; {result['studies']} test studies; seeds {result['seeds']}",
        f"split {result['split']}",
        f"{'variant':14s} " + " ".join(f"{s:>13s}" for s in short),
    ]
    for name, found in result["variants"].items():
        cells = [found[n] for n in names]
        lines.append(f"{name:14s} " + " ".join(f"{_cell(c):>13s}" for c in cells))
    for name, test in result["paired"].items():
        low, high = test["interval"] or (float("nan"), float("nan"))
        gap = "-" if test["difference"] is None else f"{test['difference']:+.4f}"
        chance = "-" if test["p_value"] is None else f"{test['p_value']:.3f}"
        by_seed = test["by_seed"]
        lines.append(
            f"box less {name:14s} macro-AUROC {gap} [{low:+.4f}, {high:+.4f}] p {chance};"
            f" better on {by_seed['wins']} of {by_seed['seeds']} seeds"
        )
    return "\n".join(lines)


def _rows(corpus: Corpus, split: Split, sources: Sequence[str], limit: int | None) -> NDArray[np.int64]:
    """Frontal films with a label; of each source the first `limit`."""
    found = [corpus.rows(split, source, "frontal") for source in sources]
    return np.concatenate([r[(corpus.labels[r] >= 0).any(1)][:limit] for r in found])


def _bench(cache: FeatureCache, corpus: Corpus, rows: Mapping[Split, NDArray[np.int64]]) -> Bench:
    test = rows[Split.TEST]
    return Bench(
        train=bank(cache, corpus, rows[Split.TRAIN], HeadPlan().copies),
        sources=corpus.source[rows[Split.TRAIN]],
        held=bank(cache, corpus, rows[Split.CALIBRATION], 0),
        test=torch.from_numpy(cache.pooled(corpus.films, test)),
        shifted={
            s: torch.from_numpy(cache.pooled(corpus.films, test, OtherDevice(at_strength(s), SHIFT_SEED)))
            for s in SHIFTS
        },
        studies=_studies(corpus, test),
    )


def at_strength(factor: float) -> augment.Strength:
    """The training strength of device shifts times a factor; a share of films is at most all of them."""
    base = augment.Strength()
    return replace(
        base,
        log_gamma=factor * base.log_gamma,
        window=factor * base.window,
        noise=factor * base.noise,
        blur_share=min(factor * base.blur_share, 1.0),
    )


def _studies(corpus: Corpus, rows: NDArray[np.int64]) -> Studies:
    names, first, where = np.unique([corpus.studies[r] for r in rows], return_index=True, return_inverse=True)
    labels = corpus.labels[rows][first].astype(np.float64)
    return Studies(where, tuple(names.tolist()), np.where(labels < 0, np.nan, labels))


def _trials(bench: Bench, seeds: Sequence[int]) -> dict[str, list[Trial]]:
    """By variant, a trial for each seed. Variants that differ in the reading alone share their heads."""
    found: dict[str, list[Trial]] = {name: [] for name in VARIANTS}
    for seed in tqdm(seeds, desc="training heads", unit="seed"):
        heads: dict[str, BoxHead] = {}
        for name, variant in VARIANTS.items():
            key = digest([sorted(variant.plan.items()), variant.sources])
            if key not in heads:
                wanted = np.flatnonzero(np.isin(bench.sources, [SOURCES.index(s) for s in variant.sources]))
                plan = replace(HeadPlan(seed=seed), **variant.plan)
                heads[key] = train_head(bench.train.at(wanted), bench.held, plan)
            found[name].append(_trial(bench, heads[key], variant.at_centre))
    return found


def _trial(bench: Bench, head: BoxHead, at_centre: bool) -> Trial:
    held, labels = chances(head, bench.held.features, at_centre), bench.held.labels.numpy()
    known = [labels[:, i] >= 0 for i in range(len(FINDINGS))]
    maps = [Platt.fit(held[k, i], labels[k, i].astype(np.float64)) for i, k in enumerate(known)]
    calibrated = [m.p(held[k, i]) for i, (m, k) in enumerate(zip(maps, known, strict=True))]
    outcomes = [labels[k, i].astype(np.float64) for i, k in enumerate(known)]
    accurate = [most_accurate(p, y) if len(p) else 0.5 for p, y in zip(calibrated, outcomes, strict=True)]

    def studies(features: Tensor) -> Floats:
        raw = chances(head, features, at_centre)
        return bench.studies.mean(np.stack([m.p(raw[:, i]) for i, m in enumerate(maps)], 1))

    p = studies(bench.test)
    figures = _figures(bench.studies.labels, p, np.array(flags(calibrated)), np.array(accurate))
    for factor, features in bench.shifted.items():
        shifted = scores.macro_auroc(bench.studies.labels, studies(features))
        clean = figures[HEADLINE]
        figures[_loss(factor)] = None if clean is None or shifted is None else clean - shifted
    return Trial(p, figures)


@torch.no_grad()
def chances(head: BoxHead, features: Tensor, at_centre: bool) -> Floats:
    """Probabilities (n, 14) of features (n, D): over the box as the service samples it, or at its centre."""
    box = head(features)
    points = samples(head.shape.axes, 1 if at_centre else BL_TTA_SAMPLES)
    read = torch.sigmoid(head.logits(box.centre[:, None] + box.radius[:, None] * points)).mean(1)
    return np.asarray(read.double().numpy())


def _figures(labels: Floats, p: Floats, flag: Floats, accurate: Floats) -> dict[str, float | None]:
    """Figures of studies (m, 14), calls at thresholds (14,) that the calibration films fixed."""
    known = ~np.isnan(labels)
    columns = [(labels[k, i], p[k, i]) for i, k in enumerate(known.T) if k.any()]
    called = p >= flag
    return {
        HEADLINE: scores.macro_auroc(labels, p),
        "element_accuracy": float(((p >= accurate) == (labels == 1))[known].mean()),
        "label_f1_macro": scores.macro_f1(labels, called),
        "label_f1_micro": scores.f1(labels[known], called[known].astype(np.float64)),
        "brier": scores.mean_known([scores.brier(y, q) for y, q in columns]),
        "ece": scores.mean_known([scores.ece(y, q) for y, q in columns]),
    }


def _over_seeds(figures: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation of each figure over seeds; None where a seed lacks it, or for the spread of one seed."""
    found: dict[str, dict[str, Any]] = {}
    for name in figures[0]:
        values = [f[name] for f in figures]
        known = [v for v in values if v is not None]
        whole = len(known) == len(values)
        found[name] = {
            "mean": float(np.mean(known)) if whole else None,
            "sd": float(np.std(known, ddof=1)) if whole and len(known) > 1 else None,
            "per_seed": values,
        }
    return found


def _paired(studies: Studies, trials: Mapping[str, Sequence[Trial]], name: str, seed: int) -> dict[str, Any]:
    ours, theirs = (np.mean([t.p for t in trials[n]], axis=0) for n in ("box", name))
    by_seed = [[t.figures[HEADLINE] or 0.0 for t in trials[n]] for n in ("box", name)]
    found = significance.over_studies(studies.labels, ours, theirs, studies.names, seed)
    return {**found, "by_seed": significance.over_seeds(*by_seed)}


def _loss(factor: float) -> str:
    return f"auroc_loss_{factor:g}x"


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["mean"] is None:
        return "-"
    return f"{figure['mean']:.4f}" + ("" if figure["sd"] is None else f" ±{figure['sd']:.4f}")
