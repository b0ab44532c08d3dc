"""Cases as an answer shows them: excerpt, labels, the sentence that answers the question, and how many there are to go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from knowledge_base.case_sentences import Wanted, best_sentence
from knowledge_base.duplicates import distinct
from knowledge_base.findings import Polarity
from knowledge_base.records import CaseSentence
from knowledge_base.search import CaseHit
from rag_service.report.comparisons import without_comparison
from rag_service.report.draft import Coverage, MatchedSentence, SimilarCase
from rag_service.report.labeler import comparison_words, shared_labeler
from rag_service.report.sentences import split_sentences

EXCERPT: Final = 240
FEW_CASES: Final = 30
"""With fewer cases of a finding, those found may be the only ones rather than the nearest."""

Answer = tuple[CaseHit, MatchedSentence | None]


@dataclass(frozen=True)
class Question:
    """The words of a search, and what they ask for."""

    text: str
    wanted: tuple[Wanted, ...]


def read_question(text: str, finding: str | None) -> Question:
    """What a question asks for, read by the labeler as a report is, and `finding` if the words do not name it.

    A finding that the question only considers ("is there an effusion, rule out pneumonia") is asked for as present.
    """
    labeler = shared_labeler()
    read = [m for start, end in split_sentences(text) for m in labeler.read(text[start:end])]
    asked = [
        Wanted(m.finding, Polarity.NEGATIVE if m.polarity is Polarity.NEGATIVE else Polarity.POSITIVE, m.laterality, m.location)
        for m in read
    ]  # fmt: skip
    if finding is not None and finding not in {w.finding for w in asked}:
        asked.append(Wanted(finding, Polarity.POSITIVE))
    return Question(text, tuple(dict.fromkeys(asked)))


def answering(
    hits: Sequence[CaseHit], question: Question, limit: int, *, prior: bool, include_same: bool
) -> tuple[Answer, ...]:
    """The best `limit` of `hits`, each with the sentence that answers the question best: less its comparison with an earlier film,
    but where there is a `prior` one or the question is about a change.

    Those that state what is asked for come first, on the side and at the place asked for before the others; equals keep their
    order. See `distinct` for the film itself and for a study that is there twice.
    """
    whole = prior or bool(comparison_words(question.text))
    usable = _as_it_stands if whole else without_comparison
    found = [(h, best_sentence(h.case, question.wanted, question.text, usable)) for h in hits]
    grade = {id(h): 0 if best is None else best[1] for h, best in found}
    sentences = {id(h): None if best is None else _matched(best[0], question.wanted) for h, best in found}
    ordered = sorted(hits, key=lambda h: -grade[id(h)])
    return tuple((h, sentences[id(h)]) for h in distinct(ordered, limit, include_same=include_same).hits)


def similar_case(hit: CaseHit) -> SimilarCase:
    """A hit as the answer shows it."""
    excerpt = hit.case.text if len(hit.case.text) <= EXCERPT else hit.case.text[: EXCERPT - 1].rsplit(" ", 1)[0] + "…"
    labels = hit.case.labels(Polarity.POSITIVE)
    return SimilarCase(str(hit.case.id), hit.score, hit.box_overlap, labels, excerpt, hit.case.film)


def covered(finding: str, cases: int) -> Coverage:
    """How many cases state a finding, with a warning where they are fewer than FEW_CASES."""
    if cases >= FEW_CASES:
        return Coverage(finding, cases)
    count = {0: "No case", 1: "Only 1 case"}.get(cases, f"Only {cases} cases")
    return Coverage(finding, cases, f"{count} of {finding} here.")


def _as_it_stands(sentence: CaseSentence, _: str) -> CaseSentence:
    return sentence


def _matched(sentence: CaseSentence, wanted: Sequence[Wanted]) -> MatchedSentence:
    """The sentence with the mention in it that fits best what is wanted."""
    fits = [(fit, m) for w in wanted for m in sentence.mentions if (fit := w.fit(m)) is not None]
    if not fits:
        return MatchedSentence(sentence.text, sentence.span)
    _, said = max(fits, key=lambda f: f[0])
    return MatchedSentence(sentence.text, sentence.span, said.finding, said.polarity, said.laterality, said.location)
