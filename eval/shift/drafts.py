"""Whole drafts before and after a change of device: how many findings stay cited, and whether the same cases are cited."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from PIL import Image
from tqdm import tqdm

from eval.shift import acquisition, sweep
from eval.shift.sweep import Stored
from rag_service.datasets.films import FilmRow
from rag_service.report.draft import Draft, Status
from rag_service.requests import DraftRequest
from rag_service.service import RadiographService

SHIFT: Final = ("device", 2.0)


def measure(service: RadiographService, rows: Sequence[FilmRow], one: acquisition.Unit, seed: int) -> dict[str, Any]:
    """Each film drafted as it is and under SHIFT, both as stored (256 x 256 PNG)."""
    pairs = []
    for row in tqdm(rows, desc="drafting", unit="film"):
        film = sweep.stored(row.path)
        changed = acquisition.shifted(film, *SHIFT, (seed, sweep.own_seed(row)), one)
        clean, shifted = (service.draft(DraftRequest(_png(f))) for f in (film, changed))
        pairs.append((clean, shifted))
    drafted = [(c, s) for c, s in pairs if c.status is Status.DRAFT and s.status is Status.DRAFT]
    before, after = _cited(c for c, _ in drafted), _cited(s for _, s in drafted)
    return {
        "shift": f"{SHIFT[0]} at {SHIFT[1]:g}",
        "films": len(pairs),
        "drafted_clean": sum(c.status is Status.DRAFT for c, _ in pairs),
        "drafted_both": len(drafted),
        "cited_clean": before,
        "cited_shifted": after,
        "drop": None if before["share"] is None or after["share"] is None else before["share"] - after["share"],
        "same_cases": _same_cases(drafted),
    }


def table(result: Mapping[str, Any] | None) -> list[str]:
    """The citations, for a reader."""
    if result is None:
        return ["citations: not measured"]
    clean, shifted, same = result["cited_clean"], result["cited_shifted"], result["same_cases"]
    return [
        f"citations under {result['shift']}: {result['drafted_both']} films drafted both times of {result['films']}"
        f" ({result['drafted_clean']} clean); findings cited {clean['cited']} of {clean['findings']} clean,"
        f" {shifted['cited']} of {shifted['findings']} shifted; cited cases kept {same['kept']} of {same['cases']}"
    ]


def _cited(drafts: Iterable[Draft]) -> dict[str, Any]:
    findings = [f for d in drafts for f in d.findings]
    cited = sum(bool(f.citations) for f in findings)
    return {"findings": len(findings), "cited": cited, "share": cited / len(findings) if findings else None}


def _same_cases(drafted: Sequence[tuple[Draft, Draft]]) -> dict[str, Any]:
    """Of the cases that the clean drafts cite, film by film, those that the shifted draft still cites."""
    before, after = ([_cases(pair[i]) for pair in drafted] for i in (0, 1))
    cases, kept = sum(map(len, before)), sum(len(b & a) for b, a in zip(before, after, strict=True))
    return {"cases": cases, "kept": kept, "share": kept / cases if cases else None}


def _cases(draft: Draft) -> set[str]:
    return {c.id for f in draft.findings for c in f.citations if c.kind == "case"}


def _png(film: Stored) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(film).save(packed, "PNG")
    return packed.getvalue()
