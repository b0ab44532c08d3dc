"""Names that change places: what every knowledge store promises about a new index filled beside the old one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient

from knowledge_base.cases import to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import CollectionMissing
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case
from knowledge_base.schema import CollectionSchema, IndexManifest, cases_schema
from knowledge_base.server import ServerStore, connect
from knowledge_base.store import KnowledgeStore, Nearest, Point, Scope

PUBLIC = Scope("public")
OLD_MODELS = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
NEW_MODELS = replace(OLD_MODELS, box_model="box@2")
NAME = f"cases-{uuid4().hex[:8]}"
NEXT = f"{NAME}.next"
OLD = replace(cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6), name=NAME)
NEW = replace(cases_schema("box@2", "mini@1", box_dimension=4, text_dimension=6), name=NAME)
BESIDE = replace(NEW, name=NEXT)

Open = Callable[[], KnowledgeStore]


def a_point(number: int, schema: CollectionSchema) -> Point:
    rng = np.random.default_rng(number)
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    case = Case("openi", f"s{number}", f"p{number}", f"report {number}", ())
    return to_point(case, schema, box=box, text_vector=rng.normal(size=6).astype(np.float32))


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


def local(path: Path) -> KnowledgeStore:
    return ServerStore(QdrantClient(path=str(path), force_disable_check_same_thread=True), local=True)


def on_the_server(_: Path) -> KnowledgeStore:
    return connect(os.environ["QDRANT_URL"])


LASTING = {"edge": lambda path: EdgeStore(path, reserve_bytes=0), "local": local}
if "QDRANT_URL" in os.environ:
    LASTING["server"] = on_the_server
KINDS = {"memory": lambda _: MemoryStore(), **LASTING}


@pytest.fixture(params=list(KINDS))
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[KnowledgeStore]:
    """A store whose collection holds two old points, and beside it one new point."""
    opened = KINDS[request.param](folder)
    fill(opened)
    yield opened
    clear(opened)


def fill(store: KnowledgeStore) -> None:
    store.open(OLD, OLD_MODELS)
    store.upsert(NAME, [a_point(n, OLD) for n in range(2)])
    store.open(BESIDE, NEW_MODELS)
    store.upsert(NEXT, [a_point(7, BESIDE)])


def clear(store: KnowledgeStore) -> None:
    for name in (NAME, NEXT):
        store.drop(name)
    store.close()


def test_the_layout_is_told_as_it_was_made(store: KnowledgeStore) -> None:
    assert store.schema(NAME) == OLD
    assert store.schema(NEXT) == BESIDE
    assert store.schema("nothing") is None


def test_a_reader_keeps_its_points_until_it_opens_the_name_again(store: KnowledgeStore) -> None:
    store.swap([(NAME, NEXT)])
    assert store.count(NAME, PUBLIC) == 2
    assert store.health().collections[NAME] == 2
    nearest = Nearest("box.box@1", np.ones(8, np.float32), 5)
    assert len(store.ranked(NAME, [nearest], PUBLIC)[0]) == 2
    assert store.manifest(NAME) == NEW_MODELS
    store.open(NEW, NEW_MODELS)
    assert store.count(NAME, PUBLIC) == 1
    assert store.ids(NAME, PUBLIC) == [a_point(7, NEW).id]


def test_swapping_twice_changes_nothing(store: KnowledgeStore) -> None:
    for _ in range(2):
        store.swap([(NAME, NEXT)])
    assert store.manifest(NAME) == OLD_MODELS
    assert store.manifest(NEXT) == NEW_MODELS


def test_the_old_one_is_dropped_under_its_new_name(store: KnowledgeStore) -> None:
    store.swap([(NAME, NEXT)])
    store.drop(NEXT)
    assert store.manifest(NEXT) is None
    with pytest.raises(CollectionMissing):
        store.count(NAME, PUBLIC)
    store.open(NEW, NEW_MODELS)
    assert store.count(NAME, PUBLIC) == 1


def test_places_are_found_again_and_again(store: KnowledgeStore) -> None:
    """Three changes of model, one after the other: each finds room beside the one before."""
    for number in range(3):
        store.swap([(NAME, NEXT)])
        store.drop(NEXT)
        store.drop(NEXT)
        models = replace(NEW_MODELS, labeler=f"labeler@{number + 2}")
        store.open(BESIDE, models)
        store.upsert(NEXT, [a_point(n, BESIDE) for n in range(number + 3)])
        assert store.manifest(NEXT) == models
    store.swap([(NAME, NEXT)])
    store.open(NEW, models)
    assert store.count(NAME, PUBLIC) == 5


def test_a_second_that_is_absent_is_an_error_and_nothing_moves(store: KnowledgeStore) -> None:
    with pytest.raises(CollectionMissing):
        store.swap([(NAME, NEXT), ("other", "absent")])
    assert store.manifest(NAME) == OLD_MODELS


def test_a_first_that_is_absent_takes_the_name(store: KnowledgeStore) -> None:
    store.drop(NAME)
    store.swap([(NAME, NEXT)])
    assert store.manifest(NAME) == NEW_MODELS
    assert store.manifest(NEXT) is None
    store.open(NEW, NEW_MODELS)
    assert store.count(NAME, PUBLIC) == 1


def test_a_new_collection_may_take_a_name_that_was_given_away(store: KnowledgeStore) -> None:
    store.swap([(NAME, NEXT)])
    store.drop(NEXT)
    store.open(BESIDE, NEW_MODELS)
    assert store.count(NEXT, PUBLIC) == 0
    store.open(NEW, NEW_MODELS)
    assert store.count(NAME, PUBLIC) == 1


@pytest.mark.parametrize("kind", list(LASTING))
def test_the_names_outlive_the_process(kind: str, folder: Path) -> None:
    with closing(KINDS[kind](folder)) as store:
        fill(store)
        store.swap([(NAME, NEXT)])
    again = KINDS[kind](folder)
    again.open(NEW, NEW_MODELS)
    again.open(replace(OLD, name=NEXT), OLD_MODELS)
    assert (again.count(NAME, PUBLIC), again.count(NEXT, PUBLIC)) == (1, 2)
    clear(again)


def test_a_vector_read_and_stored_again_keeps_every_bit(store: KnowledgeStore) -> None:
    """Rounded to float32, a unit vector has a length a little off one: it must not be normalised again."""
    points = [a_point(n, OLD) for n in range(200)]
    store.upsert(NAME, points)
    names = list(OLD.dense)
    first = store.get(NAME, [p.id for p in points], PUBLIC, names).points
    store.upsert(NAME, first)
    second = store.get(NAME, [p.id for p in points], PUBLIC, names).points
    assert [p.payload for p in second] == [p.payload for p in first]
    assert all((p.vectors[n] == q.vectors[n]).all() for p, q in zip(first, second, strict=True) for n in p.vectors)
