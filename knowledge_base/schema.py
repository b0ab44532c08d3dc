"""How a collection is laid out, and which models made it: frozen, checked, compared before anything is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from knowledge_base.errors import ManifestMismatch, StoreProtocolError
from knowledge_base.zones import REGION_WIDTH, ZONES

SCHEMA_VERSION: Final = 2
CASES: Final = "cases"
GUIDELINES: Final = "guidelines"
BM25: Final = "bm25"
WITHDRAWN: Final = "withdrawn"
"""Payload key, the integer 0 or 1: to the embedded engine a boolean in a filter is an integer and matches nothing."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_MAKER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9._+-]+|[0-9a-f]{12,64}")


class Distance(StrEnum):
    """How two dense vectors compare. Cosine: higher is nearer. Euclid: lower is nearer.

    Vectors compared by cosine are brought to unit length before they reach an engine, and the engine is told to take
    the dot product: then it keeps them to the bit, and a checksum over them can be checked.
    """

    COSINE = "Cosine"
    EUCLID = "Euclid"


class IndexKind(StrEnum):
    """What a payload index holds: whole strings (or arrays of them), or integers."""

    KEYWORD = "keyword"
    INTEGER = "integer"


@dataclass(frozen=True)
class DenseVector:
    """A named dense vector: `size` float32 values compared by `distance`."""

    size: int
    distance: Distance

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"a vector needs a size of at least 1, got {self.size}")


@dataclass(frozen=True)
class TermWeights:
    """The constants of a BM25 document vector (Robertson & Zaragoza 2009).

    `average_terms` is fixed, not measured as cases arrive, so that a document's vector never depends on the others: the
    mean over the findings and impressions of 3,337 Open-i reports (30.3), rounded.
    """

    k1: float = 1.2
    b: float = 0.75
    average_terms: float = 30.0


