"""Pairs of sentences whose verdict is known by how they are made: one aspect is changed at a time, all else stays.

They ask whether the engine reads an aspect in other words and decides it as intended. They share its idea of what follows from
what, so a high share of them right is needed and proves little; `entailment_examples` and coded reports are judged from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from rag_service.report.aspects import Verdict

E, C, N = Verdict.ENTAILED, Verdict.CONTRADICTED, Verdict.NEUTRAL


@dataclass(frozen=True)
class Pair:
    """Premises, a hypothesis, and the verdict that is right; `kind` says what the pair tries."""

    premises: tuple[str, ...]
    hypothesis: str
    verdict: Verdict
    kind: str


class Noun(NamedTuple):
    """How a finding is named, another finding, and a part of the body, a whole that it lies in, and one far from it."""

    name: str
    other: str
    part: str | None = None
    whole: str | None = None
    far: str | None = None


NOUNS: Final = (
    Noun("pleural effusion", "pneumothorax", "at the base", "in the lower lung zone", "at the apex"),
    Noun("pneumothorax", "pleural effusion", "at the apex", "in the upper lung zone", "at the base"),
    Noun("opacity", "nodule", "at the apex", "in the upper lobe", "in the lower lobe"),
    Noun("consolidation", "fracture", "at the base", "in the lower lung zone", "in the upper lobe"),
    Noun("atelectasis", "nodule", "at the base", "in the lower lung zone", "in the upper lobe"),
    Noun("nodule", "consolidation", "at the apex", "in the upper lobe", "in the lower lobe"),
    Noun("pneumonia", "pneumothorax", "at the base", "in the lower lung zone", "in the upper lobe"),
    Noun("pleural thickening", "edema", "at the apex", "in the upper lung zone", "at the base"),
)
UNSIDED: Final = (Noun("cardiomegaly", "edema"), Noun("pulmonary edema", "cardiomegaly"))
SAYINGS: Final = ("{}.", "There is {}.", "{} is seen.", "{} is present on this film.")
"""Ways to affirm the same."""
DENIALS: Final = ("No {}.", "There is no {}.", "No evidence of {}.", "{} is not seen.", "Negative for {}.")
HEDGES: Final = ("Possible {}.", "{} cannot be excluded.", "Findings may represent {}.")
NORMAL: Final = (
    ("The heart is normal in size.", ("cardiomegaly",)),
    ("Cardiac silhouette is within normal limits.", ("cardiomegaly",)),
    ("The lungs are clear.", ("opacity", "consolidation", "pneumonia")),
    ("Both lungs are clear.", ("opacity", "consolidation", "pneumonia")),
    ("The pleural spaces are clear.", ("pleural effusion", "pneumothorax")),
    ("The costophrenic angles are sharp.", ("pleural effusion",)),
    ("The cardiomediastinal silhouette is normal.", ("cardiomegaly", "mediastinal widening")),
    ("Pulmonary vascularity is normal.", ("pulmonary edema",)),
    ("The bony structures are intact.", ("fracture",)),
    ("Normal chest.", ("pneumothorax", "pleural effusion", "pulmonary edema", "pneumonia")),
)
"""A normal statement, and what it denies."""


def pairs() -> list[Pair]:
    """All of them, in one order."""
    nouns = (*NOUNS, *UNSIDED)
    made = [p for noun in nouns for part in (_said_again, _polarity, _degrees, _changes) for p in part(noun)]
    made += [p for noun in NOUNS for part in (_sides, _places) for p in part(noun)]
    return [*made, *_normal()]


def _one(premise: str, hypothesis: str, verdict: Verdict, kind: str) -> Pair:
    return Pair((_sentence(premise),), _sentence(hypothesis), verdict, kind)


def _sentence(text: str) -> str:
    words = " ".join(text.split()).rstrip(".")
    return f"{words[:1].upper()}{words[1:]}."


def _said_again(noun: Noun) -> Iterator[Pair]:
    for saying in SAYINGS[1:]:
        yield _one(noun.name, saying.format(noun.name), E, "paraphrase")
    for denial in DENIALS[1:]:
        yield _one(f"No {noun.name}", denial.format(noun.name), E, "paraphrase")
    for hedge in HEDGES[1:]:
        yield _one(f"Possible {noun.name}", hedge.format(noun.name), E, "paraphrase")
    yield _one(noun.name, noun.other, N, "finding")
    yield _one(f"No {noun.name}", f"No {noun.other}", N, "finding")
    yield _one(f"{noun.name} and {noun.other}", noun.other, E, "finding")
    yield _one(f"No {noun.name} or {noun.other}", f"No {noun.other}", E, "finding")


def _polarity(noun: Noun) -> Iterator[Pair]:
    name = noun.name
    yield _one(name, f"No {name}", C, "polarity")
    yield _one(f"No {name}", f"There is {name}", C, "polarity")
    yield _one(f"No {name}", f"Possible {name}", C, "polarity")
    yield _one(name, f"Possible {name}", E, "polarity")
    yield _one(f"Possible {name}", f"There is {name}", N, "polarity")
    yield _one(f"Possible {name}", f"No {name}", N, "polarity")


def _sides(noun: Noun) -> Iterator[Pair]:
    name = noun.name
    for side, other in (("left", "right"), ("right", "left")):
        yield _one(f"{side} {name}", f"There is {name}", E, "side")
        yield _one(name, f"{side} {name}", N, "side")
        yield _one(f"{side} {name}", f"{other} {name}", C, "side")
        yield _one(f"{side} {name}", f"{name} on the {side}", E, "side")
        yield _one(f"bilateral {name}", f"{side} {name}", E, "side")
        yield _one(f"{side} {name}", f"bilateral {name}", N, "side")
        yield _one(f"No {side} {name}", f"No {name}", N, "side")
        yield _one(f"No {name}", f"No {side} {name}", E, "side")
        yield _one(f"{side} {name}", f"No {other} {name}", N, "side")
    both = (_sentence(f"left {name}"), _sentence(f"right {name}"))
    yield Pair(both, _sentence(f"bilateral {name}"), E, "side")


def _places(noun: Noun) -> Iterator[Pair]:
    name, part, whole, far = noun.name, noun.part, noun.whole, noun.far
    yield _one(f"{name} {part}", f"There is {name}", E, "location")
    yield _one(f"There is {name}", f"{name} {part}", N, "location")
    yield _one(f"{name} {part}", f"{name} {whole}", E, "location")
    yield _one(f"{name} {whole}", f"{name} {part}", N, "location")
    yield _one(f"{name} {part}", f"{name} {far}", C, "location")
    yield _one(f"No {name} {whole}", f"No {name} {part}", E, "location")
    yield _one(f"No {name} {part}", f"No {name}", N, "location")
    yield _one(f"left {name} {part}", f"{name} on the left", E, "location")


def _degrees(noun: Noun) -> Iterator[Pair]:
    name = noun.name
    for degree in ("small", "moderate", "large"):
        yield _one(f"{degree} {name}", f"There is {name}", E, "severity")
        yield _one(name, f"{degree} {name}", N, "severity")
    yield _one(f"small {name}", f"large {name}", C, "severity")
    yield _one(f"large {name}", f"tiny {name}", C, "severity")
    yield _one(f"small {name}", f"moderate {name}", N, "severity")
    yield _one(f"small {name}", f"small to moderate {name}", E, "severity")
    yield _one(f"No large {name}", f"No {name}", N, "severity")
    yield _one(f"No {name}", f"No large {name}", E, "severity")
    yield _one(f"small {name}", f"No {name}", C, "severity")


def _changes(noun: Noun) -> Iterator[Pair]:
    name = noun.name
    yield _one(f"worsening {name}", f"There is {name}", E, "change")
    yield _one(name, f"worsening {name}", N, "change")
    yield _one(f"worsening {name}", f"improving {name}", C, "change")
    yield _one(f"stable {name}", f"new {name}", C, "change")
    yield _one(f"stable {name}", f"unchanged {name}", E, "change")
    yield _one(f"No new {name}", f"No {name}", N, "change")
    yield _one(f"No {name}", f"No new {name}", E, "change")


def _normal() -> Iterator[Pair]:
    for statement, denied in NORMAL:
        for name in denied:
            yield _one(statement, f"No {name}", E, "normal")
            yield _one(statement, f"There is {name}", C, "normal")
            yield _one(name, statement, C, "normal")
