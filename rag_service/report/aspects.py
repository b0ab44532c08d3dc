"""How two statements about one finding compare, aspect by aspect: polarity, side, place, degree, change."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from knowledge_base.findings import Laterality, Polarity, Progression
from knowledge_base.records import Mention


class Verdict(StrEnum):
    """Whether the second statement follows from the first, cannot be true beside it, or neither."""

    ENTAILED = "entailed"
    CONTRADICTED = "contradicted"
    NEUTRAL = "neutral"


class Aspect(StrEnum):
    """What of a statement is compared."""

    FINDING = "finding"
    POLARITY = "polarity"
    SIDE = "side"
    LOCATION = "location"
    SEVERITY = "severity"
    CHANGE = "change"


WHOLES: Final[Mapping[str, frozenset[str]]] = {
    "apex": frozenset({"upper lobe", "upper zone"}),
    "base": frozenset({"lower zone"}),
    "costophrenic angle": frozenset({"base", "lower zone"}),
    "cardiophrenic angle": frozenset({"base", "lower zone"}),
    "lingula": frozenset({"upper lobe"}),
    "retrocardiac": frozenset({"lower lobe", "lower zone"}),
    "hilum": frozenset({"perihilar"}),
    "suprahilar": frozenset({"perihilar"}),
    "infrahilar": frozenset({"perihilar"}),
}
"""Place -> the places it is part of, of those that the labeler tells apart."""
UPPER: Final = frozenset({"apex", "upper lobe", "upper zone"})
LOWER: Final = frozenset(
    {"base", "lower lobe", "lower zone", "costophrenic angle", "cardiophrenic angle", "retrocardiac"}
)
FIRST_SEEN: Final = {"Pleural Effusion": "costophrenic angle"}
"""Where a finding shows before it shows anywhere else: a denial there denies it everywhere."""
GRADES: Final[Mapping[str, tuple[int, int]]] = {
    "trace": (1, 1), "trace to small": (1, 2), "small": (2, 2), "mild": (2, 2), "small to moderate": (2, 3),
    "mild to moderate": (2, 3), "moderate": (3, 3), "moderate to large": (3, 4), "moderate to severe": (3, 4),
    "large": (4, 4), "severe": (4, 4), "massive": (5, 5),
}  # fmt: skip
"""Degree -> the least and the greatest grade it stands for."""
CLEARLY_APART: Final = 2
"""Grades between two degrees that cannot be the same thing seen by two readers."""
ONLY_RECENT: Final = frozenset({Progression.NEW, Progression.WORSENED})
"""A denial of one of these leaves open what was there before."""


def compare(said: Mention, asked: Mention) -> Mapping[Aspect, Verdict]:
    """Each aspect of `asked` against `said`, which speak of the same finding."""
    if Polarity.NEGATIVE not in {said.polarity, asked.polarity}:
        return _affirmed(said, asked)
    if said.polarity is asked.polarity:
        return _denied(said, asked)
    affirmed, denied = (said, asked) if asked.polarity is Polarity.NEGATIVE else (asked, said)
    sure = said.polarity is not Polarity.UNCERTAIN
    clash = sure and _covers(denied, affirmed)
    return {Aspect.POLARITY: Verdict.CONTRADICTED if clash else Verdict.NEUTRAL}


def _affirmed(said: Mention, asked: Mention) -> Mapping[Aspect, Verdict]:
    """Both affirm or hedge: `said` must say at least as much as `asked`."""
    hedged = said.polarity is Polarity.UNCERTAIN and asked.polarity is Polarity.POSITIVE
    changed = said.progression is not None and said.progression is not asked.progression
    return {
        Aspect.POLARITY: Verdict.NEUTRAL if hedged else Verdict.ENTAILED,
        Aspect.SIDE: _side(said.laterality, asked.laterality),
        Aspect.LOCATION: _place(said.location, asked.location),
        Aspect.SEVERITY: _degree(said.severity, asked.severity),
        Aspect.CHANGE: _graded(asked.progression is None or said.progression is asked.progression, clash=changed),
    }


def _denied(said: Mention, asked: Mention) -> Mapping[Aspect, Verdict]:
    """Both deny: `said` must deny at least as much as `asked`."""
    everywhere = said.laterality in {None, Laterality.BILATERAL}
    first_seen = FIRST_SEEN.get(said.finding) == said.location
    recent = said.progression in ONLY_RECENT
    return {
        Aspect.POLARITY: Verdict.ENTAILED,
        Aspect.SIDE: _graded(everywhere or said.laterality is asked.laterality),
        Aspect.LOCATION: _graded(said.location is None or first_seen or within(asked.location, said.location)),
        Aspect.SEVERITY: _graded(said.severity is None or _at_least(asked.severity, said.severity)),
        Aspect.CHANGE: _graded(not recent or said.progression is asked.progression),
    }


def _covers(denied: Mention, affirmed: Mention) -> bool:
    """Whether what is affirmed lies in what is denied; a finding on both sides is on each."""
    aspects = dict(_denied(denied, affirmed))
    if affirmed.laterality is Laterality.BILATERAL:
        del aspects[Aspect.SIDE]
    return all(v is Verdict.ENTAILED for v in aspects.values())


def within(part: str | None, whole: str | None) -> bool:
    """Whether a place lies in another, or is it."""
    return part is not None and whole is not None and (part == whole or whole in WHOLES.get(part, ()))


def _side(said: Laterality | None, asked: Laterality | None) -> Verdict:
    fits = asked is None or said is asked or said is Laterality.BILATERAL
    one_each = said is not None and Laterality.BILATERAL not in {said, asked}
    return _graded(fits, clash=one_each)


def _place(said: str | None, asked: str | None) -> Verdict:
    clash = (said in UPPER and asked in LOWER) or (said in LOWER and asked in UPPER)
    return _graded(asked is None or within(said, asked), clash=clash)


def _degree(said: str | None, asked: str | None) -> Verdict:
    if said is None or asked is None:
        return _graded(asked is None)
    (least, most), (low, high) = GRADES[said], GRADES[asked]
    return _graded(low <= least and most <= high, clash=max(low - most, least - high) >= CLEARLY_APART)


def _at_least(degree: str | None, other: str) -> bool:
    return degree is not None and GRADES[degree][0] >= GRADES[other][0]


def _graded(follows: bool, clash: bool = False) -> Verdict:
    if follows:
        return Verdict.ENTAILED
    return Verdict.CONTRADICTED if clash else Verdict.NEUTRAL
