"""Asks a writer and takes nothing on trust: whatever it does, a draft goes on without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rag_service.report.writing import Candidate, Study, Task, Writer, WriterFailed

MOST: Final = 5
"""Candidates looked at for one task."""


@dataclass(frozen=True)
class Proposals:
    """The candidates of each task, in the order of the tasks; `failure` is the stable code of why there are none at all."""

    by_task: tuple[tuple[Candidate, ...], ...]
    failure: str | None = None


def propose(writer: Writer, study: Study, tasks: Sequence[Task]) -> Proposals:
    """What a writer proposes, never more than `MOST` for a task, and none that cites a slot which there is not.

    Never raises for what a writer does: a failure costs its candidates, and says which (an exception by its type alone, as its
    text may hold a patient's words).
    """
    try:
        answered = [tuple(given)[:MOST] for given in writer.write(study, tasks)]
        usable = tuple(
            tuple(c for c in given if set(c.slots) <= set(range(1, len(task.slots) + 1)))
            for given, task in zip(answered, tasks, strict=True)
        )
        return Proposals(usable)
    except WriterFailed as failed:
        reason = failed.reason
    except Exception as error:  # noqa: BLE001  (a model of somebody else's may raise anything)
        reason = f"error:{type(error).__name__}"
    return Proposals(((),) * len(tasks), reason)
