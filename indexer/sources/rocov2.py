"""ROCOv2: figures of published articles with captions. There are no patients: each figure stands for one.

Two layouts: `captions.csv` (file, caption) of chest films alone, or the public one, `train_captions.csv` and
`valid_captions.csv` (ID, Caption) beside `train/` and `valid/` (or `train_images/` ...) with `<ID>.jpg`, whose
`*_concepts_manual.csv` (ID, CUIs) say which figures are plain chest films; the public test part is left out.
Rückert et al., Sci Data 2024;11:688.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from indexer.sources import files
from indexer.studies import Skipped, Study
from rag_service.datasets.films import DatasetError

SOURCE: Final = "rocov2"
PARTS: Final = ("train", "valid")
CHEST_FILM: Final = frozenset({"C1306645", "C0817096"})
"""UMLS concepts of a plain radiograph and of the chest; ROCOv2's curators gave both to a chest film."""


def studies(folder: Path) -> Iterator[Study | Skipped]:
    """One study per captioned figure, in the order of the tables. DatasetError when the folder has neither layout."""
    if table := files.table(folder, "captions.csv"):
        for row in files.rows(table, ("file", "caption")):
            yield _study(folder, (row["file"],), row["caption"])
        return
    for part in PARTS:
        chest = _chest(folder, part)
        for row in files.rows(files.needed(folder, f"{part}_captions.csv"), ("ID", "Caption")):
            if row["ID"] not in chest:
                yield Skipped(row["ID"], "no_chest_film")
            else:
                places = tuple(f"{place}/{row['ID']}.jpg" for place in (part, f"{part}_images"))
                yield _study(folder, places, row["Caption"])


def _chest(folder: Path, part: str) -> frozenset[str]:
    """Ids of the part's plain chest films."""
    table = files.needed(folder, f"{part}_concepts_manual.csv")
    return frozenset(r["ID"] for r in files.rows(table, ("ID", "CUIs")) if set(r["CUIs"].split(";")) >= CHEST_FILM)


def _study(folder: Path, places: tuple[str, ...], caption: str) -> Study | Skipped:
    study = PurePosixPath(places[0]).stem
    if not study or not caption.strip():
        return Skipped(study or "row without a file", "no_report" if study else "no_study_or_patient")
    reason = "file_missing"
    for place in places:
        try:
            return Study(SOURCE, study, study, files.inside(folder, place), caption.strip())
        except DatasetError as error:
            reason = str(error)
    return Skipped(study, reason)
