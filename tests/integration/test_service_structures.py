"""A draft of a service with a segmenter: what it measures, and what it says of a statement that the measurement contradicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rag_service import wiring
from rag_service.gate import Gate
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmEncoder
from rag_service.models.segmenter import SegmenterRecord
from rag_service.models.structures import StructureMasks
from rag_service.reader import Reader
from rag_service.report.cardiothoracic import RatioLimits
from rag_service.report.draft import Draft
from rag_service.requests import DraftRequest
from rag_service.service import RadiographService
from tests.integration.house import House, film

RECORD = SegmenterRecord("drawn", "1", "cd" * 32, "p@1", "none", "none", {})


class Drawn:
    """Finds the same thorax on every film: 80 of 100 cells wide, its heart `heart` wide."""

    record = RECORD

    def __init__(self, heart: int) -> None:
        self.heart = heart

    def read(self, _: Film) -> StructureMasks:
        masks = np.zeros((3, 100, 100), np.float32)
        masks[0, 10:80, 10:40] = masks[1, 10:80, 60:90] = 1.0
        masks[2, 50:78, 50 - self.heart // 2 : 50 + self.heart // 2] = 1.0
        return StructureMasks(masks)


@pytest.fixture
def house(encoder: FilmEncoder, words: Any, stored: NDArray[np.uint8], open_gate: Callable[[str, int], Gate]) -> House:
    width = encoder.network.box_centre.in_features
    return House(encoder, words, stored, open_gate(encoder.record.id, width))


def drafted(house: House, heart: int, limits: RatioLimits | None) -> Draft:
    reader = Reader(house.encoder, house.calibration, Gate(house.limits, house.reference))
    seeing = replace(reader, segmenter=Drawn(heart), ratio_limits=limits)  # type: ignore[arg-type]
    memory = wiring.build_memory(house.store, house.encoder, house.words)
    return RadiographService(seeing, memory).draft(DraftRequest(film(house.stored)))


LIMITS = RatioLimits(RECORD.id, 0.45, 0.65, "made by hand")


def test_a_draft_measures_the_heart_and_names_its_segmenter(house: House) -> None:
    draft = drafted(house, 40, LIMITS)
    assert draft.to_json()["measurements"] == [
        {
            "name": "cardiothoracic_ratio",
            "value": 0.5,
            "unit": "ratio",
            "segments": [
                {"name": "heart", "x_min": 0.3, "x_max": 0.7, "y": 0.64},
                {"name": "thorax", "x_min": 0.1, "x_max": 0.9, "y": 0.105},
            ],
            "reason": None,
        }
    ]
    assert draft.provenance.segmenter == "drawn@1-cdcdcdcd"


@pytest.mark.parametrize(
    ("heart", "limits", "contradicted"),
    [(40, LIMITS, []), (30, LIMITS, ["Cardiomegaly"]), (30, None, []), (4, LIMITS, [])],
)
def test_an_enlarged_heart_that_is_narrow_is_a_contradiction(
    house: House, heart: int, limits: RatioLimits | None, contradicted: list[str]
) -> None:
    draft = drafted(house, heart, limits)
    assert draft.checks["contradicted_by_measurement"] == contradicted


def test_the_limits_are_among_the_thresholds(house: House) -> None:
    one, other = drafted(house, 40, LIMITS), drafted(house, 40, replace(LIMITS, normal_below=0.4))
    assert one.provenance.thresholds != other.provenance.thresholds


def test_a_service_without_a_segmenter_measures_nothing(house: House) -> None:
    draft = house.draft()
    assert draft.measurements == ()
    assert draft.provenance.segmenter is None
    assert draft.checks["contradicted_by_measurement"] == []
