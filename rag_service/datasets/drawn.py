"""What somebody drew on films and said of it, in the layouts of four collections, as one noun.

NIH ChestX-ray14 (boxes by finding), MS-CXR (`MS_CXR_Local_Alignment*.csv`: a phrase for each set of boxes), VinDr-CXR
(`annotations*.csv`: boxes by class) and Chest ImaGenome (`*_SceneGraph.json`: regions with the sentences said of them). The last
three need credentials: their readers follow the published columns and are tested on made-up folders.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from knowledge_base.findings import FINDINGS
from rag_service.datasets import nih
from rag_service.datasets.films import DatasetError, FilmRow, read_table

MS_CXR: Final = "MS_CXR_Local_Alignment*.csv"
VINDR: Final = "annotations*.csv"
SCENES: Final = "*_SceneGraph.json"
FILM_ENDINGS: Final = (".jpg", ".jpeg", ".png", ".dcm", ".dicom")
VINDR_NAMES: Final[Mapping[str, str]] = {
    "Aortic enlargement": "Enlarged Cardiomediastinum",
    "ILD": "Lung Opacity",
    "Infiltration": "Lung Opacity",
    "Nodule/Mass": "Lung Lesion",
    "Pleural effusion": "Pleural Effusion",
    "Pleural thickening": "Pleural Other",
    "Pulmonary fibrosis": "Lung Opacity",
    "Rib fracture": "Fracture",
}
"""Classes that are called otherwise than the CheXpert finding they mean; a class of neither list is left out."""
SCENE_NAMES: Final[Mapping[str, str]] = {
    "enlarged cardiac silhouette": "Cardiomegaly",
    "mass/nodule (not otherwise specified)": "Lung Lesion",
    "pulmonary edema/hazy opacity": "Edema",
    **{f.lower(): f for f in FINDINGS[1:]},
}

Place = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in units of `Drawn.side`."""


@dataclass(frozen=True)
class Drawn:
    """Places that somebody drew on a film for one finding, and the phrase that was said of them, "" for none.

    `side` is the width and height that the places refer to: (1, 1) for fractions, None for pixels of the film as it is.
    """

    row: FilmRow
    finding: str
    phrase: str
    places: tuple[Place, ...]
    side: tuple[float, float] | None

    def fractions(self, columns: int, rows: int) -> tuple[Place, ...]:
        """The places as fractions of a film of so many columns and rows, cut at its edges. DatasetError for one beside the film."""
        width, height = self.side or (columns, rows)
        return tuple(self._cut(place, width, height) for place in self.places)

    def _cut(self, place: Place, width: float, height: float) -> Place:
        x_min, x_max = (min(max(v / width, 0.0), 1.0) for v in place[0::2])
        y_min, y_max = (min(max(v / height, 0.0), 1.0) for v in place[1::2])
        if not (x_min < x_max and y_min < y_max):
            raise DatasetError(f"a box of {self.row.study} has no part on its film")
        return x_min, y_min, x_max, y_max


def drawn(folder: Path) -> list[Drawn]:
    """Everything drawn on films that are there, in the order of its tables. DatasetError for a folder of no such layout."""
    if tables := sorted(folder.glob(MS_CXR)):
        return _ms_cxr(folder, tables[-1])
    if tables := sorted(folder.glob(VINDR)):
        return [d for table in tables for d in _vindr(folder, table)]
    if scenes := sorted(folder.rglob(SCENES)):
        return [d for scene in scenes for d in _scene(scene, _films(folder))]
    return _nih(folder)


def _nih(folder: Path) -> list[Drawn]:
    rows = {r.path.stem: r for r in nih.films(folder)}
    found: dict[tuple[str, str], list[Place]] = {}
    for b in nih.boxes(folder):
        found.setdefault((Path(b.image).stem, b.finding), []).append((b.x_min, b.y_min, b.x_max, b.y_max))
    return [Drawn(rows[i], f, "", tuple(places), (1.0, 1.0)) for (i, f), places in found.items() if i in rows]


