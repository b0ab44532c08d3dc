"""A change of models: filled beside, switched in one step, resumed after a kill, while searching goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from indexer.builder import LABELS
from indexer.migration import (
    FilmsMissing,
    FolderFilms,
    Look,
    Migration,
    Moved,
    StarterFilms,
    open_as_made,
    switch,
)
from indexer.studies import Skipped, Study
from knowledge_base.cases import from_payload, to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import CollectionMissing
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case, CaseSentence
from knowledge_base.schema import CollectionSchema, IndexManifest, cases_schema
from knowledge_base.server import ServerStore
from knowledge_base.store import Filter, KnowledgeStore, Match, Nearest, Point, Scope
from knowledge_base.withdrawals import WithdrawalKeeper
from rag_service.models.encoder import FilmEncoder
from rag_service.models.starter import StarterCases
from rag_service.report.labeler import Labeler

if TYPE_CHECKING:
    from tests.integration.conftest import Maker

ROOT = Path(__file__).resolve().parents[2]
OLD = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6, region_dimension=5)
NEW = cases_schema("box@2", "mini@1", box_dimension=3, text_dimension=6, region_dimension=5)
OLD_MODELS = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
NEW_MODELS = IndexManifest("box@2", "mini@1", "film@1", "labeler@1", 3, 6)
COUNT = 300
TEXT = "Small left pleural effusion. Heart is enlarged."


def number_of(case: Case) -> int:
    return int(case.study.removeprefix("s"))


def a_box(number: int, size: int) -> BoxLatent:
    rng = np.random.default_rng([number, size])
    return BoxLatent(rng.normal(size=size).astype(np.float32), rng.uniform(0.1, 1.0, size).astype(np.float32))


def a_zone(number: int, size: int = 5) -> NDArray[np.float32]:
    vector = np.random.default_rng([number, size]).normal(size=size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def a_case(number: int, text: str = TEXT) -> Case:
    words = f"Report {number}. {text}"
    sentences = (CaseSentence(words, (0, len(words)), "findings"),)
    return Case("openi", f"s{number}", f"p{number}", words, sentences, tenant=("public", "isle")[number % 2])


def a_point(number: int, schema: CollectionSchema = OLD, size: int = 4, text: str = TEXT) -> Point:
    """Every tenth case has no film."""
    box = None if number % 10 == 9 else a_box(number, size)
    regions = {"left-upper": a_zone(number)} if box else None
    return to_point(a_case(number, text), schema, box=box, text_vector=a_zone(number, 6), regions=regions)


@dataclass(frozen=True)
class NewLooks:
    """The new model's view of every film but those absent."""

    absent: frozenset[int] = frozenset()

    def look(self, case: Case) -> Look | None:
        number = number_of(case)
        return None if number in self.absent else Look(a_box(number, 3), {"left-upper": a_zone(number)})


class Embedder:
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([a_zone(len(t), 6) for t in texts])


def local(path: Path) -> KnowledgeStore:
    return ServerStore(QdrantClient(path=str(path), force_disable_check_same_thread=True), local=True)


KINDS: dict[str, Callable[[Path], KnowledgeStore]] = {
    "memory": lambda _: MemoryStore(),
    "edge": lambda path: EdgeStore(path, reserve_bytes=0),
    "local": local,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=list(KINDS))
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[KnowledgeStore]:
    with closing(WithdrawalKeeper(KINDS[request.param](folder))) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def memory() -> KnowledgeStore:
    store = WithdrawalKeeper(MemoryStore())
    fill(store, 20)
    return store


def fill(store: KnowledgeStore, count: int = COUNT) -> None:
    store.open(OLD, OLD_MODELS)
    store.upsert("cases", [a_point(n) for n in range(count)])
    store.set_withdrawn("cases", [a_point(4).id], "public")


def migration(store: KnowledgeStore, **changes: object) -> Migration:
    made = Migration(store, (OLD, OLD_MODELS), NEW, NEW_MODELS, [NewLooks()], Embedder(), Labeler())
    return replace(made, **changes)  # type: ignore[arg-type]


def run(work: Migration) -> Moved:
    moved = Moved()
    for _ in work.fill(moved):
        pass
    return moved


def nearest(store: KnowledgeStore, collection: str, vector_name: str, size: int) -> list[UUID]:
    asked = Nearest(vector_name, a_box(-1 % 1000, size).vector(), 10)
    return [hit.id for hit in store.ranked(collection, [asked], Scope("isle"))[0]]


def expected(size: int) -> list[UUID]:
    """The ten films nearest to the question, computed here."""
    question = a_box(-1 % 1000, size).vector()
    films = [n for n in range(COUNT) if n % 10 != 9]
    far = {n: float(np.linalg.norm(a_box(n, size).vector() - question)) for n in films}
    return [a_point(n).id for n in sorted(films, key=far.__getitem__)[:10]]


