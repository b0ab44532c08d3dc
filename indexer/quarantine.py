"""Studies that could not be indexed, kept on a list with the reason: one JSON line each, and no word of a report.

A study stays on the list until it is indexed; a later run passes over it while nothing about it has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from indexer.films import Stamp, origin_of, stamp_of
from indexer.studies import Study

FILE: Final = "quarantine.jsonl"


@dataclass(frozen=True)
class Failure:
    """Why a study could not be indexed: a stable code and the class of the error, never its text."""

    study: Study
    reason: str
    error: str
    stamp: Stamp | None


@dataclass(frozen=True)
class Entry:
    """A line of the list. `film` is relative to the folder that was indexed; `time` is UTC, to the second.

    `said` is the digest of what the source says of the study, `size` and `changed_ns` are its film's stamp.
    """

    source: str
    study: str
    reason: str
    error: str
    film: str | None
    said: str
    size: int | None
    changed_ns: int | None
    time: str

    @classmethod
    def of(cls, failure: Failure, folder: Path) -> Entry:
        """The line of a failure under the folder being indexed."""
        study, stamp = failure.study, failure.stamp
        film = None if study.film is None else os.path.relpath(study.film, folder)
        size, changed = (stamp.size, stamp.changed_ns) if stamp else (None, None)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(
            study.source, study.study, failure.reason, failure.error, film, origin_of(study, None), size, changed, now
        )


class Quarantine:
    """The list in a folder, made with its first line. Written whole and renamed: a kill leaves the old list or the new."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._entries = {(e.source, e.study): e for e in _read(self._path)}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def names(self, study: Study) -> bool:
        """Whether the study is on the list."""
        return (study.source, study.study) in self._entries

    def holds(self, study: Study) -> bool:
        """Whether the study failed before, and neither its film's file nor what its source says has changed since."""
        entry = self._entries.get((study.source, study.study))
        if entry is None:
            return False
        stamp = stamp_of(study)
        now = (stamp.size, stamp.changed_ns) if stamp else (None, None)
        return (entry.said, entry.size, entry.changed_ns) == (origin_of(study, None), *now)

    def update(self, failures: Iterable[Failure], done: Iterable[Study], folder: Path) -> None:
        """Put failures on the list and take off it what has been indexed; `folder` is the one being indexed."""
        before = dict(self._entries)
        for study in done:
            self._entries.pop((study.source, study.study), None)
        self._entries |= {(f.study.source, f.study.study): Entry.of(f, folder) for f in failures}
        if self._entries != before:
            self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        with written.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(e), ensure_ascii=False) + "\n" for e in self._entries.values())
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path)


def _read(path: Path) -> list[Entry]:
    """The lines of the list; one that is none of ours is passed over: its study is tried again."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text("utf-8").splitlines():
        try:
            raw: Mapping[str, Any] = json.loads(line)
            entries.append(Entry(**raw))
        except (ValueError, TypeError):
            continue
    return entries
