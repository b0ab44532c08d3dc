"""The draft: what the service answers, as frozen values whose JSON names are a contract (fields are added, never renamed)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from knowledge_base.findings import Laterality, Polarity, Progression
from rag_service.calibration import Confidence
from rag_service.gate import OutOfDistribution
from rag_service.imaging.film import Box
from rag_service.models.concepts import Concept
from rag_service.report.measurements import Measurement

CASE: Final = "case"
FIXED: Final = "fixed"
"""Whose words a sentence is in, where they are no writer's: a case's own, or the plainest there are for its finding."""


class Status(StrEnum):
    """A draft was made, or the film was not one the service may read."""

    DRAFT = "draft"
    ABSTAINED = "abstained"


@dataclass(frozen=True)
class AxisUncertainty:
    """One axis of the film's box: its index, what it predicts best, and its radius in latent units."""

    axis: int
    name: str
    r: float


@dataclass(frozen=True)
class Uncertainty:
    """Mean radius of the film's box, the axes that matter most to this finding and are widest, spread over BL-TTA."""

    radius: float
    top_axes: tuple[AxisUncertainty, ...]
    bl_tta_sd: float


@dataclass(frozen=True)
class Citation:
    """Evidence: `quote` equals text[span[0]:span[1]] of the cited record, exactly. `kind` is case, guideline or prior."""

    kind: str
    id: str
    quote: str
    span: tuple[int, int]
    similarity: float
    entails: bool


@dataclass(frozen=True)
class SeparatingAxis:
    """One axis that tells a film from a case: its index, what it predicts best, how far the film's centre lies above the
    case's in latent units, and what that adds to the finding's logit.
    """

    axis: int
    name: str
    difference: float
    logit: float


