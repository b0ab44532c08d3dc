"""What remains of a case's sentence when its comparison with an earlier film is taken away (RA-RRG: comparison statements leave
the corpus). "Small left effusion, unchanged since the prior film." leaves "Small left effusion".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from knowledge_base.records import CaseSentence, Mention
from rag_service.report.labeler import comparison_spans, shared_labeler
from rag_service.report.phrases import Token, tokens

_DANGLING: Final = frozenset(
    """
    a an and appearance appears are as at but by compared development enlargement exam examination film for from had has have in
    increase is it its may of on or radiograph significantly size slightly study than that the to was were when which with
    """.split()
)
"""Words, in `normal_form`, that end up loose at either end of a clause once the comparison beside them is gone."""


def without_comparison(sentence: CaseSentence, finding: str) -> CaseSentence | None:
    """The sentence itself when it compares nothing; else the longest clause between its comparison words in which the labeler
    reads of `finding` exactly what the sentence says of it (polarity, side, place, degree); None when no clause does.

    "No new effusion" leaves nothing: "effusion" alone says the opposite.
    """
    spans = comparison_spans(sentence.text)
    if not spans:
        return sentence
    said = _of(finding, sentence.mentions)
    clauses = [_clause(sentence, *ends) for ends in _between(sentence.text, spans)]
    kept = [c for c in clauses if said and _of(finding, c.mentions) == said and _closed(c.text)]
    return max(kept, key=lambda c: len(c.text), default=None)


def as_sentence(clause: str) -> str:
    """A clause, which ends without a stop, with one, and with a capital at its beginning."""
    return f"{clause[:1].upper()}{clause[1:]}."


def _of(finding: str, mentions: tuple[Mention, ...]) -> list[tuple[object, ...]]:
    return [(m.polarity, m.laterality, m.location, m.severity) for m in mentions if m.finding == finding]


def _clause(sentence: CaseSentence, start: int, end: int) -> CaseSentence:
    text, at = sentence.text[start:end], sentence.span[0] + start
    return CaseSentence(text, (at, at + len(text)), sentence.section, shared_labeler().read(text, at))


def _between(text: str, spans: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """(start, end) of what stands before, between and after the spans, without what dangles; nothing is left out."""
    starts, ends = (0, *(end for _, end in spans)), (*(start for start, _ in spans), len(text))
    for start, end in zip(starts, ends, strict=True):
        words = tokens(text[start:end])
        while words and _dangles(words[0]):
            del words[0]
        while words and _dangles(words[-1]):
            del words[-1]
        if words:
            yield start + words[0].start, start + words[-1].end


def _closed(text: str) -> bool:
    return text.count("(") == text.count(")")


def _dangles(token: Token) -> bool:
    return token.word in _DANGLING or not token.word[0].isalnum()
