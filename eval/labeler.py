"""How well the rule labeler reads: against Open-i's hand-coded MeSH tags, and against an independent labeler.

MeSH tags are of a study and say presence only, so each labeler's reading becomes presence twice: uncertain counted as
present, and as absent. Pooled numbers are over the twelve pathologies and Support Devices; No Finding stands apart.
Intervals are percentile bootstraps over studies. Phrases were tuned on the studies that are not `kept_back`.
A published peer between two rule labelers agrees at a kappa of 0.702.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from rag_service.datasets.films import DatasetError
from rag_service.datasets.openi import ARCHIVE, Report
from rag_service.datasets.openi import reports as read_reports

HELDOUT: Final = "heldout_studies.txt"
RESAMPLES: Final = 500
POOLED: Final = "pooled"
READINGS: Final = (*(p.value for p in Polarity), "unmentioned")
COMPARED: Final = (("rules", "mesh"), ("rules", "context"), ("context", "mesh"))
Interval = tuple[float, float]


@dataclass(frozen=True)
class Rate:
    """A proportion with its counts; `value` and `interval` are None when the denominator is 0."""

    numerator: int
    denominator: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Agreement:
    """One observation (or `pooled`) read by two parties: counts with the second as reference, Cohen's kappa, rates."""

    finding: str
    both: int
    first_only: int
    second_only: int
    neither: int
    kappa: float | None
    kappa_interval: Interval | None
    precision: Rate
    recall: Rate
    f1: Rate


@dataclass(frozen=True)
class Comparison:
    """Two parties over a set of studies, uncertain counted as present or as absent."""

    first: str
    second: str
    uncertain_is: str
    rows: tuple[Agreement, ...]

    def row(self, finding: str) -> Agreement:
        """The agreement on one observation, or on `pooled`."""
        return next(r for r in self.rows if r.finding == finding)


@dataclass(frozen=True)
class Part:
    """A set of studies: all of them, or those kept back from tuning."""

    name: str
    studies: int
    comparisons: tuple[Comparison, ...]
    polarity_by_mesh: Mapping[str, Mapping[str, int]]
    polarity_by_context: Mapping[str, Mapping[str, int]]

    def comparison(self, first: str, second: str, uncertain_is: str = "absent") -> Comparison:
        """One of the comparisons."""
        wanted = (first, second, uncertain_is)
        return next(c for c in self.comparisons if (c.first, c.second, c.uncertain_is) == wanted)


