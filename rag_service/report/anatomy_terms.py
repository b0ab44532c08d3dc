"""How reports speak of anatomy: its names, what is said of it, and what that says about the observations.

"Lungs are clear" denies Lung Opacity and Consolidation and nothing else; a clear pleural space denies effusion and
pneumothorax; a normal mediastinum denies an enlarged one; intact bones deny a fracture; normal vessels deny Edema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from knowledge_base.findings import Polarity

POSITIVE, NEGATIVE, UNCERTAIN = Polarity.POSITIVE, Polarity.NEGATIVE, Polarity.UNCERTAIN


class State(StrEnum):
    """What a predicate says of the anatomy it describes."""

    NORMAL = "normal"
    ENLARGED = "enlarged"
    BORDERLINE = "borderline"
    CLEAR = "clear"
    BLUNTED = "blunted"
    CONGESTED = "congested"
    OTHER = "other"


Reading = tuple[tuple[str, Polarity], ...]


@dataclass(frozen=True)
class Subject:
    """A piece of anatomy, how it is named, and what each state of it says about the observations."""

    name: str
    phrases: tuple[str, ...]
    readings: Mapping[State, Reading]


HEART_NORMAL: Final[Reading] = (("Cardiomegaly", NEGATIVE),)
HEART_LARGE: Final[Reading] = (("Cardiomegaly", POSITIVE),)
BOTH_NORMAL: Final[Reading] = (("Enlarged Cardiomediastinum", NEGATIVE), ("Cardiomegaly", NEGATIVE))
LUNGS_CLEAR: Final[Reading] = (("Lung Opacity", NEGATIVE), ("Consolidation", NEGATIVE))
PLEURA_CLEAR: Final[Reading] = (("Pneumothorax", NEGATIVE), ("Pleural Effusion", NEGATIVE))

SUBJECTS: Final = (
    Subject(
        "heart",
        (
            "heart [size|contour|shadow|silhouette]",
            "size of the heart",
            "cardiac (silhouette|size|shadow|contour|outline|border)",
            "cardiac and hilar contour",
            "cardiopericardial silhouette",
            "cardiac silhouette size",
            "size of the cardiac silhouette",
            "heart size and contour",
            "cardiac size and contour",
        ),
        {
            State.NORMAL: HEART_NORMAL,
            State.CLEAR: HEART_NORMAL,
            State.ENLARGED: HEART_LARGE,
            State.BORDERLINE: HEART_LARGE,
        },
    ),
    Subject(
        "cardiomediastinum",
        (
            "cardiomediastinal [silhouette|contour|structure|shadow]",
            "cardio mediastinal [silhouette|contour]",
            "cardiomediastinal silhouette and contour",
            "cardiac and mediastinal (silhouette|contour|structure)",
            "cardiac mediastinal (silhouette|contour|structure)",
            "heart and mediastinum",
            "heart size and mediastinal (silhouette|contour)",
            "cardio xxxx silhouette",
        ),
        {
            State.NORMAL: BOTH_NORMAL,
            State.CLEAR: BOTH_NORMAL,
            State.ENLARGED: (("Enlarged Cardiomediastinum", POSITIVE),),
        },
    ),
    Subject(
        "mediastinum",
        (
            "mediastinum [contour|size]",
            "mediastinal (contour|silhouette|structure|shadow|outline|width|border|size)",
            "[upper|superior] mediastinum",
            "mediastinal and hilar (contour|structure|silhouette)",
            "mediastinal",
        ),
        {
            State.NORMAL: (("Enlarged Cardiomediastinum", NEGATIVE),),
            State.CLEAR: (("Enlarged Cardiomediastinum", NEGATIVE),),
            State.ENLARGED: (("Enlarged Cardiomediastinum", POSITIVE),),
        },
    ),
    Subject(
        "lungs",
        (
            "lung",
            "lung (field|parenchyma|zone|base|apex)",
            "(upper|mid|lower) lung (field|zone)",
            "pulmonary parenchyma",
            "pulmonary parenchymal pattern",
        ),
        {State.NORMAL: LUNGS_CLEAR, State.CLEAR: LUNGS_CLEAR},
    ),
    Subject("volumes", ("lung (volume|inflation|expansion|marking)", "(heart|cardiac) (rate|valve|failure|apex)"), {}),
    Subject(
        "pleura",
        ("pleura", "pleural (space|surface|cavity)"),
        {State.NORMAL: PLEURA_CLEAR, State.CLEAR: PLEURA_CLEAR},
    ),
    Subject(
        "angles",
        (
            "[lateral|posterior|left|right] (costophrenic|costophrenic sulcus) [angle|sulcus|recess|xxxx]",
            "cp angle",
            "(costophrenic|costodiaphragmatic) (angle|recess|sulcus|sulcu)",
        ),
        {
            State.NORMAL: (("Pleural Effusion", NEGATIVE),),
            State.CLEAR: (("Pleural Effusion", NEGATIVE),),
            State.BLUNTED: (("Pleural Effusion", UNCERTAIN),),
        },
    ),
    Subject(
        "vessels",
        (
            "pulmonary (vascularity|vasculature|vascular marking|vessel|vascular)",
            "vascularity",
            "vasculature",
            "vascular marking",
            "(central|hilar) vasculature",
        ),
        {
            State.NORMAL: (("Edema", NEGATIVE),),
            State.CLEAR: (("Edema", NEGATIVE),),
            State.CONGESTED: (("Edema", POSITIVE),),
            State.ENLARGED: (("Edema", POSITIVE),),
        },
    ),
    Subject(
        "bones",
        (
            "(bony|osseous|skeletal) (structure|thorax|element)",
            "bone",
            "rib",
            "osseous structure",
            "visualized (bone|rib|osseous structure)",
            "skeleton",
            "bony",
        ),
        {State.CLEAR: (("Fracture", NEGATIVE),), State.NORMAL: (("Fracture", NEGATIVE),)},
    ),
)

PREDICATES: Final[Mapping[State, tuple[str, ...]]] = {
    State.NORMAL: (
        "normal",
        "[within|in] normal (limit|range)",
        "unremarkable",
        "within limit",
        "upper (limit of normal|normal)",
        "[at] [the] upper limit of normal",
        "high normal",
        "top (normal|limit of normal)",
        "upper normal [limit]",
        "normal in (size|contour|caliber|appearance)",
        "within [the] limit of normal",
        "negative",
        "nonenlarged",
        "non enlarged",
        "[at] [the] upper limit normal",
        "wnl",
        "grossly normal",
    ),
    State.CLEAR: (
        "clear",
        "free of (disease|infiltrate|consolidation)",
        "sharp",
        "intact",
        "well aerated",
        "well expanded and clear",
        "clear bilaterally",
        "without (infiltrate|disease)",
    ),
    State.ENLARGED: (
        "enlarged",
        "enlargement",
        "large",
        "prominent",
        "widened",
        "widening",
        "increased",
        "dilated",
        "globular",
        "magnified",
        "prominence",
        "wide",
    ),
    State.BORDERLINE: ("borderline [enlarged|large|in size|size|enlargement|prominent]",),
    State.BLUNTED: ("blunted", "blunting", "obliterated", "effaced", "obscured"),
    State.CONGESTED: ("congested", "engorged", "cephalized", "plethoric", "engorgement"),
    State.OTHER: (
        "clear of",
        "stable",
        "unchanged",
        "tortuous",
        "hyperinflated",
        "hypoinflated",
        "hyperexpanded",
        "hyperlucent",
        "xxxx",
        "shifted",
        "displaced",
        "calcified",
        "ectatic",
        "midline",
    ),
}
