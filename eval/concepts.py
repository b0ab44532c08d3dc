"""python -m eval concepts DIR: how well sparse concepts rebuild the latent, whether their names tell where they are at work,
and what steering along them changes, on target and off.

Detection after Paulo et al. (arXiv 2410.13928), with labels in place of a language model: from whether a film bears the name
one says whether the concept is active in it, scored by balanced accuracy. Steering after arXiv 2507.12950.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, scores
from eval.readings import Readings
from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import FilmRow
from rag_service.datasets.terms import presence
from rag_service.models.concepts import SparseConcepts
from rag_service.models.encoder import FilmEncoder

MIN_FILMS: Final = 5
"""A concept is scored where at least so many films whose label is known have it, and as many have it not."""
GOOD: Final = 0.6
SHUFFLES: Final = 100
ALPHAS: Final = (0.5, 1.0, 2.0)
TOP: Final = 3
RANDOM_DIRECTIONS: Final = 10

Floats = NDArray[np.float64]


def measure(
    rows: Sequence[FilmRow], read: Readings, encoder: FilmEncoder, concepts: SparseConcepts, seed: int
) -> dict[str, Any]:
    """Everything `concepts --json` writes."""
    active = concepts.autoencoder.activations(read.centre)
    return {
        "explained_variance": explained_variance(concepts, read.centre, active),
        "dead_share": float((active == 0).all(0).mean()),
        "mean_active": float((active > 0).sum(1).mean()),
        "detection": detection(rows, active, concepts, seed),
        "steering": steering(read, encoder, concepts, seed),
        "n_films": len(rows),
        "n_concepts": active.shape[1],
        "seed": seed,
        "signature": {
            "films": films.signature(list(rows)),
            "model": encoder.record.id,
            "concepts": concepts.digest,
            "bl_tta": encoder.bl_tta,
            "bootstrap": scores.RESAMPLES,
        },
    }


def explained_variance(concepts: SparseConcepts, centres: Floats, active: Floats) -> dict[str, float]:
    """By prefix: 1 - squared error over squared distance from the mean of these films, both of standardised centres."""
    coder = concepts.autoencoder
    wanted = coder.standardised(centres)
    total = ((wanted - wanted.mean(0)) ** 2).sum()
    return {str(m): float(1 - ((wanted - coder.rebuilt(active, m)) ** 2).sum() / total) for m in coder.prefixes}


def balanced_accuracies(active: NDArray[np.bool_], labels: Floats) -> Floats:
    """(c,): mean of the shares of active films that bear the name and of inactive films that do not; columns of (n, c).

    A NaN label is unknown; NaN where fewer than MIN_FILMS films are active, or inactive.
    """
    known = ~np.isnan(labels)
    borne = known & (labels == 1)
    on, off = (known & active).sum(0), (known & ~active).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = ((borne & active).sum(0) / on + (known & ~active & ~borne).sum(0) / off) / 2
    return np.where(np.minimum(on, off) >= MIN_FILMS, found, np.nan)


def detection(rows: Sequence[FilmRow], active: Floats, concepts: SparseConcepts, seed: int) -> dict[str, Any]:
    """Scores of the named concepts, their median and the share that reach GOOD, beside the same with names shuffled."""
    named = [i for i, n in enumerate(concepts.names) if n.named]
    labels = presence(rows, [concepts.names[i].term for i in named])
    at_work = active[:, named] > 0
    found = balanced_accuracies(at_work, labels)
    measured = np.flatnonzero(~np.isnan(found))
    rng = np.random.default_rng(seed)
    shuffled = [balanced_accuracies(at_work, labels[:, rng.permutation(len(named))]) for _ in range(SHUFFLES)]
    patients = [f"{r.source}/{r.patient}" for r in rows]
    return {
        **_summary(found),
        "median_ci": scores.interval(patients, lambda r: _summary(balanced_accuracies(at_work[r], labels[r]))["median"], seed),
        "shuffled": {
            key: scores.mean_known([_summary(s)[key] for s in shuffled]) for key in ("median", "share_good")
        },
        "named": len(named),
        "measured": len(measured),
        "per_concept": [
            _detected(concepts, named[j], found[j], active[:, named[j]], labels[:, j]) for j in measured.tolist()
        ],
    }  # fmt: skip


def steering(read: Readings, encoder: FilmEncoder, concepts: SparseConcepts, seed: int) -> dict[str, Any]:
    """Mean change of each finding's uncalibrated probability along the concepts that raise its logit most, of the others
    (mean absolute), and the same along random directions as long."""
    rng = np.random.default_rng(seed)
    before = encoder.probabilities_at(read.centre, read.radius)
    scale = np.array([n.scale for n in concepts.names])
    per_finding = {}
    for index, finding in enumerate(FINDINGS):
        raised = scale * (concepts.autoencoder.directions @ encoder.finding_weights[index])
        best = [i for i in np.argsort(-raised, kind="stable")[:TOP].tolist() if raised[i] > 0]
        if best:
            steps = [scale[i] * concepts.autoencoder.directions[i] for i in best]
            wild = _random_steps(concepts, float(scale[best].mean()), rng)
            per_finding[finding] = {
                "concepts": [{"index": i, "name": concepts.names[i].name} for i in best],
                "alphas": {str(a): _effects(steps, a, finding, before, read, encoder) for a in ALPHAS},
                "random": {str(a): _effects(wild, a, finding, before, read, encoder) for a in ALPHAS},
            }
    return {**_steering_summary(per_finding), "per_finding": per_finding, "films": len(read)}


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    found, moved = result["detection"], result["steering"]
    low, high = found["median_ci"] or (float("nan"), float("nan"))
    variance = "  ".join(f"{m}: {v:.3f}" for m, v in result["explained_variance"].items())
    lines = [
        f"{result['n_films']} films, {result['n_concepts']} concepts, seed {result['seed']}",
        f"explained variance by prefix  {variance}",
        f"dead {result['dead_share']:.3f}   active in a film {result['mean_active']:.2f}",
        f"detection of {found['measured']} of {found['named']} names: median {_number(found['median'])} [{low:.3f}, {high:.3f}], "
        f"at least {GOOD}: {_number(found['share_good'])}   names shuffled: {_number(found['shuffled']['median'])}, "
        f"{_number(found['shuffled']['share_good'])}",
        f"{'concept':40s} {'BA':>6s} {'AUROC':>6s} {'active':>6s} {'bear':>5s} {'n':>5s}",
    ]
    for c in found["per_concept"]:
        lines.append(
            f"{c['index']:3d} {c['name'][:36]:36s} {_number(c['balanced_accuracy']):>6s} {_number(c['auroc']):>6s} "
            f"{c['active']:6d} {c['bearing']:5d} {c['films']:5d}"
        )
    lines.append(f"{'steering, alpha 1':28s} {'on':>7s} {'off':>7s}  {'random on':>9s} {'off':>7s}")
    for finding, v in moved["per_finding"].items():
        lines.append(_line(finding, v["alphas"]["1.0"], v["random"]["1.0"]))
    lines.append(_line("mean", moved["mean"], moved["random"]))
    return "\n".join(lines)


def _summary(found: Floats) -> dict[str, float | None]:
    known = found[~np.isnan(found)]
    if not len(known):
        return {"median": None, "share_good": None}
    return {"median": float(np.median(known)), "share_good": float((known >= GOOD).mean())}


def _detected(concepts: SparseConcepts, index: int, score: float, active: Floats, labels: Floats) -> dict[str, Any]:
    known = ~np.isnan(labels)
    return {
        "index": index,
        "name": concepts.names[index].name,
        "balanced_accuracy": float(score),
        "auroc": scores.auroc(labels[known], active[known]),
        "active": int((active[known] > 0).sum()),
        "bearing": int(labels[known].sum()),
        "films": int(known.sum()),
    }


def _random_steps(concepts: SparseConcepts, length: float, rng: np.random.Generator) -> list[Floats]:
    """Steps in latent space along random directions, as long as a concept's where centres are standardised."""
    deviation = concepts.autoencoder.deviation
    drawn = rng.normal(size=(RANDOM_DIRECTIONS, len(deviation)))
    return list(length * deviation * drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def _effects(
    steps: Sequence[Floats], alpha: float, finding: str, before: Floats, read: Readings, encoder: FilmEncoder
) -> dict[str, float]:
    """Means over steps and films: change of the finding, its size, and mean absolute change of the others."""
    index = FINDINGS.index(finding)
    changes = np.stack([encoder.probabilities_at(read.centre + alpha * s, read.radius) - before for s in steps])
    target, others = changes[..., index], np.delete(changes, index, axis=-1)
    return {
        "on_target": float(target.mean()),
        "on_target_size": float(np.abs(target).mean()),
        "off_target": float(np.abs(others).mean()),
    }


def _steering_summary(per_finding: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Means over the findings at alpha 1."""
    kinds = {"mean": "alphas", "random": "random"}
    keys = ("on_target", "on_target_size", "off_target")
    return {
        name: {k: scores.mean_known([v[kind]["1.0"][k] for v in per_finding.values()]) for k in keys}
        for name, kind in kinds.items()
    }


def _line(name: str, steered: dict[str, Any], random: dict[str, Any]) -> str:
    numbers = (steered["on_target"], steered["off_target"], random["on_target_size"], random["off_target"])
    return f"{name:28s} {_number(numbers[0]):>7s} {_number(numbers[1]):>7s}  {_number(numbers[2]):>9s} {_number(numbers[3]):>7s}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