@dataclass(frozen=True)
class LabelerScores:
    """The whole measurement, signed with what made it."""

    signature: str
    seed: int
    resamples: int
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        """ "all" or "kept_back"."""
        return next(p for p in self.parts if p.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain values; every rate with its denominator."""
        return asdict(self)

    def table(self) -> str:
        """Kappas per observation, rules' precision and recall against MeSH, and the polarity tables, as text."""
        return "\n\n".join([self.signature, *(_part_table(p) for p in self.parts)])


def load(folder: Path) -> dict[str, Report]:
    """Reports of an Open-i folder by study, without those listed in `heldout_studies.txt` when it lies there."""
    archive = folder / ARCHIVE
    if not archive.is_file():
        raise DatasetError(f"{folder.name}/ holds no {ARCHIVE}")
    listed = folder / HELDOUT
    heldout = set(listed.read_text(encoding="utf-8").split()) if listed.is_file() else set()
    return {study: report for study, report in read_reports(archive).items() if study not in heldout}


def kept_back(study: str) -> bool:
    """Whether a study was kept back from tuning the phrases: three in ten, by the hash of its id."""
    return int(hashlib.sha256(study.encode()).hexdigest(), 16) % 10 < 3


def measure(reports: Mapping[str, Report], seed: int = 0) -> LabelerScores:
    """Both labelers over every report that has text and MeSH tags. DatasetError when there is none."""
    from rag_service.report.context_labeler import ContextLabeler
    from rag_service.report.labeler import Labeler, overall

    chosen = [r for _, r in sorted(reports.items()) if r.text and r.labels]
    if not chosen:
        raise DatasetError("no report has both text and MeSH tags")
    rules, context = Labeler(), ContextLabeler()
    readings = {
        "rules": [overall(rules.read_report(r.text)) for r in chosen],
        "context": [context.read_report(r.text) for r in chosen],
    }
    mesh = np.array([[r.labels[f] for f in FINDINGS] for r in chosen])
    kept = np.array([kept_back(r.study) for r in chosen])
    signature = f"labeler|{rules.NAME_VERSION}|{context.NAME_VERSION}|n:{len(chosen)}|seed:{seed}|resamples:{RESAMPLES}"
    parts = [_part("all", readings, mesh, np.ones_like(kept), seed)]
    if kept.any():
        parts.append(_part("kept_back", readings, mesh, kept, seed))
    return LabelerScores(signature, seed, RESAMPLES, tuple(parts))


def _part(
    name: str,
    readings: Mapping[str, Sequence[Mapping[str, Polarity]]],
    mesh: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    seed: int,
) -> Part:
    kept = {who: [r for r, c in zip(rows, chosen, strict=True) if c] for who, rows in readings.items()}
    tagged = mesh[chosen]
    comparisons = []
    for uncertain_is in ("absent", "present"):
        present = {who: _presence(rows, uncertain_is) for who, rows in kept.items()} | {"mesh": tagged}
        comparisons += [Comparison(a, b, uncertain_is, _agreements(present[a], present[b], seed)) for a, b in COMPARED]
    by_mesh = _polarity_table(kept["rules"], [["present" if t else "absent" for t in row] for row in tagged])
    by_context = _polarity_table(kept["rules"], [[_reading(r, f) for f in FINDINGS] for r in kept["context"]])
    return Part(name, len(tagged), tuple(comparisons), by_mesh, by_context)


def _presence(rows: Sequence[Mapping[str, Polarity]], uncertain_is: str) -> NDArray[np.bool_]:
    """Presence, shape (studies, 14)."""
    holds = {Polarity.POSITIVE, *([Polarity.UNCERTAIN] if uncertain_is == "present" else [])}
    return np.array([[row.get(f) in holds for f in FINDINGS] for row in rows])


def _agreements(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int) -> tuple[Agreement, ...]:
    """Per observation and pooled, from presence of shape (studies, 14)."""
    cells = np.stack([first & second, first & ~second, ~first & second, ~first & ~second], axis=-1).astype(np.float64)
    pooled = [i for i, f in enumerate(FINDINGS) if f != NO_FINDING]
    cells = np.concatenate([cells, cells[:, pooled].sum(axis=1, keepdims=True)], axis=1)
    studies = len(cells)
    weights = np.random.default_rng(seed).multinomial(studies, np.full(studies, 1 / studies), size=RESAMPLES)
    resampled = np.einsum("rs,sfc->rfc", weights.astype(np.float64), cells)
    counts = cells.sum(axis=0)
    return tuple(_agreement(f, counts[i], resampled[:, i]) for i, f in enumerate((*FINDINGS, POOLED)))


def _agreement(finding: str, counts: NDArray[np.float64], resampled: NDArray[np.float64]) -> Agreement:
    both, first_only, second_only, neither = (int(c) for c in counts)
    spread = resampled.T
    wrong, wrong_spread = counts[1] + counts[2], spread[1] + spread[2]
    return Agreement(
        finding,
        both,
        first_only,
        second_only,
        neither,
        kappa=_number(kappa(counts)),
        kappa_interval=_interval(kappa(spread)),
        precision=_rate(counts[0], counts[0] + counts[1], spread[0], spread[0] + spread[1]),
        recall=_rate(counts[0], counts[0] + counts[2], spread[0], spread[0] + spread[2]),
        f1=_rate(2 * counts[0], 2 * counts[0] + wrong, 2 * spread[0], 2 * spread[0] + wrong_spread),
    )


def kappa(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of (both, first only, second only, neither) along the first axis; nan where chance is certain."""
    both, first_only, second_only, neither = cells
    total = both + first_only + second_only + neither
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (both + neither) / total
        yes = (both + first_only) * (both + second_only)
        no = (second_only + neither) * (first_only + neither)
        chance = (yes + no) / total**2
        return np.asarray((observed - chance) / (1 - chance), dtype=np.float64)


def _rate(numerator: Any, denominator: Any, above: NDArray[np.float64], below: NDArray[np.float64]) -> Rate:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.asarray(numerator / denominator, dtype=np.float64)
        return Rate(int(numerator), int(denominator), _number(value), _interval(above / below))


def _number(value: NDArray[np.float64]) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _interval(values: NDArray[np.float64]) -> Interval | None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def _reading(row: Mapping[str, Polarity], finding: str) -> str:
    return row[finding].value if finding in row else READINGS[-1]


def _polarity_table(
    rules: Sequence[Mapping[str, Polarity]], other: Sequence[Sequence[str]]
) -> dict[str, dict[str, int]]:
    """How often the rules' polarity meets each value of the other party, pooled without No Finding."""
    columns = sorted({value for row in other for value in row})
    table = {reading: dict.fromkeys(columns, 0) for reading in READINGS}
    for row, values in zip(rules, other, strict=True):
        for finding, value in zip(FINDINGS, values, strict=True):
            if finding != NO_FINDING:
                table[_reading(row, finding)][value] += 1
    return table


def _part_table(part: Part) -> str:
    lines = [f"{part.name}: {part.studies} studies; kappa with uncertain as absent | as present"]
    pairs = [f"{a}~{b}" for a, b in COMPARED]
    lines.append(f"{'':28}{pairs[0]:>18}{pairs[1]:>18}{pairs[2]:>18}   precision        recall           F1")
    for finding in (*FINDINGS, POOLED):
        cells = "".join(f"{_kappas(part, a, b, finding):>18}" for a, b in COMPARED)
        found = part.comparison("rules", "mesh").row(finding)
        rates = f"{_shown(found.precision):17}{_shown(found.recall):17}{_bounds(found.f1.value, found.f1.interval)}"
        lines.append(f"{finding:28}{cells}   {rates}")
    for a, b in COMPARED:
        pooled = part.comparison(a, b).row(POOLED)
        lines.append(f"pooled kappa {a}~{b}: {_bounds(pooled.kappa, pooled.kappa_interval)}")
    for name, table in (("MeSH", part.polarity_by_mesh), ("context", part.polarity_by_context)):
        lines.append(f"polarity by rules (rows) and {name} (columns):")
        lines += [f"  {rules:12}" + "".join(f"{k}={v:<8}" for k, v in row.items()) for rules, row in table.items()]
    return "\n".join(lines)


def _kappas(part: Part, first: str, second: str, finding: str) -> str:
    found = (part.comparison(first, second, u).row(finding).kappa for u in ("absent", "present"))
    return " | ".join("-" if k is None else f"{k:.3f}" for k in found)


def _shown(rate: Rate) -> str:
    value = "-" if rate.value is None else f"{rate.value:.3f}"
    return f"{value} {rate.numerator}/{rate.denominator}"


def _bounds(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
