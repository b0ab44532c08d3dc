"""A draft as a person wants to read it in a terminal: impression first, then each sentence with its evidence."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from knowledge_base.findings import Polarity
from rag_service.report.draft import Citation, Draft, Finding, Status

WIDTH: Final = 100
_REASONS: Final = {
    "not_chest": "this does not look like a chest film",
    "lateral": "this is a lateral view; only frontal films are drafted",
    "rotated": "the film is turned",
    "inverted": "black and white are exchanged",
    "blank": "the film shows nothing",
    "out_of_distribution": "the film is unlike those the model learned from",
}
_SILENCE: Final = {
    "between_operating_points": "the probability is too high to deny it and too low to state it",
    "too_few_cases_to_calibrate": "too few calibration films show it",
    "not_reliable_enough": "the model does not tell it apart well enough",
    "no_case_sentence_passes_the_citation_gate": "no similar case says it in words that fit this film",
    "no_case_is_near_enough": "the cases that say it are too unlike this film to stand for it",
}
_HEDGED: Final = {
    "conformal_set_without_present": "the film is unlike calibration films that have it",
    "no_place_on_the_film": "no place on the film shows it",
    "no_near_case_states_it": "no near case states it",
}


def render(draft: Draft, source: Callable[[Citation], str]) -> str:
    """The whole draft as text. `source` names a citation's record for a reader (a study, a guideline's title)."""
    return "\n".join(_abstained(draft) if draft.status is Status.ABSTAINED else _drafted(draft, source))


def _abstained(draft: Draft) -> Iterator[str]:
    yield "NO DRAFT"
    for reason in draft.abstain_reasons:
        yield f"  - {_REASONS.get(reason, reason)} [{reason}]"


def _drafted(draft: Draft, source: Callable[[Citation], str]) -> Iterator[str]:
    yield "DRAFT REPORT  (research use; a clinician decides and signs)"
    if draft.provenance.lateral is not None:
        yield "Read from a frontal and a lateral film; places are on the frontal."
    yield ""
    yield "IMPRESSION"
    yield _wrap(draft.impression or "", 2)
    yield ""
    yield "FINDINGS"
    for number, finding in enumerate(draft.findings, 1):
        yield from _finding(number, finding, source)
    if draft.not_assessed:
        yield ""
        yield "NOT ASSESSED"
        for item in draft.not_assessed:
            flagged = f" (possible, p {item.p:.2f})" if item.possible and item.p is not None else ""
            yield _wrap(f"{item.label}{flagged}: {_SILENCE.get(item.reason, item.reason)}", 2, hanging=4)
    yield from _coverage([c.warning for c in draft.coverage if c.warning])
    yield ""
    yield "SIMILAR CASES"
    for case in draft.similar_cases[:5]:
        overlap = "" if case.box_overlap is None else f"  overlap {case.box_overlap:.2f}"
        yield f"  {case.id[:8]}{overlap}  {', '.join(case.labels) or 'no finding labelled'}"


def _coverage(warnings: Sequence[str]) -> Iterator[str]:
    if warnings:
        yield ""
        yield "FEW CASES TO GO BY"
        yield from (_wrap(warning, 2) for warning in warnings)


def _finding(number: int, finding: Finding, source: Callable[[Citation], str]) -> Iterator[str]:
    sure = finding.confidence
    low, high = sure.interval
    yield _wrap(f"{number:2d}. {finding.sentence}", 2, hanging=4)
    place = _place(finding)
    yield f"      {finding.label}, {finding.polarity}  p {sure.p:.2f} [{low:.2f}-{high:.2f}]  {sure.tier} confidence{place}"
    if finding.hedged:
        yield _wrap(f"only possible: {'; '.join(_HEDGED.get(h, h) for h in finding.hedged)}", 6, hanging=4)
    shown = finding.citations if finding.polarity is not Polarity.NEGATIVE else finding.citations[:1]
    for citation in shown:
        yield _wrap(f"<- {source(citation)}: “{citation.quote}”", 6, hanging=3)
    if finding.polarity is not Polarity.NEGATIVE:
        for counter in finding.counter_evidence[:1]:
            yield _wrap(f"but case {counter.id[:8]} looks alike and says: “{counter.quote}”", 6, hanging=4)
            if counter.separating_axes:
                apart = ", ".join(f"{a.name} {a.difference:+.2f}" for a in counter.separating_axes)
                yield _wrap(f"what tells them apart: {apart}", 10, hanging=4)


def _place(finding: Finding) -> str:
    if not finding.boxes or finding.polarity is Polarity.NEGATIVE:
        return ""
    side = f", {finding.laterality}" if finding.laterality else ""
    return f"  {len(finding.boxes)} box{'es' if len(finding.boxes) > 1 else ''}{side}"


def _wrap(text: str, indent: int, hanging: int = 0) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + hanging))
