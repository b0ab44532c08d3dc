"""The map from studies to points: what cannot be embedded is set aside, alone; what report and film say is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.builder import Mapped, StudyMap
from indexer.studies import Study
from knowledge_base.cases import VectorNames
from knowledge_base.records import BoxLatent
from knowledge_base.schema import REGION_WIDTH
from knowledge_base.zones import ZONES
from rag_service.calibration import Calibration
from rag_service.errors import BadWeights
from rag_service.imaging.decode_pool import DecodePool
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.report.labeler import Labeler
from rag_service.wiring import layout

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker


class Fussy:
    """An encoder for which films whose first pixel is named yield numbers that are not finite."""

    def __init__(self, encoder: FilmEncoder, bad: set[bytes], **changes: Any) -> None:
        self._encoder, self._bad, self._changes = encoder, bad, changes
        self.asked: list[int] = []

    def read_stored(self, stored: NDArray[np.uint8]) -> list[FilmReading]:
        self.asked.append(len(stored))
        if any(film.tobytes() in self._bad for film in stored):
            raise BadWeights("not finite")
        return [replace(r, **self._changes) for r in self._encoder.read_stored(stored)]


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodePool]:
    with DecodePool(1) as pool:
        yield pool


@pytest.fixture
def study_map(tiny_encoder: FilmEncoder, words: HashedWords, decoder: DecodePool) -> StudyMap:
    schema = layout(tiny_encoder.record.id, tiny_encoder.axes).cases
    return StudyMap(schema, tiny_encoder, words, Labeler(), decoder)


@pytest.fixture
def studies(maker: Maker) -> list[Study]:
    return [Study("folder", f"S{n}", "P", maker.film(f"{n}.png", n), f"Report {n}: no effusion.") for n in range(4)]


def reasons(mapped: Mapped) -> list[tuple[str, str, str]]:
    return [(f.study.study, f.reason, f.error) for f in mapped.failures]


def fussy(study_map: StudyMap, *bad: Study, **changes: Any) -> StudyMap:
    opened = [study_map.open(s) for s in bad]
    refused = {o.pixels.tobytes() for o in opened}  # type: ignore[union-attr]
    return replace(study_map, encoder=Fussy(study_map.encoder, refused, **changes))  # type: ignore[arg-type]


def test_the_map_gives_one_point_or_one_failure_for_each_study(study_map: StudyMap, studies: list[Study]) -> None:
    mapped = study_map([*studies, Study("folder", "S9", "P", None, "Clear lungs.")])
    assert [p.payload["study"] for p in mapped.points] == ["S0", "S1", "S2", "S3", "S9"]
    assert [f.path.name for f in mapped.films] == ["0.png", "1.png", "2.png", "3.png"] and mapped.failures == ()
    assert [s.study for s in mapped.studies] == ["S0", "S1", "S2", "S3", "S9"]
    assert study_map([]).points == ()


def test_a_film_whose_embedding_is_not_finite_is_set_aside_and_the_others_are_not(
    study_map: StudyMap, studies: list[Study]
) -> None:
    mapped = fussy(study_map, studies[2])(studies)
    assert [p.payload["study"] for p in mapped.points] == ["S0", "S1", "S3"]
    assert reasons(mapped) == [("S2", "embedding_not_finite", "BadWeights")]
    alone = fussy(study_map, studies[2])([studies[2]])
    assert reasons(alone) == [("S2", "embedding_not_finite", "BadWeights")] and alone.points == ()


def test_when_no_film_of_several_can_be_embedded_the_weights_are_bad(study_map: StudyMap, studies: list[Study]) -> None:
    with pytest.raises(BadWeights):
        fussy(study_map, *studies)(studies)


def test_vectors_that_the_store_would_refuse_are_set_aside(study_map: StudyMap, studies: list[Study]) -> None:
    class Silent:
        def encode(self, texts: list[str]) -> NDArray[np.float32]:
            return np.array([np.full(384, 0.0 if "1" in t else np.nan if "2" in t else 0.5) for t in texts], np.float32)

    mapped = replace(study_map, embedder=Silent())(studies)
    assert [p.payload["study"] for p in mapped.points] == ["S0", "S3"]
    assert reasons(mapped) == [(f"S{n}", "embedding_unusable", "RecordError") for n in (1, 2)]


def test_a_film_s_region_vectors_go_into_its_point(study_map: StudyMap, studies: list[Study]) -> None:
    regions = {z: np.eye(REGION_WIDTH, dtype=np.float32)[i] for i, z in enumerate(ZONES)}
    (point,) = fussy(study_map, regions=regions)(studies[:1]).points
    names = VectorNames.of(study_map.schema)
    for zone in ZONES:
        np.testing.assert_array_equal(point.vectors[names.regions[zone]], regions[zone])


def test_report_and_film_are_compared_where_there_is_a_calibration(
    study_map: StudyMap, studies: list[Study], calibration: Calibration
) -> None:
    seen = np.full(14, 0.95)
    judging = replace(fussy(study_map, probabilities=seen), calibration=calibration)
    agreeing = replace(studies[1], known=(), text="Small pleural effusion.")
    silent = Study("folder", "S9", "P", None, "Clear lungs.")
    found = {p.payload["study"]: p.payload.get("consistent") for p in judging([studies[0], agreeing, silent]).points}
    assert found == {"S0": 0, "S1": 1, "S9": None}
    assert [p.payload.get("consistent") for p in study_map(studies[:1]).points] == [None]


def test_a_box_that_cannot_be_is_refused_before_it_is_a_point(study_map: StudyMap, studies: list[Study]) -> None:
    huge = BoxLatent(np.full(4, 3e38, np.float32), np.full(4, 3e38, np.float32))
    mapped = fussy(study_map, box=huge)(studies[:1])
    assert len(mapped.points) + len(mapped.failures) == 1
