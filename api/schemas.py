"""The answers as schemas, for OpenAPI. What is sent is the domain's own JSON; a test keeps the two alike."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from knowledge_base.findings import Laterality, Polarity, Progression
from knowledge_base.records import Case as CaseRecord
from rag_service.calibration import Tier
from rag_service.conformal import Presence
from rag_service.explain_request import Method
from rag_service.verify_standing import Broken, Standing


class Schema(BaseModel):
    """Frozen. Clients ignore names they do not know: fields may be added."""

    model_config = ConfigDict(frozen=True)


class Box(Schema):
    """A rectangle in fractions of the original film, y downwards."""

    x_min: float = Field(ge=0, le=1)
    y_min: float = Field(ge=0, le=1)
    x_max: float = Field(ge=0, le=1)
    y_max: float = Field(ge=0, le=1)
    weight: float = Field(gt=0, le=1)


class Confidence(Schema):
    """Calibrated probability that the finding is present, its interval, the tier of the statement, and its conformal set.

    `set`: the classes the film is compatible with; its own is missing from at most a tenth of films. Empty: unlike both.
    """

    p: float = Field(ge=0, le=1)
    interval: tuple[float, float]
    tier: Tier
    set: list[Presence]


class AxisUncertainty(Schema):
    """One axis of the film's box-latent: index, what it predicts best, radius."""

    axis: int
    name: str
    r: float


class Uncertainty(Schema):
    """Mean radius of the film's box-latent, the widest axes that matter, and the spread over BL-TTA."""

    radius: float
    top_axes: list[AxisUncertainty]
    bl_tta_sd: float


class Citation(Schema):
    """Evidence: `quote` equals text[span[0]:span[1]] of the cited record, exactly."""

    kind: Literal["case", "guideline", "prior"]
    id: str
    quote: str
    span: tuple[int, int]
    similarity: float
    entails: bool


class SeparatingAxis(Schema):
    """One axis that tells a film from a case: its index, what it predicts best, and the difference of the centres."""

    axis: int
    name: str
    difference: float
    logit: float = Field(description="What the difference adds to the logit of the finding.")


class CounterEvidence(Schema):
    """A similar case that says the opposite, and the axes that separate the two films most."""

    id: str
    similarity: float
    quote: str
    span: tuple[int, int]
    separating_axes: list[SeparatingAxis]


class Concept(Schema):
    """A sparse concept of a film: its name, its activation (0 when it is not at work), its index."""

    name: str
    activation: float = Field(ge=0)
    index: int = Field(ge=0)


class Comparison(Schema):
    """How a finding has changed since the prior film, computed from both films."""

    state: Literal["new", "worsened", "stable", "improved", "resolved"]
    change: float = Field(description="In log odds, above 0 for more of it.")
    prior_p: float = Field(ge=0, le=1, description="Calibrated probability on the prior film.")
    prior_boxes: list[Box] | None = Field(description="Where it lies on the prior film.")
    prior_quote: Citation | None = Field(description="What the prior film's report says of it, in its own words.")


class Finding(Schema):
    """One sentence of the draft with everything it rests on."""

    id: str
    label: str
    sentence: str
    polarity: Polarity
    laterality: Laterality | None
    location: str | None
    severity: str | None
    progression: Progression | None
    boxes: list[Box] | None
    confidence: Confidence
    uncertainty: Uncertainty
    citations: list[Citation]
    counter_evidence: list[CounterEvidence]
    concepts: list[Concept] = Field(description="Those at work in the film that raise this finding most.")
    source: str = Field(
        description="Whose words: the id of a writer, `case` for a case's own, `fixed` for the plainest."
    )
    hedged: list[str] = Field(description="Why a finding probable enough to be stated is only called possible.")
    guidance: list[Citation] = Field(description="Passages that explain the finding; they support nothing.")
    sentence_en: str = Field(description="The sentence in English.")
    comparison: Comparison | None = Field(description="Null without a prior film, or where the change is not certain.")
    prompts: list[str] = Field(description="Those of the request that ask for this finding.")


class NotAssessed(Schema):
    """A finding the draft does not speak of, and why."""

    label: str
    reason: str
    possible: bool = Field(description="The probability reached the flag, but no sentence could be quoted.")
    p: float | None


class MatchedSentence(Schema):
    """The sentence of a case that answers a question best; `quote` equals text[span[0]:span[1]] of the case, exactly."""

    quote: str
    span: tuple[int, int]
    finding: str | None
    polarity: Polarity | None
    laterality: Laterality | None
    location: str | None


