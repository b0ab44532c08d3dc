"""Evidence for the sentences that the decoder learns to write, retrieved as the service would, with sentences that do not belong.

Cases are the starter cases of training studies, ranked by the distance of the boxes; a study is never evidence on itself. As for a
draft, what is called possible may rest on what is stated, and only sentences in words that may stand in a draft are evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.case_sentences import OTHER, Wanted
from knowledge_base.findings import NO_FINDING, Laterality, Polarity
from knowledge_base.records import Mention
from rag_service.datasets import openi
from rag_service.datasets.films import Split, split_of
from rag_service.models.starter import StarterCases
from rag_service.models.vocabulary import SLOTS
from rag_service.report.aspects import Verdict
from rag_service.report.citations import wording_objections
from rag_service.report.comparisons import without_comparison
from rag_service.report.entailment import entails
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.training.decoder_targets import Target

NEAR: Final = 20
"""Sentences of the nearest cases from which the slots of a task are drawn."""
SLOT_COUNTS: Final = (0.15, 0.10, 0.15, 0.20, 0.40)
"""How often a task has 0, 1, ... SLOTS slots."""
CARRIED: Final = 0.8
"""How often one of the slots is made sure to entail the target, if any sentence near does."""
UNCARRIED: Final = 0.3
"""How often a task keeps slots of which none entails its target: what is written should rest on what was found."""
NOISY: Final = 0.5
"""Share of tasks with slots that do not belong; there every second slot is such a one."""
_OPPOSITE: Final = {Polarity.POSITIVE: Polarity.NEGATIVE, Polarity.UNCERTAIN: Polarity.NEGATIVE}

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Stated:
    """A sentence of a case, by its row among the starter cases, and what the labeler reads in it."""

    case: int
    text: str
    mentions: tuple[Mention, ...]


class Shelf:
    """The sentences that may be evidence, by the finding and polarity that they state; `studies` are the starter cases by row."""

    def __init__(self, starter: StarterCases, reports: Mapping[str, openi.Report]) -> None:
        self._boxes, self.studies = starter.boxes, starter.studies
        self._stating: dict[tuple[str, Polarity], list[Stated]] = {}
        for case, study in enumerate(self.studies):
            if study in reports and split_of(openi.SOURCE, study) is Split.TRAIN:
                self._shelve(case, reports[study].text)

    def near(self, box: Floats, target: Target, own: str) -> tuple[Stated, ...]:
        """Sentences that bear out a target and are on no other side, those of the nearest cases by box (2d,) first."""
        polarities = (
            (target.polarity, Polarity.POSITIVE) if target.polarity is Polarity.UNCERTAIN else (target.polarity,)
        )
        found = [s for p in polarities for s in self._fitting(target, p) if self.studies[s.case] != own]
        if not found:
            return ()
        distances = ((self._boxes[[s.case for s in found]] - box) ** 2).sum(1)
        return tuple(found[i] for i in np.argsort(distances, kind="stable")[:NEAR].tolist())

    def _fitting(self, target: Target, polarity: Polarity) -> list[Stated]:
        wanted = Wanted(target.finding, polarity, target.side)
        return [s for s in self._stating.get((target.finding, polarity), []) if _fits(s, wanted)]

    def stray(self, target: Target, own: str, rng: np.random.Generator) -> Stated | None:
        """A sentence that does not belong to a target: of the opposite polarity, of the other side, or of another finding."""
        kind = rng.integers(3)
        if kind == 0:
            key = (target.finding, _OPPOSITE.get(target.polarity, Polarity.POSITIVE))
        elif kind == 1 and target.side in {Laterality.LEFT, Laterality.RIGHT}:
            key = (target.finding, target.polarity)
        else:
            others = [k for k in self._stating if k[0] != target.finding]
            key = others[rng.integers(len(others))]
        found = self._stating.get(key, [])
        if not found:
            return None
        drawn = found[rng.integers(len(found))]
        same = _fits(drawn, Wanted(target.finding, target.polarity, target.side))
        return None if same or self.studies[drawn.case] == own else drawn

    def _shelve(self, case: int, text: str) -> None:
        for sentence in read_case_sentences(text, shared_labeler()):
            for finding in dict.fromkeys(m.finding for m in sentence.mentions):
                clause = without_comparison(sentence, finding)
                if clause is None or finding == NO_FINDING or any(wording_objections(clause.text)):
                    continue
                stated = Stated(case, clause.text, clause.mentions)
                for polarity in {m.polarity for m in clause.mentions if m.finding == finding}:
                    self._stating.setdefault((finding, polarity), []).append(stated)


def drawn_slots(
    shelf: Shelf, target: Target, near: Sequence[Stated], own: str, rng: np.random.Generator
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Sentences for the slots of a task, some of which may not belong, and the numbers of those that entail the target."""
    count = min(int(rng.choice(SLOTS + 1, p=SLOT_COUNTS)), len(near))
    chosen = [near[i] for i in sorted(rng.choice(len(near), count, replace=False).tolist())] if count else []
    carrying = [s for s in near if supports(s.mentions, target.text)]
    if chosen and carrying and rng.random() < CARRIED:
        chosen[int(rng.integers(count))] = carrying[int(rng.integers(len(carrying)))]
    if rng.random() < NOISY:
        strays = [shelf.stray(target, own, rng) if rng.random() < 0.5 else None for _ in range(max(count, 1))]
        chosen = [stray or kept for stray, kept in zip(strays, chosen, strict=False)] or [s for s in strays if s]
    slots = tuple(i for i, s in enumerate(chosen, 1) if supports(s.mentions, target.text))
    if chosen and not slots and rng.random() > UNCARRIED:
        return (), ()
    return tuple(s.text for s in chosen), slots


@cache
def supports(premise: tuple[Mention, ...], sentence: str) -> bool:
    """Whether a sentence with these mentions entails another one."""
    return entails([premise], shared_labeler().read(sentence)).verdict is Verdict.ENTAILED


def _fits(stated: Stated, wanted: Wanted) -> bool:
    fits = [fit for m in stated.mentions if (fit := wanted.fit(m)) is not None]
    return bool(fits) and max(fits).side != OTHER
