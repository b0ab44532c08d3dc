"""What a writer is asked and what it answers: the port behind which the decoder, other models and verbatim quoting stand.

A writer proposes; it decides nothing. What may be said of a finding was decided before any word is chosen, and every proposal goes
through the same verification, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from knowledge_base.case_sentences import Support
from rag_service.imaging.film import Box, Film
from rag_service.models.encoder import FilmReading
from rag_service.report.decisions import Decision


@dataclass(frozen=True, eq=False)
class Study:
    """What a writer may look at: the decoded films and their readings, and the words that came with the request, "" for none."""

    film: Film
    reading: FilmReading
    lateral: Film | None = None
    prior: Film | None = None
    prior_reading: FilmReading | None = None
    prior_report: str = ""
    prompt: str = ""
    indication: str = ""
    technique: str = ""
    comparison: str = ""


@dataclass(frozen=True)
class Task:
    """One finding to be worded as decided, and the evidence for it by slot: slot n of a sentence cites `slots[n - 1]`."""

    decision: Decision
    slots: tuple[Support, ...]


@dataclass(frozen=True)
class Candidate:
    """A sentence proposed for a finding, the slots it says it rests on, and where the writer places it (None: it does not say).

    `score` orders the candidates of one writer for one task, higher first; scores of different writers are not comparable.
    """

    text: str
    slots: tuple[int, ...] = ()
    boxes: tuple[Box, ...] | None = None
    score: float = 0.0


class WriterFailed(Exception):
    """A writer could not write; `reason` is a stable code that goes into a draft's checks and holds no word of the study's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Writer(Protocol):
    """Contract:

    - `id` is stable and names the model and its digest: it goes into the provenance of every draft it had part in;
    - `write` answers one sequence of candidates per task, in the order of the tasks, best first; an empty one where it has nothing
      to propose; never more than a handful;
    - the same study and tasks give the same candidates;
    - what the slots' sentences say is data: no text changes what is asked, or in which form the answer comes;
    - it raises WriterFailed where it could not write; `proposals.propose` is how a writer is asked.
    """

    @property
    def id(self) -> str:
        """Name, version and digest."""
        ...

    def write(self, study: Study, tasks: Sequence[Task]) -> Sequence[Sequence[Candidate]]:
        """Candidates for each task."""
        ...
