"""What is known of a film in words: the 14 observations, and Open-i's MeSH headings, alone or with one qualifier.

A term is an observation's name ("Pleural Effusion"), a heading ("scoliosis") or a heading with a side, a place or a form
("pleural effusion, left"). Degrees ("mild", "large") are left out: they say how much, not what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import FilmRow
from rag_service.datasets.mesh import Tag, meant

DEGREES: Final = frozenset(
    ("mild", "moderate", "severe", "borderline", "small", "large", "prominent", "multiple", "scattered", "focal")
)
_SEPARATOR: Final = ", "
_OBSERVATIONS: Final = frozenset(f.lower() for f in FINDINGS)


def terms(row: FilmRow) -> frozenset[str]:
    """Every term that the film is known to bear."""
    tags = [Tag.parse(t) for t in row.tags or ()]
    return frozenset(f for f, present in row.labels.items() if present) | {t for tag in tags for t in _of_tag(tag)}


def vocabulary(rows: Sequence[FilmRow], minimum: int) -> tuple[str, ...]:
    """The terms of at least `minimum` films: observations in CheXpert order, then MeSH terms, most frequent first."""
    counts = Counter(t for row in rows for t in terms(row))
    mesh = sorted((t for t in counts if t not in FINDINGS), key=lambda t: (-counts[t], t))
    return tuple(t for t in (*FINDINGS, *mesh) if counts[t] >= minimum)


def presence(rows: Sequence[FilmRow], names: Sequence[str]) -> NDArray[np.float64]:
    """(n, m): 1 where the film bears the term, 0 where it does not, NaN where its source does not say."""
    found = np.full((len(rows), len(names)), np.nan)
    for i, row in enumerate(rows):
        borne = terms(row)
        for j, name in enumerate(names):
            if name in row.labels or (name not in FINDINGS and row.tags is not None):
                found[i, j] = float(name in borne)
    return found


def findings_of(term: str) -> tuple[str, ...]:
    """The observations that a term means, in CheXpert order; none for most of MeSH ("scoliosis")."""
    if term in FINDINGS:
        return (term,)
    means = set().union(*(meant(tag) for tag in _readings(term)))
    return tuple(f for f in FINDINGS if f in means)


def _of_tag(tag: Tag) -> Iterable[str]:
    if tag.heading not in _OBSERVATIONS:  # as an observation it is a term already
        yield tag.heading
    yield from (f"{tag.heading}{_SEPARATOR}{q}" for q in tag.qualifiers - DEGREES)


def _readings(term: str) -> list[Tag]:
    """The tags a term may come from; headings ("fractures, bone") and qualifiers may hold the separator themselves."""
    parts = term.split(_SEPARATOR)
    cuts = range(1, len(parts) + 1)
    return [Tag(_SEPARATOR.join(parts[:i]), frozenset(filter(None, [_SEPARATOR.join(parts[i:])]))) for i in cuts]
