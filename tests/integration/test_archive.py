"""A knowledge base as one file: it comes back as it was, and a file that is not as it was written is refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from knowledge_base import archive as writing
from knowledge_base.archive import export
from knowledge_base.archive_reading import open_archive
from knowledge_base.bm25 import query_vector
from knowledge_base.cases import to_point
from knowledge_base.edge import EdgeStore
from knowledge_base.errors import BadArchive, DamagedRecordError, ManifestMismatch
from knowledge_base.findings import Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention
from knowledge_base.restore import Restored, restore
from knowledge_base.schema import IndexManifest, cases_schema, guidelines_schema
from knowledge_base.server import ServerStore
from knowledge_base.store import Filter, KnowledgeStore, Match, Nearest, Point, Scope
from knowledge_base.verification import verify
from knowledge_base.withdrawals import WithdrawalKeeper, tombstones
from knowledge_base.zones import ZONES

CASES = cases_schema("box@1", "mini@1", box_dimension=4, text_dimension=6, region_dimension=5)
GUIDELINES = guidelines_schema("mini@1", text_dimension=6)
CASES_MANIFEST = IndexManifest("box@1", "mini@1", "film@1", "labeler@1", 4, 6)
GUIDELINES_MANIFEST = IndexManifest(None, "mini@1", None, None, None, 6)
RUNNING = {"cases": (CASES, CASES_MANIFEST), "guidelines": (GUIDELINES, GUIDELINES_MANIFEST)}
TENANTS = ("public", "isle", "coast")
WORDS = ("effusion", "pneumothorax", "clear", "lungs", "heart", "enlarged", "opacity", "left", "right", "small")
ROOT = Path(__file__).resolve().parents[2]


def unit(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    vector = rng.normal(size=size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def a_point(number: int) -> Point:
    """A case of one of three tenants: every third without a film, every fifth without a finding."""
    rng = np.random.default_rng(number)
    words = " ".join(rng.choice(WORDS, size=rng.integers(3, 12)))
    mentions = () if number % 5 == 0 else (Mention("Edema", Polarity.POSITIVE, (0, 3)),)
    sentences = (CaseSentence(words, (0, len(words)), "findings", mentions),)
    tenant = TENANTS[number % 3]
    case = Case("openi", f"s{number}", f"p{number // 2}", words, sentences, tenant=tenant, view="PA")
    box = BoxLatent(rng.normal(size=4).astype(np.float32), rng.uniform(0.1, 1.0, 4).astype(np.float32))
    if number % 7 == 0:
        return to_point(case, CASES, text_vector=unit(rng, 6))
    regions = {zone: unit(rng, 5) for zone in ZONES[: number % len(ZONES)]}
    return to_point(case, CASES, box=box, text_vector=unit(rng, 6), regions=regions)


def a_passage(number: int) -> Point:
    payload = {"tenant": "public", "slug": f"g{number}", "findings": [], "year": 2000, "text": "drain the effusion"}
    words = query_vector("drain the effusion")
    assert words is not None
    identity = a_point(10_000 + number).id
    return Point(identity, {"text.mini@1": unit(np.random.default_rng(number), 6)}, {"bm25": words}, payload)


def fill(store: KnowledgeStore, count: int = 300) -> None:
    for schema, manifest in RUNNING.values():
        store.open(schema, manifest)
    points = [a_point(n) for n in range(count)]
    store.upsert("cases", points)
    store.upsert("guidelines", [a_passage(n) for n in range(3)])
    for tenant in TENANTS:
        store.set_withdrawn("cases", [p.id for p in points[::10] if p.payload["tenant"] == tenant], tenant)


def everything(store: KnowledgeStore) -> dict[str, Any]:
    """Ids, payload digests, vector bits and withdrawals of every tenant."""
    found = {}
    for schema, _ in RUNNING.values():
        for tenant in store.tenants(schema.name):
            page = store.scroll(schema.name, Scope(tenant, False), limit=5_000, vectors=list(schema.dense))
            assert not page.damaged
            for p in page.points:
                bits = {n: v.tobytes() for n, v in p.vectors.items()}
                found[str(p.id)] = (tenant, p.payload["sha256"], p.payload["withdrawn"], p.payload, bits)
    return found


def top_tens(store: KnowledgeStore) -> list[Any]:
    """Ids of 200 questions of four kinds, and the scores, whose last bit may hang on how an engine sums words."""
    in_use = Filter(must_not=(Match("withdrawn", 1),))
    answers = []
    for number in range(50):
        rng = np.random.default_rng(50_000 + number)
        scope = Scope(TENANTS[number % 3])
        words = query_vector(" ".join(rng.choice(WORDS, size=3)))
        assert words is not None
        asked = [
            Nearest("box.box@1", rng.normal(size=8).astype(np.float32), 10, in_use),
            Nearest("text.mini@1", unit(rng, 6), 10, in_use),
            Nearest("region.left-upper.box@1", unit(rng, 5), 10, in_use),
            Nearest("bm25", words, 10, in_use),
        ]
        found = store.ranked("cases", asked, scope)
        answers += [([h.id for h in hits], pytest.approx([h.score for h in hits], abs=1e-6)) for hits in found]
    return answers


def local(path: Path) -> KnowledgeStore:
    return ServerStore(QdrantClient(path=str(path), force_disable_check_same_thread=True), local=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 300 cases and 3 passages."""
    path = tmp_path_factory.mktemp("archive") / "all.zip"
    store = WithdrawalKeeper(MemoryStore())
    fill(store)
    for _ in export(store, list(RUNNING.values()), path):
        pass
    return path


