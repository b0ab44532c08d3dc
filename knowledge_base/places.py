"""Where collections lie: a name leads to a place (a folder, a collection of the server), and names can change places.

A new index is filled in a place of its own, beside the one in use; then the two exchange names, in one step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LAYOUT: Final = "collection.json"
"""File of a collection's folder that says how it is made; written last but one, so what has it is whole."""
PLACES: Final = "places.json"
"""File of an embedded index that says which collections do not lie in the folder of their own name."""


@dataclass(frozen=True)
class Places:
    """`moved` maps a collection to its place where that is not the place of its own name."""

    moved: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str | None:
        """Where the collection lies, if it exists; None when the place of its own name is another's."""
        if name in self.moved:
            return self.moved[name]
        return None if name in self.moved.values() else name

    def names(self, place: str) -> bool:
        """Whether some name leads to this place."""
        return place in self.moved.values() or place not in self.moved

    def with_room(self, name: str, taken: Iterable[str]) -> Places:
        """The places once collection `name` has one that is not among those `taken`."""
        busy = {*taken, *self.moved.values()}
        numbered = (f"{name}-{n}" for n in range(2, len(busy) + 3))
        place = next(p for p in (name, *numbered) if p not in busy)
        return Places(self._changed({name: place}))

    def swapped(self, pairs: Sequence[tuple[str, str]], taken: Iterable[str]) -> Places:
        """The places once the two names of each pair have exchanged theirs; no name stands in two pairs.

        A name whose place is not `taken` has none to give.
        """
        there = set(taken)
        changes: dict[str, str | None] = {}
        for pair in pairs:
            held = [place if (place := self.of(name)) in there else None for name in pair]
            changes |= zip(reversed(pair), held, strict=True)
        return Places(self._changed(changes))

    def without(self, name: str) -> Places:
        """The places once collection `name` is gone."""
        return Places(self._changed({name: None}))

    def _changed(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        places = {**self.moved, **changes}
        return {n: p for n, p in sorted(places.items()) if p is not None and p != n}


def load_places(folder: Path) -> Places:
    """The places of an embedded index; raises `ValueError` when the file cannot be read as such."""
    path = folder / PLACES
    if not path.exists():
        return Places()
    stored = json.loads(path.read_text("utf-8"))
    if not isinstance(stored, dict) or not all(_plain(p) for p in stored.values()):
        raise ValueError(f"{PLACES} names places outside the index")
    return Places(stored)


def save_places(folder: Path, places: Places) -> None:
    """Write the file as a whole or not at all: a kill leaves the old one or the new one."""
    beside = folder / f".{PLACES}"
    with beside.open("w", encoding="utf-8") as file:
        json.dump(dict(places.moved), file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / PLACES)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(place: object) -> bool:
    return isinstance(place, str) and place not in {"", ".", ".."} and "/" not in place and "\0" not in place


def strays(folder: Path) -> list[str]:
    """Folders of an embedded index that hold no whole collection, or one that no name leads to."""
    if not folder.is_dir():
        return []
    places = load_places(folder)
    return sorted(
        f.name for f in folder.iterdir() if f.is_dir() and not ((f / LAYOUT).is_file() and places.names(f.name))
    )


def bytes_on_disk(folder: Path) -> int:
    """Bytes that the files under a folder occupy; a file with holes counts for what is written."""
    return sum(f.stat().st_blocks * 512 for f in folder.rglob("*") if f.is_file())
