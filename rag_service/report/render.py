"""A draft as a person wants to read it in a terminal, in its language: impression first, then each sentence with its evidence."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Final

from knowledge_base.findings import Polarity
from rag_service.report.draft import Answer, Citation, Draft, Finding, NotAssessed, SimilarCase, Status
from rag_service.report.measurements import Measurement
from rag_service.report.wording import Wording
from rag_service.report.wording_en import ENGLISH
from rag_service.report.wording_es import SPANISH
from rag_service.report.wording_ja import JAPANESE

WIDTH: Final = ENGLISH.frame.width
WORDINGS: Final[Mapping[str, Wording]] = {"en": ENGLISH, "es": SPANISH, "ja": JAPANESE}
"""By `Draft.language`."""
SIMILAR: Final = 5


def render(draft: Draft, source: Callable[[Citation], str]) -> str:
    """The whole draft as text. `source` names a citation's record for a reader (a study, a guideline's title)."""
    page = _Page(WORDINGS[draft.language], source)
    return "\n".join(page.abstained(draft) if draft.status is Status.ABSTAINED else page.drafted(draft))


class _Page:
    """Lines of text in one language."""

    def __init__(self, wording: Wording, source: Callable[[Citation], str]) -> None:
        self._wording, self._frame, self._source = wording, wording.frame, source

    def abstained(self, draft: Draft) -> Iterator[str]:
        yield self._frame.no_draft
        for reason in draft.abstain_reasons:
            yield f"  - {self._wording.reason(reason)} [{reason}]"

    def drafted(self, draft: Draft) -> Iterator[str]:
        frame = self._frame
        yield frame.title
        if draft.provenance.lateral is not None:
            yield frame.two_films
        yield from self._section(frame.impression, [self._wrap(draft.impression or "", 2)])
        said = [line for number, f in enumerate(draft.findings, 1) for line in self._finding(number, f)]
        yield from ("", frame.findings, *said)
        yield from self._section(frame.answers, [self._answer(a) for a in draft.answers])
        yield from self._section(frame.measurements, [self._measurement(m) for m in draft.measurements])
        yield from self._section(frame.not_assessed, [self._silent(n) for n in draft.not_assessed])
        yield from self._section(frame.few_cases, [self._wrap(c.warning, 2) for c in draft.coverage if c.warning])
        yield from ("", frame.similar_cases, *(self._similar(case) for case in draft.similar_cases[:SIMILAR]))

    def _section(self, heading: str, lines: list[str]) -> Iterator[str]:
        """A heading with its lines; nothing without any."""
        if lines:
            yield from ("", heading, *lines)

    def _finding(self, number: int, finding: Finding) -> Iterator[str]:
        yield self._wrap(f"{number:2d}. {finding.sentence}", 2, hanging=4)
        yield f"      {self._sureness(finding)}{self._place(finding)}"
        if finding.hedged:
            reasons = self._frame.semicolon.join(map(self._wording.reason, finding.hedged))
            yield self._wrap(self._frame.hedged.format(reasons=reasons), 6, hanging=4)
        denied = finding.polarity is Polarity.NEGATIVE
        for citation in finding.citations[:1] if denied else finding.citations:
            yield self._wrap(f"<- {self._source(citation)}: “{citation.quote}”", 6, hanging=3)
        if not denied:
            yield from self._counter(finding)

    def _sureness(self, finding: Finding) -> str:
        sure, wording = finding.confidence, self._wording
        low, high = sure.interval
        return self._frame.finding.format(
            finding=wording.findings[finding.label],
            polarity=wording.polarities[finding.polarity],
            p=sure.p,
            low=low,
            high=high,
            tier=wording.tiers[sure.tier],
        )

    def _counter(self, finding: Finding) -> Iterator[str]:
        for counter in finding.counter_evidence[:1]:
            yield self._wrap(self._frame.counter.format(id=counter.id[:8], quote=counter.quote), 6, hanging=4)
            if counter.separating_axes:
                axes = ", ".join(f"{a.name} {a.difference:+.2f}" for a in counter.separating_axes)
                yield self._wrap(self._frame.apart.format(axes=axes), 10, hanging=4)

    def _place(self, finding: Finding) -> str:
        if not finding.boxes or finding.polarity is Polarity.NEGATIVE:
            return ""
        count = len(finding.boxes)
        boxes = self._frame.one_box if count == 1 else self._frame.boxes.format(count=count)
        side = f"{self._frame.comma}{self._wording.sides[finding.laterality]}" if finding.laterality else ""
        return f"  {boxes}{side}"

    def _answer(self, answer: Answer) -> str:
        """What was asked, and the sentence that answers it or why none does."""
        box = None if answer.box is None else self._frame.asked_box.format(**asdict(answer.box))
        asked = self._frame.comma.join(part for part in (answer.prompt, box) if part)
        words = answer.sentence or self._wording.reason(answer.reason or "")
        return self._wrap(self._frame.named.format(name=asked, words=words), 2, hanging=4)

    def _measurement(self, measured: Measurement) -> str:
        found = self._wording.reason(measured.reason or "") if measured.value is None else f"{measured.value:.2f}"
        name = self._wording.measurements.get(measured.name, measured.name)
        return self._wrap(self._frame.named.format(name=name, words=found), 2, hanging=4)

    def _silent(self, item: NotAssessed) -> str:
        flagged = self._frame.flagged.format(p=item.p) if item.possible and item.p is not None else ""
        name = f"{self._wording.findings[item.label]}{flagged}"
        return self._wrap(self._frame.named.format(name=name, words=self._wording.reason(item.reason)), 2, hanging=4)

    def _similar(self, case: SimilarCase) -> str:
        overlap = "" if case.box_overlap is None else f"  {self._frame.overlap.format(overlap=case.box_overlap)}"
        return f"  {case.id[:8]}{overlap}  {self._wording.names(case.labels) or self._frame.unlabelled}"

    def _wrap(self, text: str, indent: int, hanging: int = 0) -> str:
        first, rest = " " * indent, " " * (indent + hanging)
        return textwrap.fill(text, self._frame.width, initial_indent=first, subsequent_indent=rest)
