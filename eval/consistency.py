"""python -m eval consistency DIR: how many reports contradict their films, and how many would if they were exchanged.

The rule is the one that indexing marks cases by (`rag_service.report.consistency`). Exchanged reports are drawn by seed, none of
a film's own patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval import films
from knowledge_base.records import Case
from rag_service.calibration import Calibration
from rag_service.datasets.films import DatasetError, FilmRow
from rag_service.report.consistency import consistent
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences


def measure(
    rows: Sequence[FilmRow], scores: NDArray[np.float64], calibration: Calibration, seed: int
) -> dict[str, Any]:
    """Pairs that fail among films with their own reports and with others'; `scores` (n, 14) before calibration."""
    if len({r.patient for r in rows}) < 2:
        raise DatasetError("reports of two patients are needed to exchange them")
    labeler = Labeler()
    cases = [_case(r, labeler) for r in rows]
    others = _exchanged(rows, seed)
    own = [consistent(case, s, calibration) for case, s in zip(cases, scores, strict=True)]
    swapped = [consistent(cases[o], s, calibration) for o, s in zip(others, scores, strict=True)]
    return {
        "pairs": len(rows),
        "own_failed": own.count(False),
        "exchanged_failed": swapped.count(False),
        "failed": [r.study for r, good in zip(rows, own, strict=True) if not good],
        "seed": seed,
        "signature": {
            "films": films.signature(list(rows)),
            "model": calibration.model,
            "thresholds": calibration.digest,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    pairs, exchanged = result["pairs"], result["exchanged_failed"]
    return (
        f"{result['own_failed']} of {pairs} reports contradict their film\n"
        f"{exchanged} of {pairs} contradict somebody else's ({exchanged / pairs:.1%}), seed {result['seed']}"
    )


def _case(row: FilmRow, labeler: Labeler) -> Case:
    return Case(row.source, row.study, row.patient, row.text, read_case_sentences(row.text, labeler))


def _exchanged(rows: Sequence[FilmRow], seed: int) -> list[int]:
    """For each film the row of another patient's report."""
    rng = np.random.default_rng(seed)
    found = []
    for row in rows:
        while rows[other := int(rng.integers(len(rows)))].patient == row.patient:
            continue
        found.append(other)
    return found