class SimilarCase(Schema):
    """A prior study near this film."""

    id: str
    score: float
    box_overlap: float | None
    labels: list[str]
    excerpt: str
    film_url: str | None
    shared_concepts: list[str] | None = Field(description="Named concepts at work in both films, the strongest first.")
    sentence: MatchedSentence | None = Field(
        description="What answers the words that were asked, null where none were."
    )


class OutOfDistribution(Schema):
    """How far the film lies from those the model learned from."""

    score: float = Field(description="Log-odds that the film is unlike them, joined from `scores`.")
    threshold: float = Field(description="From here up nothing is drafted.")
    scores: dict[str, float] = Field(description="Each score by name; all rise with unlikeness.")


class Coverage(Schema):
    """How many cases that the asker may see state a finding, and a warning where they are few."""

    label: str
    cases: int
    warning: str | None


class Answer(Schema):
    """What the film shows for one prompt, one box, or a prompt about a box; without a sentence, the reason why."""

    prompt: str | None
    box: Box | None
    label: str | None
    labels: list[str] = Field(description="All it could speak of, the likeliest first.")
    p: float | None
    boxes: list[Box] | None
    finding: str | None = Field(description="The id of the finding whose sentence this is.")
    polarity: Polarity | None
    sentence: str | None
    sentence_en: str | None
    citations: list[Citation]
    reason: str | None


class Provenance(Schema):
    """Digests and versions of everything the answer depended on; `lateral` and `view_fusion` where a lateral was read too,
    `prior` and `change` where a prior film was, the others where the model has them.
    """

    model: str
    preprocessing: str
    index: str
    knowledge_base: str
    thresholds: str
    seed: int
    film: str
    lateral: str | None
    view_fusion: str | None
    concepts: str | None
    reranker: str | None
    prior: str | None
    change: str | None
    queries: str | None
    writer: str | None
    segmenter: str | None


class Segment(Schema):
    """A horizontal line on the original film, in fractions of it, y downwards."""

    name: str
    x_min: float = Field(ge=0, le=1)
    x_max: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)


class Measurement(Schema):
    """A quantity measured on the film along its segments; without a value, the reason why it could not be measured."""

    name: str
    value: float | None
    unit: str
    segments: list[Segment]
    reason: str | None


class Draft(Schema):
    """A drafted report, or `abstained` with the reasons. It drafts; a clinician signs."""

    status: Literal["draft", "abstained"]
    abstain_reasons: list[str]
    findings: list[Finding]
    impression: str | None
    not_assessed: list[NotAssessed]
    similar_cases: list[SimilarCase]
    out_of_distribution: OutOfDistribution | None
    checks: dict[str, Any]
    coverage: list[Coverage]
    provenance: Provenance
    concepts: list[Concept] = Field(description="Those most at work in the film.")
    answers: list[Answer] = Field(description="One for each prompt and box of the request, in their order.")
    language: str
    impression_en: str | None = Field(description="The impression in English.")
    measurements: list[Measurement]


class SearchAnswer(Schema):
    """Similar cases, and passages of guidelines for the words."""

    cases: list[SimilarCase]
    passages: list[Citation]
    abstain_reasons: list[str]
    provenance: Provenance
    coverage: list[Coverage] = Field(description="Of the findings that were asked for.")


class QueryAnswer(Schema):
    """What one film shows for what was asked of it, and cases whose region is most like the place; or why it is turned away."""

    abstain_reasons: list[str]
    answer: Answer | None
    similar_cases: list[SimilarCase]
    language: str
    provenance: Provenance


class Change(Schema):
    """A finding's calibrated probability before and after the film was moved along a concept."""

    label: str
    before: float = Field(ge=0, le=1)
    after: float = Field(ge=0, le=1)


class SteerAnswer(Schema):
    """What moving a film along a concept does to its findings, or the reasons why the film is turned away."""

    abstain_reasons: list[str]
    concept: Concept | None
    alpha: float
    targets: list[str] = Field(description="The findings that the concept's name means.")
    on_target: float | None = Field(description="Mean change of the targets; null without targets.")
    off_target: float | None = Field(description="Mean absolute change of all other findings.")
    changes: list[Change]
    provenance: Provenance


