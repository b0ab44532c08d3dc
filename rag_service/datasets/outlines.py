"""Where the lungs and the heart lie on films of three collections: outlines drawn by hand, and rectangles around structures.

JSRT's masks: van Ginneken et al., Medical Image Analysis 2006;10:19-40. Rectangles of lungs on Cohen's films come in his
collection's own COCO file; the `anatomy_devices` table holds a radiologist's objects on some of the same films.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rag_service.datasets.films import DatasetError, read_table

BITS: Final[Mapping[str, int]] = {"right lung": 1, "left lung": 2, "heart": 4}
"""Structure, with the patient's side -> its bit in JSRT's masks. The heart lies over both lungs."""
LUNG_BOXES: Final = "imageannotation_ai_lung_bounding_boxes.json"
OBJECTS: Final = "objects.csv"
OBJECT_NAMES: Final[Mapping[str, str]] = {
    "COVID-19 Right Lung": "right lung",
    "COVID-19 Left Lung": "left lung",
    "COVID-19 Cardiomediastinum": "cardiomediastinum",
}


@dataclass(frozen=True)
class Outline:
    """A rectangle around a structure of a film, named by its file's stem; x_min to y_max in fractions of the film."""

    film: str
    structure: str
    x_min: float
    y_min: float
    x_max: float
    y_max: float


def masks(path: Path, side: int) -> NDArray[np.uint8]:
    """JSRT's outlines of one film, uint8 (3, side, side) of 0 and 1 in the order of BITS; DatasetError when unreadable."""
    try:
        with Image.open(path) as image:
            bits = np.asarray(image.convert("L").resize((side, side), Image.Resampling.NEAREST))
    except OSError as error:
        raise DatasetError(f"{path.name} is missing from {path.parent.name}/, or is no picture") from error
    return np.stack([((bits & bit) > 0).astype(np.uint8) for bit in BITS.values()])


def lung_boxes(folder: Path) -> list[Outline]:
    """The lungs of Cohen's films; empty where the file is absent. DatasetError when it is not laid out as COCO."""
    path = folder / LUNG_BOXES
    if not path.is_file():
        return []
    try:
        return list(_coco(json.loads(path.read_text("utf-8"))))
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{LUNG_BOXES} is no table of rectangles") from error


def object_boxes(folder: Path) -> list[Outline]:
    """Lungs and cardiomediastinum of the `anatomy_devices` films; DatasetError for a row that is no rectangle on its film."""
    columns = ("Class", "Filename", "Resolution", "Top", "Left", "Width", "Height")
    rows = read_table(folder / OBJECTS, columns)
    return [_object(row) for row in rows if row["Class"] in OBJECT_NAMES]


def _coco(content: Mapping[str, Any]) -> Iterator[Outline]:
    films = {i["id"]: i for i in content["images"]}
    names = {c["id"]: c["name"].lower() for c in content["categories"]}
    for drawn in content["annotations"]:
        film = films[drawn["image_id"]]
        size = (film["width"], film["height"])
        if None not in (*drawn["bbox"], *size):  # a few rectangles and film sizes were left open
            yield _outline(film["file_name"], names[drawn["category_id"]], drawn["bbox"], size)


def _object(row: Mapping[str, str]) -> Outline:
    try:
        size = [float(n) for n in row["Resolution"].split("x")]
        place = [float(row[c]) for c in ("Left", "Top", "Width", "Height")]
        return _outline(row["Filename"], OBJECT_NAMES[row["Class"]], place, size)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"an object of {OBJECTS} is no rectangle on its film") from error


def _outline(name: str, structure: str, place: Any, size: Any) -> Outline:
    """From left, top, width and height in pixels of a film (columns, rows); ValueError when no part lies on the film."""
    (left, top, width, height), (columns, rows) = place, size
    found = Outline(
        Path(name).stem,
        structure,
        max(left / columns, 0.0),
        max(top / rows, 0.0),
        min((left + width) / columns, 1.0),
        min((top + height) / rows, 1.0),
    )
    if not (found.x_min < found.x_max and found.y_min < found.y_max):
        raise ValueError("no part of the rectangle lies on the film")
    return found
