"""What a sentence of a draft says, apart from the words of any language, and what a language needs to say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from knowledge_base.findings import Laterality, Polarity
from rag_service.report.change import State


@dataclass(frozen=True)
class Said:
    """One finding as a sentence states it; what the sentence does not say is None."""

    finding: str
    polarity: Polarity
    laterality: Laterality | None = None
    location: str | None = None
    severity: str | None = None
    change: State | None = None


@dataclass(frozen=True)
class Phrases:
    """A language: the findings' names, the words for each side, what makes a sentence, and the fixed phrases of an impression.

    `look_for` and `not_assessed` take a list of names, joined by `between`; `joint` stands between two sentences. `no_case`,
    `one_case` and `few_cases` warn that few cases state a {finding}, by their number, {cases}.
    """

    names: Mapping[str, str]
    sides: Mapping[Laterality, tuple[str, ...]]
    sentence: Callable[[Said], str]
    look_for: str
    not_assessed: str
    nothing_found: str
    between: str
    joint: str
    no_case: str
    one_case: str
    few_cases: str
