"""Chooses the relevance gate: the least overlap at which a case that states a finding says more of a film than chance does.

Every calibration film is paired with every case of another patient that states a finding; test studies are left out on both
sides. In a window of overlap, `lift` is how often what the case states is true of the film (by its hand-coded tags), over how
often it is true of calibration films at large. The gate opens where the lift first reaches 1, for each polarity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.records import SQRT3, Case
from rag_service.datasets.films import FilmRow, Split
from rag_service.models.starter import StarterCases
from rag_service.relevance import RelevanceGate
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences

COMMAND: Final = "python -m rag_service.training evidence-gate --data DIR"
STEPS: Final = 100
"""Overlaps are counted in hundredths."""
WINDOW: Final = 5
"""Hundredths of overlap over which a lift is taken."""
LEAST_PAIRS: Final = 500
"""A window with fewer pairs says nothing."""
_FINDINGS: Final = [i for i, f in enumerate(FINDINGS) if f != NO_FINDING]

Floats: TypeAlias = NDArray[np.float64]


def fit_relevance(cases: StarterCases, films: Sequence[FilmRow]) -> RelevanceGate | None:
    """The gate of the model that made `cases`, by the labels and reports of `films`; None when they are too few to tell."""
    rows = {r.study: r for r in reversed(films) if r.presentation == "frontal" and r.labels and r.text}
    kept = [i for i, s in enumerate(cases.studies) if s in rows and rows[s].split is not Split.TEST]
    of = [rows[cases.studies[i]] for i in kept]
    queries = np.flatnonzero([r.split is Split.CALIBRATION for r in of])
    if not len(queries):
        return None
    truth = np.array([[r.labels.get(f, False) for f in FINDINGS] for r in of], np.bool_)
    overlaps = _overlaps(cases.boxes[kept].astype(np.float64), queries)
    said = _stated(of)
    found = {p: opening(lifts(overlaps, said[p], truth[queries] != (p is Polarity.NEGATIVE))) for p in Polarity}
    least = {polarity: overlap for polarity, overlap in found.items() if overlap is not None}
    if len(least) < len(found):
        return None
    sample = f"openi/calibration: {len(queries)} films against {len(of)} cases"
    return RelevanceGate(cases.box_model, least, sample, COMMAND)


def lifts(overlaps: Floats, stated: NDArray[np.bool_], true: NDArray[np.bool_]) -> Floats:
    """(STEPS,) lift in the window that begins at each hundredth of overlap, NaN where it holds too few pairs.

    `overlaps` (q, m) of films and cases, NaN for a film's own; `stated` (m, 14) by the case; `true` (q, 14) of the film.
    """
    pairs, hits, chance = (np.zeros(STEPS + WINDOW) for _ in range(3))
    for finding in _FINDINGS:
        some = overlaps[:, stated[:, finding]]
        known = ~np.isnan(some)
        steps = np.minimum((some[known] * STEPS).astype(np.int64), STEPS - 1)
        holds = np.broadcast_to(true[:, [finding]], some.shape)[known]
        pairs += np.bincount(steps, minlength=STEPS + WINDOW)
        hits += np.bincount(steps, holds, minlength=STEPS + WINDOW)
        chance += np.bincount(steps, minlength=STEPS + WINDOW) * true[:, finding].mean()
    wide = [np.convolve(v, np.ones(WINDOW), "full")[WINDOW - 1 :][:STEPS] for v in (pairs, hits, chance)]
    enough = (wide[0] >= LEAST_PAIRS) & (wide[2] > 0)
    return np.asarray(np.where(enough, wide[1] / np.where(enough, wide[2], 1.0), np.nan))


def opening(lift: Floats) -> float | None:
    """The lowest overlap whose window has a lift of at least 1; None when none has."""
    reached = np.flatnonzero(np.nan_to_num(lift) >= 1.0)
    return float(reached[0] / STEPS) if len(reached) else None


def _overlaps(boxes: Floats, queries: NDArray[np.int64]) -> Floats:
    """(q, m) mean interval overlap of query films and cases, from box vectors (m, 2d); NaN for a film with itself."""
    half = boxes.shape[1] // 2
    centre, radius = boxes[:, :half], boxes[:, half:] * SQRT3
    found = np.empty((len(queries), len(boxes)))
    for row, query in zip(found, queries, strict=True):
        low = np.maximum(centre[query] - radius[query], centre - radius)
        high = np.minimum(centre[query] + radius[query], centre + radius)
        shared = np.clip(high - low, 0.0, None)
        row[:] = (shared / (2.0 * (radius[query] + radius) - shared)).mean(1)
        row[query] = np.nan
    return found


def _stated(rows: Sequence[FilmRow]) -> Mapping[Polarity, NDArray[np.bool_]]:
    """(m, 14) by polarity: what each study's report states."""
    labeler = Labeler()
    cases = [Case(r.source, r.study, r.patient, r.text, read_case_sentences(r.text, labeler)) for r in rows]
    return {p: np.array([[f in c.labels(p) for f in FINDINGS] for c in cases], np.bool_) for p in Polarity}
