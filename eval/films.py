"""The films of a measured folder: frontal, labelled, of one split or all, in either layout."""

from __future__ import annotations

from pathlib import Path

from knowledge_base.records import digest
from rag_service.datasets import nih, openi
from rag_service.datasets.films import DatasetError, FilmRow, Split


def read(folder: Path, split: Split | None = None) -> list[FilmRow]:
    """Frontal films of an Open-i or NIH folder, labelled or not; DatasetError when it is neither or none is labelled."""
    rows = _reader(folder)
    kept = [r for r in rows if r.presentation in {"frontal", None} and (split is None or r.split is split)]
    if not labelled(kept):
        raise DatasetError(
            f"{folder.name}/ holds no labelled frontal film" + (f" of the {split} split" if split else "")
        )
    return kept


def labelled(rows: list[FilmRow]) -> list[FilmRow]:
    """Those that can be scored."""
    return [r for r in rows if r.labels]


def signature(rows: list[FilmRow]) -> str:
    """SHA-256 of which films were measured: source, study and file name of each."""
    return digest(sorted([r.source, r.study, r.path.name] for r in rows))


def _reader(folder: Path) -> list[FilmRow]:
    if not folder.is_dir():
        raise DatasetError(f"{folder.name}/ is no folder")
    try:
        return nih.films(folder)
    except DatasetError:
        return openi.films(folder)
