"""What a killed indexer was doing: acts on a small index of invented cases, and what must be there afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from knowledge_base.archive import export
from knowledge_base.archive_reading import open_archive
from knowledge_base.cases import to_point
from knowledge_base.errors import StoreError
from knowledge_base.pages import pages_of
from knowledge_base.records import BoxLatent, Case, case_id
from knowledge_base.restore import Restored, restore
from knowledge_base.schema import CASES, WITHDRAWN, IndexManifest, cases_schema
from knowledge_base.store import PUBLIC, KnowledgeStore, Point
from rag_service.settings import Settings
from rag_service.wiring import build_store

SCHEMA: Final = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6, region_dimension=4)
MANIFEST: Final = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
ARCHIVE: Final = "export.zip"
KINDS: Final = ("index", "upsert", "withdraw", "restore", "delete", "optimize", "export", "import")
_SOURCE: Final = "invented"


@dataclass(frozen=True)
class Act:
    """One operation: on these cases, and for what is stored the version that their text names."""

    kind: str
    numbers: tuple[int, ...] = ()
    version: int = 0

    def perform(self, store: KnowledgeStore, folder: Path) -> None:
        """Do it; returning acknowledges it."""
        ids = [case_id(_SOURCE, str(n)) for n in self.numbers]
        deeds: Mapping[str, Callable[[], object]] = {
            "index": lambda: store.upsert(CASES, [_point(n, self.version) for n in self.numbers]),
            "upsert": lambda: store.upsert(CASES, [_point(n, self.version) for n in self.numbers]),
            "withdraw": lambda: store.set_withdrawn(CASES, ids, PUBLIC),
            "restore": lambda: store.set_withdrawn(CASES, ids, PUBLIC, withdrawn=False),
            "delete": lambda: store.delete(CASES, ids, PUBLIC),
            "optimize": lambda: store.optimize(CASES),
            "export": lambda: archived(store, folder),
            "import": lambda: _imported(store, folder),
        }
        deeds[self.kind]()


@dataclass(frozen=True)
class Held:
    """What the index says of a case: the version of its text, and whether it is withdrawn."""

    version: int
    withdrawn: bool


@dataclass
class Expected:
    """What was acknowledged: versions by case, and which cases are withdrawn, there or not."""

    versions: dict[int, int] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)

    def apply(self, act: Act) -> None:
        """Take an act as done."""
        match act.kind:
            case "index" | "upsert":
                self.versions |= dict.fromkeys(act.numbers, act.version)
            case "withdraw":
                self.withdrawn |= set(act.numbers)
            case "restore":
                self.withdrawn -= set(act.numbers)
            case "delete":
                self.versions = {n: v for n, v in self.versions.items() if n not in act.numbers}

    def after(self, act: Act) -> Expected:
        """The same, once the act is done."""
        then = Expected(dict(self.versions), set(self.withdrawn))
        then.apply(act)
        return then

    def of(self, number: int) -> Held | None:
        """What the index must say of a case; None when it must not be there."""
        version = self.versions.get(number)
        return None if version is None else Held(version, number in self.withdrawn)


def _point(number: int, version: int) -> Point:
    rng = np.random.default_rng([number, version])
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    case = Case(_SOURCE, str(number), f"patient {number // 2}", f"small effusion, version {version}", ())
    return to_point(case, SCHEMA, box=box, text_vector=rng.normal(size=6).astype(np.float32))


def archived(store: KnowledgeStore, folder: Path) -> None:
    """Export the index beside itself."""
    for _ in export(store, [(SCHEMA, MANIFEST)], folder / ARCHIVE):
        pass


def _imported(store: KnowledgeStore, folder: Path) -> None:
    for _ in restore(store, open_archive(folder / ARCHIVE), {CASES: (SCHEMA, MANIFEST)}, Restored()):
        pass
    store.open(SCHEMA, MANIFEST)


@contextmanager
def opened(folder: Path) -> Iterator[KnowledgeStore]:
    """The index in the folder, wired as the product wires it."""
    store = build_store(Settings(store=str(folder / "index"), reserve_mib=0))
    try:
        store.open(SCHEMA, MANIFEST)
        yield store
    finally:
        store.close()


def held(store: KnowledgeStore) -> list[tuple[int, Held]]:
    """Every case the index gives, in ascending order of id, damaged ones left out."""
    return [
        (
            int(point.payload["study"]),
            Held(int(point.payload["text"].rsplit(" ", 1)[1]), bool(point.payload[WITHDRAWN])),
        )
        for page in pages_of(store, CASES, PUBLIC)
        for point in page.points
    ]


def work(folder: str, acts: Sequence[Act], line: Connection) -> None:
    """What the child runs: one act after another, each announced and, once it returns, acknowledged with its seconds.

    Ends when the engine is killed under it; waits for its own death when it has done everything.
    """
    try:
        with opened(Path(folder)) as store:
            for number, act in enumerate(acts):
                line.send_bytes(f"begin {number}".encode())
                began = time.monotonic()
                act.perform(store, Path(folder))
                line.send_bytes(f"done {number} {time.monotonic() - began}".encode())
    except StoreError:
        line.close()


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those they started, by `/proc`."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]
