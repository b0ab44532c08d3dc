"""Collections used only in training and in testing the gate: ROCOv2, Cohen, and pictures that are no chest films."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rag_service.datasets.films import FilmRow, read_table

_OPACITY = {"Lung Opacity": True, "No Finding": False}
_PNEUMONIA = {**_OPACITY, "Pneumonia": True}
_COHEN: Mapping[str, Mapping[str, bool]] = {
    "No Finding": {"Lung Opacity": False, "Pneumonia": False, "Pneumothorax": False}
}
_INFECTIONS = ("covid", "pneumonia", "sars", "strepto", "pneumocystis", "klebsiella", "legionella", "mers", "varicella")


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


def _cohen(folder: Path, row: Mapping[str, str]) -> FilmRow:
    finding, view = row["finding"], row["view"]
    infected = any(word in finding.lower() for word in _INFECTIONS)
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
