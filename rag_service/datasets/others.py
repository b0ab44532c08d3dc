"""Collections used only in training and in measurements: ROCOv2, Cohen, JSRT, children's films, pictures of no chest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from rag_service.datasets.films import DatasetError, FilmRow, read_table

_OPACITY = {"Lung Opacity": True, "No Finding": False}
_PNEUMONIA = {**_OPACITY, "Pneumonia": True}
_COHEN: Mapping[str, Mapping[str, bool]] = {
    "No Finding": {"Lung Opacity": False, "Pneumonia": False, "Pneumothorax": False}
}
_JSRT: Mapping[str, Mapping[str, bool]] = {
    "JPCLN": {"Lung Lesion": True, "No Finding": False},
    "JPCNN": {"Lung Lesion": False, "No Finding": True},
}
_CHILDREN: Mapping[str, Mapping[str, bool]] = {
    "pneumonia": _PNEUMONIA,
    "normal": {"Lung Opacity": False, "Pneumonia": False, "No Finding": True},
}
_CHILD = re.compile(r"(pneumonia|normal)_(person\d+|(?:NORMAL\d-)?IM-\d+)")
INFECTIONS = ("covid", "pneumonia", "sars", "strepto", "pneumocystis", "klebsiella", "legionella", "mers", "varicella")
"""Words of Cohen's `finding` that name a pneumonia."""


def rocov2(folder: Path) -> list[FilmRow]:
    """Published figures with captions. No patients and no labels: the caption is all that is known."""
    rows = read_table(folder / "captions.csv", ("file", "caption"))
    return [
        FilmRow("rocov2", folder / r["file"], r["file"], r["file"], text=r["caption"])
        for r in rows
        if (folder / r["file"]).is_file()
    ]


def cohen(folder: Path) -> list[FilmRow]:
    """Case reports of pneumonia and other disease; grouped by patient, the diagnosis taken as label where it is one."""
    rows = read_table(folder / "metadata.csv", ("file", "patientid", "finding", "view"))
    return [_cohen(folder, r) for r in rows if (folder / r["file"]).is_file()]


def not_chest(folder: Path) -> list[FilmRow]:
    """Other radiology pictures."""
    rows = read_table(folder / "captions.csv", ("file",))
    return [
        FilmRow("not_chest", folder / r["file"], r["file"], r["file"], presentation="not_chest")
        for r in rows
        if (folder / r["file"]).is_file()
    ]


def jsrt(folder: Path) -> list[FilmRow]:
    """JSRT, `images/JPCLN*` with a lung nodule and `images/JPCNN*` without one; one film a patient.

    Shiraishi et al., AJR 2000;174:71-74. DatasetError when there is no such film.
    """
    found = [p for p in _pictures(folder) if p.name[:5] in _JSRT]
    if not found:
        raise DatasetError(f"{folder.name}/images holds no JPCLN* or JPCNN* film")
    return [FilmRow("jsrt", p, p.stem, p.stem, labels=_JSRT[p.name[:5]], presentation="frontal") for p in found]


def paediatric(folder: Path) -> list[FilmRow]:
    """Children of one to five years, `images/pneumonia_*` and `images/normal_*`; the patient is the part of the name that
    numbers a person or a study.

    Kermany et al., Cell 2018;172:1122-1131. DatasetError when there is no such film.
    """
    found = [(p, match) for p in _pictures(folder) if (match := _CHILD.match(p.name))]
    if not found:
        raise DatasetError(f"{folder.name}/images holds no pneumonia_* or normal_* film")
    return [
        FilmRow("paediatric", p, p.stem, match[2], labels=_CHILDREN[match[1]], presentation="frontal")
        for p, match in found
    ]


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / "images").glob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg"})


def _cohen(folder: Path, row: Mapping[str, str]) -> FilmRow:
    finding, view = row["finding"], row["view"]
    infected = any(word in finding.lower() for word in INFECTIONS)
    return FilmRow(
        "cohen",
        folder / row["file"],
        Path(row["file"]).stem,
        row["patientid"],
        labels=_PNEUMONIA if infected else _COHEN.get(finding, {}),
        presentation="lateral" if view == "L" else "frontal" if view in {"PA", "AP", "AP Supine"} else None,
        view=view or None,
        sex=row.get("sex") or None,
    )
