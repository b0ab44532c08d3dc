"""The citation gate: a sentence of another patient's report may be said of this film only if everything in it holds here.

The labeler must read in it the finding at the polarity that the calibrated image heads support; whatever else it mentions
must agree with the image too; its side and height must be where the boxes are; and it may speak of no earlier film, no
measurement, no advice and nothing that its publisher blanked out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from knowledge_base.findings import NO_FINDING, Laterality, Polarity
from knowledge_base.records import CaseSentence, Mention
from rag_service.report.decisions import Decision
from rag_service.report.labeler import comparison_words, deidentification_marks
from rag_service.report.lexicon import IMPLIED

MAX_WORDS: Final = 24
MAX_EXTRA_WORDS: Final = 2
_UPPER: Final = re.compile(r"\b(apex|apical|apices|upper)\b", re.IGNORECASE)
_LOWER: Final = re.compile(r"\b(base|bases|basal|basilar|bibasilar|lower|costophrenic|lung base)\b", re.IGNORECASE)
_NOT_ON_THE_FILM: Final = re.compile(
    r"\d|\b(recommend\w*|advise\w*|suggest(?:ed)? (?:ct|follow)|correlat\w+|follow[- ]?up|ct|mri|"
    r"lateral (?:view|film|radiograph)|history|patient|clinical\w*|symptom\w*|discussed|dictat\w+|otherwise|"
    r"status post|[cm]m|(?:centi|milli)met\w+|known|surgery|surgical|resection|treatment|"
    r"old|chronic|age|exam|examination|technique|following|believe|heal(?:ed|ing)|specifically)\b",
    re.IGNORECASE,
)
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


def holds(sentence: CaseSentence, decision: Decision, decisions: Mapping[str, Decision]) -> bool:
    """Whether every statement of the sentence is supported by the image, and `decision`'s is among them."""
    about = [m for m in sentence.mentions if m.finding == decision.label]
    if not about or any(m.polarity is not decision.polarity for m in about):
        return False
    if not all(_agrees(m, decision, decisions) for m in sentence.mentions):
        return False
    return speaks_of_this_film_only(sentence.text) and _place_fits(sentence, decision)


def entails(sentence: CaseSentence, decision: Decision) -> bool:
    """Whether a cited sentence alone implies the finding at the decided polarity, on no other side."""
    return any(
        m.finding == decision.label and m.polarity is decision.polarity and _side_fits(m, decision) and not _partial(m)
        for m in sentence.mentions
    )


def speaks_of_this_film_only(text: str, prior: bool = False) -> bool:
    """No comparison (but with a `prior` film), no blanked word, no number, no advice, and not too long to be one statement."""
    if len(text.split()) > MAX_WORDS or deidentification_marks(text) or (not prior and comparison_words(text)):
        return False
    return _NOT_ON_THE_FILM.search(text) is None


def extra_words(sentence: CaseSentence) -> int:
    """Words outside the mentions that say something the labeler does not read."""
    start = sentence.span[0]
    covered = [(m.span[0] - start, m.span[1] - start) for m in sentence.mentions]
    words = re.finditer(r"[A-Za-z]+", sentence.text)
    return sum(
        w.group().lower() not in _NEUTRAL and not any(a <= w.start() < b for a, b in covered) for w in words
    )  # fmt: skip


def _agrees(mention: Mention, decision: Decision, decisions: Mapping[str, Decision]) -> bool:
    if mention.progression is not None or _partial(mention) or not _side_fits(mention, decision):
        return False
    if mention.finding == decision.label or _implied(mention, decision):
        return True
    other = decisions.get(mention.finding)
    return other is not None and mention.finding != NO_FINDING and other.polarity is mention.polarity


def _partial(mention: Mention) -> bool:
    """Whether a denial is of one degree only: "no large effusion" denies less than the draft would."""
    return mention.polarity is Polarity.NEGATIVE and mention.severity is not None


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


def _place_fits(sentence: CaseSentence, decision: Decision) -> bool:
    """Words of height must lie where the heaviest box does; a finding without boxes takes no words of height."""
    upper, lower = _UPPER.search(sentence.text), _LOWER.search(sentence.text)
    if not decision.present or not (upper or lower):
        return True
    if not decision.boxes or (upper and lower):
        return False
    middle = (decision.boxes[0].y_min + decision.boxes[0].y_max) / 2
    return middle < 0.5 if upper else middle > 0.45
