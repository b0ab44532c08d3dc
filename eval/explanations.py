"""Explanations against radiologists' boxes, against each other, and against a network whose last layer is random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from eval import explanation_measures as measures
from eval import films, scores
from eval.explanation_measures import MapScores
from rag_service.datasets import nih
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.errors import BadRequest
from rag_service.explain import anatomy
from rag_service.explain.explainer import Explained, Explainer
from rag_service.explain.explanation import rank_correlation
from rag_service.explain.places import place_maps
from rag_service.imaging.decode import decode
from rag_service.imaging.normalise import to_stored
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.models.network import FilmNetwork
from rag_service.reader import Reader

PLACES: Final = "place_map"
"""The map that a draft's boxes are drawn from: no explanation, but what they are held against."""
CONTROLS: Final = ("class_prior", "centre", "random", "edges")
SANITY: Final = 12
"""Films on which the last layer is made random, at most: each is explained a second time."""
ORIGINAL: Final = "original"

Maps = dict[str, NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class Boxed:
    """A finding on a film and the boxes that radiologists drew for it."""

    row: FilmRow
    finding: str
    drawn: tuple[nih.ReaderBox, ...]


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of one finding on one film: scores by map, fidelity and seconds by method, agreement by pair of methods,
    by how much Shapley values miss their sum, and correlation of each method with itself on the random layer (empty if not tried).
    """

    maps: dict[str, MapScores]
    fidelity: dict[str, float | None]
    seconds: dict[str, float]
    agreements: dict[tuple[str, str], tuple[float | None, float]]
    missed: float
    sanity: dict[str, float | None]


def boxed(folder: Path, split: Split | None, limit: int | None, seed: int) -> list[Boxed]:
    """Findings with boxes on films of a split, at most `limit` of them, drawn by seed. DatasetError when there are none."""
    rows = {r.path.stem: r for r in films.read(folder, split)}
    wanted: dict[tuple[str, str], list[nih.ReaderBox]] = {}
    for box in nih.boxes(folder):
        if Path(box.image).stem in rows and box.finding in anatomy.REGIONS:
            wanted.setdefault((Path(box.image).stem, box.finding), []).append(box)
    if not wanted:
        raise DatasetError(f"{folder.name}/ holds no reader box of a film that is measured")
    order = np.random.default_rng(seed).permutation(len(wanted))[:limit]
    found = [Boxed(rows[film], finding, tuple(drawn)) for (film, finding), drawn in wanted.items()]
    return [found[i] for i in order.tolist()]


def class_priors(folder: Path) -> Callable[[Boxed], NDArray[np.floating]]:
    """A control: the mean box of the finding over the folder's other patients, the finding's region counted as one box more."""
    patient = {r.path.stem: r.patient for r in films.read(folder)}
    held: dict[str, list[tuple[str, NDArray[np.bool_]]]] = {}
    for box in nih.boxes(folder):
        if Path(box.image).stem in patient:
            held.setdefault(box.finding, []).append((patient[Path(box.image).stem], measures.inside([box])))

    def prior(one: Boxed) -> NDArray[np.floating]:
        others = [mask for whose, mask in held.get(one.finding, ()) if whose != one.row.patient]
        masks = np.stack([anatomy.prior(one.finding).astype(np.float64), *others])
        return np.asarray(masks.mean(0))

    return prior


def randomised(explainer: Explainer, seed: int) -> Explainer:
    """The same network with a random last layer, and the same queries asked with random vectors, both as long as they were."""
    generator = torch.Generator().manual_seed(seed)
    network, queries = copy.deepcopy(explainer.encoder.network), explainer.queries
    with torch.no_grad():
        network.findings.weight.copy_(_shuffled(network.findings.weight, generator))
        if queries is not None:
            other = copy.deepcopy(queries.network)
            other.known.copy_(_shuffled(other.known, generator))
            queries = replace(queries, network=other)
    return Explainer(FilmEncoder(explainer.encoder.record, network), queries)


def measure(folder: Path, reader: Reader, split: Split | None, limit: int | None, seed: int) -> dict[str, Any]:
    """Each map's scores with intervals, apart for films with their markers; agreement, fidelity and the sanity check."""
    if not isinstance(reader.encoder.network, FilmNetwork):
        raise BadRequest(f"{reader.encoder.record.id} draws no maps of where a finding lies")
    asked, prior = boxed(folder, split, limit, seed), class_priors(folder)
    explainer = Explainer(reader.encoder, reader.queries)
    other = randomised(explainer, seed)
    found = [
        _measured(one, prior(one), explainer, other if i < SANITY else None, seed + i)
        for i, one in enumerate(tqdm(asked, unit="finding"))
    ]
    patients = [one.row.patient for one in asked]
    kept = [i for i, one in enumerate(asked) if one.row.markers == ORIGINAL]
    return {
        "n": len(found),
        "maps": _summary(found, patients, seed),
        "maps_original": _summary([found[i] for i in kept], [patients[i] for i in kept], seed) if kept else None,
        "n_original": len(kept),
        "pointing_per_finding": _per_finding(asked, found),
        "agreement": _agreement(found, patients, seed),
        "methods": {m: _method(found, m) for m in found[0].fidelity},
        "shapley_sum_missed_by": max(f.missed for f in found),
        "sanity_films": min(SANITY, len(found)),
        "seed": seed,
        "signature": {
            "films": films.signature([one.row for one in asked]),
            "model": reader.encoder.record.id,
            "queries": None if reader.queries is None else reader.queries.digest,
        },
    }


def _measured(
    one: Boxed, prior: NDArray[np.floating], explainer: Explainer, other: Explainer | None, seed: int
) -> Measured:
    film = decode(one.row.path.read_bytes())
    reading, stored = explainer.encoder.read(film), to_stored(film.pixels)
    made = explainer.explain(film, reading, one.finding)
    truth, logits = measures.inside(one.drawn), explainer.scores(one.finding)
    maps = {str(e.method): e.map for e in made.explanations} | _beside(one, prior, reading, stored, made, seed)
    again = None if other is None else other.explain(film, other.encoder.read(film), one.finding)
    shapley = next(e.values for e in made.explanations if e.method == "shapley")
    return Measured(
        maps={name: measures.scored(places, truth, stored, logits, seed) for name, places in maps.items()},
        fidelity={str(e.method): e.fidelity for e in made.explanations},
        seconds={str(e.method): e.seconds for e in made.explanations},
        agreements={(str(a.one), str(a.other)): (a.rank_correlation, a.top_iou) for a in made.agreements},
        missed=abs(float(shapley.sum()) - (made.film - made.blurred)),
        sanity={} if again is None else _alike(made, again),
    )


def _beside(
    one: Boxed,
    prior: NDArray[np.floating],
    reading: FilmReading,
    stored: NDArray[np.uint8],
    made: Explained,
    seed: int,
) -> Maps:
    """The place map and the controls, by name."""
    chance = made.cut.painted(np.random.default_rng(seed).random(made.cut.count))
    assert reading.places is not None  # noqa: S101  (our own network always has them)
    places = place_maps(reading.places, [one.finding])[0]
    return {
        PLACES: places,
        "class_prior": prior,
        "centre": measures.centre(),
        "random": chance,
        "edges": measures.edges(stored),
    }


def _alike(made: Explained, again: Explained) -> dict[str, float | None]:
    pairs = zip(made.explanations, again.explanations, strict=True)
    return {str(e.method): rank_correlation(made.cut.means(e.map), made.cut.means(a.map)) for e, a in pairs}


def _summary(found: Sequence[Measured], patients: Sequence[str], seed: int) -> dict[str, Any]:
    """By map and measure: the mean and its interval."""
    return {
        name: {key: _mean([asdict(f.maps[name])[key] for f in found], patients, seed) for key in asdict(first)}
        for name, first in found[0].maps.items()
    }


def _agreement(found: Sequence[Measured], patients: Sequence[str], seed: int) -> list[dict[str, Any]]:
    return [
        {
            "methods": list(pair),
            "rank_correlation": _mean([f.agreements[pair][0] for f in found], patients, seed),
            "top_iou": _mean([f.agreements[pair][1] for f in found], patients, seed),
        }
        for pair in combinations(found[0].fidelity, 2)
    ]


def _method(found: Sequence[Measured], method: str) -> dict[str, float | None]:
    return {
        "fidelity": scores.mean_known([f.fidelity[method] for f in found]),
        "p50_seconds": float(np.median([f.seconds[method] for f in found])),
        "sanity_rank_correlation": scores.mean_known([f.sanity[method] for f in found if f.sanity]),
    }


def _per_finding(asked: Sequence[Boxed], found: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[Measured]] = {}
    for one, measured in zip(asked, found, strict=True):
        rows.setdefault(one.finding, []).append(measured)
    return {
        finding: {"n": len(of)} | {name: float(np.mean([f.maps[name].pointing for f in of])) for name in of[0].maps}
        for finding, of in sorted(rows.items())
    }


def _mean(values: Sequence[float | None], patients: Sequence[str], seed: int) -> dict[str, Any]:
    """The mean of what is known, its 95 % interval over patients, and of how many it is."""
    at = np.array([np.nan if v is None else v for v in values])

    def of(rows: NDArray[np.int64]) -> float | None:
        return scores.mean_known([None if np.isnan(v) else float(v) for v in at[rows]])

    ci = scores.interval(patients, of, seed)
    return {"mean": of(np.arange(len(at))), "ci": ci, "n": int((~np.isnan(at)).sum())}


def _shuffled(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random rows, each as long as the row it stands for."""
    drawn = torch.randn(weights.shape, generator=generator)
    lengths: torch.Tensor = weights.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True)
    return drawn * lengths
