"""What must not stand in a draft, looked for again from its words alone: the service's own checks are not asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eval.overlap import words
from eval.report_labels import mentions
from knowledge_base.findings import Laterality, Polarity
from rag_service.explain.boxes import apparent_side
from rag_service.report.draft import Draft, Finding
from rag_service.report.labeler import comparison_words, deidentification_marks

PHRASE: Final = 6
"""Words in a row that no report needs twice; "no evidence of pleural effusion" has five."""
_LISTED: Final = re.compile(r"(?:Look for|Not assessed): [^.]*\.")
_OPPOSITE: Final = {Laterality.LEFT: Laterality.RIGHT, Laterality.RIGHT: Laterality.LEFT}


@dataclass(frozen=True)
class Checked:
    """What was found in one draft."""

    compares: bool
    """Whether findings or impression speak of an earlier film."""
    repeats: bool
    sides_clash: bool
    """Whether one finding is on the left and on the right by different sentences, or on the other side than its boxes."""
    impression_differs: bool
    placeholder: bool


def check(draft: Draft) -> Checked:
    """One draft."""
    said, summary = [f.sentence for f in draft.findings], _LISTED.sub("", draft.impression or "")
    return Checked(
        compares=any(comparison_words(t) for t in (*said, summary)),
        repeats=repeated(said),
        sides_clash=_sides_clash([*said, summary]) or any(map(_off_its_boxes, draft.findings)),
        impression_differs=_affirmed([summary]) != _affirmed(said),
        placeholder=any(deidentification_marks(t) for t in (*said, summary)),
    )


def counts(checked: Sequence[Checked]) -> dict[str, Any]:
    """In how many drafts each was found."""
    names = ("compares", "repeats", "sides_clash", "impression_differs", "placeholder")
    return {name: sum(getattr(c, name) for c in checked) for name in names} | {"drafts": len(checked)}


def repeated(sentences: Iterable[str]) -> bool:
    """Whether PHRASE words in a row, or a whole sentence, stand twice."""
    spoken = [tuple(words(s)) for s in sentences]
    whole = Counter(s for s in spoken if s)
    runs = Counter(s[i : i + PHRASE] for s in spoken for i in range(len(s) - PHRASE + 1))
    return any(n > 1 for n in (*whole.values(), *runs.values()))


def _affirmed(texts: Iterable[str]) -> set[str]:
    return {m.finding for m in mentions(texts) if m.polarity is not Polarity.NEGATIVE}


def _sides_clash(texts: Iterable[str]) -> bool:
    """Whether a finding affirmed on one side is affirmed on the other, and never on both."""
    sides: dict[str, set[Laterality]] = {}
    for m in mentions(texts):
        if m.laterality is not None and m.polarity is not Polarity.NEGATIVE:
            sides.setdefault(m.finding, set()).add(m.laterality)
    return any(set(_OPPOSITE) <= s for s in sides.values())


def _off_its_boxes(finding: Finding) -> bool:
    shown = apparent_side(finding.boxes, finding.label)
    said = {m.laterality for m in mentions([finding.sentence]) if m.finding == finding.label}
    return shown in _OPPOSITE and _OPPOSITE[shown] in said
