"""What region queries are asked in training: concepts with their side and height, in the words of reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from knowledge_base.findings import FINDINGS
from rag_service.datasets.relevance import LEVELS, SIDES
from rag_service.explain.anatomy import SIDED
from rag_service.models.region_network import QUERIES, STRUCTURES

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "No Finding": ("no finding", "normal chest", "no acute cardiopulmonary abnormality"),
    "Enlarged Cardiomediastinum": ("widened mediastinum", "enlarged cardiomediastinum", "mediastinal enlargement"),
    "Cardiomegaly": ("cardiomegaly", "enlarged heart", "enlarged cardiac silhouette"),
    "Lung Opacity": ("opacity", "airspace opacity", "infiltrate", "lung opacity"),
    "Lung Lesion": ("nodule", "mass", "lung lesion", "granuloma"),
    "Edema": ("pulmonary edema", "vascular congestion", "interstitial edema"),
    "Consolidation": ("consolidation", "airspace consolidation"),
    "Pneumonia": ("pneumonia", "infectious infiltrate"),
    "Atelectasis": ("atelectasis", "collapse", "volume loss"),
    "Pneumothorax": ("pneumothorax",),
    "Pleural Effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "Pleural Other": ("pleural thickening", "pleural scarring"),
    "Fracture": ("fracture", "rib fracture"),
    "Support Devices": ("support device", "catheter", "tube", "pacemaker"),
    "cardiac": ("heart", "cardiac silhouette", "cardiac contour"),
    "left lung": ("left lung", "left hemithorax"),
    "right lung": ("right lung", "right hemithorax"),
    "mediastinum": ("mediastinum", "mediastinal contour"),
    "diaphragm": ("diaphragm", "hemidiaphragms"),
    "spine": ("spine", "thoracic spine", "vertebral column"),
    "lung": ("lung", "lung field"),
}
"""Observation or structure -> how it is called."""
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "upper": ("upper lobe", "upper zone", "apex"),
    "middle": ("middle zone", "mid lung"),
    "lower": ("lower lobe", "lower zone", "base"),
}
"""Height in the lung -> how it is called; each third of a lung."""
DENIALS: Final = ("no {}", "no evidence of {}", "without {}", "there is no {}")
LUNG: Final = "lung"
"""The concept of a third of a lung."""


@dataclass(frozen=True, order=True)
class Concept:
    """An observation or structure, on a side and at a height of the lung where those are named ("" where not)."""

    name: str
    side: str = ""
    level: str = ""

    def wordings(self) -> Iterator[str]:
        """Every way it is asked for."""
        for name in NAMES[self.name]:
            for place in PLACES[self.level] if self.level else ("",):
                yield from _placed(name, self.side, place) if self.name != LUNG else _zone(self.side, place)

    def denials(self) -> Iterator[str]:
        """Every way it is denied; none for a structure, and none for a denial ("no finding")."""
        if self.name in FINDINGS[1:]:
            yield from (form.format(words) for words in self.wordings() for form in DENIALS)


def _placed(name: str, side: str, place: str) -> Iterator[str]:
    where = " ".join(part for part in (side, place) if part)
    if not where:
        yield name
        return
    yield f"{where} {name}"
    yield f"{name} in the {where}" + ("" if place else " lung")


def _zone(side: str, place: str) -> Iterator[str]:
    yield f"{side} {place}"
    yield f"{side} lung {place}"


def concepts() -> tuple[Concept, ...]:
    """QUERIES in their order, then observations by side and height, and the thirds of each lung."""
    plain = [Concept(name) for name in QUERIES]
    sided = [Concept(f, s, z) for f in FINDINGS if f in SIDED for s in SIDES for z in ("", *LEVELS)]
    level = [Concept(f, "", z) for f in FINDINGS if f in SIDED for z in LEVELS]
    thirds = [Concept(LUNG, s, z) for s in SIDES for z in LEVELS]
    return (*plain, *sided, *level, *thirds)


def is_structure(concept: Concept) -> bool:
    """Whether every frontal film shows it."""
    return concept.name in STRUCTURES or concept.name == LUNG
