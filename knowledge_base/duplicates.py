"""When two cases are one film: a case that is the very film asked with, and one study indexed under two names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from knowledge_base.records import Case
from knowledge_base.search import CaseHit

NEAR_DUPLICATE: Final = 0.98
"""Box overlap from which two films count as one."""


@dataclass(frozen=True, eq=False)
class Distinct:
    """Hits in their order, of which no two are one study; and those left out: `same` as the film asked with, `repeated`."""

    hits: tuple[CaseHit, ...]
    same: tuple[CaseHit, ...]
    repeated: tuple[CaseHit, ...]


def same_film(hit: CaseHit) -> bool:
    """Whether a case is the very film asked with. A search without a film knows of none."""
    return hit.box_overlap is not None and hit.box_overlap >= NEAR_DUPLICATE


def distinct(hits: Iterable[CaseHit], limit: int, *, include_same: bool = False) -> Distinct:
    """The first `limit` hits that are studies of their own; the film asked with is one only with `include_same`."""
    kept: list[CaseHit] = []
    same: list[CaseHit] = []
    repeated: list[CaseHit] = []
    for hit in hits:
        if len(kept) == limit:
            break
        if same_film(hit) and not include_same:
            same.append(hit)
        elif is_repeated(hit, kept):
            repeated.append(hit)
        else:
            kept.append(hit)
    return Distinct(tuple(kept), tuple(same), tuple(repeated))


def is_repeated(hit: CaseHit, others: Sequence[CaseHit]) -> bool:
    """Whether a case is one of the others under another name: the same film, or where two films are not at hand to compare,
    the same words from another source. (Two patients of one source may well share the words of a normal report.)
    """
    return any(_one_study(hit, other) for other in others)


def _one_study(one: CaseHit, other: CaseHit) -> bool:
    if _name(one.case) == _name(other.case):
        return True
    if one.box is None or other.box is None:
        return one.case.source != other.case.source and one.case.text == other.case.text
    # 1 - overlap is a metric (a mean of Jaccard distances): what differs more in its overlap with the film is not compared.
    apart = abs((one.box_overlap or 0.0) - (other.box_overlap or 0.0))
    return apart <= 1.0 - NEAR_DUPLICATE and one.box.overlap(other.box) >= NEAR_DUPLICATE


def _name(case: Case) -> tuple[str, str, str]:
    return case.tenant, case.source, case.study
