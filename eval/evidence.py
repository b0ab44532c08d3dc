"""python -m eval evidence DIR: what the relevance gate costs and gives. Every film is drafted with it and without it.

Right is a statement that the film's own hand-coded tags bear out. No film is drafted from its own study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from eval import films
from knowledge_base.findings import Polarity
from rag_service.datasets.films import FilmRow
from rag_service.report.draft import Draft, Finding, Status
from rag_service.requests import DraftRequest
from rag_service.service import RadiographService


@dataclass(frozen=True)
class Drafted:
    """One film drafted twice: `gated` with the relevance gate, `free` without."""

    row: FilmRow
    gated: Draft
    free: Draft


def draft(rows: Sequence[FilmRow], gated: RadiographService, free: RadiographService) -> list[Drafted]:
    """Every film that is not turned away, drafted by both services."""
    found = []
    for row in tqdm(rows, desc="drafting films", unit="film"):
        request = DraftRequest(row.path.read_bytes(), patient=(row.source, row.patient))
        both = Drafted(row, gated.draft(request), free.draft(request))
        if both.free.status is Status.DRAFT:
            found.append(both)
    return found


def measure(rows: Sequence[FilmRow], gated: RadiographService, free: RadiographService) -> dict[str, Any]:
    """By polarity: findings said without the gate and lost with it, citations and counter-evidence before and after, and how
    many of each are right.
    """
    drafted = draft(rows, gated, free)
    return {
        "films": len(rows),
        "drafted": len(drafted),
        "polarities": {str(p): _of_polarity(drafted, p) for p in Polarity},
        "signature": {
            "films": films.signature(list(rows)),
            "model": drafted[0].free.provenance.model if drafted else None,
            "knowledge_base": drafted[0].free.provenance.knowledge_base if drafted else None,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['drafted']} of {result['films']} films drafted, with the relevance gate and without"]
    for polarity, v in result["polarities"].items():
        said, lost, cited = v["findings"], v["lost"], v["citations"]
        lines.append(
            f"{polarity:10s} {said['n']} findings ({_share(said)} right), {lost['n']} lost ({_share(lost)} right);"
            f" citations {cited['free']} -> {cited['gated']}; counter-evidence {v['counter']['free']} -> {v['counter']['gated']}"
        )
    return "\n".join(lines)


def _of_polarity(drafted: Sequence[Drafted], polarity: Polarity) -> dict[str, Any]:
    said = [(d, f) for d in drafted for f in d.free.findings if f.polarity is polarity]
    kept = [f for d in drafted for f in d.gated.findings if f.polarity is polarity]
    labels = {id(d): {f.label for f in d.gated.findings} for d in drafted}
    lost = [(d, f) for d, f in said if f.label not in labels[id(d)]]
    return {
        "findings": _right(said),
        "lost": _right(lost),
        "citations": {"free": _cases(f for _, f in said), "gated": _cases(kept)},
        "counter": {
            "free": sum(len(f.counter_evidence) for _, f in said),
            "gated": sum(len(f.counter_evidence) for f in kept),
        },
    }


def _right(said: Sequence[tuple[Drafted, Finding]]) -> dict[str, int]:
    told = [(d.row.labels[f.label], f) for d, f in said if f.label in d.row.labels]
    return {
        "n": len(said),
        "labelled": len(told),
        "right": sum(present == (f.polarity is not Polarity.NEGATIVE) for present, f in told),
    }


def _cases(said: Iterable[Finding]) -> int:
    return sum(c.kind == "case" for f in said for c in f.citations)


def _share(counts: Mapping[str, int]) -> str:
    return f"{counts['right'] / counts['labelled']:.3f}" if counts["labelled"] else "none"
