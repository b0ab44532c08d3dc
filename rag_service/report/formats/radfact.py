"""A report beside its reference as RadFact reads them (Bannur et al., arXiv 2406.04449; microsoft/RadFact).

{example_id, prediction: [{text, boxes: [{x_min, y_min, x_max, y_max}] or null}], target: [...]}; boxes are null, never [].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rag_service.imaging.film import Box
from rag_service.report.formats.grounded import GroundedSentence


def sample(name: str, prediction: Sequence[GroundedSentence], target: Sequence[GroundedSentence]) -> dict[str, Any]:
    """One element of RadFact's list."""
    return {"example_id": name, "prediction": _report(prediction), "target": _report(target)}


def _report(report: Sequence[GroundedSentence]) -> list[dict[str, Any]]:
    return [{"text": s.text, "boxes": None if s.boxes is None else [_corners(b) for b in s.boxes]} for s in report]


def _corners(box: Box) -> dict[str, float]:
    return {name: round(getattr(box, name), 6) for name in ("x_min", "y_min", "x_max", "y_max")}
