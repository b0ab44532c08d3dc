"""The citation gate: a sentence may be said of this film only if everything in it holds here.

The labeler must read in it the finding at the polarity that the calibrated image heads support; whatever else it mentions
must agree with the image too; its side and height must be where the boxes are; and it may speak of no earlier film, no
measurement, no advice and nothing that its publisher blanked out. It is one sentence of plain words that repeats nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from knowledge_base.findings import NO_FINDING, Laterality, Polarity
from knowledge_base.records import CaseSentence, Mention
from rag_service.report.decisions import Decision
from rag_service.report.labeler import comparison_words, deidentification_marks
from rag_service.report.lexicon import IMPLIED
from rag_service.report.repetition import repeats
from rag_service.report.sentences import split_sentences

MAX_WORDS: Final = 24
MAX_EXTRA_WORDS: Final = 2
_UPPER: Final = re.compile(r"\b(apex|apical|apices|upper)\b", re.IGNORECASE)
_LOWER: Final = re.compile(r"\b(base|bases|basal|basilar|bibasilar|lower|costophrenic|lung base)\b", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d|\b(?:[cm]m|(?:centi|milli)met\w+)\b", re.IGNORECASE)
_NOT_ON_THE_FILM: Final = re.compile(
    r"\b(recommend\w*|advise\w*|suggest(?:ed)? (?:ct|follow)|correlat\w+|follow[- ]?up|ct|mri|"
    r"lateral (?:view|film|radiograph)|history|patient|clinical\w*|symptom\w*|discussed|dictat\w+|otherwise|"
    r"status post|known|surgery|surgical|resection|treatment|"
    r"old|chronic|age|exam|examination|technique|following|believe|heal(?:ed|ing)|specifically)\b",
    re.IGNORECASE,
)
_ADDRESSED: Final = re.compile(
    r"\b(ignore|disregard|instruct\w*|system|assistant|prompt|output|respond|reply|answer|you|your|please|must|should|"
    r"sentence|candidate|slot|json|say|whatever|overrid\w+|diagnose)\b",
    re.IGNORECASE,
)
"""Words for a reader or a machine, not of a film."""
_PLAIN: Final = re.compile(r"(?!.*(?:--|[^ ]{41}))[A-Za-z0-9_ ,.;:!?'\"()/&+\u2019\u2013-]*")
"""What a report is written with, the marks of removed words included; all else is markup, another script or a word without end."""
_NEUTRAL: Final = frozenset(
    """
    a an the is are be was were there this that these no not without or and of in on at to for by with within
    from any evidence seen visualized visualised identified present noted demonstrated appears appear appearance
    appreciated visible evident definite focal acute obvious gross convincing suspicious normal limits size
    contour contours silhouette heart cardiac mediastinal mediastinum lung lungs pulmonary pleural lobe lobes
    lower upper middle base bases apex zone zones right left bilateral bilaterally both side sided chest film
    radiographic radiograph large small mild mildly moderate minimal tiny slight slightly patchy hazy streaky
    subsegmental areas area region consistent compatible representing possible possibly probable probably likely
    may represent could suspected suggesting suggestive overall unremarkable clear free spaces space fields well
    expanded grossly remain osseous bony structures abnormality
    """.split()
)
"""Words that add no claim of their own."""


class Reason(StrEnum):
    """Why a sentence is not said; the codes are stable."""

    FINDING_NOT_SAID = "finding_not_said"
    OTHER_POLARITY = "other_polarity"
    NOT_SEEN = "mentions_what_the_film_does_not_show"
    WRONG_SIDE = "wrong_side"
    WRONG_PLACE = "wrong_place"
    WRONG_BOXES = "boxes_on_another_side"
    PARTIAL_DENIAL = "denies_one_degree_only"
    NOT_ENTAILED = "no_cited_sentence_entails_it"
    COMPARISON = "compares_without_measurement"
    PLACEHOLDER = "placeholder_text"
    NUMBER = "number"
    NOT_ON_THE_FILM = "speaks_of_what_no_film_shows"
    INSTRUCTION = "instruction"
    MARKUP = "markup"
    NOT_ONE_SENTENCE = "not_one_sentence"
    TOO_LONG = "too_long"
    REPEATED_WORDS = "repeated_words"
    UNREAD_WORDS = "words_that_cannot_be_checked"


def objections(sentence: CaseSentence, decision: Decision, decisions: Mapping[str, Decision]) -> frozenset[Reason]:
    """All that keeps a sentence from being said of this film as `decision` has it; nothing when it may be."""
    of_words = wording_objections(sentence.text)
    return frozenset(of_words) | frozenset(_statement_objections(sentence, decision, decisions))


def wording_objections(text: str, prior: bool = False) -> Iterator[Reason]:
    """What is wrong with the words themselves, whatever they say of the film. With a `prior` film they may compare."""
    if deidentification_marks(text):
        yield Reason.PLACEHOLDER
    if not prior and comparison_words(text):
        yield Reason.COMPARISON
    if _NUMBER.search(text):
        yield Reason.NUMBER
    if _NOT_ON_THE_FILM.search(text):
        yield Reason.NOT_ON_THE_FILM
    if _ADDRESSED.search(text):
        yield Reason.INSTRUCTION
    if not _PLAIN.fullmatch(text):
        yield Reason.MARKUP
    if len(text.split()) > MAX_WORDS:
        yield Reason.TOO_LONG
    if len(split_sentences(text)) > 1:
        yield Reason.NOT_ONE_SENTENCE
    if repeats(text):
        yield Reason.REPEATED_WORDS


def is_statement(text: str) -> bool:
    """Whether a text may be evidence at all: neither written to a reader or a machine nor markup, whatever else it states."""
    return not {Reason.INSTRUCTION, Reason.MARKUP} & set(wording_objections(text))


def extra_words(sentence: CaseSentence) -> int:
    """How many words outside the mentions say something the labeler does not read."""
    return len(unread_words(sentence))


def unread_words(sentence: CaseSentence) -> tuple[str, ...]:
    """Those words, lower case, in the order of the sentence."""
    start = sentence.span[0]
    covered = [(m.span[0] - start, m.span[1] - start) for m in sentence.mentions]
    words = ((w.group().lower(), w.start()) for w in re.finditer(r"[A-Za-z]+", sentence.text))
    return tuple(w for w, at in words if w not in _NEUTRAL and not any(a <= at < b for a, b in covered))


def _statement_objections(
    sentence: CaseSentence, decision: Decision, decisions: Mapping[str, Decision]
) -> Iterator[Reason]:
    about = [m for m in sentence.mentions if m.finding == decision.label]
    if not about:
        yield Reason.FINDING_NOT_SAID
    if any(m.polarity is not decision.polarity for m in about):
        yield Reason.OTHER_POLARITY
    if any(m.progression is not None for m in sentence.mentions):
        yield Reason.COMPARISON
    if any(m.polarity is Polarity.NEGATIVE and m.severity is not None for m in sentence.mentions):
        yield Reason.PARTIAL_DENIAL
    if not all(_side_fits(m, decision) for m in sentence.mentions):
        yield Reason.WRONG_SIDE
    if not all(_seen(m, decision, decisions) for m in sentence.mentions):
        yield Reason.NOT_SEEN
    if not _place_fits(sentence.text, decision):
        yield Reason.WRONG_PLACE


def _seen(mention: Mention, decision: Decision, decisions: Mapping[str, Decision]) -> bool:
    """Whether the heads support a mention: it is the decided finding, the opacity it implies, or a finding decided alike."""
    if mention.finding == decision.label or _implied(mention, decision):
        return True
    other = decisions.get(mention.finding)
    return other is not None and mention.finding != NO_FINDING and other.polarity is mention.polarity


def _implied(mention: Mention, decision: Decision) -> bool:
    """An opacity spoken of together with the consolidation, pneumonia, atelectasis or oedema it is."""
    return (
        decision.label in IMPLIED.get(mention.finding, ())
        and mention.polarity is not Polarity.NEGATIVE
        and decision.present
    )


def _side_fits(mention: Mention, decision: Decision) -> bool:
    if mention.laterality is None:
        return True
    if not decision.present:
        return mention.laterality is Laterality.BILATERAL
    return mention.laterality is decision.laterality


def _place_fits(text: str, decision: Decision) -> bool:
    """Words of height must lie where the heaviest box does; a finding without boxes takes no words of height."""
    upper, lower = _UPPER.search(text), _LOWER.search(text)
    if not decision.present or not (upper or lower):
        return True
    if not decision.boxes or (upper and lower):
        return False
    middle = (decision.boxes[0].y_min + decision.boxes[0].y_max) / 2
    return middle < 0.5 if upper else middle > 0.45
