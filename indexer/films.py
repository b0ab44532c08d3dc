"""A study's film on disk: how its file is stamped, what its bytes are, and when a study has changed at its source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from indexer.studies import Study
from knowledge_base.records import digest


@dataclass(frozen=True)
class Stamp:
    """A file's size in bytes and the time of its last change in nanoseconds: while both stay, its bytes count as the same."""

    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file; OSError when it cannot be looked at."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class FilmFile:
    """A film's file as it was read: its stamp, taken before, and the SHA-256 (hex) of its bytes."""

    path: Path
    stamp: Stamp
    sha256: str


def stamp_of(study: Study) -> Stamp | None:
    """The stamp of a study's film; None when it has none, or its file cannot be looked at."""
    try:
        return None if study.film is None else Stamp.of(study.film)
    except OSError:
        return None


def hashed(path: Path) -> FilmFile:
    """Read a film's file for its digest alone. OSError when it cannot be read."""
    stamp = Stamp.of(path)
    with path.open("rb") as file:
        return FilmFile(path, stamp, hashlib.file_digest(file, "sha256").hexdigest())


def origin_of(study: Study, film_sha256: str | None) -> str:
    """SHA-256 (hex) of everything a case is made from: what the source says, and the film's bytes."""
    said = [study.source, study.study, study.patient, study.text, study.labels, study.view, study.sex, study.age_years]
    return digest([*said, film_sha256])
