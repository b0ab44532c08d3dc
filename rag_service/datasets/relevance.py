"""How relevant one study is to another: the overlap of their observations, weighed by whether side and height agree.

grade = sum over shared observations of agreement / number of observations either has, in [0, 1]: a Jaccard index in which a
shared observation counts OBSERVED, SIDED times the Jaccard index of the sides named for it, and LEVELLED times that of the
heights. Where neither names a side (or height) the two agree on it; where only one does, they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, PATHOLOGIES
from rag_service.datasets.mesh import Tag, meant

OBSERVED: Final = 0.5
SIDED: Final = 0.25
LEVELLED: Final = 0.25
SIDES: Final = ("left", "right")
LEVELS: Final = ("upper", "middle", "lower")
BOTH_SIDES: Final = "bilateral"
LEVEL_WORDS: Final = {
    "apex": "upper",
    "upper lobe": "upper",
    "middle lobe": "middle",
    "lingula": "middle",
    "hilum": "middle",
    "base": "lower",
    "lower lobe": "lower",
    "costophrenic angle": "lower",
}
"""Open-i's qualifiers that say how high in the lung; lobes and zones by the third that they mostly lie in."""
_PARTS: Final = ("present", *SIDES, *LEVELS)
_SIDES: Final = slice(1, 3)
_LEVELS: Final = slice(3, 6)

Floats = NDArray[np.float64]


def trait(finding: str, places: Iterable[str] = ()) -> Floats:
    """(14, 6) of 0 and 1: each observation present, left, right, upper, middle, lower; here one of them, at `places`."""
    found = np.zeros((len(FINDINGS), len(_PARTS)))
    found[FINDINGS.index(finding), [_PARTS.index(part) for part in ("present", *places)]] = 1.0
    return found


def traits(tags: Iterable[str]) -> Floats:
    """(14, 6) as `trait` has it, of a study by its MeSH tags."""
    found = np.zeros((len(FINDINGS), len(_PARTS)))
    for tag in map(Tag.parse, tags):
        for finding in meant(tag):
            found = np.maximum(found, trait(finding, _places(tag)))
    if not any(found[FINDINGS.index(f), 0] for f in PATHOLOGIES):
        found[FINDINGS.index(NO_FINDING), 0] = 1.0
    return found


def grades(wanted: Sequence[Floats] | Floats, cases: Sequence[Floats] | Floats) -> Floats:
    """(q, m) grades of m cases for q studies, each as `traits` gives it."""
    one, other = np.asarray(wanted), np.asarray(cases)
    shared = np.zeros((len(one), len(other)))
    for f in range(len(FINDINGS)):
        agreed = (
            OBSERVED
            + SIDED * _jaccard(one[:, f, _SIDES], other[:, f, _SIDES])
            + LEVELLED * _jaccard(one[:, f, _LEVELS], other[:, f, _LEVELS])
        )
        shared += np.outer(one[:, f, 0], other[:, f, 0]) * agreed
    both = one[..., 0] @ other[..., 0].T
    either = one[..., 0].sum(1)[:, None] + other[..., 0].sum(1)[None] - both
    return np.asarray(shared / either)


def _places(tag: Tag) -> list[str]:
    sides = [s for s in SIDES if s in tag.qualifiers or BOTH_SIDES in tag.qualifiers]
    return sides + [LEVEL_WORDS[q] for q in tag.qualifiers if q in LEVEL_WORDS]


def _jaccard(one: Floats, other: Floats) -> Floats:
    """(q, m) Jaccard indices of sets given as rows of 0 and 1; two empty sets are equal."""
    both = one @ other.T
    either = one.sum(1)[:, None] + other.sum(1)[None] - both
    return np.asarray(np.where(either == 0, 1.0, both / np.maximum(either, 1.0)))