@dataclass(frozen=True)
class CounterEvidence:
    """A similar case that says the opposite, the words that say it with their span in its text, and the axes that separate the
    two films most.
    """

    id: str
    similarity: float
    quote: str
    span: tuple[int, int]
    separating_axes: tuple[SeparatingAxis, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """How a finding has changed since the prior film: `state` is new, worsened, stable, improved or resolved.

    `change` is what both films' probabilities and extents come to, in log odds, above 0 for more of it; `prior_p` and
    `prior_boxes` are what the prior film shows. `prior_quote` is what the prior film's report says of that, where it was given and
    says it.
    """

    state: str
    change: float
    prior_p: float
    prior_boxes: tuple[Box, ...] | None
    prior_quote: Citation | None = None


@dataclass(frozen=True)
class Finding:
    """One sentence of the draft with everything it rests on: every citation makes it true alone.

    `boxes` is None when the finding has no place on the film; `concepts` are those at work in the film that raise the finding
    most. `source` says whose words they are: the id of a writer, `case` for a case's own, `fixed` for the plainest. `hedged` says
    why a finding whose probability is enough to state it is only called possible. `guidance` are passages on the finding that
    explain it and support nothing. `sentence` is in the draft's language, `sentence_en` in English; quotes stay as they were.
    `comparison` is None without a prior film, and where the change is not certain; `prompts` are those of the request that ask
    for this finding.
    """

    id: str
    label: str
    sentence: str
    polarity: Polarity
    laterality: Laterality | None
    location: str | None
    severity: str | None
    progression: Progression | None
    boxes: tuple[Box, ...] | None
    confidence: Confidence
    uncertainty: Uncertainty
    citations: tuple[Citation, ...]
    counter_evidence: tuple[CounterEvidence, ...]
    concepts: tuple[Concept, ...] = ()
    source: str = CASE
    hedged: tuple[str, ...] = ()
    guidance: tuple[Citation, ...] = ()
    sentence_en: str = ""
    comparison: Comparison | None = None
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotAssessed:
    """A finding the draft has no sentence for, and why. `possible` when its probability reached the flag all the same."""

    label: str
    reason: str
    possible: bool = False
    p: float | None = None


@dataclass(frozen=True)
class MatchedSentence:
    """The sentence of a case that answers a question best: `quote` equals text[span[0]:span[1]] of the case, exactly.

    `finding` to `location` are what it says of what was asked; all None where the question names no finding, or the case states
    none that it names, and the sentence only shares its words.
    """

    quote: str
    span: tuple[int, int]
    finding: str | None = None
    polarity: Polarity | None = None
    laterality: Laterality | None = None
    location: str | None = None


@dataclass(frozen=True)
class SimilarCase:
    """A prior study near this film. `score` is the search's own; `film_url` is None where no film is stored;
    `shared_concepts` are at work in both films, None where there are not two films to compare; `sentence` answers the question
    that was asked in words, None where none was, or no sentence does.
    """

    id: str
    score: float
    box_overlap: float | None
    labels: tuple[str, ...]
    excerpt: str
    film_url: str | None
    shared_concepts: tuple[str, ...] | None = None
    sentence: MatchedSentence | None = None


@dataclass(frozen=True)
class Coverage:
    """How many cases that the asker may see state a finding; `warning` says so in words where they are few."""

    label: str
    cases: int
    warning: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a film shows for one prompt, one box, or a prompt about a box.

    `label` is what it speaks of and `labels` all it could, the likeliest first; `p` the calibrated probability that it is there;
    `boxes` where, heaviest first. The sentence is a finding's of the same film, `finding` its id, with its citations. Without a
    sentence `reason` says why: `not_understood` where the prompt is about nothing that the model reads.
    """

    prompt: str | None
    box: Box | None
    label: str | None = None
    labels: tuple[str, ...] = ()
    p: float | None = None
    boxes: tuple[Box, ...] | None = None
    finding: str | None = None
    polarity: Polarity | None = None
    sentence: str | None = None
    sentence_en: str | None = None
    citations: tuple[Citation, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Provenance:
    """Digests and versions of everything the draft depended on; `lateral` and `view_fusion` where a lateral was read too,
    `prior` and `change` where a prior film was, `concepts`, `reranker`, `queries`, `writer` and `segmenter` where there are any.
    """

    model: str
    preprocessing: str
    index: str
    knowledge_base: str
    thresholds: str
    seed: int
    film: str
    lateral: str | None = None
    view_fusion: str | None = None
    concepts: str | None = None
    reranker: str | None = None
    prior: str | None = None
    change: str | None = None
    queries: str | None = None
    writer: str | None = None
    segmenter: str | None = None


@dataclass(frozen=True)
class Draft:
    """The answer to one film. `concepts` are those most at work in it, `measurements` what was measured on it; none of either where
    it was turned away.

    `answers` holds one for each prompt and box of the request, in their order; `impression` is in `language`, `impression_en` in
    English.
    """

    status: Status
    abstain_reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    impression: str | None
    not_assessed: tuple[NotAssessed, ...]
    similar_cases: tuple[SimilarCase, ...]
    out_of_distribution: OutOfDistribution | None
    checks: Mapping[str, Any]
    coverage: tuple[Coverage, ...]
    provenance: Provenance
    concepts: tuple[Concept, ...] = ()
    answers: tuple[Answer, ...] = ()
    language: str = "en"
    impression_en: str | None = None
    measurements: tuple[Measurement, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values in the contract's names; probabilities to 6 places so that equal drafts are equal bytes."""
        return plain(asdict(self))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SearchAnswer:
    """Similar cases for a film, words, or both, and passages of guidelines for the words; `coverage` of the findings asked
    for.
    """

    cases: tuple[SimilarCase, ...]
    passages: tuple[Citation, ...]
    abstain_reasons: tuple[str, ...]
    provenance: Provenance
    coverage: tuple[Coverage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `Draft.to_json`."""
        return plain(asdict(self))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class QueryAnswer:
    """What one film shows for what was asked of it, and cases whose region is most like it; or why the film is turned away."""

    abstain_reasons: tuple[str, ...]
    answer: Answer | None
    similar_cases: tuple[SimilarCase, ...]
    language: str
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """As `Draft.to_json`."""
        return plain(asdict(self))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Change:
    """A finding's calibrated probability before and after a film was moved along a concept."""

    label: str
    before: float
    after: float


@dataclass(frozen=True)
class SteerAnswer:
    """What moving a film along a concept does to its findings.

    `on_target` is the mean change of the findings that the concept's name means, None when it means none of the 14;
    `off_target` the mean absolute change of the others. A film turned away has reasons and nothing else.
    """

    abstain_reasons: tuple[str, ...]
    concept: Concept | None
    alpha: float
    targets: tuple[str, ...]
    on_target: float | None
    off_target: float | None
    changes: tuple[Change, ...]
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """As `Draft.to_json`."""
        return plain(asdict(self))  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """A value of this module as JSON has it, numbers to 6 places."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, StrEnum):
        return str(value)
    return round(value, 6) if isinstance(value, float) else value
