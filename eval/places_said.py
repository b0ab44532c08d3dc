"""Whether reports put a finding where the reference does: the side and the place, of findings that both affirm or hedge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.report_labels import mentions
from knowledge_base.findings import Polarity
from knowledge_base.records import Mention
from rag_service.report.aspects import within


def measure(reports: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Accuracy of sides and of places, each over the findings for which both name one; and how often the reference names a side
    that the report leaves out. Both sides at once are a side of their own.
    """
    both = [_shared(r, t) for r, t in zip(reports, references, strict=True)]
    pairs = [(said, wanted) for found in both for said, wanted in found.values()]
    sided = [(s, w) for s, w in pairs if _sides(w)]
    sides = [bool(_sides(s) & _sides(w)) for s, w in sided if _sides(s)]
    places = [_near(s, w) for s, w in pairs if _places(s) and _places(w)]
    return {
        "side": _share(sides),
        "place": _share(places),
        "side_left_out": {"n": len(sided) - len(sides), "of": len(sided)},
    }


def _shared(report: Sequence[str], reference: Sequence[str]) -> dict[str, tuple[list[Mention], list[Mention]]]:
    said, wanted = (_affirmed(texts) for texts in (report, reference))
    return {f: (said[f], wanted[f]) for f in said if f in wanted}


def _affirmed(texts: Sequence[str]) -> dict[str, list[Mention]]:
    found: dict[str, list[Mention]] = {}
    for mention in mentions(texts):
        if mention.polarity is not Polarity.NEGATIVE:
            found.setdefault(mention.finding, []).append(mention)
    return found


def _sides(found: Sequence[Mention]) -> set[object]:
    return {m.laterality for m in found if m.laterality is not None}


def _places(found: Sequence[Mention]) -> set[str]:
    return {m.location for m in found if m.location is not None}


def _near(said: Sequence[Mention], wanted: Sequence[Mention]) -> bool:
    """Whether one place of either lies in one of the other."""
    return any(within(a, b) or within(b, a) for a in _places(said) for b in _places(wanted))


def _share(right: Sequence[bool]) -> dict[str, float | int | None]:
    return {"right": sum(right), "of": len(right), "share": sum(right) / len(right) if right else None}
