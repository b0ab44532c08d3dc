"""Outlines and rectangles of lungs and heart, as three collections hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rag_service.datasets.films import DatasetError
from rag_service.datasets.outlines import LUNG_BOXES, OBJECTS, Outline, lung_boxes, masks, object_boxes

HEADER = "Class,Filename,Resolution,Top,Left,Width,Height"


def coco(**changed: Any) -> dict[str, Any]:
    return {
        "categories": [{"id": 1, "name": "Right Lung"}, {"id": 2, "name": "Left Lung"}],
        "images": [
            {"id": 5, "file_name": "a.b.jpeg", "width": 400, "height": 200},
            {"id": 6, "file_name": "unsized.jpeg", "width": None, "height": None},
        ],
        "annotations": [
            {"image_id": 5, "category_id": 1, "bbox": [40, 20, 100, 150]},
            {"image_id": 5, "category_id": 2, "bbox": [240, -10, 200, 190]},
            {"image_id": 5, "category_id": 2, "bbox": [240, None, 200, 190]},
            {"image_id": 6, "category_id": 2, "bbox": [240, 10, 200, 190]},
        ],
        **changed,
    }


def write_coco(folder: Path, content: Any) -> Path:
    (folder / LUNG_BOXES).write_text(json.dumps(content))
    return folder


def test_bits_of_a_mask_are_structures_and_the_heart_lies_over_a_lung(tmp_path: Path) -> None:
    bits = np.zeros((8, 8), np.uint8)
    bits[2:6, 0:3], bits[2:6, 5:8], bits[4:6, 3:7] = 1, 2, 4
    bits[4:6, 5:7] = 6
    Image.fromarray(bits).save(tmp_path / "film.png")
    found = masks(tmp_path / "film.png", 8)
    assert found.dtype == np.uint8
    assert found.sum((1, 2)).tolist() == [12, 12, 8]
    assert found[:, 4, 5].tolist() == [0, 1, 1]
    assert masks(tmp_path / "film.png", 16).sum((1, 2)).tolist() == [48, 48, 32]


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "film.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"film\.png is missing from .*/, or is no picture"):
        masks(tmp_path / "film.png", 8)


def test_rectangles_of_lungs_are_fractions_of_their_film(tmp_path: Path) -> None:
    assert lung_boxes(write_coco(tmp_path, coco())) == [
        Outline("a.b", "right lung", 0.1, 0.1, 0.35, 0.85),
        Outline("a.b", "left lung", 0.6, 0.0, 1.0, 0.9),
    ]


def test_a_folder_without_rectangles_has_none(tmp_path: Path) -> None:
    assert lung_boxes(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        coco(images=[]),
        coco(categories=[]),
        coco(annotations=[{"image_id": 5, "category_id": 1, "bbox": [400, 20, 100, 150]}]),
        coco(annotations=[{"image_id": 5, "category_id": 1, "bbox": [40, 20, 100]}]),
    ],
)
def test_a_table_that_is_no_coco_is_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DatasetError, match=r"imageannotation_ai_lung_bounding_boxes\.json is no table of rectangles"):
        lung_boxes(write_coco(tmp_path, content))


def test_objects_of_other_kinds_are_left_out(tmp_path: Path) -> None:
    rows = [
        "COVID-19 Left Lung,case-1.jpeg,200x100,10,100,60,80",
        "COVID-19 Cardiomediastinum,case-1.jpeg,200x100,20,60,80,70",
        "COVID-19 Consolidation,case-1.jpeg,200x100,30,120,20,20",
    ]
    (tmp_path / OBJECTS).write_text("\n".join([HEADER, *rows]))
    assert object_boxes(tmp_path) == [
        Outline("case-1", "left lung", 0.5, 0.1, 0.8, 0.9),
        Outline("case-1", "cardiomediastinum", 0.3, 0.2, 0.7, 0.9),
    ]


@pytest.mark.parametrize("row", ["200x100,10,,60,80", "200,10,100,60,80", "200x100,10,200,60,80", "axb,1,1,1,1"])
def test_an_object_that_is_no_rectangle_is_an_error(tmp_path: Path, row: str) -> None:
    (tmp_path / OBJECTS).write_text(f"{HEADER}\nCOVID-19 Left Lung,case-1.jpeg,{row}")
    with pytest.raises(DatasetError, match=r"an object of objects\.csv is no rectangle on its film"):
        object_boxes(tmp_path)