def test_searching_never_stops_and_never_mixes(store: KnowledgeStore) -> None:
    """A thread searches all the time; it is told of the new collection once that is in use, before the old one goes."""
    reader = [("cases", "box.box@1", 4)]
    answers: list[tuple[int, list[UUID]]] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        while not done.wait(0.001):
            collection, name, size = reader[0]
            try:
                answers.append((size, nearest(store, collection, name, size)))
            except Exception as error:  # noqa: BLE001 - any error at all fails the test
                errors.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        work, moved = migration(store), Moved()
        for _ in work.fill(moved):
            pass
        switch(store, ["cases"])
        reader[0] = ("cases.migration", "box.box@2", 3)
        list(work.catch_up(moved))
        seen = len(answers)
        while len(answers) < seen + 3 and not errors:
            done.wait(0.01)
        store.open(NEW, NEW_MODELS)
        reader[0] = ("cases", "box.box@2", 3)
        store.drop("cases.migration")
        seen = len(answers)
        while len(answers) < seen + 3 and not errors:
            done.wait(0.01)
    finally:
        done.set()
        thread.join()
    assert errors == []
    assert {size for size, _ in answers} == {4, 3}
    assert all(ids == expected(size) for size, ids in answers)
    assert (moved.added, moved.removed) == (COUNT, 0)


