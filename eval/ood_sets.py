"""The films that the gate is measured on: usual frontals no training saw, and by kind what it should turn away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from rag_service.datasets import nih, openi, others
from rag_service.datasets.films import DatasetError, FilmRow, Split, read_table
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film, Frame
from rag_service.imaging.normalise import squeeze
from rag_service.training import outliers

LISTING: Final = "labels.csv"
USUAL: Final = "in_distribution"
VARIANTS: Final[Mapping[str, outliers.Maker]] = MappingProxyType(
    {
        "rotated": outliers.turned,
        "inverted": outliers.inverted,
        "blank": outliers.blank,
        "uniform_noise": outliers.uniform_noise,
        "gaussian_noise": outliers.gaussian_noise,
        "salt_and_pepper": outliers.salt_and_pepper,
        "photograph": outliers.photograph,
        "checkerboard": outliers.checkerboard,
    }
)
"""Made from the usual frontals. The gate was joined on the first six kinds but salt and pepper, and on photographs, all of other
films; it has seen no salt and pepper and no checkerboard."""


class Role(StrEnum):
    """What a set is for: usual films, outliers to be told from them, or pictures of both kinds, whose share is all one can say."""

    USUAL = "in_distribution"
    OUTLIER = "outlier"
    MIXED = "mixed"


@dataclass(frozen=True)
class Picture:
    """One picture to judge: `film` decodes or makes it (FilmError when it cannot be), the bootstrap draws by `patient`."""

    name: str
    patient: str
    film: Callable[[], Film]


@dataclass(frozen=True)
class FilmSet:
    """Pictures of one kind."""

    name: str
    role: Role
    pictures: tuple[Picture, ...]


def sets(folder: Path, limit: int | None, seed: int) -> list[FilmSet]:
    """Every set that the folder gives, at most `limit` pictures each, drawn with the seed; a source that is absent is left out.

    The folder holds openi/, nih/, not_chest/ ..., or pictures with a labels.csv (file, set), where the usual films are
    of the set "in_distribution". DatasetError when there is no usual film.
    """
    found = [*(_listed(folder) if (folder / LISTING).is_file() else _collections(folder))]
    drawn = [FilmSet(s.name, s.role, _draw(s.pictures, limit, seed)) for s in found if s.pictures]
    usual = next((s for s in drawn if s.role is Role.USUAL), None)
    if usual is None:
        raise DatasetError(
            f"{folder.name}/ holds no usual frontal film: neither openi/ nor nih/, nor a {LISTING} naming some"
        )
    return [usual, *(s for s in drawn if s is not usual), *_variants(usual, seed)]


def _collections(folder: Path) -> Iterator[FilmSet]:
    """TEST rows alone of every source the network or the gate learned from; the others whole."""
    seen = {name: read(folder / name) for name, read in _LEARNED.items() if (folder / name).is_dir()}
    test = {name: [r for r in rows if r.split is Split.TEST] for name, rows in seen.items()}
    frontals = [r for name in ("openi", "nih") for r in test.get(name, []) if r.presentation == "frontal"]
    yield FilmSet(USUAL, Role.USUAL, _of(frontals))
    yield FilmSet("not_chest", Role.OUTLIER, _of(test.get("not_chest", [])))
    yield FilmSet("lateral", Role.OUTLIER, _of([r for r in test.get("openi", []) if r.presentation == "lateral"]))
    if (folder / "paediatric").is_dir():
        yield FilmSet("paediatric", Role.OUTLIER, _of(others.paediatric(folder / "paediatric")))
    yield FilmSet("rocov2", Role.MIXED, _of(test.get("rocov2", [])))
    turned = sorted(p for p in (folder / "rotation" / "images").glob("*") if p.is_file())
    yield FilmSet("rotation", Role.MIXED, tuple(_picture(p, p.name) for p in turned))


_LEARNED: Final = MappingProxyType(
    {"openi": openi.films, "nih": nih.films, "not_chest": others.not_chest, "rocov2": others.rocov2}
)


def _listed(folder: Path) -> Iterator[FilmSet]:
    rows = read_table(folder / LISTING, ("file", "set"))
    for name in sorted({r["set"] for r in rows}):
        role = Role.USUAL if name == USUAL else Role.OUTLIER
        yield FilmSet(name, role, tuple(_picture(folder / r["file"], r["file"]) for r in rows if r["set"] == name))


def _of(rows: Sequence[FilmRow]) -> tuple[Picture, ...]:
    return tuple(_picture(r.path, f"{r.source}/{r.patient}") for r in rows)


def _picture(path: Path, patient: str) -> Picture:
    return Picture(path.name, patient, lambda: decode(path.read_bytes()))


def _draw(pictures: tuple[Picture, ...], limit: int | None, seed: int) -> tuple[Picture, ...]:
    order = np.random.default_rng(seed).permutation(len(pictures))[:limit]
    return tuple(pictures[i] for i in np.sort(order))


def _variants(usual: FilmSet, seed: int) -> Iterator[FilmSet]:
    for name, maker in VARIANTS.items():
        yield FilmSet(name, Role.OUTLIER, tuple(_variant(p, name, maker, seed) for p in usual.pictures))


def _variant(picture: Picture, name: str, maker: outliers.Maker, seed: int) -> Picture:
    return Picture(f"{name}/{picture.name}", picture.patient, lambda: _made(picture.film(), name, maker, seed))


def _made(film: Film, name: str, maker: outliers.Maker, seed: int) -> Film:
    """A film of the service's own size made from another; the same for the same film, kind and seed."""
    import torch

    word = hashlib.sha256(f"{seed}/{name}/{film.digest}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(word[:6], "big"))
    grey = torch.from_numpy(squeeze(film.pixels).astype(np.float32) / 255.0)[None, None]
    pixels = maker(grey, generator)[0, 0].clamp(0, 1).numpy().astype(np.float32)
    return Film(pixels, Frame(*pixels.shape), word.hex(), film.media_type)
