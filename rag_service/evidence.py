"""What of the memory bears on one film: the cases for and against every decision, searched all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from knowledge_base.case_sentences import Support, Wanted, supporting
from knowledge_base.duplicates import Distinct, distinct, same_film
from knowledge_base.findings import FINDINGS, NO_FINDING, Polarity
from knowledge_base.guideline_search import PassageHit
from knowledge_base.records import BoxLatent, CaseSentence
from knowledge_base.search import CaseHit, CaseQuery
from rag_service.memory import Memory, store_errors
from rag_service.relevance import RelevanceGate
from rag_service.report.comparisons import without_comparison
from rag_service.report.decisions import Decision
from rag_service.report.draft import SeparatingAxis
from rag_service.report.sentence_choice import opposite_of

NEAR: Final = 100
"""Cases looked at around the film; denied findings take their sentences from these."""
STATING: Final = 60
"""Cases looked at that state a finding the film may show."""
OPPOSING: Final = 8
"""Cases looked at that state the opposite of a decision."""
PASSAGES: Final = 2
TOP_AXES: Final = 3

Asked: TypeAlias = tuple[Literal["for", "against"], str, Polarity] | None
"""A search: for a finding or against it, by cases that state it at a polarity, or around the film whatever it shows."""
Floats: TypeAlias = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class FilmAxes:
    """The axes of a film's box: what each predicts best (d,), and its weight (14, d) in the logits of the findings."""

    names: Sequence[str]
    weights: Floats


class Evidence:
    """The evidence on one film, as `report.compose` asks for it.

    `base` is the film's own search, by box and words; the film itself is left out of every answer, and so is a case whose report
    contradicts its film. `gate` is None for a model
    that has none: then every case passes.
    """

    def __init__(
        self,
        memory: Memory,
        base: CaseQuery,
        decisions: Mapping[str, Decision],
        axes: FilmAxes,
        gate: RelevanceGate | None,
    ) -> None:
        self._memory, self._base, self._axes, self._gate = memory, base, axes, gate
        asked = _queries(base, decisions)
        with store_errors():
            answers = memory.cases.search_many(list(asked.values()))
        self.damaged = sum(a.damaged for a in answers)
        self.same = {h.case.id for a in answers for h in a.hits if same_film(h)}
        self._found = {key: [h for h in a.hits if _stands(h)] for key, a in zip(asked, answers, strict=True)}

    @cached_property
    def prior(self) -> bool:
        """Whether the patient has an earlier film here: one in the memory that is not this film."""
        return self._memory.has_prior(self._base.exclude_patient, self._base.tenant, self._base.box)

    def similar(self, limit: int) -> Distinct:
        """The nearest cases by box and words, each study once."""
        return distinct(self._found[None], limit)

    def supporting(self, wanted: Wanted) -> Sequence[Support]:
        """Sentences that state what is wanted, of cases that state it on the whole."""
        found = self._found.get(("for", wanted.finding, wanted.polarity))
        if found is None:
            found = [h for h in self._found[None] if wanted.finding in h.case.labels(wanted.polarity)]
        return supporting(found, wanted, self._usable)

    def opposing(self, wanted: Wanted) -> Sequence[Support]:
        """Sentences that state what is wanted, of the nearest films among cases that state it on the whole."""
        found = sorted(self._found["against", wanted.finding, wanted.polarity], key=lambda h: h.w2 or 0.0)
        return supporting(found, wanted, self._usable)

    def passes(self, support: Support, polarity: Polarity) -> bool:
        """Whether the relevance gate lets a case stand for a statement of that polarity."""
        return self._gate is None or self._gate.passes(support.hit, polarity)

    def separating(self, support: Support, finding: str) -> tuple[SeparatingAxis, ...]:
        """See `separating_axes`."""
        film, case = self._base.box, support.hit.box
        assert film is not None and case is not None  # noqa: S101  (what opposes is searched by boxes alone)
        return separating_axes(film, case, self._axes.weights[FINDINGS.index(finding)], self._axes.names)

    def passages(self, finding: str, sentence: str) -> Sequence[PassageHit]:
        """Guideline passages on a finding; those about it alone come first."""
        vector = self._memory.finding_vectors[finding]
        question = f"{finding} {sentence}"
        found = self._memory.guidelines.search(question, vector, findings=(finding,), limit=4 * PASSAGES)
        about = [h for h in found if finding in h.passage.findings]
        return sorted(about, key=lambda h: len(h.passage.findings))[:PASSAGES]

    def _usable(self, sentence: CaseSentence, finding: str) -> CaseSentence | None:
        """With an earlier film to compare with, sentences stand as they are; without one, less their comparisons."""
        return sentence if self.prior else without_comparison(sentence, finding)


def _stands(hit: CaseHit) -> bool:
    """Whether a case is evidence at all: another film than the one asked about, with a report that can be its own."""
    return not same_film(hit) and hit.case.consistent is not False


def separating_axes(
    film: BoxLatent, case: BoxLatent, weights: Floats, names: Sequence[str]
) -> tuple[SeparatingAxis, ...]:
    """The axes that tell a film from a case for a finding with `weights` (d,), at most TOP_AXES, the strongest first.

    An axis counts by what the difference of the centres adds to the logit, times the share of the two intervals that is not
    common to both: where the intervals coincide, the films are not told apart. One that adds nothing is left out.
    """
    difference = film.centre.astype(np.float64) - case.centre
    logit = weights * difference
    strength = np.abs(logit) * (1.0 - film.overlaps(case))
    order = [j for j in np.argsort(-strength, kind="stable")[:TOP_AXES] if strength[j] > 0]
    return tuple(SeparatingAxis(int(j), names[j], float(difference[j]), float(logit[j])) for j in order)


def _queries(base: CaseQuery, decisions: Mapping[str, Decision]) -> dict[Asked, CaseQuery]:
    """Around the film; and for every decision that says something, what states it where it is present (what is called possible may
    be stated outright elsewhere), and by the box alone what says the opposite.
    """
    asked: dict[Asked, CaseQuery] = {None: replace(base, limit=NEAR, prefetch=2 * NEAR)}
    by_box = replace(base, text=None, text_vector=None, limit=OPPOSING, prefetch=OPPOSING)
    for decision in decisions.values():
        if decision.polarity is None or decision.label == NO_FINDING:
            continue
        if decision.present:
            for polarity in dict.fromkeys((decision.polarity, Polarity.POSITIVE)):
                asked["for", decision.label, polarity] = replace(
                    base, finding=(decision.label, polarity), limit=STATING, prefetch=2 * STATING
                )
        denied = opposite_of(decision)
        asked["against", denied.finding, denied.polarity] = replace(by_box, finding=(denied.finding, denied.polarity))
    return asked