def take(store: KnowledgeStore, path: Path) -> Restored:
    done = Restored()
    for _ in restore(store, open_archive(path), RUNNING, done):
        pass
    return done


def reopened(store: KnowledgeStore) -> KnowledgeStore:
    for schema, manifest in RUNNING.values():
        store.open(schema, manifest)
    return store


@pytest.mark.parametrize("make", [lambda p: EdgeStore(p, reserve_bytes=0), local, lambda _: MemoryStore()])
def test_export_wipe_import_gives_everything_back(make: Callable[[Path], KnowledgeStore], folder: Path) -> None:
    """The same ids, payloads, vectors to the bit, withdrawals, and top ten of 200 questions."""
    store = WithdrawalKeeper(make(folder / "store"))
    fill(store)
    before, answers = everything(store), top_tens(store)
    assert len(answers) == 200
    assert sum(len(ids) for ids, _ in answers) > 1_500
    assert list(export(store, list(RUNNING.values()), folder / "all.zip")) == [100, 100, 100, 3]
    for name in (*RUNNING, "withdrawals"):
        store.drop(name)
    assert store.manifest("cases") is None
    done = take(store, folder / "all.zip")
    assert (done.points, done.withdrawals, done.words_remade) == ({"cases": 300, "guidelines": 3}, 30, 0)
    reopened(store)
    assert everything(store) == before
    assert [ids for ids, _ in top_tens(store)] == [ids for ids, _ in answers]
    assert [list(s.expected) for _, s in top_tens(store)] == [s for _, s in answers]
    assert sorted(c for _, cases in tombstones(store) for c in cases) == sorted(
        a_point(n).id for n in range(0, 300, 10)
    )
    assert store.manifest("cases.import") is None
    assert verify(store, CASES).intact
    store.close()


def test_an_import_takes_the_place_of_what_was_there(folder: Path, written: Path) -> None:
    store = WithdrawalKeeper(EdgeStore(folder, reserve_bytes=0))
    reopened(store)
    store.upsert("cases", [a_point(n) for n in range(500, 520)])
    store.set_withdrawn("cases", [a_point(1).id], "isle")
    for _ in range(2):
        take(store, written)
        reopened(store)
        assert store.tenants("cases") == {"coast": 100, "isle": 100, "public": 100}
    withdrawn = Filter(must=(Match("withdrawn", 1),))
    assert store.count("cases", Scope("isle", False), withdrawn) == 11, "withdrawn after the export, and still"
    store.close()
    assert len([p for p in folder.iterdir() if p.is_dir()]) == 3, "two collections and the withdrawals"


def test_the_same_knowledge_base_gives_the_same_bytes(folder: Path, written: Path) -> None:
    store = WithdrawalKeeper(EdgeStore(folder / "store", reserve_bytes=0))
    fill(store)
    list(export(store, list(RUNNING.values()), folder / "again.zip"))
    assert (folder / "again.zip").read_bytes() == written.read_bytes()
    store.close()


