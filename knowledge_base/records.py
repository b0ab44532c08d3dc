"""What is remembered: cases, their sentences and readings, guideline passages, and the box a film occupies."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, Laterality, Polarity, Progression

CASE_NAMESPACE: Final = UUID("6a2cf0b1-0a53-5b1e-9f41-5d1d4bd2b7ce")
PASSAGE_NAMESPACE: Final = UUID("b0f2b2f7-8b7e-5c39-8f0e-6c1f6a1d9a44")
SQRT3: Final = math.sqrt(3.0)


class RecordError(ValueError):
    """A record that cannot be true: a span outside its text, an unknown finding, a box with a negative radius."""


def case_id(source: str, study: str, tenant: str = "public") -> UUID:
    """UUIDv5 of (tenant, source, study): the same study always has the same id, so indexing twice changes nothing."""
    return uuid5(CASE_NAMESPACE, json.dumps([tenant, source, study]))


def passage_id(slug: str) -> UUID:
    """UUIDv5 of a guideline passage's slug (its file name without the suffix)."""
    return uuid5(PASSAGE_NAMESPACE, slug)


@dataclass(frozen=True, eq=False)
class BoxLatent:
    """A film as an axis-aligned box in R^d: `centre` and `radius`, float32 arrays of shape (d,), every radius > 0.

    Stored as v = [c ; r/sqrt(3)]: the Euclidean distance between two such vectors is exactly the 2-Wasserstein
    distance between the uniform distributions on the two boxes, W2^2 = |c1-c2|^2 + |r1-r2|^2 / 3.
    """

    centre: NDArray[np.float32]
    radius: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.centre.ndim != 1 or self.centre.shape != self.radius.shape:
            raise RecordError(
                f"centre and radius must be equal 1-d arrays, got {self.centre.shape}, {self.radius.shape}"
            )
        if not (np.isfinite(self.centre).all() and np.isfinite(self.radius).all()):
            raise RecordError("a box-latent must be finite")
        if not (self.radius > 0).all():
            raise RecordError("every radius of a box-latent must be positive")

    @classmethod
    def from_vector(cls, vector: NDArray[np.float32]) -> BoxLatent:
        """The box a stored vector [c ; r/sqrt(3)] of shape (2d,) stands for."""
        half = len(vector) // 2
        return cls(np.asarray(vector[:half], np.float32), np.asarray(vector[half:] * SQRT3, np.float32))

    def vector(self) -> NDArray[np.float32]:
        """[c ; r/sqrt(3)], shape (2d,), float32."""
        return np.concatenate([self.centre, self.radius / SQRT3]).astype(np.float32)

    def w2_squared(self, other: BoxLatent) -> float:
        """Squared 2-Wasserstein distance between the uniform distributions on the two boxes."""
        centre = float(np.sum((self.centre - other.centre) ** 2, dtype=np.float64))
        return centre + float(np.sum((self.radius - other.radius) ** 2, dtype=np.float64)) / 3.0

    def overlap(self, other: BoxLatent) -> float:
        """Mean over axes of interval intersection over union, in [0, 1]; 1 for equal boxes, symmetric."""
        return float(np.mean(self.overlaps(other)))

    def overlaps(self, other: BoxLatent) -> NDArray[np.float32]:
        """(d,) interval intersection over union on each axis, in [0, 1]."""
        low = np.maximum(self.centre - self.radius, other.centre - other.radius)
        high = np.minimum(self.centre + self.radius, other.centre + other.radius)
        shared = np.clip(high - low, 0.0, None)
        return np.asarray(shared / (2.0 * (self.radius + other.radius) - shared), np.float32)


@dataclass(frozen=True)
class Mention:
    """One observation as a text states it. `span` is (start, end) in characters of the text that was read."""

    finding: str
    polarity: Polarity
    span: tuple[int, int]
    laterality: Laterality | None = None
    location: str | None = None
    severity: str | None = None
    progression: Progression | None = None

    def __post_init__(self) -> None:
        if self.finding not in FINDINGS:
            raise RecordError(f"unknown finding {self.finding!r}")
        if not 0 <= self.span[0] < self.span[1]:
            raise RecordError(f"a span must be non-empty and start at 0 or later, got {self.span}")


@dataclass(frozen=True)
class CaseSentence:
    """One sentence of a case: `text` equals `case.text[span[0]:span[1]]`; mention spans are in the case text too."""

    text: str
    span: tuple[int, int]
    section: str
    mentions: tuple[Mention, ...] = ()


@dataclass(frozen=True)
class Case:
    """A prior study as evidence. `text` is the de-identified report; `film` is a reference within the source, or None.

    `origin` is the SHA-256 (hex) of what the case was made from, the film's bytes included: another one means that the study
    has changed at its source. `consistent` says whether report and film agree, None where nobody could tell.
    """

    source: str
    study: str
    patient: str
    text: str
    sentences: tuple[CaseSentence, ...]
    tenant: str = "public"
    view: str | None = None
    sex: str | None = None
    age_years: int | None = None
    film: str | None = None
    withdrawn: bool = False
    origin: str | None = None
    consistent: bool | None = None

    def __post_init__(self) -> None:
        for name in ("source", "study", "patient", "tenant"):
            if not getattr(self, name):
                raise RecordError(f"a case needs a non-empty {name}")
        for sentence in self.sentences:
            if self.text[sentence.span[0] : sentence.span[1]] != sentence.text:
                raise RecordError(f"sentence span {sentence.span} does not quote the text of case {self.study}")

    @property
    def id(self) -> UUID:
        """See `case_id`."""
        return case_id(self.source, self.study, self.tenant)

    def labels(self, polarity: Polarity) -> tuple[str, ...]:
        """Findings this case states with that polarity, in CheXpert order; positive beats uncertain beats negative."""
        order = {Polarity.POSITIVE: 2, Polarity.UNCERTAIN: 1, Polarity.NEGATIVE: 0}
        best: dict[str, Polarity] = {}
        for mention in (m for s in self.sentences for m in s.mentions):
            known = best.get(mention.finding)
            if known is None or order[mention.polarity] > order[known]:
                best[mention.finding] = mention.polarity
        return tuple(f for f in FINDINGS if best.get(f) is polarity)


@dataclass(frozen=True)
class Passage:
    """A guideline passage in our own words with the source it restates.

    `identifier` is a DOI, PMID or document number, or None when none was confirmed; `verified` says the facts were
    read in the source named by `verified_by`.
    """

    slug: str
    title: str
    organisation: str
    source_title: str
    year: int
    section: str
    identifier: str | None
    findings: tuple[str, ...]
    keywords: tuple[str, ...]
    text: str
    verified: bool
    verified_by: str | None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise RecordError(f"passage {self.slug} has no text")
        if unknown := [f for f in self.findings if f not in FINDINGS]:
            raise RecordError(f"passage {self.slug} names unknown findings {unknown}")
        if self.verified and not self.verified_by:
            raise RecordError(f"passage {self.slug} is marked verified but does not say by what")

    @property
    def id(self) -> UUID:
        """See `passage_id`."""
        return passage_id(self.slug)


def digest(payload: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a payload: sorted keys, no spaces, UTF-8."""
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
