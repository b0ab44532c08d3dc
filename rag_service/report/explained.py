"""The answer when a finding is explained, as a frozen value whose JSON names are a contract, like the draft's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rag_service.explain_request import Method
from rag_service.imaging.film import Box
from rag_service.report.draft import Provenance, plain


@dataclass(frozen=True)
class Superpixel:
    """A part of the film that was left out and put back: the box around it, and the share of the film it covers."""

    box: Box
    area: float


@dataclass(frozen=True)
class MethodExplanation:
    """What one method says: `values` of the answer's superpixels in their order, boxes of its map, and its fidelity.

    Values are log-odds for Shapley and LIME, whose sign says for or against; for the others the mean of a map in [0, 1].
    """

    method: Method
    values: tuple[float, ...]
    boxes: tuple[Box, ...] | None
    fidelity: float | None


@dataclass(frozen=True)
class MethodAgreement:
    """How alike two methods are: Spearman's rho over superpixels, and IoU of the highest tenths of their maps."""

    methods: tuple[Method, Method]
    rank_correlation: float | None
    top_iou: float


@dataclass(frozen=True)
class ExplainAnswer:
    """One finding on one film, explained. A film turned away has reasons and nothing else.

    `p` is calibrated; `log_odds` of the film and `log_odds_blurred` of its blur are not: Shapley values add up to their difference.
    `picture` is a PNG in Base64.
    """

    abstain_reasons: tuple[str, ...]
    finding: str
    p: float | None
    log_odds: float | None
    log_odds_blurred: float | None
    superpixels: tuple[Superpixel, ...]
    explanations: tuple[MethodExplanation, ...]
    agreements: tuple[MethodAgreement, ...]
    picture: str | None
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """As `Draft.to_json`."""
        return plain(asdict(self))  # type: ignore[no-any-return]