def test_any_zip_program_can_look_into_it(written: Path) -> None:
    with zipfile.ZipFile(written) as file:
        assert file.testzip() is None
        assert file.namelist()[:2] == ["cases/000000.jsonl", "cases/000000.safetensors"]
        assert file.namelist()[-2:] == ["withdrawals.jsonl", "manifest.json"]


def refused(path: Path) -> str:
    """What an attempt to import says, and that it changed nothing."""
    store = MemoryStore()
    reopened(store).upsert("cases", [a_point(1)])
    with pytest.raises(BadArchive) as caught:
        take(store, path)
    assert store.ids("cases", Scope("isle")) == [a_point(1).id]
    assert store.manifest("cases.import") is None
    assert store.manifest("cases") == CASES_MANIFEST
    return str(caught.value)


def test_a_flipped_bit_anywhere_is_refused(written: Path, tmp_path: Path) -> None:
    content = bytearray(written.read_bytes())
    rng = random.Random(3)
    places = [*rng.sample(range(len(content)), 150), *range(len(content) - 90, len(content))]
    bad = tmp_path / "bad.zip"
    for place in places:
        bit = 1 << rng.randrange(8)
        content[place] ^= bit
        bad.write_bytes(content)
        with pytest.raises(BadArchive):
            open_archive(bad)
        content[place] ^= bit


