"""Ten thousand random reads of sixty tenants, most of them trying to see what is not theirs: no foreign id comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from knowledge_base.cases import to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import CollectionSchema
from knowledge_base.store import Condition, Filter, HasId, KnowledgeStore, Match, MatchAny, Nearest, Point, Scope
from tests.contract.store_suite.samples import BOX, MANIFEST, TEXT, VOCABULARY, a_schema, words

TENANTS = tuple(f"tenant-{n:02d}" for n in range(60))
STUDIES = 300
READS = 10_000


@pytest.fixture(params=["memory", "embedded"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[KnowledgeStore]:
    made: KnowledgeStore = MemoryStore() if request.param == "memory" else EdgeStore(folder, reserve_bytes=0)
    yield made
    made.close()


def studies(schema: CollectionSchema, rng: np.random.Generator) -> list[Point]:
    """A few studies of each tenant and some public ones, their vectors and words from one small pool."""
    points = []
    for number in range(STUDIES):
        tenant = "public" if number % 10 == 0 else TENANTS[number % len(TENANTS)]
        said = " ".join(rng.choice(VOCABULARY, 5))
        case = Case("openi", f"s{number}", f"p{number % 40}", said, (), tenant=tenant)
        box = BoxLatent(rng.integers(-2, 3, 4).astype(np.float32), np.ones(4, np.float32))
        points.append(to_point(case, schema, box=box, text_vector=rng.normal(size=6).astype(np.float32)))
    return points


class Attacker:
    """Draws scopes, and filters that name other tenants and their ids."""

    def __init__(self, points: list[Point], rng: np.random.Generator) -> None:
        self._ids = [p.id for p in points]
        self._rng = rng

    def scope(self) -> Scope:
        tenant = str(self._rng.choice([*TENANTS, "public", "nobody"]))
        return Scope(tenant, also_public=bool(self._rng.random() < 0.7))

    def ids(self) -> tuple[UUID, ...]:
        return tuple(self._ids[i] for i in self._rng.integers(0, len(self._ids), self._rng.integers(1, 30)))

    def condition(self) -> Condition:
        some = tuple(str(t) for t in self._rng.choice([*TENANTS, "public"], self._rng.integers(1, 20)))
        kinds: list[Condition] = [
            Match("tenant", some[0]),
            MatchAny("tenant", some),
            MatchAny("tenant", (*TENANTS, "public")),
            HasId(self.ids()),
            HasId(tuple(self._ids)),
            Match("study", f"s{self._rng.integers(0, STUDIES)}"),
            Match("withdrawn", 0),
        ]
        return kinds[self._rng.integers(0, len(kinds))]

    def filter(self) -> Filter:
        must = tuple(self.condition() for _ in range(self._rng.integers(0, 3)))
        return Filter(must, tuple(self.condition() for _ in range(self._rng.integers(0, 3))))

    def lists(self) -> list[Nearest]:
        box, vector = self._rng.normal(size=8).astype(np.float32), self._rng.normal(size=6).astype(np.float32)
        asked = [(BOX, box), (TEXT, vector), ("bm25", words(" ".join(self._rng.choice(VOCABULARY, 3)))), (BOX, box)]
        return [Nearest(name, v, int(self._rng.integers(1, STUDIES)), self.filter()) for name, v in asked]


def test_no_read_of_any_kind_gives_a_foreign_id(store: KnowledgeStore) -> None:
    rng = np.random.default_rng(23)
    schema = a_schema()
    store.open(schema, MANIFEST)
    points = studies(schema, rng)
    store.upsert(schema.name, points)
    owner = {p.id: str(p.payload["tenant"]) for p in points}
    attacker, name = Attacker(points, rng), schema.name
    reads = met = 0
    while reads < READS:
        scope, wanted, guessed = attacker.scope(), attacker.filter(), attacker.ids()
        visible = {i for i, tenant in owner.items() if tenant in scope.condition().values}
        lists = store.ranked(name, attacker.lists(), scope)
        page = store.scroll(name, scope, wanted=wanted, limit=40)
        fetched = store.get(name, guessed, scope)
        inside = store.ids(name, scope, wanted)
        seen = [{h.id for h in found} for found in lists]
        seen += [set(inside), {p.id for p in page.points}, {p.id for p in fetched.points}]
        assert set().union(*seen) <= visible
        assert {str(p.payload["tenant"]) for p in (*page.points, *fetched.points)} <= set(scope.condition().values)
        assert {p.id for p in fetched.points} == visible.intersection(guessed)
        assert store.count(name, scope, wanted) == len(inside)
        assert set(store.facet(name, "tenant", scope, wanted)) <= set(scope.condition().values)
        reads += len(lists) + 5
        met += sum(map(len, seen))
    assert met > READS
