"""A draft in Spanish or Japanese: every sentence made anew from what the finding is, never from another language's words.

Finding, polarity, side, place, degree and change each have their fixed words; a sentence says these and nothing else, under the
same id and with the same boxes and citations as its English one. Quotes stay as they were written
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
from rag_service.report.draft import Answer, Coverage, Draft, Finding, NotAssessed, Status
from rag_service.report.impression import told_in
from rag_service.report.phrases_es import SPANISH
from rag_service.report.phrases_ja import JAPANESE
from rag_service.report.said import Phrases, Said
from rag_service.requests import Language

PHRASES: Final[Mapping[Language, Phrases]] = {Language.ES: SPANISH, Language.JA: JAPANESE}
"""The languages that a draft is made anew in; English is what it is written in."""


def in_language(draft: Draft, language: Language) -> Draft:
    """An English draft with its sentences, impression and warnings in a language, and the English ones beside them.

    Findings, answers and what is not assessed keep their order and everything else they hold: ids, labels, boxes, citations.
    """
    findings = findings_in(draft.findings, language)
    by_id = {f.id: f for f in findings}
    return replace(
        draft,
        findings=findings,
        answers=tuple(_answer(a, by_id) for a in draft.answers),
        impression=_impression(draft, findings, language),
        impression_en=draft.impression,
        coverage=tuple(_covered(c, language) for c in draft.coverage),
        language=language,
    )


def findings_in(findings: Sequence[Finding], language: Language) -> tuple[Finding, ...]:
    """English findings with `sentence` in a language and `sentence_en` as it was."""
    return tuple(replace(f, sentence=_sentence(f, language), sentence_en=f.sentence) for f in findings)


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
    change = finding.progression if finding.comparison is None else finding.comparison.state
    said = Said(
        finding.label,
        finding.polarity,
        finding.laterality,
        finding.location,
        finding.severity,
        None if change is None else State(change),
    )
    return PHRASES[language].sentence(said)


def _answer(answer: Answer, findings: Mapping[str, Finding]) -> Answer:
    """An answer whose sentence is a finding's says what that finding says."""
    if answer.finding is None:
        return answer
    finding = findings[answer.finding]
    return replace(answer, sentence=finding.sentence, sentence_en=finding.sentence_en)


def _impression(draft: Draft, findings: Sequence[Finding], language: Language) -> str | None:
    """Of the same parts as the English one, in their order; None where nothing was drafted."""
    if language is Language.EN or draft.status is Status.ABSTAINED:
        return draft.impression
    words, silent = PHRASES[language], draft.not_assessed
    lines = told_in(findings)
    lines += _listed(words.look_for, [n for n in silent if n.possible], words)
    lines = lines or [words.nothing_found]
    lines += _listed(words.not_assessed, [n for n in silent if not n.possible], words)
    return words.joint.join(lines)


def _listed(form: str, silent: Sequence[NotAssessed], words: Phrases) -> list[str]:
    return [form.format(words.between.join(words.names[n.label] for n in silent))] if silent else []


def _covered(coverage: Coverage, language: Language) -> Coverage:
    if language is Language.EN or coverage.warning is None:
        return coverage
    words = PHRASES[language]
    form = {0: words.no_case, 1: words.one_case}.get(coverage.cases, words.few_cases)
    return replace(coverage, warning=form.format(cases=coverage.cases, finding=words.names[coverage.label]))
