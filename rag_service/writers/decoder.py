"""The built-in writer: the grounded decoder behind the port, one sentence with boxes and slots for each task."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from rag_service.models.decoder import Asked, Decoder, load_decoder
from rag_service.models.decoder_sight import MASKS, QUERIES
from rag_service.models.vocabulary import SLOTS
from rag_service.report.grammar import BinBox
from rag_service.report.writing import Candidate, Study, Task


class Blind(StrEnum):
    """What a writer can be made not to see, to measure what it is good for."""

    FILM = "film"
    EVIDENCE = "evidence"
    MASKS = "masks"
    QUERIES = "queries"


_NONE: Final[frozenset[Blind]] = frozenset()


class DecoderWriter:
    """A `Writer` over a decoder. It reads the first SLOTS slots of a task; `blind` is named in its id.

    The prior report is read for what was there before. No sentence compares: change is measured by the service, from both films.
    """

    def __init__(self, decoder: Decoder, blind: frozenset[Blind] = _NONE) -> None:
        self._decoder, self._blind = decoder, blind
        everything = decoder.network.shape.sees.keys() if Blind.FILM in blind else set()
        kinds = {kind for kind in (MASKS, QUERIES) if kind in blind}
        self._unseen = frozenset(everything) | kinds

    @property
    def id(self) -> str:
        """Name, version and digest, and what it does not see."""
        name, version = self._decoder.id.split("@")
        return name + "".join(f"-without-{b}" for b in sorted(self._blind)) + f"@{version}"

    def write(self, study: Study, tasks: Sequence[Task]) -> Sequence[Sequence[Candidate]]:
        """See `Writer`. All tasks are written at once; one about which nothing was decided gets nothing."""
        asked = {n: a for n, task in enumerate(tasks) if (a := self._asked(study, task)) is not None}
        if not asked:
            return [()] * len(tasks)
        film = self._decoder.sight.look(study.film, study.reading)
        written = self._decoder.write(film, list(asked.values()), unseen=self._unseen)
        by_task = dict(zip(asked, written, strict=True))
        return [
            tuple(
                Candidate(
                    text=s.phrase.text,
                    slots=s.phrase.slots,
                    boxes=None if s.phrase.boxes is None else tuple(b.box for b in s.phrase.boxes),
                    score=s.score,
                )
                for s in by_task.get(n, ())
            )
            for n in range(len(tasks))
        ]

    def _asked(self, study: Study, task: Task) -> Asked | None:
        decision = task.decision
        if decision.polarity is None:
            return None
        evidence = () if Blind.EVIDENCE in self._blind else tuple(s.sentence.text for s in task.slots[:SLOTS])
        return Asked(
            finding=decision.label,
            polarity=decision.polarity,
            side=decision.laterality,
            boxes=() if Blind.FILM in self._blind else tuple(BinBox.of(b) for b in decision.boxes or ()),
            words=f"{study.prompt} {study.indication}".strip(),
            prior=study.prior_report,
            evidence=evidence,
        )


def load_decoder_writer(folder: Path, model: str, blind: frozenset[Blind] = _NONE) -> DecoderWriter | None:
    """The writer whose decoder of film model `model` lies in `folder`; None when there is none. BadWeights when it is damaged."""
    decoder = load_decoder(folder, model)
    return None if decoder is None else DecoderWriter(decoder, blind)