def test_a_file_cut_short_or_foreign_is_refused(written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    bad = tmp_path / "bad.zip"
    for length in (0, 1, 66, 1000, len(content) // 2, len(content) - 66, len(content) - 1):
        bad.write_bytes(content[:length])
        with pytest.raises(BadArchive):
            open_archive(bad)
    bad.write_bytes(content + b"\n")
    assert "no exported knowledge base" in refused(bad)
    with zipfile.ZipFile(bad, "w") as file:
        file.writestr("manifest.json", "{}")
    assert "no exported knowledge base" in refused(bad)
    bad.unlink()
    assert "cannot be read" in refused(bad)


def forged(written: Path, path: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> Path:
    """An archive changed by somebody who sets every digest right again."""
    with zipfile.ZipFile(written) as file:
        members = {n: file.read(n) for n in file.namelist()}
    told = json.loads(members.pop("manifest.json"))
    change(members, told)
    for part in told["parts"]:
        for kind, key in (("jsonl", "payload_sha256"), ("safetensors", "vectors_sha256")):
            if f"{part['name']}.{kind}" in members:
                part[key] = hashlib.sha256(members[f"{part['name']}.{kind}"]).hexdigest()
    if told.pop("sha256", None) is not None:
        told["sha256"] = writing.digest(told)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
        file.writestr("manifest.json", json.dumps(told))
    writing._sign(path)
    return path


FIRST = "cases/000000"


def no_change(members: dict[str, bytes], told: dict[str, Any]) -> None: ...


def test_a_forger_who_changes_nothing_is_believed(written: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    assert take(store, forged(written, tmp_path / "f.zip", no_change)).points == {"cases": 300, "guidelines": 3}


def newer(members: dict[str, bytes], told: dict[str, Any]) -> None:
    told["version"] = 2


def foreign(members: dict[str, bytes], told: dict[str, Any]) -> None:
    told["format"] = "somebody/else"


def outside(members: dict[str, bytes], told: dict[str, Any]) -> None:
    told["parts"][0]["name"] = "../../etc/passwd"
    for kind in ("jsonl", "safetensors"):
        members[f"../../etc/passwd.{kind}"] = members.pop(f"{FIRST}.{kind}")


def stowaway(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members["/tmp/extra"] = b"x"


def bomb(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.jsonl"] = bytes(257 << 20)


def too_many(members: dict[str, bytes], told: dict[str, Any]) -> None:
    told["parts"][0]["points"] = 10**9


def one_less(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.jsonl"] = b"".join(members[f"{FIRST}.jsonl"].splitlines(keepends=True)[1:])


def strange_part(members: dict[str, bytes], told: dict[str, Any]) -> None:
    told["parts"][0]["owner"] = "me"


def strange_collection(members: dict[str, bytes], told: dict[str, Any]) -> None:
    del told["collections"][1]


def third_collection(members: dict[str, bytes], told: dict[str, Any]) -> None:
    told["collections"].append({**told["collections"][0], "schema": {**told["collections"][0]["schema"], "name": "x"}})


def no_json(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.jsonl"] = b"[" * 100_000 + b"\n"


def no_tensors(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.safetensors"] = (1 << 60).to_bytes(8, "little") + b"{}"


def other_words(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.jsonl"] = members[f"{FIRST}.jsonl"].replace(b"effusion", b"edema   ")


def swapped_vectors(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.safetensors"] = members["cases/000001.safetensors"]


def doubled(members: dict[str, bytes], told: dict[str, Any]) -> None:
    for kind in ("jsonl", "safetensors"):
        members[f"cases/000001.{kind}"] = members[f"{FIRST}.{kind}"]


def bad_flag(members: dict[str, bytes], told: dict[str, Any]) -> None:
    members[f"{FIRST}.jsonl"] = members[f"{FIRST}.jsonl"].replace(b'"withdrawn": 0', b'"withdrawn": "no"')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (newer, "format version 2"),
        (foreign, "no exported knowledge base"),
        (outside, "none of ours"),
        (stowaway, "other files than it lists"),
        (bomb, "larger than any"),
        (too_many, "impossible number"),
        (one_less, "and lists 100"),
        (strange_part, "unknown form"),
        (strange_collection, "which it does not list"),
        (third_collection, "a knowledge base is"),
        (no_json, "cannot be read"),
        (no_tensors, "cannot be read"),
        (other_words, "fails its checksum"),
        (swapped_vectors, "fails its checksum"),
        (doubled, "it lists 300"),
        (bad_flag, "cannot be stored"),
    ],
)
def test_a_forged_archive_is_refused(written: Path, tmp_path: Path, change: Any, said: str) -> None:
    assert said in refused(forged(written, tmp_path / "forged.zip", change))


def test_an_archive_of_other_models_says_what_differs(written: Path) -> None:
    other = {**RUNNING, "cases": (CASES, replace(CASES_MANIFEST, labeler="labeler@2"))}
    with pytest.raises(ManifestMismatch, match=r"labeler labeler@1, this program runs labeler@2"):
        list(restore(MemoryStore(), open_archive(written), other, Restored()))


def test_words_of_another_tokenizer_are_made_anew_and_counted(written: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes], told: dict[str, Any]) -> None:
        told["parts"][0]["words_sha256"] = "0" * 64

    assert take(MemoryStore(), forged(written, tmp_path / "f.zip", change)).words_remade == 100


def test_a_damaged_record_is_not_exported(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store)
    for change in ({"payload": {"text": "other"}}, {"vectors": {"text.mini@1": np.ones(6, np.float32)}}):
        points = store._collections["cases"].points
        spoiled = points[a_point(4).id]
        payload = {**spoiled.payload, **change.get("payload", {})}
        points[spoiled.id] = replace(spoiled, payload=payload, vectors=change.get("vectors", spoiled.vectors))
        with pytest.raises(DamagedRecordError, match=str(spoiled.id)):
            list(export(store, list(RUNNING.values()), tmp_path / "all.zip"))
        points[spoiled.id] = spoiled
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_archive import RUNNING, Restored, WithdrawalKeeper, EdgeStore, export, open_archive, reopened, restore
store = reopened(WithdrawalKeeper(EdgeStore(Path(sys.argv[1]), reserve_bytes=0)))
path, steps = Path(sys.argv[2]), int(sys.argv[4])
work = export(store, list(RUNNING.values()), path) if sys.argv[5] == "export" else restore(
    store, open_archive(path), RUNNING, Restored())
for number, _ in enumerate(work, 1):
    if number == steps:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("what", ["export", "import"])
def test_a_kill_leaves_the_old_index_and_no_half_file(folder: Path, written: Path, what: str, steps: int) -> None:
    with closing(WithdrawalKeeper(EdgeStore(folder / "store", reserve_bytes=0))) as store:
        fill(store, 30)
        before = everything(store)
    path = folder / "mine.zip" if what == "export" else written
    tests = str(Path(__file__).parent)
    arguments = [str(folder / "store"), str(path), tests, str(steps), what]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (folder / "mine.zip").exists()
    with closing(reopened(WithdrawalKeeper(EdgeStore(folder / "store", reserve_bytes=0)))) as store:
        assert everything(store) == before
        take(store, written)
        assert sum(reopened(store).tenants("cases").values()) == 300