def _ms_cxr(folder: Path, path: Path) -> list[Drawn]:
    columns = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
    films = _films(folder)
    found: dict[tuple[str, str, str], tuple[FilmRow, tuple[float, float], list[Place]]] = {}
    for row in read_table(path, columns):
        if (film := films.get(row["dicom_id"])) is None or row["category_name"] not in FINDINGS:
            continue
        x, y, w, h, width, height = (_number(row[c], path) for c in columns[4:])
        patient, study = ([p for p in Path(row["path"]).parts if p[:1] == letter][-1:] or [""] for letter in "ps")
        film_row = FilmRow("mimic-cxr", film, study[0], patient[0], presentation="frontal")
        key = (row["dicom_id"], row["category_name"], row["label_text"])
        found.setdefault(key, (film_row, (width, height), []))[2].append((x, y, x + w, y + h))
    return [Drawn(r, f, text, tuple(places), side) for (_, f, text), (r, side, places) in found.items()]


def _vindr(folder: Path, path: Path) -> list[Drawn]:
    columns = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
    films = _films(folder)
    found: dict[tuple[str, str], list[Place]] = {}
    for row in read_table(path, columns):
        finding = VINDR_NAMES.get(row["class_name"], row["class_name"])
        if row["image_id"] in films and finding in FINDINGS[1:] and row["x_min"]:
            x_min, y_min, x_max, y_max = (_number(row[c], path) for c in columns[2:])
            found.setdefault((row["image_id"], finding), []).append((x_min, y_min, x_max, y_max))
    rows = {i: FilmRow("vindr-cxr", films[i], i, i, presentation="frontal") for i, _ in found}
    return [Drawn(rows[i], f, "", tuple(places), None) for (i, f), places in found.items()]


def _scene(path: Path, films: Mapping[str, Path]) -> Iterator[Drawn]:
    """Of every region the sentences that say a finding is there. Nothing where the film is not at hand."""
    try:
        scene = json.loads(path.read_text("utf-8"))
        if (film := films.get(str(scene["image_id"]))) is None:
            return
        row = _scene_row(scene, film)
        places = {o["bbox_name"]: _place(o) for o in scene["objects"]}
        said = [
            (a["bbox_name"], *pair)
            for a in scene["attributes"]
            for pair in zip(a["phrases"], a["attributes"], strict=True)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path.name} is no scene graph") from error
    for region, phrase, attributes in said:
        for finding in _present(attributes) if region in places else ():
            yield Drawn(row, finding, " ".join(phrase.split()), (places[region],), None)


def _place(region: Mapping[str, Any]) -> Place:
    x_min, y_min, x_max, y_max = (float(region[f"original_{corner}"]) for corner in ("x1", "y1", "x2", "y2"))
    return x_min, y_min, x_max, y_max


def _scene_row(scene: Mapping[str, Any], film: Path) -> FilmRow:
    return FilmRow("mimic-cxr", film, f"s{scene['study_id']}", f"p{scene['patient_id']}", presentation="frontal")


def _present(attributes: Sequence[str]) -> list[str]:
    """The findings that a sentence's attributes, "anatomicalfinding|yes|lung opacity", say are there."""
    parts = [a.split("|") for a in attributes]
    found = [
        SCENE_NAMES.get(p[2])
        for p in parts
        if len(p) == 3 and p[0] in {"anatomicalfinding", "disease"} and p[1] == "yes"
    ]
    return list(dict.fromkeys(f for f in found if f is not None))


def _films(folder: Path) -> dict[str, Path]:
    """Films below a folder by name."""
    return {p.stem: p for p in sorted(folder.rglob("*")) if p.suffix.lower() in FILM_ENDINGS}


def _number(text: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(f"{path.name} has a box that is no four numbers")
    return value
