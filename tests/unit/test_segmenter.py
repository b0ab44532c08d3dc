"""The segmenter as the service loads it: sealed, whole, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from eval.phantom.__main__ import truth
from eval.phantom.cases import CASES
from eval.phantom.files import png
from eval.phantom.thorax import render
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.imaging.decode import decode
from rag_service.imaging.film import Film, Frame
from rag_service.models.segmenter import (
    RECORD_FILE,
    WEIGHTS_FILE,
    Segmenter,
    SegmenterNetwork,
    SegmenterShape,
    load_segmenter,
)
from rag_service.report.cardiothoracic import cardiothoracic_ratio, load_limits
from rag_service.training.segmenter import save_segmenter

SHIPPED = Path(__file__).parents[2] / "rag_service" / "weights"
TINY = SegmenterShape(32, (4, 8))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_segmenter(SegmenterNetwork(TINY), "six films", "9", tmp_path)
    return tmp_path


def resealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / RECORD_FILE).read_text())
    del content["sha256"]
    change(content)
    sealed.write(folder / RECORD_FILE, content)


def test_a_network_answers_at_half_of_its_side() -> None:
    assert tuple(SegmenterNetwork(TINY)(torch.zeros(2, 1, 32, 32)).shape) == (2, 3, 16, 16)
    assert tuple(SegmenterNetwork(SegmenterShape())(torch.zeros(2, 1, 160, 160)).shape) == (2, 3, 80, 80)


def test_what_was_saved_reads_films_the_same_way(saved: Path, stored: NDArray[np.uint8]) -> None:
    one, other = load_segmenter(saved), load_segmenter(saved)
    assert one is not None
    assert other is not None
    assert one.record.id == f"thorax-unet@9-{hashlib.sha256((saved / WEIGHTS_FILE).read_bytes()).hexdigest()[:8]}"
    assert one.record.sample == "six films"
    found, again = one.read_stored(stored), other.read_stored(stored)
    assert [f.chances.shape for f in found] == [(3, 32, 32)] * 6
    assert all(np.array_equal(a.chances, b.chances) for a, b in zip(found, again, strict=True))


def test_a_film_of_any_size_is_read_whole(saved: Path) -> None:
    segmenter = load_segmenter(saved)
    assert segmenter is not None
    pixels = np.linspace(0, 1, 90 * 40, dtype=np.float32).reshape(90, 40)
    found = segmenter.read(Film(pixels, Frame(90, 40), "ab" * 32, "image/png"))
    assert found.chances.shape == (3, 32, 32)


def test_a_folder_without_a_segmenter_has_none(tmp_path: Path) -> None:
    assert load_segmenter(tmp_path) is None


def test_weights_that_were_changed_or_taken_away_are_refused(saved: Path) -> None:
    path = saved / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadWeights, match=r"segmenter\.safetensors: expected sha256"):
        load_segmenter(saved)
    path.unlink()
    with pytest.raises(BadWeights, match=r"segmenter\.safetensors: expected sha256"):
        load_segmenter(saved)


def test_a_record_that_was_changed_is_refused(saved: Path) -> None:
    path = saved / RECORD_FILE
    path.write_text(path.read_text().replace("six films", "all films"))
    with pytest.raises(BadWeights, match=r"segmenter\.json: expected sha256"):
        load_segmenter(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("sample"), r"segmenter\.json is malformed"),
        (lambda r: r.update(preprocessing="other@1"), "expects preprocessing other@1"),
        (lambda r: r.update(architecture={"side": 32, "widths": [4, 9]}), "does not fit"),
        (lambda r: r.update(architecture={"side": 32}), "does not fit"),
    ],
)
def test_a_sealed_record_of_something_else_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    resealed(saved, change)
    with pytest.raises(BadWeights, match=message):
        load_segmenter(saved)


def test_numbers_that_are_not_finite_are_refused(saved: Path) -> None:
    path = saved / WEIGHTS_FILE
    state = load_file(path)
    state["out.bias"][0] = float("inf")
    save_file(state, path)
    resealed(saved, lambda r: r.update(weights=hashlib.sha256(path.read_bytes()).hexdigest()))
    with pytest.raises(BadWeights, match="not finite"):
        load_segmenter(saved)


def test_the_shipped_segmenter_is_small() -> None:
    shipped = load_segmenter(SHIPPED)
    assert isinstance(shipped, Segmenter)
    assert shipped.record.name == "thorax-unet"
    assert (SHIPPED / WEIGHTS_FILE).stat().st_size <= 1_500_000


@pytest.mark.parametrize("name", ["normal", "consolidation", "devices", "nodule", "pneumothorax"])
def test_the_shipped_segmenter_measures_the_heart_of_a_phantom(name: str) -> None:
    shipped, case = load_segmenter(SHIPPED), CASES[name]
    assert shipped is not None
    phantom = render(case.anatomy, case.pathologies, case.devices, seed=0)
    masks = shipped.read(decode(png(phantom, 8)))
    middles = [float(np.nonzero(masks.mask(s))[1].mean()) for s in ("right lung", "heart", "left lung")]
    assert middles == sorted(middles)  # the patient's right lies on the viewer's left
    measured = cardiothoracic_ratio(masks)
    assert measured.value == pytest.approx(truth(phantom)["cardiothoracic_ratio"], abs=0.03)


def test_the_shipped_limits_belong_to_the_shipped_segmenter() -> None:
    shipped = load_segmenter(SHIPPED)
    assert shipped is not None
    limits = load_limits(SHIPPED, shipped.record.id)
    assert limits is not None
    assert 0.4 < limits.normal_below < 0.5 < limits.enlarged_from < 0.75
