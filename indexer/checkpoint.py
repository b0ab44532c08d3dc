"""What this machine remembers of indexing, beside the index: digests of film files by stamp, and when runs began.

The store itself says which studies are done (`Case.origin`); losing this file loses no case. It spares a run the reading of
films that have not changed since they were read, and tells `--since last` how far the last finished run went.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from indexer.films import FilmFile, Stamp

FILE: Final = "checkpoint.sqlite"
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS films (path TEXT PRIMARY KEY, size INTEGER, changed_ns INTEGER, sha256 TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS runs (store TEXT, source TEXT, folder TEXT, began REAL, PRIMARY KEY (store, source, folder));
"""


class Checkpoint:
    """The checkpoint in a folder, made when absent and made anew when its file is damaged. For one thread at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        try:
            self._base = _opened(path)
        except sqlite3.DatabaseError:
            for part in folder.glob(f"{FILE}*"):
                part.unlink()
            self._base = _opened(path)

    def digest(self, path: Path, stamp: Stamp) -> str | None:
        """SHA-256 (hex) of the file of that stamp; None when it was never read, or has another stamp now."""
        asked = "SELECT sha256 FROM films WHERE path = ? AND size = ? AND changed_ns = ?"
        found = self._base.execute(asked, (_name(path), stamp.size, stamp.changed_ns)).fetchone()
        return str(found[0]) if found else None

    def remember(self, films: Iterable[FilmFile]) -> None:
        """Keep the digests of films that were read."""
        rows = [(_name(f.path), f.stamp.size, f.stamp.changed_ns, f.sha256) for f in films]
        with self._base:
            self._base.executemany("INSERT OR REPLACE INTO films VALUES (?, ?, ?, ?)", rows)

    def last(self, store: str, source: str, folder: Path) -> float | None:
        """When the last run that went through all of a source's folder began, in seconds since 1970; None without one."""
        asked = "SELECT began FROM runs WHERE store = ? AND source = ? AND folder = ?"
        found = self._base.execute(asked, (store, source, _name(folder))).fetchone()
        return float(found[0]) if found else None

    def finished(self, store: str, source: str, folder: Path, began: float) -> None:
        """Note a run that went through all of a source's folder."""
        with self._base:
            self._base.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", (store, source, _name(folder), began))

    def forget(self, store: str) -> None:
        """Forget the runs that filled a store: it is made anew."""
        with self._base:
            self._base.execute("DELETE FROM runs WHERE store = ?", (store,))

    def close(self) -> None:
        """Release the file."""
        self._base.close()


def _opened(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is read again
        base.executescript(_TABLES)
    except sqlite3.DatabaseError:
        base.close()
        raise
    return base


def _name(path: Path) -> str:
    return os.path.abspath(path)
