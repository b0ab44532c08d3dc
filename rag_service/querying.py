"""A film asked by words or by a box: where, how likely, and the sentence of its findings that answers.

A question decides nothing: probabilities, boxes of findings and sentences are those of the film's draft, whatever the words say. A
finding is told as there only where its place map reaches half of its highest value at the place asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.case_sentences import Wanted
from knowledge_base.findings import FINDINGS, NO_FINDING, Laterality, Polarity
from rag_service.errors import BadWeights
from rag_service.explain import anatomy
from rag_service.explain.boxes import boxes
from rag_service.explain.places import place_maps
from rag_service.explain.saliency import MAP_SIDE
from rag_service.imaging.film import Box
from rag_service.memory import Memory
from rag_service.models.encoder import FilmReading
from rag_service.models.regions import region_of
from rag_service.reader import Reader
from rag_service.report.decisions import Decision
from rag_service.report.draft import Answer, Finding, NotAssessed
from rag_service.report.impression import URGENCY
from rag_service.report.languages import named
from rag_service.similar import read_question

NOT_UNDERSTOOD: Final = "not_understood"
NAMES_NO_FINDING: Final = "names_no_finding"
"""The words are about the chest, so that they have a place and a probability, but about none of the findings with sentences."""
ELSEWHERE: Final = "seen_elsewhere"
"""The finding is on the film, but not at the place asked about."""
NOTHING_DECIDED: Final = "nothing_is_decided_here"
LIKE: Final = 0.45
"""Cosine with the nearest name of a finding from which words are about the chest at all."""
THERE: Final = 0.5
"""Share of the highest value of a finding's map from which it is at a place."""
_HEART: Final = ("Cardiomegaly", "Enlarged Cardiomediastinum")
_LUNG: Final = tuple(f for f in URGENCY if f in anatomy.SIDED or f == "Edema")
_OF_THE_HEART: Final = ("heart", "cardiac", "corazón", "cardíac", "心臓")
_OF_A_LUNG: Final[Mapping[Laterality, tuple[str, ...]]] = {
    Laterality.RIGHT: ("right lung", "pulmón derecho", "右肺"),
    Laterality.LEFT: ("left lung", "pulmón izquierdo", "左肺"),
}
_MEDIASTINUM: Final = "mediastinum"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FilmSaid:
    """A film with what its draft says of it."""

    reading: FilmReading
    decisions: Mapping[str, Decision]
    findings: Sequence[Finding]
    silent: Sequence[NotAssessed]

    def places(self, finding: str) -> Floats:
        """(64, 64): where the finding shows. BadWeights for a model without place maps."""
        if self.reading.places is None:
            raise BadWeights("this film model has no place maps: it cannot be asked where a finding lies")
        return np.asarray(place_maps(self.reading.places, [finding])[0])


@dataclass(frozen=True, eq=False)
class Asker:
    """What answers questions about films."""

    reader: Reader
    memory: Memory

    def answers(self, said: FilmSaid, prompts: Sequence[str], places: Sequence[Box]) -> tuple[Answer, ...]:
        """One answer to each prompt, then one to each box."""
        return (*(self.answer(said, p, None) for p in prompts), *(self.answer(said, None, b) for b in places))

    def answer(self, said: FilmSaid, prompt: str | None, box: Box | None) -> Answer:
        """The answer to a prompt, a box, or a prompt about a box; one of them is given."""
        wanted = () if prompt is None else understood(prompt)
        if wanted:
            return self._of_finding(said, prompt, box, wanted)
        if prompt is None and box is not None:
            return self._of_box(said, box)
        return self._of_words(said, prompt or "", box)

    def _of_finding(self, said: FilmSaid, prompt: str | None, box: Box | None, wanted: Sequence[Wanted]) -> Answer:
        """What is known of the first finding that the words name, on the side they name."""
        first, labels = wanted[0], tuple(dict.fromkeys(w.finding for w in wanted))
        if first.finding == NO_FINDING:
            p = said.decisions[NO_FINDING].confidence.p
            return Answer(prompt, box, NO_FINDING, labels, p, reason=NAMES_NO_FINDING)
        asked = Answer(prompt, box, first.finding, labels)
        mask = place_mask(first.laterality, box)
        found = self._boxes(said, first, box)
        return _answered(said, replace(asked, boxes=found), mask)

    def _of_box(self, said: FilmSaid, box: Box) -> Answer:
        """The finding that is most at a box; where none is there, what is denied of that part of the chest."""
        region = region_of(said.reading, box)
        if region is None:
            raise BadWeights("the model folder has no regions.json: this model finds no regions")
        mask, candidates = place_mask(None, box), _HEART if region[0] == _MEDIASTINUM else _LUNG
        labels = _likeliest(said, mask, candidates)
        present = [f for f in labels if said.decisions[f].present and share_at(said.places(f), mask) >= THERE]
        denied = [f for f in candidates if any(s.label == f and s.polarity is Polarity.NEGATIVE for s in said.findings)]
        chosen = next(iter((*present, *denied)), None)
        if chosen is None:
            return Answer(None, box, None, labels, None, (box,), reason=NOTHING_DECIDED)
        return _answered(said, Answer(None, box, chosen, labels, boxes=(box,)), mask)

    def _of_words(self, said: FilmSaid, prompt: str, box: Box | None) -> Answer:
        """Words that name no finding: a place and a probability where they are about the chest, otherwise nothing; for one of the
        lungs what could be said of it too.
        """
        lung = lung_named(prompt)
        words = prompt if lung is None else f"{lung} lung"
        names = np.stack([self.memory.finding_vectors[f] for f in FINDINGS])
        if self.reader.queries is None or float((names @ self.memory.text.encode([words])[0]).max()) < LIKE:
            return Answer(prompt, box, reason=NOT_UNDERSTOOD)
        seen = self.reader.queries.answer(said.reading, words, self.memory.text)
        labels = () if lung is None else _likeliest(said, place_mask(lung, None), _LUNG)
        return Answer(prompt, box, labels=labels, p=seen.presence, boxes=seen.boxes, reason=NAMES_NO_FINDING)

    def _boxes(self, said: FilmSaid, wanted: Wanted, box: Box | None) -> tuple[Box, ...] | None:
        """Where the region query sees it, on the side and in the box asked about; else where the place map is highest there."""
        if box is not None:
            return (box,)
        if self.reader.queries is not None:
            words = " ".join(w for w in (wanted.laterality, wanted.finding.lower()) if w)
            seen = self.reader.queries.answer(said.reading, words, self.memory.text).boxes
            if kept := tuple(b for b in seen if _lies_on(b, wanted.laterality)):
                return kept
        return boxes(said.places(wanted.finding) * place_mask(wanted.laterality, None), wanted.finding)


