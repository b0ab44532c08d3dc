"""The relevance gate: how near a case must lie to a film before what it says is passed on as evidence.

Far cases are noise: below some overlap of the boxes, a film has what a case states less often than films at large do. The least
overlap was chosen on calibration studies for each polarity, by `python -m rag_service.training evidence-gate`
(docs/decisions/0019-the-case-sentence-and-the-relevance-gate.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from knowledge_base.findings import Polarity
from knowledge_base.records import digest
from knowledge_base.search import CaseHit
from rag_service import sealed
from rag_service.errors import BadWeights

FILE: Final = "evidence.json"


@dataclass(frozen=True)
class RelevanceGate:
    """The least box overlap, in [0, 1], at which a case is evidence, by polarity of what it states; for one model.

    `sample` says what it was fitted to, `command` what made it.
    """

    model: str
    least: Mapping[Polarity, float]
    sample: str
    command: str

    def __post_init__(self) -> None:
        if set(self.least) != set(Polarity) or not all(0.0 <= least <= 1.0 for least in self.least.values()):
            raise ValueError("a relevance gate has a least overlap in [0, 1] for each polarity")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the record; part of the `thresholds` of a draft's provenance."""
        return digest(asdict(self))

    def passes(self, hit: CaseHit, polarity: Polarity) -> bool:
        """Whether a case may be evidence for a statement of `polarity`; one without a film, or without one asked, may not."""
        return hit.box_overlap is not None and hit.box_overlap >= self.least[polarity]

    def save(self, folder: Path) -> None:
        """Write `evidence.json`."""
        sealed.write(folder / FILE, asdict(self))


def load_relevance(folder: Path, model: str) -> RelevanceGate | None:
    """The gate of `model` in `folder`; None when the folder has none. BadWeights when it is altered or of another model."""
    if not (folder / FILE).is_file():
        return None
    try:
        gate = _parse(sealed.read(folder / FILE))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder") from error
    if gate.model != model:
        raise BadWeights(f"{FILE} belongs to {gate.model}, the model is {model}")
    return gate


def _parse(raw: dict[str, Any]) -> RelevanceGate:
    return RelevanceGate(**{**raw, "least": {Polarity(p): float(o) for p, o in raw["least"].items()}})
