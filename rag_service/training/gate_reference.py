"""Fits the gate: training frontals as the reference, outliers to join the scores, thresholds on calibration frontals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from rag_service.datasets.films import Split
from rag_service.gate import GateThresholds, load_reference, save_reference
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.models.network import PRESENTATIONS
from rag_service.ood import SCORES, Combination, Reference, scores_of
from rag_service.training import outliers
from rag_service.training.calibrate import CorpusReader

FALSE_ALARM_SHARE: Final = 0.01
SEED: Final = 12
AXES: Final = 128
BANK: Final = 1500
SHRINKAGE: Final = 0.10
PENALTY: Final = 1e-3
A_KIND: Final = 300
"""Outliers of one kind that the scores are joined on."""
PRESENTATION_FLOOR: Final = 1.0 / len(PRESENTATIONS)
"""Below chance no presentation is named, however rarely calibration frontals reach it."""
VARIANTS: Final[Mapping[str, outliers.Maker]] = MappingProxyType(
    {
        "rotated": outliers.turned,
        "inverted": outliers.inverted,
        "photograph": outliers.photograph,
        "blank": outliers.blank,
        "uniform_noise": outliers.uniform_noise,
        "gaussian_noise": outliers.gaussian_noise,
        "natural": outliers.natural,
    }
)
"""Made from training frontals. Checkerboards and salt and pepper are left for the measurement to meet unseen."""

Floats = NDArray[np.float64]


def fit_gate(reader: CorpusReader, folder: Path) -> GateThresholds:
    """The gate of an encoder; also writes its reference beside the weights."""
    train = _frontals(reader, Split.TRAIN, ("openi", "nih", "cohen"))
    order = np.random.default_rng(SEED).permutation(len(train))
    usual = reader.read(train)
    pooled = np.stack([r.pooled for r in usual]).astype(np.float64)
    sha256 = save_reference(folder, reference_of(pooled, order[:BANK]))
    reference = load_reference(folder, sha256)
    # A film of the bank is its own nearest neighbour: the others say how near a usual film lies.
    others = [usual[i] for i in order[BANK:]] or usual
    groups = {name: scores_of(found, reference) for name, found in _unusual(reader, train).items()}
    combination = combine(scores_of(others, reference), list(groups.values()))
    held = reader.read(_frontals(reader, Split.CALIBRATION, ("openi", "nih")))
    limits = operating_points(
        np.stack([r.presentation for r in held]), combination.of(scores_of(held, reference)), FALSE_ALARM_SHARE
    )
    return GateThresholds(reader.encoder.record.id, limits[0], combination, limits[1], sha256, FALSE_ALARM_SHARE)


def reference_of(pooled: Floats, bank: NDArray[np.int64]) -> Reference:
    """Reference from features (n, D), the covariance shrunk towards its mean variance; `bank`: rows to keep as films."""
    mean = pooled.mean(0)
    values, vectors = np.linalg.eigh(np.cov(pooled - mean, rowvar=False))
    variances = (1 - SHRINKAGE) * np.maximum(values, 0.0) + SHRINKAGE * values.mean()
    kept = min(AXES, len(pooled) - 1, len(mean))
    rest = float(np.sqrt(variances[: len(mean) - kept].mean() if kept < len(mean) else variances[0]))
    axes, spread = vectors[:, -kept:].T, np.sqrt(variances[-kept:])
    return Reference(mean, axes, spread, rest, (pooled[bank] - mean) @ axes.T)


def combine(usual: Floats, unusual: Sequence[Floats]) -> Combination:
    """Logistic regression of scores (n, 5) against groups of outliers (m, 5).

    Each group weighs alike and all of them as much as the usual films; weights are kept from below zero, and drawn to zero.
    """
    centre, scale = usual.mean(0), np.maximum(usual.std(0), 1e-6)
    x = (np.concatenate([usual, *unusual]) - centre) / scale
    outlier = np.concatenate([np.zeros(len(usual)), np.ones(len(x) - len(usual))])
    share = np.concatenate(
        [np.full(len(g), 0.5 / len(g) / n) for g, n in ((usual, 1), *((u, len(unusual)) for u in unusual))]
    )

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = x @ parameters[:-1] + parameters[-1]
        slope = share * (1.0 / (1.0 + np.exp(-z)) - outlier)
        value = float(share @ (np.logaddexp(0.0, z) - outlier * z) + PENALTY * parameters[:-1] @ parameters[:-1])
        return value, np.append(slope @ x + 2 * PENALTY * parameters[:-1], slope.sum())

    count = len(SCORES)
    bounds = [(0.0, None)] * count + [(None, None)]
    found = minimize(loss, np.append(np.full(count, 0.1), 0.0), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Combination(_named(centre), _named(scale), _named(found[:-1]), float(found[-1]))


def operating_points(presentation: Floats, combined: Floats, share: float) -> tuple[dict[str, float], float]:
    """Limits on the presentations (n, 5) but the frontal, and on the combined score (n,).

    As low as they can be, each passed by equally many of these frontals, while all together turn away at most `share` of them.
    """
    values = np.column_stack([presentation[:, 1:], combined])
    floors = np.array([PRESENTATION_FLOOR] * (len(PRESENTATIONS) - 1) + [-np.inf])
    falling = -np.sort(-values, axis=0)
    for passing in range(int(share * len(values)), -1, -1):
        above = falling[passing - 1] if passing else np.nextafter(falling[0], np.inf)
        limits = np.maximum((above + falling[passing]) / 2 if passing else above, floors)
        if (values >= limits).any(1).mean() <= share:
            break
    return dict(zip(PRESENTATIONS[1:], limits[:-1].tolist(), strict=True)), float(limits[-1])


def _frontals(reader: CorpusReader, split: Split, sources: Sequence[str]) -> NDArray[np.int64]:
    return np.concatenate([reader.corpus.rows(split, s, "frontal") for s in sources])


def _unusual(reader: CorpusReader, frontals: NDArray[np.int64]) -> dict[str, list[FilmReading]]:
    """Readings of what should be turned away, by kind, from the training split alone."""
    corpus, rng = reader.corpus, np.random.default_rng(SEED)
    rows = {
        "lateral": corpus.rows(Split.TRAIN, "openi", "lateral"),
        "not_chest": corpus.rows(Split.TRAIN, "not_chest", "not_chest"),
    }
    found = {name: reader.read(rng.permutation(r)[:A_KIND]) for name, r in rows.items() if len(r)}
    for number, (name, maker) in enumerate(VARIANTS.items()):
        chosen = np.sort(rng.permutation(frontals)[:A_KIND])
        found[name] = _read_variants(reader.encoder, corpus.films[chosen], maker, SEED + number)
    return found


def _read_variants(
    encoder: FilmEncoder, stored: NDArray[np.uint8], maker: outliers.Maker, seed: int, batch: int = 16
) -> list[FilmReading]:
    generator = torch.Generator().manual_seed(seed)
    readings: list[FilmReading] = []
    for start in range(0, len(stored), batch):
        films = torch.from_numpy(np.ascontiguousarray(stored[start : start + batch])).float()[:, None] / 255.0
        made = outliers.stretched(maker(films, generator))[:, 0].mul(255.0).round().byte().numpy()
        readings += encoder.read_stored(made)
    return readings


def _named(values: Floats) -> dict[str, float]:
    return dict(zip(SCORES, map(float, values), strict=True))