def understood(prompt: str) -> tuple[Wanted, ...]:
    """The findings that words name, with side and place: in English as the labeler reads them, else in Spanish or Japanese; words
    about the heart alone ask for its size.
    """
    if found := read_question(prompt, None).wanted or named(prompt):
        return found
    asks_heart = any(word in prompt.casefold() for word in _OF_THE_HEART)
    return (Wanted(_HEART[0], Polarity.POSITIVE),) if asks_heart else ()


def lung_named(prompt: str) -> Laterality | None:
    """The one lung that words name, in English, Spanish or Japanese; None for neither and for both."""
    folded = prompt.casefold()
    sides = [side for side, names in _OF_A_LUNG.items() if any(name in folded for name in names)]
    return sides[0] if len(sides) == 1 else None


def place_mask(side: Laterality | None, box: Box | None) -> Floats:
    """(64, 64) of 0 and 1: the half of the film that shows the patient's side, what lies in the box, or both."""
    mask = np.ones((MAP_SIDE, MAP_SIDE), np.float32)
    if side is Laterality.RIGHT:
        mask[:, MAP_SIDE // 2 :] = 0
    elif side is Laterality.LEFT:
        mask[:, : MAP_SIDE // 2] = 0
    if box is not None:
        inside = np.zeros_like(mask)
        rows = slice(int(box.y_min * MAP_SIDE), max(int(np.ceil(box.y_max * MAP_SIDE)), 1))
        inside[rows, int(box.x_min * MAP_SIDE) : max(int(np.ceil(box.x_max * MAP_SIDE)), 1)] = 1
        mask *= inside
    return mask


def share_at(places: Floats, mask: Floats) -> float:
    """How high a map (64, 64) gets under a mask, as a share of its highest value."""
    peak = float(places.max())
    return float((places * mask).max()) / peak if peak > 0 else 0.0


def with_prompts(findings: Sequence[Finding], answers: Sequence[Answer]) -> tuple[Finding, ...]:
    """The findings, each with the prompts that it answers."""
    asked = {f.id: tuple(a.prompt for a in answers if a.finding == f.id and a.prompt is not None) for f in findings}
    return tuple(replace(f, prompts=asked[f.id]) for f in findings)


def _likeliest(said: FilmSaid, mask: Floats, candidates: Sequence[str]) -> tuple[str, ...]:
    """Candidates by how likely they are under a mask, the likeliest first."""
    here = {f: share_at(said.places(f), mask) * said.decisions[f].confidence.p for f in candidates}
    return tuple(sorted(candidates, key=lambda f: -here[f]))


def _answered(said: FilmSaid, asked: Answer, mask: Floats) -> Answer:
    """The answer with the probability at the place asked about, and the finding's sentence where it holds there."""
    assert asked.label is not None  # noqa: S101  (the callers' condition, restated for the type checker)
    decision = said.decisions[asked.label]
    share = share_at(said.places(asked.label), mask)
    asked = replace(asked, p=decision.confidence.p * share)
    finding = next((f for f in said.findings if f.label == asked.label), None)
    if finding is None:
        return replace(asked, reason=next((n.reason for n in said.silent if n.label == asked.label), NOTHING_DECIDED))
    if finding.polarity is not Polarity.NEGATIVE and share < THERE:
        return replace(asked, reason=ELSEWHERE)
    return replace(
        asked,
        finding=finding.id,
        polarity=finding.polarity,
        sentence=finding.sentence,
        sentence_en=finding.sentence_en,
        citations=finding.citations,
    )


def _lies_on(box: Box, side: Laterality | None) -> bool:
    """Whether a box is on a side by its middle: the viewer's left is the patient's right."""
    side_of_box = Laterality.RIGHT if (box.x_min + box.x_max) / 2 < 0.5 else Laterality.LEFT
    return side in {None, Laterality.BILATERAL, side_of_box}