def test_everything_arrives_and_withdrawals_hold(store: KnowledgeStore) -> None:
    assert run(migration(store)) == Moved(added=COUNT)
    switch(store, ["cases"])
    store.open(NEW, NEW_MODELS)
    assert store.tenants("cases") == {"isle": COUNT // 2, "public": COUNT // 2}
    assert store.ids("cases", Scope("public"), Filter(must=(Match("withdrawn", 1),))) == [a_point(4).id]
    for number in (0, 1, 9, 255):
        tenant = a_case(number).tenant
        (found,) = store.get("cases", [a_point(number).id], Scope(tenant, False), list(NEW.dense)).points
        assert from_payload(found.payload) == a_case(number)
        wanted = a_point(number, NEW, 3)
        assert {n: v.tobytes() for n, v in found.vectors.items()} == {n: v.tobytes() for n, v in wanted.vectors.items()}
    assert open_as_made(store, "cases.migration")[1] == OLD_MODELS
    store.drop("cases.migration")
    with pytest.raises(CollectionMissing):
        open_as_made(store, "cases.migration")


def test_what_happens_meanwhile_is_taken_over(memory: KnowledgeStore) -> None:
    """Between passes a case is added, one changes its words, one is deleted, one withdrawn, one restored."""
    work, moved = migration(memory), Moved()
    run(work)
    memory.upsert("cases", [a_point(40), a_point(2, text="Clear lungs.")])
    memory.delete("cases", [a_point(1).id], "isle")
    memory.set_withdrawn("cases", [a_point(6).id], "public")
    memory.set_withdrawn("cases", [a_point(4).id], "public", withdrawn=False)
    list(work.catch_up(moved))
    assert (moved.added, moved.removed) == (2, 1)
    switch(memory, ["cases"])
    memory.open(NEW, NEW_MODELS)
    assert sorted(memory.ids("cases", Scope("isle"))) == sorted(a_point(n).id for n in (0, *range(2, 20), 40))
    assert memory.ids("cases", Scope("public"), Filter(must=(Match("withdrawn", 1),))) == [a_point(6).id]
    (changed,) = memory.get("cases", [a_point(2).id], Scope("public")).points
    assert changed.payload["text"] == "Report 2. Clear lungs."


def test_missing_films_stop_it_unless_words_suffice(memory: KnowledgeStore) -> None:
    some = [NewLooks(frozenset({3, 8, 19}))]
    with pytest.raises(FilmsMissing, match=r"films of 2 cases .*--source") as caught:
        run(migration(memory, films=some))
    assert set(caught.value.cases) == {a_point(3).id, a_point(8).id}
    assert memory.manifest("cases") == OLD_MODELS
    moved = run(migration(memory, films=some, without_films=True))
    assert (moved.added, len(moved.filmless)) == (2, 2)
    names = list(NEW.dense)
    (kept,) = memory.get("cases.migration", [a_point(3).id], Scope("isle"), names).points
    assert set(kept.vectors) == {"text.mini@1"}
    moved = run(migration(memory, without_films=True))
    assert (moved.added, moved.filmless) == (2, [])
    (kept,) = memory.get("cases.migration", [a_point(3).id], Scope("isle"), names).points
    assert set(kept.vectors) == {"text.mini@1", "box.box@2", "region.left-upper.box@2"}


def test_the_same_film_model_keeps_its_vectors_and_a_new_text_model_reads_again(memory: KnowledgeStore) -> None:
    models = replace(OLD_MODELS, text_model="mini@2")
    schema = cases_schema("box@1", "mini@2", box_dimension=4, text_dimension=6, region_dimension=5)
    assert run(migration(memory, schema=schema, manifest=models, films=[])).added == 20
    (found,) = memory.get("cases.migration", [a_point(0).id], Scope("public"), list(schema.dense)).points
    old = a_point(0)
    assert found.vectors["box.box@1"].tobytes() == old.vectors["box.box@1"].tobytes()
    assert found.vectors["region.left-upper.box@1"].tobytes() == old.vectors["region.left-upper.box@1"].tobytes()
    assert found.vectors["text.mini@2"].tolist() == a_zone(len(a_case(0).text), 6).tolist()


def test_a_new_labeler_reads_reports_again_but_not_labels(memory: KnowledgeStore) -> None:
    labelled = Case("nih", "s21", "p21", "Edema", (CaseSentence("Edema", (0, 5), LABELS),))
    memory.upsert("cases", [to_point(labelled, OLD, text_vector=a_zone(1, 6))])
    models = replace(OLD_MODELS, labeler="labeler@2")
    run(migration(memory, schema=OLD, manifest=models, films=[]))
    fetched = memory.get("cases.migration", [a_point(0).id, labelled.id], Scope("public")).points
    report, labels = (from_payload(p.payload) for p in fetched)
    assert [s.text for s in report.sentences][1:] == ["Small left pleural effusion.", "Heart is enlarged."]
    assert fetched[0].payload["labels_positive"] == ["Cardiomegaly", "Pleural Effusion"]
    assert labels == labelled


def test_damaged_records_stay_behind_and_are_named(memory: KnowledgeStore) -> None:
    inner = memory._inner._collections["cases"].points  # type: ignore[attr-defined]
    spoiled = inner[a_point(5).id]
    inner[spoiled.id] = replace(spoiled, payload={**spoiled.payload, "text": "other"})
    moved = run(migration(memory))
    assert (moved.added, moved.damaged) == (19, [spoiled.id])


def test_what_another_migration_left_is_not_built_upon(memory: KnowledgeStore) -> None:
    memory.open(replace(OLD, name="cases.migration"), replace(OLD_MODELS, box_model="box@9"))
    memory.upsert("cases.migration", [a_point(999)])
    assert run(migration(memory)).added == 20
    assert len(memory.ids("cases.migration", Scope("isle"))) == 20


def test_starter_films_are_found_by_study(memory: KnowledgeStore) -> None:
    boxes = np.stack([a_box(n, 3).vector() for n in range(2)])
    films = StarterFilms(StarterCases("box@2", "mini@1", ("s0", "s1"), boxes, np.zeros((2, 6), np.float32)))
    look = films.look(a_case(1))
    assert look is not None
    assert look.box.vector().tolist() == boxes[1].tolist()
    assert look.regions is None
    assert films.look(a_case(2)) is None
    assert films.look(replace(a_case(1), source="nih")) is None


def test_films_of_a_folder_are_read_by_the_model(maker: Maker, tiny_encoder: FilmEncoder) -> None:
    film, words = maker.film("a.png", 1), maker.table("b.png", "no film")
    studies = [
        Study("openi", "s1", "p1", film, ""),
        Study("openi", "s2", "p2", words, ""),
        Study("openi", "s3", "p3", None, ""),
        Skipped("s4", "no_film"),
    ]
    films = FolderFilms.of(tiny_encoder, studies, None)
    look = films.look(a_case(1))
    assert look is not None
    assert look.box.centre.shape == (tiny_encoder.axes,)
    assert [films.look(a_case(n)) for n in (2, 3, 4)] == [None, None, None]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_migration import EdgeStore, Moved, NEW, NEW_MODELS, OLD, OLD_MODELS, WithdrawalKeeper, migration, switch
store = WithdrawalKeeper(EdgeStore(Path(sys.argv[1]), reserve_bytes=0))
store.open(OLD, OLD_MODELS)
work, steps = migration(store), int(sys.argv[3])
for number, _ in enumerate(work.fill(Moved()), 1):
    if number == steps:
        os.kill(os.getpid(), signal.SIGKILL)
switch(store, ["cases"])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("steps", "left"), [(1, COUNT // 2), (3, 0), (99, None)])
def test_a_kill_leaves_the_old_index_or_the_new_one(folder: Path, steps: int, left: int | None) -> None:
    with closing(WithdrawalKeeper(EdgeStore(folder, reserve_bytes=0))) as store:
        fill(store)
    arguments = [str(folder), str(Path(__file__).parent), str(steps)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(WithdrawalKeeper(EdgeStore(folder, reserve_bytes=0))) as store:
        if left is None:
            assert store.manifest("cases") == NEW_MODELS
            store.open(NEW, NEW_MODELS)
            assert sum(store.tenants("cases").values()) == COUNT
            return
        store.open(OLD, OLD_MODELS)
        assert nearest(store, "cases", "box.box@1", 4) == expected(4)
        assert run(migration(store)).added == left
        switch(store, ["cases"])
        store.open(NEW, NEW_MODELS)
        assert nearest(store, "cases", "box.box@2", 3) == expected(3)
