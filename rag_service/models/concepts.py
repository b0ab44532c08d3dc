"""Sparse concepts of a film: the autoencoder's features, called after what they tell apart, and what moving one does."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from knowledge_base.findings import FINDINGS
from knowledge_base.records import BoxLatent, digest
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.models.encoder import FilmEncoder
from rag_service.models.sparse_autoencoder import ARRAYS, Floats, SparseAutoencoder

WEIGHTS_FILE: Final = "concepts.safetensors"
LISTING_FILE: Final = "concepts.json"
REMEDY: Final = "run `python -m rag_service.training concepts --data DIR`"


@dataclass(frozen=True)
class Concept:
    """A concept of a film: its name, its activation (0 when it is not at work, else above the threshold), its index."""

    name: str
    activation: float
    index: int


@dataclass(frozen=True)
class Naming:
    """What a concept was called after: the term it tells apart best on training films (see `datasets.terms`).

    `ap` is the average precision of its activation for the term over `n` films, of which the share `prevalence` bear it;
    `named` whether that is good enough for a name; `findings` the observations that the term means; `scale` the mean
    activation over the training films where it is active, 0 when there is none.
    """

    name: str
    named: bool
    term: str
    findings: tuple[str, ...]
    ap: float
    prevalence: float
    n: int
    scale: float


@dataclass(frozen=True, eq=False)
class SparseConcepts:
    """An autoencoder made for the box model `model`, with a naming for each of its concepts; `digest` is the listing's."""

    model: str
    autoencoder: SparseAutoencoder
    names: tuple[Naming, ...]
    digest: str

    def __post_init__(self) -> None:
        if len(self.names) != len(self.autoencoder.encoder):
            raise ValueError(f"{len(self.autoencoder.encoder)} concepts need as many names, got {len(self.names)}")

    def top(self, centre: NDArray[np.floating], count: int) -> tuple[Concept, ...]:
        """The most active concepts of a film with box centre (d,), at most `count`; equals by index."""
        active = self.autoencoder.activations(centre)
        return self._shown(active, active, count)

    def at(self, centre: NDArray[np.floating], index: int) -> Concept:
        """One concept of a film."""
        return Concept(self.names[index].name, float(self.autoencoder.activations(centre)[index]), index)

    def raising(self, centre: NDArray[np.floating], head: NDArray[np.floating], count: int) -> tuple[Concept, ...]:
        """The active concepts that add most to a finding's logit, whose weights are `head` (d,): activation * direction . head."""
        active = self.autoencoder.activations(centre)
        return self._shown(active, active * (self.autoencoder.directions @ head), count)

    def shared(self, centre: NDArray[np.floating], other: NDArray[np.floating], count: int) -> tuple[str, ...]:
        """Names of concepts at work in both films, by the product of the activations; those without a name are left out."""
        active = self.autoencoder.activations(centre)
        both = active * self.autoencoder.activations(other) * np.array([n.named for n in self.names])
        return tuple(dict.fromkeys(c.name for c in self._shown(active, both, count)))

    def moved(self, centres: NDArray[np.floating], index: int, alpha: float) -> Floats:
        """c' = c + alpha * scale * direction: with `alpha` 1 as much of the concept is added as films that show it carry."""
        return np.asarray(centres + alpha * self.names[index].scale * self.autoencoder.directions[index])

    def _shown(self, active: Floats, weight: Floats, count: int) -> tuple[Concept, ...]:
        order = np.argsort(-weight, kind="stable")[:count].tolist()
        return tuple(Concept(self.names[i].name, float(active[i]), i) for i in order if weight[i] > 0)


class Steered(NamedTuple):
    """Uncalibrated probabilities (14,) of a film's box where it lies, and once it is moved along a concept."""

    before: Floats
    after: Floats


def steer(encoder: FilmEncoder, concepts: SparseConcepts, box: BoxLatent, index: int, alpha: float) -> Steered:
    """BL-TTA on a film's box before and after its centre is moved along a concept; the radius stays as it is."""
    centres = np.stack([box.centre, concepts.moved(box.centre, index, alpha)])
    return Steered(*encoder.probabilities_at(centres, np.stack([box.radius, box.radius])))


def effect(change: Floats, findings: tuple[str, ...]) -> tuple[float | None, float]:
    """On target and off target: mean change (14,) over `findings`, None when there are none; mean absolute change of the rest."""
    meant = np.isin(FINDINGS, findings)
    return (float(change[meant].mean()) if meant.any() else None), float(np.abs(change[~meant]).mean())


def save_concepts(
    folder: Path, model: str, autoencoder: SparseAutoencoder, names: tuple[Naming, ...], sample: str
) -> None:
    """Write arrays (float16) and the sealed listing that carries their digest. `sample` says what they were trained on."""
    path = folder / WEIGHTS_FILE
    save_file({name: array.astype(np.float16) for name, array in autoencoder.arrays.items()}, path)
    listing = {
        "model": model,
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "sample": sample,
        "threshold": autoencoder.threshold,
        "prefixes": list(autoencoder.prefixes),
        "concepts": [asdict(n) for n in names],
    }
    sealed.write(folder / LISTING_FILE, listing)


def load_concepts(folder: Path, model: str) -> SparseConcepts | None:
    """The concepts of box model `model` in `folder`; None when the folder has none.

    BadWeights, with the remedy, when either file is altered, or they are another model's.
    """
    if not (folder / LISTING_FILE).is_file():
        return None
    listing = sealed.read_made_for(folder / LISTING_FILE, model, "concepts were made", REMEDY)
    content = sealed.weights(folder / WEIGHTS_FILE, listing.get("weights"), REMEDY)
    try:
        return _built(listing, load(content))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BadWeights(f"{LISTING_FILE} and {WEIGHTS_FILE} do not fit each other; {REMEDY}") from error


def _built(listing: dict[str, Any], arrays: dict[str, NDArray[np.floating]]) -> SparseConcepts:
    autoencoder = SparseAutoencoder(
        **{name: arrays[name].astype(np.float64) for name in ARRAYS},
        threshold=float(listing["threshold"]),
        prefixes=tuple(listing["prefixes"]),
    )
    names = tuple(Naming(**{**entry, "findings": tuple(entry["findings"])}) for entry in listing["concepts"])
    return SparseConcepts(listing["model"], autoencoder, names, digest(listing))
