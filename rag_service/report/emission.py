"""How strongly a finding may be said: stated only where the calibrated head, the place on the film and the evidence agree.

The head agrees when its probability reaches the finding's `state` point and its conformal set holds "present": at the level of the
set, films with the finding are missed in at most a tenth. The place agrees when the finding has a box where it can lie. The
evidence agrees when near cases state the finding. Where one of them lacks, the finding is called possible, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from knowledge_base.findings import Polarity
from rag_service.conformal import Presence
from rag_service.explain.anatomy import REGIONS
from rag_service.report.decisions import Decision
from rag_service.report.draft import Finding, NotAssessed


class Lack(StrEnum):
    """What keeps a finding, whose probability is enough, from being stated."""

    HEAD = "conformal_set_without_present"
    REGION = "no_place_on_the_film"
    EVIDENCE = "no_near_case_states_it"


@dataclass(frozen=True)
class EmissionRule:
    """What must agree: `present` in the conformal set or not, findings that must have a box, and how many near cases must state
    a finding before the draft does. The points on the probability are the calibration's.
    """

    conformal: bool
    located: frozenset[str]
    stating: int


RULE: Final = EmissionRule(conformal=True, located=frozenset(REGIONS), stating=1)


def lacking(decision: Decision, stating: int, rule: EmissionRule = RULE) -> tuple[Lack, ...]:
    """What keeps a finding that its head states from being stated, given how many near cases state it."""
    return tuple(_lacking(decision, stating, rule))


def _lacking(decision: Decision, stating: int, rule: EmissionRule) -> Iterator[Lack]:
    if decision.polarity is not Polarity.POSITIVE:
        return
    if rule.conformal and Presence.PRESENT not in decision.confidence.set:
        yield Lack.HEAD
    if decision.label in rule.located and not decision.boxes:
        yield Lack.REGION
    if stating < rule.stating:
        yield Lack.EVIDENCE


def counts(findings: Sequence[Finding], silent: Sequence[NotAssessed]) -> Mapping[str, Any]:
    """How many findings are stated, called possible, denied and passed over, and what the hedges lacked."""
    said = Counter(f.polarity for f in findings)
    lacked = Counter(reason for f in findings for reason in f.hedged)
    return {
        "stated": said[Polarity.POSITIVE],
        "possible": said[Polarity.UNCERTAIN],
        "denied": said[Polarity.NEGATIVE],
        "not_assessed": len(silent),
        "hedged_for": {str(lack): lacked[lack] for lack in Lack},
    }