class CheckedCitation(Schema):
    """A citation as given, and whether it holds now: in use, seen by this tenant, quoted exactly, and making the sentence true."""

    kind: Literal["case", "guideline", "prior"]
    id: str
    quote: str
    span: tuple[int, int]
    holds: bool
    reason: Broken | None


class VerifiedSentence(Schema):
    """A sentence with its verdict and the reasons, its citations, and what the index has for it where none of them holds."""

    text: str
    section: str
    verdict: Standing
    reasons: list[str]
    citations: list[CheckedCitation]
    found: list[Citation]


class VerifyAnswer(Schema):
    """What of a report holds against the index. Supported means that a case says it, not that a film shows it."""

    sentences: list[VerifiedSentence]
    checks: dict[str, list[int]] = Field(description="Fault -> the numbers of the sentences that have it, from 0.")
    unsupported_positives: int = Field(ge=0, description="Sentences that state a finding without evidence for it.")
    index: str
    knowledge_base: str


class Superpixel(Schema):
    """A part of the film that was left out and put back: the box around it, and the share of the film it covers."""

    box: Box
    area: float = Field(gt=0, le=1)


class MethodExplanation(Schema):
    """What one method says of the superpixels, in their order: log-odds for Shapley and LIME, the mean of a map for the others."""

    method: Method
    values: list[float]
    boxes: list[Box] | None
    fidelity: float | None = Field(
        description="Correlation of the log-odds of films with parts left out with the values of what was left in."
    )


class MethodAgreement(Schema):
    """How alike two methods are: Spearman's rho over superpixels, and IoU of the highest tenths of their maps."""

    methods: tuple[Method, Method]
    rank_correlation: float | None
    top_iou: float


class ExplainAnswer(Schema):
    """One finding on one film, explained, or the reasons why the film is turned away."""

    abstain_reasons: list[str]
    finding: str
    p: float | None = Field(description="Calibrated.")
    log_odds: float | None = Field(description="Of the film, before calibration.")
    log_odds_blurred: float | None = Field(
        description="Of the blurred film. Shapley values add up to log_odds less this."
    )
    superpixels: list[Superpixel]
    explanations: list[MethodExplanation]
    agreements: list[MethodAgreement]
    picture: str | None = Field(
        description="A PNG in Base64, where it was asked for.", json_schema_extra={"contentEncoding": "base64"}
    )
    provenance: Provenance


class Mention(Schema):
    """One observation as the case's text states it; `span` is in that text."""

    finding: str
    polarity: Polarity
    span: tuple[int, int]
    laterality: Laterality | None
    location: str | None
    severity: str | None
    progression: Progression | None


class CaseSentence(Schema):
    """One sentence of a case; `text` equals the case's text[span[0]:span[1]]."""

    text: str
    span: tuple[int, int]
    section: str
    mentions: list[Mention]


class Labels(Schema):
    """The findings a case states, by polarity, in CheXpert's order."""

    positive: list[str]
    uncertain: list[str]
    negative: list[str]


class Case(Schema):
    """A prior study as evidence."""

    id: UUID
    source: str
    study: str
    text: str
    sentences: list[CaseSentence]
    labels: Labels
    view: str | None

    @classmethod
    def of(cls, record: CaseRecord) -> Case:
        """What of a record a client may see: never the patient."""
        polarities = (Polarity.POSITIVE, Polarity.UNCERTAIN, Polarity.NEGATIVE)
        return cls(
            id=record.id,
            source=record.source,
            study=record.study,
            text=record.text,
            sentences=[_sentence(s) for s in record.sentences],
            labels=Labels(**{str(p): list(record.labels(p)) for p in polarities}),
            view=record.view,
        )


class ProblemBody(Schema):
    """RFC 9457 problem: act on `code`; `detail` is for people; `request_id` finds the log line."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class NotReadyBody(ProblemBody):
    """The problem /readyz answers with: each component's "ok" or reason code."""

    components: dict[str, str]


class Alive(Schema):
    """The process answers."""

    status: Literal["alive"]


class Ready(Schema):
    """Every component is "ok"."""

    status: Literal["ready"]
    components: dict[str, str]


class Index(Schema):
    """Where to go from here."""

    service: str
    openapi: str
    operations: list[str]


def _sentence(sentence: Any) -> CaseSentence:
    mentions = [Mention.model_validate(m, from_attributes=True) for m in sentence.mentions]
    return CaseSentence(text=sentence.text, span=sentence.span, section=sentence.section, mentions=mentions)
