"""The objects that radiologists outlined on films of the Cohen collection: tubes and lines to keep, lungs to lay opacities in.

Layout: `objects.csv` (Class, Filename, Resolution "width x height", Left, Top, Width, Height in its pixels) beside `images/`,
where the films are JPEG whatever their name in the table. Probes and tubing are left out: their boxes cover whole films.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rag_service.datasets.films import DatasetError, read_table
from rag_service.imaging.film import Box

TABLE: Final = "objects.csv"
KEPT: Final = ("Endotracheal Tube", "Nosogastric Tube", "Central Venous Line")
LUNGS: Final = ("Left Lung", "Right Lung")
_COLUMNS: Final = ("Class", "Filename", "Resolution", "Left", "Top", "Width", "Height")


@dataclass(frozen=True)
class DeviceFilm:
    """A film with at least one tube or line and one lung, each a box."""

    path: Path
    devices: tuple[Box, ...]
    lungs: tuple[Box, ...]


def device_films(folder: Path) -> list[DeviceFilm]:
    """The films of the folder that show a tube or a line, by name. DatasetError when the table or every such film is missing."""
    where = {p.stem: p for p in sorted((folder / "images").glob("*"))}
    found: dict[str, dict[str, list[Box]]] = {}
    for row in read_table(folder / TABLE, _COLUMNS):
        for name, classes in (("devices", KEPT), ("lungs", LUNGS)):
            if row["Class"].endswith(classes) and (box := _box(row)):
                found.setdefault(Path(row["Filename"]).stem, {}).setdefault(name, []).append(box)
    films = [
        DeviceFilm(where[stem], tuple(objects["devices"]), tuple(objects["lungs"]))
        for stem, objects in sorted(found.items())
        if stem in where and len(objects) == 2
    ]
    if not films:
        raise DatasetError(f"{folder.name}/ holds no film with an outlined tube or line and an outlined lung")
    return films


def _box(row: Mapping[str, str]) -> Box | None:
    """None for an object without extent on the film."""
    try:
        width, height = map(float, row["Resolution"].split("x"))
        left, top, across, down = (float(row[c]) for c in ("Left", "Top", "Width", "Height"))
    except ValueError as error:
        raise DatasetError(f"{TABLE}: an object's place is not in numbers") from error
    x, y = (
        (max(left / width, 0.0), min((left + across) / width, 1.0)),
        (max(top / height, 0.0), min((top + down) / height, 1.0)),
    )
    return Box(x[0], y[0], x[1], y[1]) if x[0] < x[1] and y[0] < y[1] else None
