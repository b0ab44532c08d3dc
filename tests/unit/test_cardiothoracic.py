"""The cardiothoracic ratio: measured along lines, refused where masks cannot be right, and what it contradicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledge_base.findings import Polarity
from rag_service.errors import BadWeights
from rag_service.models.structures import StructureMasks
from rag_service.report.cardiothoracic import FILE, RatioLimits, cardiothoracic_ratio, contradicts, load_limits
from rag_service.report.measurements import Measurement, Segment

LIMITS = RatioLimits("thorax-unet@1-ab", 0.45, 0.65, "openi calibration frontals: 30 with and 300 without Cardiomegaly")


def masks(
    right: tuple[int, int, int, int], left: tuple[int, int, int, int], heart: tuple[int, int, int, int]
) -> StructureMasks:
    """Rectangles on a film of 100 x 100 cells: top, bottom, left, right."""
    found: NDArray[np.float32] = np.zeros((3, 100, 100), np.float32)
    for channel, (top, bottom, start, stop) in enumerate((right, left, heart)):
        found[channel, top:bottom, start:stop] = 1.0
    return StructureMasks(found)


def ratio(value: float) -> Measurement:
    return Measurement("cardiothoracic_ratio", value, "ratio")


def test_the_hearts_reach_over_the_widest_width_of_the_thorax() -> None:
    found = masks((10, 80, 20, 40), (12, 78, 60, 90), (50, 75, 35, 70))
    wider_below = found.chances.copy()
    wider_below[0, 70:75, 10:20] = 1.0
    measured = cardiothoracic_ratio(StructureMasks(wider_below))
    assert measured.name == "cardiothoracic_ratio"
    assert measured.value == pytest.approx(35 / 80)
    assert measured.segments == (
        Segment("heart", 0.35, 0.70, 0.625),
        Segment("thorax", 0.10, 0.90, 0.705),
    )
    assert measured.reason is None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (masks((0, 0, 0, 0), (10, 80, 60, 90), (50, 75, 35, 70)), "structure_not_seen"),
        (masks((10, 80, 10, 40), (10, 80, 60, 90), (50, 55, 50, 60)), "structure_not_seen"),
        (masks((10, 80, 10, 40), (10, 40, 60, 90), (50, 75, 35, 70)), "lung_not_whole"),
        (masks((10, 45, 10, 40), (50, 85, 60, 90), (50, 75, 35, 70)), "lung_not_whole"),
        (masks((10, 80, 60, 90), (10, 80, 10, 40), (50, 75, 35, 70)), "structures_out_of_order"),
        (masks((10, 80, 10, 40), (10, 80, 60, 90), (50, 75, 12, 88)), "implausible_ratio"),
        (masks((10, 80, 10, 40), (10, 80, 60, 90), (40, 80, 44, 56)), "implausible_ratio"),
    ],
)
def test_masks_that_cannot_be_right_give_no_ratio(found: StructureMasks, reason: str) -> None:
    assert cardiothoracic_ratio(found) == Measurement("cardiothoracic_ratio", None, "ratio", reason=reason)


@pytest.mark.parametrize(
    ("value", "polarity", "ap", "contradicted"),
    [
        (0.449, Polarity.POSITIVE, None, True),
        (0.45, Polarity.POSITIVE, None, False),
        (0.65, Polarity.NEGATIVE, None, True),
        (0.649, Polarity.NEGATIVE, None, False),
        (0.65, Polarity.NEGATIVE, 0.49, True),
        (0.65, Polarity.NEGATIVE, 0.5, False),
        (0.449, Polarity.POSITIVE, 0.9, True),
        (0.3, Polarity.UNCERTAIN, None, False),
        (0.8, Polarity.UNCERTAIN, None, False),
        (0.3, None, None, False),
    ],
)
def test_a_clear_ratio_contradicts_its_opposite(
    value: float, polarity: Polarity | None, ap: float | None, contradicted: bool
) -> None:
    assert contradicts(ratio(value), polarity, LIMITS, ap) is contradicted


def test_a_ratio_that_was_refused_contradicts_nothing() -> None:
    refused = Measurement("cardiothoracic_ratio", None, "ratio", reason="structure_not_seen")
    assert not contradicts(refused, Polarity.POSITIVE, LIMITS)


@pytest.mark.parametrize(("value", "reason"), [(0.5, "implausible_ratio"), (None, None)])
def test_a_measurement_has_a_value_or_a_reason(value: float | None, reason: str | None) -> None:
    with pytest.raises(ValueError, match="either a value or the reason"):
        Measurement("cardiothoracic_ratio", value, "ratio", reason=reason)


@pytest.mark.parametrize("line", [(0.5, 0.5, 0.1), (-0.1, 0.5, 0.1), (0.1, 1.1, 0.1), (0.1, 0.5, 1.1)])
def test_a_line_lies_on_the_film(line: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="not a line"):
        Segment("heart", *line)


@pytest.mark.parametrize("ends", [(0.6, 0.5), (0.0, 0.5), (0.5, 1.0)])
def test_limits_lie_in_order(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="limits of a ratio"):
        RatioLimits("thorax-unet@1-ab", *ends, "none")


def test_limits_come_back_for_their_segmenter_alone(tmp_path: Path) -> None:
    assert load_limits(tmp_path, LIMITS.segmenter) is None
    LIMITS.save(tmp_path)
    assert load_limits(tmp_path, LIMITS.segmenter) == LIMITS
    with pytest.raises(BadWeights, match="belongs to thorax-unet@1-ab, the segmenter is other@1"):
        load_limits(tmp_path, "other@1")


def test_limits_that_were_changed_are_refused(tmp_path: Path) -> None:
    LIMITS.save(tmp_path)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace("0.45", "0.25"))
    with pytest.raises(BadWeights, match=r"cardiothoracic\.json: expected sha256"):
        load_limits(tmp_path, LIMITS.segmenter)


def test_limits_out_of_order_are_refused_though_sealed(tmp_path: Path) -> None:
    from rag_service import sealed

    LIMITS.save(tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    del content["sha256"]
    sealed.write(tmp_path / FILE, content | {"normal_below": 0.9})
    with pytest.raises(BadWeights, match="malformed"):
        load_limits(tmp_path, LIMITS.segmenter)


def test_another_limit_is_another_digest() -> None:
    moved = RatioLimits(LIMITS.segmenter, 0.46, 0.65, LIMITS.sample)
    assert moved.digest != LIMITS.digest
    assert len(LIMITS.digest) == 64
