"""The rule labeler: which of the 14 observations a text affirms, denies or hedges, where, how much, since when.

Phrases give findings (`lexicon`, `anatomy_terms`); the words around them give polarity, side, place, degree and
change (`cues`). Every step is linear in the words. Scope follows NegEx and ConText: a cue reaches over a list ("no
pneumothorax, effusion or consolidation") until a terminator, a new clause, or the end of the sentence. XXXX stands for
a word that the publisher removed; only "chest XXXX tip" and "XXXX-a-XXXX" are read as what they can only be, a port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from knowledge_base.findings import FINDINGS, NO_FINDING, PATHOLOGIES, Polarity
from knowledge_base.records import Mention
from rag_service.report import attributes, scope
from rag_service.report.anatomy import AnatomyReader
from rag_service.report.cues import COMPARISONS
from rag_service.report.lexicon import DENIED_MEANS_NORMAL, IMPLIED, PHRASES, SHADOW, SHADOWS
from rag_service.report.phrases import Hit, Trie, expand, tokens
from rag_service.report.scope import Statement
from rag_service.report.sentences import read_case_sentences

NAME_VERSION: Final = "rules@1"
DEIDENTIFIED: Final = re.compile(r"X{3,}|_{3,}|\[\*\*")
RANK: Final = {Polarity.NEGATIVE: 0, Polarity.UNCERTAIN: 1, Polarity.POSITIVE: 2}
OPPOSITE: Final = {Polarity.POSITIVE: Polarity.NEGATIVE, Polarity.NEGATIVE: Polarity.POSITIVE}
DENIABLE: Final = "denied means normal"


def _finding_phrases() -> list[tuple[str, tuple[str, ...]]]:
    named: dict[tuple[str, ...], list[str]] = {}
    table = {SHADOW: SHADOWS, **PHRASES, DENIABLE: DENIED_MEANS_NORMAL}
    for finding, patterns in table.items():
        for words in (w for p in patterns for w in expand(p)):
            if finding not in named.setdefault(words, []):
                named[words].append(finding)
    return [(" ".join(words), tuple(findings)) for words, findings in named.items()]


class Labeler:
    """Reads sentences and reports. Building one compiles the tables (tens of milliseconds); keep and share it."""

    NAME_VERSION: Final = NAME_VERSION

    def __init__(self) -> None:
        self._findings: Trie[tuple[str, ...]] = Trie(_finding_phrases())
        self._anatomy = AnatomyReader()
        self._scopes = scope.ScopeReader()
        self._attributes = attributes.AttributeReader()

    def read(self, sentence_text: str, offset: int = 0) -> tuple[Mention, ...]:
        """Mentions of one sentence in order; `offset` is where the sentence starts in the text that spans refer to."""
        words = tokens(sentence_text)
        forms = [w.word for w in words]
        named = self._findings.scan(forms)
        parts = self._anatomy.parts(forms, named)
        if not (named or parts):
            return ()
        scopes = self._scopes.read(forms)
        said = [s for hit in named for s in _statements(hit, scopes)]
        said += self._anatomy.read(forms, scopes, parts)
        if not said:
            return ()
        said.sort(key=lambda s: (s.first, s.last, FINDINGS.index(s.finding)))
        traits = self._attributes.read(forms, said)
        return tuple(
            Mention(
                finding=s.finding,
                polarity=s.polarity,
                span=(offset + words[s.first].start, offset + words[s.last - 1].end),
                laterality=t.laterality,
                location=t.location,
                severity=t.severity,
                progression=t.progression,
            )
            for s, t in zip(said, traits, strict=True)
        )

    def read_report(self, text: str) -> tuple[Mention, ...]:
        """Mentions of a report's sentences (not of its indication or technique), spans in the report's characters."""
        return tuple(m for sentence in read_case_sentences(text, self) for m in sentence.mentions)


def _statements(hit: Hit[tuple[str, ...]], scopes: scope.Scopes) -> Iterable[Statement]:
    """What a phrase states, given the cues that reach it."""
    polarity = scopes.polarity(hit.first, hit.last)
    for finding in hit.value:
        if finding == SHADOW or polarity is None:
            continue
        if finding == DENIABLE:
            yield Statement(NO_FINDING, OPPOSITE.get(polarity, polarity), hit.first, hit.last)
        else:
            yield Statement(finding, polarity, hit.first, hit.last)


def overall(mentions: Iterable[Mention]) -> dict[str, Polarity]:
    """One polarity per observation that is spoken of: positive beats uncertain beats negative.

    CheXpert's hierarchy (`lexicon.IMPLIED`): a positive or uncertain Consolidation, Pneumonia, Atelectasis or Edema
    makes Lung Opacity at least that. No Finding is positive only when something was said and no pathology is positive
    or uncertain; with such a pathology it is negative.
    """
    best: dict[str, Polarity] = {}
    for mention in mentions:
        _raise(best, mention.finding, mention.polarity)
    for family, members in IMPLIED.items():
        for member in members:
            if best.get(member, Polarity.NEGATIVE) is not Polarity.NEGATIVE:
                _raise(best, family, best[member])
    stated = [best[f] for f in PATHOLOGIES if f in best]
    if any(p is not Polarity.NEGATIVE for p in stated):
        best[NO_FINDING] = Polarity.NEGATIVE
    elif stated and best.get(NO_FINDING) is None:
        best[NO_FINDING] = Polarity.POSITIVE
    return {f: best[f] for f in FINDINGS if f in best}


def _raise(best: dict[str, Polarity], finding: str, polarity: Polarity) -> None:
    known = best.get(finding)
    if known is None or RANK[polarity] > RANK[known]:
        best[finding] = polarity


def comparison_words(text: str) -> tuple[str, ...]:
    """The words of a text that presuppose an earlier film ("new", "unchanged", "since prior"), as written, in order."""
    return tuple(text[start:end] for start, end in comparison_spans(text))


def comparison_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Where those words stand: (start, end) in characters, in order and apart."""
    words = tokens(text)
    hits = _comparison_trie().scan([w.word for w in words])
    return tuple((words[h.first].start, words[h.last - 1].end) for h in hits)


@cache
def shared_labeler() -> Labeler:
    """One labeler for all who ask."""
    return Labeler()


@cache
def _comparison_trie() -> Trie[bool]:
    return Trie((p, True) for p in COMPARISONS)


def deidentification_marks(text: str) -> bool:
    """Whether a publisher's mark for removed words stands in the text: XXXX (Open-i), ___ or [** **] (MIMIC)."""
    return DEIDENTIFIED.search(text) is not None
