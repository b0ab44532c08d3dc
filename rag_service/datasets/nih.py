"""NIH ChestX-ray14: films with 14 text-mined labels, patients, and radiologist boxes on some.

Layouts: `images.csv` (file, image, patient_id, view, age, sex, labels, rsna_opacity, source) with `boxes_1024.csv`, or the public
`Data_Entry_2017*.csv` with `BBox_List_2017.csv` and a folder of films. Cite Wang et al., CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rag_service.datasets import corrections
from rag_service.datasets.films import DatasetError, FilmRow, read_table

SOURCE: Final = "nih"
ORIGINAL_SIDE: Final = 1024.0
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "Cardiomegaly": ("Cardiomegaly",),
    "Infiltration": ("Lung Opacity",),
    "Pneumonia": ("Lung Opacity", "Pneumonia"),
    "Consolidation": ("Lung Opacity", "Consolidation"),
    "Edema": ("Lung Opacity", "Edema"),
    "Atelectasis": ("Lung Opacity", "Atelectasis"),
    "Effusion": ("Pleural Effusion",),
    "Pneumothorax": ("Pneumothorax",),
    "Nodule": ("Lung Lesion",),
    "Mass": ("Lung Lesion",),
    "Pleural_Thickening": ("Pleural Other",),
    "Emphysema": (),
    "Fibrosis": (),
    "Hernia": (),
    "No Finding": ("No Finding",),
}
"""NIH name -> CheXpert observations it asserts. Fracture, devices and the mediastinum are not labelled by this source."""
LABELLED: Final = tuple(sorted({f for fs in NAMES.values() for f in fs}))
BOX_NAMES: Final[Mapping[str, str]] = {
    "Lung Opacity": "Lung Opacity",
    "Effusion": "Pleural Effusion",
    "Cardiomegaly": "Cardiomegaly",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "Pneumonia": "Pneumonia",
    "Atelectasis": "Atelectasis",
    "Infiltrate": "Lung Opacity",
    "Pneumothorax": "Pneumothorax",
}


BOX_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "boxes_1024.csv": ("image", "finding", "x", "y", "w", "h"),
    "BBox_List_2017.csv": ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"),
}
"""File -> its columns of image, finding, left, top, width and height, in pixels of the original."""


@dataclass(frozen=True)
class ReaderBox:
    """A radiologist's rectangle: x_min, y_min, x_max, y_max in fractions of the film."""

    image: str
    finding: str
    x_min: float
    y_min: float
    x_max: float
    y_max: float


def labels(names: str, rsna_opacity: str = "") -> dict[str, bool]:
    """Observations from the "A|B|C" label string; a radiologist's opacity reading, where there is one, overrules it."""
    stated = [n.strip() for n in names.split("|") if n.strip()]
    if unknown := [n for n in stated if n not in NAMES]:
        raise DatasetError(f"unknown NIH labels: {', '.join(unknown)}")
    present = {f for n in stated for f in NAMES[n]}
    found = {f: f in present for f in LABELLED}
    if rsna_opacity in {"0", "1"}:
        found["Lung Opacity"] = rsna_opacity == "1"
        found["No Finding"] = found["No Finding"] and rsna_opacity == "0"
    return found


def films(folder: Path) -> list[FilmRow]:
    """Every film present, in the order of the table."""
    if (folder / "images.csv").is_file():
        rows = read_table(folder / "images.csv", ("file", "image", "patient_id", "view", "age", "sex", "labels"))
        return [
            _film(folder / r["file"], r, r["patient_id"], r["labels"]) for r in rows if (folder / r["file"]).is_file()
        ]
    tables = sorted(folder.glob("Data_Entry_2017*.csv"))
    if not tables:
        raise DatasetError(f"{folder.name}/ holds neither images.csv nor Data_Entry_2017*.csv")
    where = {p.name: p for p in folder.rglob("*.png")}
    public = read_table(tables[0], ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"))
    columns = {"Patient Age": "age", "View Position": "view", "Patient Gender": "sex", "Patient Sex": "sex"}
    return [
        _film(
            where[r["Image Index"]], {columns.get(k, k): v for k, v in r.items()}, r["Patient ID"], r["Finding Labels"]
        )
        for r in public
        if r["Image Index"] in where
    ]


def boxes(folder: Path) -> list[ReaderBox]:
    """The reader boxes of either layout's table, as fractions, by CheXpert name; an empty list when there is none.

    DatasetError for a box that is not four numbers or has no part on its film.
    """
    for name, columns in BOX_TABLES.items():
        if (folder / name).is_file():
            rows = [[row[c] or "" for c in columns] for row in read_table(folder / name, columns)]
            return [_box(image, finding, place) for image, finding, *place in rows if finding in BOX_NAMES]
    return []


def _box(image: str, finding: str, place: Sequence[str]) -> ReaderBox:
    try:
        x, y, w, h = (float(number) / ORIGINAL_SIDE for number in place)
    except ValueError as error:
        raise DatasetError(f"a reader box of {image} is not four numbers") from error
    box = ReaderBox(image, BOX_NAMES[finding], max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0))
    if not (box.x_min < box.x_max and box.y_min < box.y_max):
        raise DatasetError(f"a reader box of {image} has no part on its film")
    return box


def _film(path: Path, row: Mapping[str, str], patient: str, names: str) -> FilmRow:
    return FilmRow(
        source=SOURCE,
        path=path,
        study=Path(row.get("image") or path.name).stem,
        patient=patient,
        labels=labels(names, row.get("rsna_opacity", "")),
        presentation=corrections.presentation(path, "frontal"),
        view=row["view"] or None,
        sex=row.get("sex") or None,
        age_years=_age(row.get("age", "")),
        markers=row.get("source") or None,
    )


def _age(text: str) -> int | None:
    digits = "".join(c for c in text if c in "0123456789")
    if not 1 <= len(digits) <= 4:
        return None
    years = int(digits) // {"M": 12, "W": 52, "D": 365}.get(text.strip()[-1].upper(), 1)  # "013M" is 13 months
    return years if years <= 120 else None
