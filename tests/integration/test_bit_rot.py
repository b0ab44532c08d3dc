"""Flipped bits in every kind of file of a closed index: an answer is right, or missing and known to be, or an error."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from knowledge_base.cases import VectorNames, from_payload, to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import DamagedRecordError, StoreError
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import IndexManifest, cases_schema
from knowledge_base.search import CaseQuery, CaseSearch
from knowledge_base.store import Point, Scope
from knowledge_base.verification import verify
from knowledge_base.zones import ZONES

SCHEMA = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6, region_dimension=4)
MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
TENANTS = ("public", "isle")
CASES = 80


def a_point(number: int, text: str) -> Point:
    rng = np.random.default_rng(number)
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    case = Case("openi", f"s{number}", f"p{number}", text, (), tenant=TENANTS[number % 2])
    regions = {zone: rng.normal(size=4).astype(np.float32) for zone in ZONES}
    return to_point(case, SCHEMA, box=box, text_vector=rng.normal(size=6).astype(np.float32), regions=regions)


@dataclass
class Index:
    """A closed index on disk, and what it must answer: every payload by id."""

    folder: Path
    payloads: dict[UUID, dict[str, Any]] = field(default_factory=dict)

    def of(self, tenant: str) -> set[UUID]:
        """Ids of a tenant's cases."""
        return {i for i, payload in self.payloads.items() if payload["tenant"] == tenant}

    def kinds(self) -> dict[str, list[Path]]:
        """Its files that hold something, by kind: alike in their folder's role and name."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.read_bytes().strip(b"\0"):
                roles = [p for p in path.relative_to(self.folder).parts[:-1] if not re.fullmatch(r"[0-9a-f-]{36}", p)]
                role = re.split(r"[-.]", roles[-1])[0] if roles else ""
                in_index = "payload_index/" if "payload_index" in roles else ""
                in_index = in_index if role != "payload_index" and len(role) < 20 else "payload_index/"
                role = "" if len(role) >= 20 else role
                found.setdefault(f"{in_index}{role}/{re.sub('[0-9]+', 'N', path.name)}", []).append(path)
        return found


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An index whose engine has merged its segments, and been written to again."""
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    made = Index(root / "index")
    store = EdgeStore(made.folder, reserve_bytes=0)
    store.open(SCHEMA, MANIFEST)
    store.upsert("cases", [a_point(n, f"small effusion number {n}") for n in range(CASES)])
    store.optimize("cases")
    store.upsert("cases", [a_point(n, f"large effusion number {n}") for n in range(20)])
    for tenant in TENANTS:
        page = store.scroll("cases", Scope(tenant, also_public=False))
        made.payloads |= {p.id: dict(p.payload) for p in page.points}
    store.close()
    assert len(made.payloads) == CASES
    yield made
    shutil.rmtree(root)


def flipped(index: Index, path: Path, rng: np.random.Generator, aimed: float = 0.8) -> Path:
    """A copy of the index with a few bits of one file flipped, this share of them where the file holds something."""
    copy = index.folder.with_name("copy")
    subprocess.run(["cp", "-a", "--sparse=always", str(index.folder), str(copy)], check=True)
    target = copy / path.relative_to(index.folder)
    content = np.frombuffer(target.read_bytes(), np.uint8).copy()
    filled = np.flatnonzero(content)
    for _ in range(rng.integers(1, 6)):
        place = rng.choice(filled) if rng.random() < aimed else rng.integers(len(content))
        content[place] ^= 1 << rng.integers(8)
    with target.open("r+b") as file:
        file.write(content.tobytes())
    return copy


@dataclass
class Seen:
    """What reading a damaged index gave: wrong records (never), cases missing or withheld, and whether it is known."""

    wrong: list[str] = field(default_factory=list)
    missing: int = 0
    withheld: int = 0
    known: bool = False


def look(store: EdgeStore, index: Index) -> Seen:
    """Every read of the index, and what `verify` says of it."""
    seen = Seen()
    for tenant in TENANTS:
        scope = Scope(tenant, also_public=False)
        page, fetched = store.scroll("cases", scope), store.get("cases", list(index.payloads), scope)
        for points, damaged in ((page.points, page.damaged), (fetched.points, fetched.damaged)):
            right = [p for p in points if check(p, tenant, index, seen)]
            seen.withheld += len(damaged)
            seen.missing += len(index.of(tenant)) - len(right) - len(damaged)
        found = CaseSearch(store, VectorNames.of(SCHEMA)).search(
            CaseQuery(tenant, text="large effusion", text_vector=np.ones(6, np.float32), limit=20)
        )
        seen.withheld += found.damaged
        allowed = index.of(tenant) | index.of("public")
        seen.wrong += [f"search: {h.case.id}" for h in found.hits if h.case.id not in allowed]
    seen.known = not verify(store, SCHEMA, from_payload).intact
    return seen


def check(point: Point, tenant: str, index: Index, seen: Seen) -> bool:
    """Whether a point that a read gave is a case's own record; a record under another id is told by `from_payload`'s id."""
    try:
        case = from_payload(point.payload)
    except DamagedRecordError:
        return False
    if case.tenant != tenant or dict(point.payload) != index.payloads.get(case.id):
        seen.wrong.append(f"read: {point.id}")
    return case.id == point.id


def test_a_flipped_bit_never_makes_a_wrong_record(index: Index) -> None:
    rng = np.random.default_rng(23)
    outcomes: Counter[str] = Counter()
    kinds = index.kinds()
    for kind, files in kinds.items():
        copy = flipped(index, files[rng.integers(len(files))], rng)
        try:
            outcomes[outcome(copy, index, kind)] += 1
        finally:
            shutil.rmtree(copy)
    assert len(kinds) > 25
    assert sum(outcomes.values()) == len(kinds)
    assert outcomes["right"] > 0
    assert outcomes["error"] > 0


def outcome(folder: Path, index: Index, kind: str) -> str:
    """ "right", "known" or "error"; fails on a wrong record and on a loss that `verify` does not know of."""
    try:
        store = EdgeStore(folder, reserve_bytes=0)
        try:
            store.open(SCHEMA, MANIFEST)
            seen = look(store, index)
        finally:
            store.close()
    except StoreError:
        return "error"
    assert seen.wrong == [], kind
    assert seen.known or not (seen.missing or seen.withheld), kind
    return "known" if seen.known else "right"


@pytest.mark.parametrize("records", ["payload_storage/page_", "/vectors/chunk_"])
def test_flips_in_payloads_and_vectors_are_found_by_verify(index: Index, records: str) -> None:
    rng = np.random.default_rng(29)
    files = [p for p in sorted(index.folder.rglob("*")) if records in str(p) and any(p.read_bytes())]
    found: Counter[str] = Counter()
    for _ in range(4):
        copy = flipped(index, files[rng.integers(len(files))], rng, aimed=1.0)
        try:
            found[outcome(copy, index, records)] += 1
        finally:
            shutil.rmtree(copy)
    assert found["known"] + found["error"] == 4
