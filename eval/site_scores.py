"""A site's raw scores, with its own labels where it has them: the CSV that `python -m eval labels --raw-scores` writes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS
from rag_service.datasets.films import DatasetError, read_table
from rag_service.errors import BadWeights

Floats = NDArray[np.float64]

LABEL: Final = "label:"
_LABELS: Final = {"0": 0.0, "1": 1.0, "": math.nan}


@dataclass(frozen=True, eq=False)
class SiteScores:
    """n films: raw scores (n, 14) in [0, 1], labels (n, 14) of 1, 0 or NaN, patients (n,), SHA-256 of the file."""

    scores: Floats
    labels: Floats
    patients: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.scores)


def read(path: Path, model: str) -> SiteScores:
    """The scores of a file. DatasetError, naming line and column, for what cannot be read; BadWeights for another model's.

    Columns: `file`, one for each finding; if wanted `patient` (whose films are never divided; else each film is one), `model`
    and `label:<finding>`, holding 1, 0 or nothing. No other is accepted.
    """
    rows = read_table(path, ("file", *FINDINGS))
    if not rows:
        raise DatasetError(f"{path.name} holds no film")
    _refuse_strangers(path, rows[0])
    files = [r["file"] for r in rows]
    if len(set(files)) < len(files):
        raise DatasetError(f"{path.name} names a film twice")
    if any(r.get("model", model) != model for r in rows):
        raise BadWeights(f"{path.name} holds scores of another model, this one is {model}; score the films anew")
    return SiteScores(
        scores=np.array([[_score(path, n, r, f) for f in FINDINGS] for n, r in enumerate(rows, 2)]),
        labels=np.array([[_label(path, n, r, f) for f in FINDINGS] for n, r in enumerate(rows, 2)]),
        patients=tuple(r.get("patient") or r["file"] for r in rows),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _refuse_strangers(path: Path, row: Mapping[str, str]) -> None:
    known = {"file", "patient", "model", *FINDINGS, *(LABEL + f for f in FINDINGS)}
    strangers: Sequence[str] = sorted(str(c) for c in row if c not in known)
    if strangers:
        raise DatasetError(f"{path.name} has columns that are not known: {', '.join(strangers)}")


def _score(path: Path, line: int, row: Mapping[str, str], finding: str) -> float:
    try:
        value = float(row[finding])
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path.name}, line {line}: {finding} is not a number") from error
    if not 0.0 <= value <= 1.0:  # NaN too
        raise DatasetError(f"{path.name}, line {line}: {finding} lies outside 0 and 1")
    return value


def _label(path: Path, line: int, row: Mapping[str, str], finding: str) -> float:
    text = row.get(LABEL + finding)
    if (text or "") not in _LABELS:
        raise DatasetError(f"{path.name}, line {line}: {LABEL}{finding} is neither 1, 0 nor empty")
    return _LABELS[text or ""]
