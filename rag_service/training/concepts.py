"""Makes the concepts that ship with a film model: trained on boxes of training films, named by what is known of those films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import trange

from knowledge_base.records import BoxLatent, digest
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.datasets.terms import findings_of, presence, vocabulary
from rag_service.models.concepts import Naming, save_concepts
from rag_service.models.encoder import FilmEncoder
from rag_service.training.corpus import read, stored_film
from rag_service.training.sparse_autoencoder import Recipe, fit

MIN_TERM_FILMS: Final = 25
"""A term borne by fewer training films names nothing."""
MIN_GAIN: Final = 0.10
MIN_LIFT: Final = 1.5
"""A name needs an AP this many times the prevalence, and a MIN_GAIN of the way from the prevalence to 1."""
_READ_AT_ONCE: Final = 16

Floats = NDArray[np.float64]


def make_concepts(data: Path, folder: Path, encoder: FilmEncoder, cache: Path, recipe: Recipe) -> tuple[Naming, ...]:
    """Train on the films of `data`, name by their labels and tags, write both files into the model folder; the names."""
    rows = chest_films(read(data))
    centre, radius = boxes(rows, encoder, cache)
    autoencoder = fit(centre, radius, recipe)
    names = namings(autoencoder.activations(centre), rows, MIN_TERM_FILMS)
    sources = ", ".join(sorted({r.source for r in rows}))
    sample = f"{len(rows)} training films of {sources}; seed {recipe.seed}"
    save_concepts(folder, encoder.record.id, autoencoder, names, sample)
    return names


def chest_films(rows: Sequence[FilmRow]) -> list[FilmRow]:
    """Training films of the chest that are not known to be lateral."""
    return [r for r in rows if r.split is Split.TRAIN and r.presentation in {"frontal", None}]


def boxes(
    rows: Sequence[FilmRow], encoder: FilmEncoder, cache: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres and radii (n, d) of the films; read once for an encoder and a list of films, afterwards taken from `cache`."""
    kept = cache / f"boxes-{digest([encoder.record.id, *([r.source, r.path.name] for r in rows)])[:16]}.npz"
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return arrays["centre"], arrays["radius"]
    found: list[BoxLatent] = []
    for start in trange(0, len(rows), _READ_AT_ONCE, desc="reading films", unit="batch"):
        stored = np.stack([stored_film(r.path) for r in rows[start : start + _READ_AT_ONCE]])
        found += [reading.box for reading in encoder.read_stored(stored)]
    centre, radius = np.stack([b.centre for b in found]), np.stack([b.radius for b in found])
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(kept, centre=centre, radius=radius)
    return centre, radius


def namings(activations: Floats, rows: Sequence[FilmRow], minimum: int) -> tuple[Naming, ...]:
    """A naming for each concept, from its activations (n, m) on n training films: the term with the best gain of AP.

    Gain is (AP - prevalence) / (1 - prevalence), so that common and rare terms compare; a name needs MIN_GAIN and MIN_LIFT.
    Terms of fewer than `minimum` films name nothing; DatasetError when there are no others.
    """
    terms = vocabulary(rows, minimum)
    if not terms:
        raise DatasetError(f"nothing is known of as many as {minimum} training films: no term to name concepts after")
    known = presence(rows, terms)
    films, prevalence = (~np.isnan(known)).sum(0), np.nanmean(known, axis=0)
    found = []
    for active in activations.T:
        ap = average_precisions(active, known)
        gain = (ap - prevalence) / (1 - prevalence)
        best = int(np.argmax(gain))
        good = bool(gain[best] >= MIN_GAIN and ap[best] >= MIN_LIFT * prevalence[best])
        name = terms[best] if good else f"unnamed (best: {terms[best]}, AP {ap[best]:.2f})"
        scale = float(active[active > 0].mean()) if (active > 0).any() else 0.0
        figures = (round(float(ap[best]), 6), round(float(prevalence[best]), 6), int(films[best]), round(scale, 6))
        found.append(Naming(name, good, terms[best], findings_of(terms[best]), *figures))
    return tuple(found)


def average_precisions(active: Floats, known: Floats) -> Floats:
    """AP (t,) of one concept's activations (n,) >= 0 for t terms (n, t): 1, 0, NaN where unknown; films at 0 share one rank."""
    order = np.argsort(-active, kind="stable")
    working = int((active > 0).sum())
    borne, seen = np.nan_to_num(known[order]), ~np.isnan(known[order])
    hits, asked = borne.cumsum(0), seen.cumsum(0)
    precision = hits[:working] / np.maximum(asked[:working], 1)
    silent = borne[working:].sum(0) * hits[-1] / asked[-1]
    return np.asarray(((precision * borne[:working]).sum(0) + silent) / hits[-1])
