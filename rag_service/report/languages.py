"""A draft in Spanish or Japanese: every sentence made anew from what the finding is, never from another language's words.

Finding, polarity, side, place, degree and change each have their fixed words; a sentence says these and nothing else, under the
same id and with the same citations as its English one. Quotes stay as they were written
(docs/decisions/0032-other-languages-are-built-from-the-finding.md).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from knowledge_base.case_sentences import Wanted
from knowledge_base.findings import Polarity
from rag_service.report.change import State
from rag_service.report.draft import Finding, NotAssessed
from rag_service.report.impression import impression as in_english
from rag_service.report.impression import in_order
from rag_service.report.phrases_es import SPANISH
from rag_service.report.phrases_ja import JAPANESE
from rag_service.report.said import Phrases, Said
from rag_service.requests import Language

PHRASES: Final[Mapping[Language, Phrases]] = {Language.ES: SPANISH, Language.JA: JAPANESE}
"""The languages that a draft is made anew in; English is what it is written in."""


def in_language(findings: Sequence[Finding], language: Language) -> tuple[Finding, ...]:
    """The findings with `sentence` in a language and `sentence_en` as it was."""
    return tuple(replace(f, sentence=_sentence(f, language), sentence_en=f.sentence) for f in findings)


def impression(findings: Sequence[Finding], silent: Sequence[NotAssessed], language: Language) -> str:
    """The impression of findings that are in that language; of the same parts as the English one."""
    if language is Language.EN:
        return in_english(findings, silent)
    words = PHRASES[language]
    wanted = [words.names[n.label] for n in silent if n.possible]
    rest = [words.names[n.label] for n in silent if not n.possible]
    lines = list(dict.fromkeys(f.sentence for f in in_order(findings)))
    if wanted:
        lines.append(words.look_for.format(words.between.join(wanted)))
    if not lines:
        lines.append(words.nothing_found)
    if rest:
        lines.append(words.not_assessed.format(words.between.join(rest)))
    return words.joint.join(lines)


def named(text: str) -> tuple[Wanted, ...]:
    """The findings that a question names in Spanish or Japanese, with the side it names."""
    folded = _folded(text)
    found: dict[str, Wanted] = {}
    for words in PHRASES.values():
        sides = [side for side, forms in words.sides.items() if any(_folded(form) in folded for form in forms)]
        side = sides[0] if len(sides) == 1 else None
        for finding, name in words.names.items():
            if _folded(name) in folded:
                found.setdefault(finding, Wanted(finding, Polarity.POSITIVE, side))
    return tuple(found.values())


def _folded(text: str) -> str:
    """Without accents and capitals, which questions often lack."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


def _sentence(finding: Finding, language: Language) -> str:
    if language is Language.EN:
        return finding.sentence
    change = None if finding.comparison is None else State(finding.comparison.state)
    said = Said(finding.label, finding.polarity, finding.laterality, finding.location, finding.severity, change)
    return PHRASES[language].sentence(said)