@dataclass(frozen=True)
class CollectionSchema:
    """A collection: its dense vectors, its sparse (IDF-weighted) vectors and the payload keys that filters may use."""

    name: str
    dense: Mapping[str, DenseVector]
    sparse: Mapping[str, TermWeights]
    payload_indexes: Mapping[str, IndexKind]

    def __post_init__(self) -> None:
        for name in (self.name, *self.dense, *self.sparse):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a collection or vector: letters, digits and . _ @ + - only")
        if set(self.dense) & set(self.sparse):
            raise ValueError("a dense and a sparse vector share a name")
        for key, kind in ({"tenant": IndexKind.KEYWORD, WITHDRAWN: IndexKind.INTEGER}).items():
            if self.payload_indexes.get(key) is not kind:
                raise ValueError(f"every collection indexes {key!r} as {kind}: reads are filtered by it")

    def as_json(self) -> dict[str, Any]:
        """The layout as plain JSON, stable under reordering of its parts."""
        return {
            "name": self.name,
            "dense": {n: {"size": v.size, "distance": str(v.distance)} for n, v in sorted(self.dense.items())},
            "sparse": {
                n: {"k1": w.k1, "b": w.b, "average_terms": w.average_terms} for n, w in sorted(self.sparse.items())
            },
            "payload_indexes": {k: str(v) for k, v in sorted(self.payload_indexes.items())},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CollectionSchema:
        """Read `as_json` back; raises `StoreProtocolError` when it is no layout."""
        try:
            return cls(
                name=stored["name"],
                dense={n: DenseVector(v["size"], Distance(v["distance"])) for n, v in stored["dense"].items()},
                sparse={n: TermWeights(**w) for n, w in stored["sparse"].items()},
                payload_indexes={k: IndexKind(v) for k, v in stored["payload_indexes"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreProtocolError("a stored layout is not one of ours") from error

    def check(self, stored: Mapping[str, Any]) -> None:
        """Raise `ManifestMismatch` when the `stored` layout (see `as_json`) is not this one."""
        running = self.as_json()
        for part in ("dense", "sparse", "payload_indexes"):
            if stored.get(part) != running[part]:
                raise ManifestMismatch(self.name, part, stored.get(part), running[part])

    def check_dense(self, names: Iterable[str]) -> None:
        """Raise `ValueError` when one of `names` is no dense vector of this collection."""
        if unknown := set(names) - set(self.dense):
            raise ValueError(f"collection {self.name!r} has no dense vectors named {sorted(unknown)}")

    def check_facet(self, key: str) -> None:
        """Raise `ValueError` when `key` is no keyword index of this collection."""
        if self.payload_indexes.get(key) is not IndexKind.KEYWORD:
            raise ValueError(f"collection {self.name!r} does not index {key!r} as a keyword")


@dataclass(frozen=True)
class IndexManifest:
    """Who made a collection: each `name@version` or a hex digest, None where the collection has no such part."""

    box_model: str | None
    text_model: str
    preprocessing: str | None
    labeler: str | None
    box_dimension: int | None
    text_dimension: int
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in ("box_model", "text_model", "preprocessing", "labeler"):
            maker = getattr(self, name)
            if maker is not None and not _MAKER.fullmatch(maker):
                raise ValueError(f"{name} must be name@version or a hex digest, got {maker!r}")
        if (self.box_model is None) != (self.box_dimension is None):
            raise ValueError("box_model and box_dimension are given together or not at all")

    def as_json(self) -> dict[str, Any]:
        """The manifest as plain JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> IndexManifest:
        """Read `as_json` back; raises `StoreProtocolError` when keys are missing or unknown."""
        if set(stored) != {f.name for f in fields(cls)}:
            raise StoreProtocolError(f"an index manifest with the keys {sorted(stored)} is not one of ours")
        return cls(**stored)

    def check(self, running: IndexManifest, collection: str = CASES) -> None:
        """Raise `ManifestMismatch` naming the first field in which this (stored) manifest differs from `running`."""
        for f in fields(self):
            stored, wanted = getattr(self, f.name), getattr(running, f.name)
            if stored != wanted:
                raise ManifestMismatch(collection, f.name, stored, wanted)


def box_vector(model: str) -> str:
    """Name of the dense vector that holds box-latents of `model`."""
    return f"box.{model}"


def text_vector(model: str) -> str:
    """Name of the dense vector that holds sentence embeddings of `model`."""
    return f"text.{model}"


def region_vector(zone: str, model: str) -> str:
    """Name of the dense vector that says how a zone of the film looks to `model`."""
    return f"region.{zone}.{model}"


def cases_schema(
    box_model: str,
    text_model: str,
    *,
    box_dimension: int = 128,
    text_dimension: int = 384,
    region_dimension: int = REGION_WIDTH,
) -> CollectionSchema:
    """Prior studies: box-latents [c ; r/sqrt(3)] of 2 * `box_dimension` values, a region vector for each zone, report
    embeddings, BM25 terms.
    """
    keyword = IndexKind.KEYWORD
    return CollectionSchema(
        name=CASES,
        dense={
            box_vector(box_model): DenseVector(2 * box_dimension, Distance.EUCLID),
            text_vector(text_model): DenseVector(text_dimension, Distance.COSINE),
            **{region_vector(z, box_model): DenseVector(region_dimension, Distance.COSINE) for z in ZONES},
        },
        sparse={BM25: TermWeights()},
        payload_indexes={
            **dict.fromkeys(("tenant", "source", "study", "patient_key", "view"), keyword),
            **dict.fromkeys(("labels_positive", "labels_negative", "labels_uncertain"), keyword),
            WITHDRAWN: IndexKind.INTEGER,
        },
    )


def guidelines_schema(text_model: str, *, text_dimension: int = 384) -> CollectionSchema:
    """Guideline passages: text embeddings and BM25 terms."""
    keyword, integer = IndexKind.KEYWORD, IndexKind.INTEGER
    return CollectionSchema(
        name=GUIDELINES,
        dense={text_vector(text_model): DenseVector(text_dimension, Distance.COSINE)},
        sparse={BM25: TermWeights()},
        payload_indexes={
            **dict.fromkeys(("tenant", "slug", "findings", "organisation"), keyword),
            **dict.fromkeys((WITHDRAWN, "year"), integer),
        },
    )
