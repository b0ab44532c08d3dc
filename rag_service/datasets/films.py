"""What a film collection offers, whatever its layout: one row per film, with what is known and what is not."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class DatasetError(ValueError):
    """The folder is not laid out as its reader expects; the message names the file and what is missing."""


class Split(StrEnum):
    """What a patient's films may be used for; never more than one of these."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


def split_of(source: str, patient: str) -> Split:
    """The split of a patient: a fixed hash of (source, patient), 74 % train, 13 % calibration, 13 % test."""
    bucket = int.from_bytes(hashlib.sha256(f"{source}/{patient}".encode()).digest()[:4], "big") % 100
    return Split.TRAIN if bucket < 74 else Split.CALIBRATION if bucket < 87 else Split.TEST


@dataclass(frozen=True)
class FilmRow:
    """One film of a collection.

    `labels` maps CheXpert observations to presence; an observation the source does not label is absent from it.
    `presentation` is "frontal", "lateral" or "not_chest" (of a few, "rotated" or "inverted": see `corrections`);
    `markers` says whether corner markers were left as they were ("original") or "markers_blacked_out". None where the source
    does not say.
    """

    source: str
    path: Path
    study: str
    patient: str
    labels: Mapping[str, bool] = field(default_factory=dict)
    tags: tuple[str, ...] | None = None
    text: str = ""
    presentation: str | None = None
    view: str | None = None
    sex: str | None = None
    age_years: int | None = None
    manufacturer: str | None = None
    markers: str | None = None

    @property
    def split(self) -> Split:
        """See `split_of`."""
        return split_of(self.source, self.patient)


def read_table(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV with a header; DatasetError when the file or a required column is missing, or it is no UTF-8 text."""
    if not path.is_file():
        raise DatasetError(f"{path.name} is missing from {path.parent.name}/")
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write the mark
        reader = csv.DictReader(file)
        try:
            missing = [c for c in required if c not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{path.name} lacks the columns {', '.join(missing)}")
            return list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{path.name} is no table in UTF-8") from error
