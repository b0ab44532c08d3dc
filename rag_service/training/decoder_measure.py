"""Whether what the decoder writes of calibration studies says what it was asked to, and cites what carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from knowledge_base.findings import Polarity
from rag_service.models.decoder import Asked, batch_of, form_of
from rag_service.models.decoder_network import DecoderNetwork
from rag_service.models.decoding import generate
from rag_service.models.vocabulary import SLOTS, Vocabulary
from rag_service.report.aspects import Verdict
from rag_service.report.citations import wording_objections
from rag_service.report.entailment import judge
from rag_service.report.grammar import Phrase, read
from rag_service.report.labeler import shared_labeler
from rag_service.training.decoder_examples import Example
from rag_service.training.decoder_films import FilmBank

_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Written:
    """A task and what was written for it."""

    asked: Asked
    phrase: Phrase

    @property
    def agrees(self) -> bool:
        """Whether the labeler reads in it the finding asked for at its polarity, on no other side, and no other finding."""
        asked, mentions = self.asked, shared_labeler().read(self.phrase.text)
        sides = {None, asked.side}
        return bool(mentions) and all(
            (m.finding, m.polarity) == (asked.finding, asked.polarity) and m.laterality in sides for m in mentions
        )

    @property
    def sayable(self) -> bool:
        """Whether the gate of citations has nothing against its words."""
        return not any(wording_objections(self.phrase.text))

    @property
    def entailing(self) -> tuple[bool, ...]:
        """Of each slot cited, whether its sentence entails what was written."""
        return tuple(
            judge([self.asked.evidence[s - 1]], self.phrase.text) is Verdict.ENTAILED for s in self.phrase.slots
        )


def write_held(
    network: DecoderNetwork,
    vocabulary: Vocabulary,
    films: FilmBank,
    examples: Sequence[Example],
    slots: int = SLOTS,
    unseen: frozenset[str] = frozenset(),
) -> list[Written]:
    """Greedy sentences for tasks as the service puts them: with side and boxes, and the nearest sentences in `slots` slots."""
    network.eval()
    looks = bool(network.shape.sees.keys() - unseen)
    found: list[Written] = []
    for start in range(0, len(examples), _AT_ONCE):
        some = examples[start : start + _AT_ONCE]
        tasks = [_asked(e, slots) for e in some]
        batch = batch_of(vocabulary, [films.film(e.row) for e in some], tasks, [unseen] * len(some))
        forms = [form_of(a, looks) for a in tasks]
        texts = [each[0][0] for each in generate(network, vocabulary, batch, forms, 1)]
        found += [Written(a, read(text)[0]) for a, text in zip(tasks, texts, strict=True)]
    return found


def line(name: str, written: Sequence[Written]) -> str:
    """The figures of a set of sentences, each with what it is a share of."""
    affirmed = [w for w in written if w.asked.polarity is not Polarity.NEGATIVE]
    cited = [entails for w in written for entails in w.entailing]
    shares = (
        ("say what was asked", [w.agrees for w in written]),
        ("of those not denied", [w.agrees for w in affirmed]),
        ("nothing against the words", [w.sayable for w in written]),
        ("slots that entail", cited),
        ("with such a slot", [any(w.entailing) for w in written if w.asked.evidence]),
        ("with boxes, of those not denied", [w.phrase.boxes is not None for w in affirmed]),
    )
    return f"{name}: " + ", ".join(f"{of} {_share(outcomes)}" for of, outcomes in shares)


def _asked(example: Example, slots: int) -> Asked:
    target = example.target
    evidence = tuple(s.text for s in example.near[:slots])
    return Asked(target.finding, target.polarity, target.side, example.boxes or (), evidence=evidence)


def _share(outcomes: Sequence[bool]) -> str:
    return f"{np.mean(outcomes):.3f} (n={len(outcomes)})" if outcomes else "- (n=0)"
