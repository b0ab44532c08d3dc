"""The named films of the demo and the tests: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eval.phantom.anatomy import Anatomy
from eval.phantom.devices import CentralVenousLine, EcgLeads, EndotrachealTube, NasogastricTube, Pacemaker, SternalWires
from eval.phantom.pathology import (
    Cardiomegaly,
    Consolidation,
    Edema,
    Nodule,
    Pathology,
    PleuralEffusion,
    Pneumothorax,
)
from knowledge_base.findings import Laterality


@dataclass(frozen=True)
class Case:
    """A patient with what ails them and what they carry."""

    anatomy: Anatomy
    pathologies: tuple[Pathology, ...] = ()
    devices: tuple[Pathology, ...] = ()


CASES: Final[dict[str, Case]] = {
    "demo": Case(
        Anatomy(sex="female", size=0.97, inspiration=-0.3, fat=0.5, seed=17),
        (Cardiomegaly(0.62), Edema(0.6), PleuralEffusion(Laterality.LEFT, 70.0)),
    ),
    "effusion": Case(
        Anatomy(rotation=-1.5, inspiration=-0.1, seed=11), (Cardiomegaly(0.58), PleuralEffusion(Laterality.RIGHT, 78.0))
    ),
    "normal": Case(Anatomy(rotation=1.0, seed=3)),
    "pneumothorax": Case(
        Anatomy(size=1.02, fat=0.15, rotation=1.5, inspiration=0.3, seed=5), (Pneumothorax(Laterality.LEFT, 28.0),)
    ),
    "nodule": Case(
        Anatomy(sex="female", size=0.97, rotation=-1.0, seed=7),
        (Nodule(Laterality.RIGHT, across=0.55, down=0.42, diameter=21.0),),
    ),
    "devices": Case(
        Anatomy(inspiration=-0.5, rotation=2.5, fat=0.5, heart_width=1.1, seed=13),
        (),
        (EndotrachealTube(), NasogastricTube(), CentralVenousLine(), Pacemaker(), SternalWires(), EcgLeads()),
    ),
    "edema": Case(
        Anatomy(sex="female", size=0.97, inspiration=-0.3, fat=0.5, seed=17), (Cardiomegaly(0.56), Edema(0.8))
    ),
    "consolidation": Case(Anatomy(rotation=1.0, seed=19), (Consolidation(Laterality.RIGHT, "lower"),)),
}
