"""python -m indexer add and quarantine: what fails and is tried again, nightly runs, contradictions."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from indexer import __main__ as cli
from indexer import builder
from indexer.commands import command
from rag_service.errors import BadWeights
from rag_service.models.encoder import FilmEncoder

if TYPE_CHECKING:
    from tests.integration.conftest import HashedWords, Maker

Run = Callable[..., dict[str, object]]


@pytest.fixture
def stores() -> Iterator[Path]:
    """A folder for indexes, in memory where there is one: the engine waits for the disk a lot."""
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def environment(
    stores: Path, whole_model: Path, words: HashedWords, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of the test's own, and three studies: a film each, the second of them no film."""
    monkeypatch.setenv("RAG_MODEL_FOLDER", str(whole_model))
    monkeypatch.setenv("RAG_STORE", str(stores / "store"))
    monkeypatch.setenv("RAG_RESERVE_MIB", "0")
    monkeypatch.setattr(command, "load_text_encoder", lambda: words)
    for number in range(3):
        maker.film(f"{number}.png", number)
    (maker.folder / "1.png").write_bytes(b"no film")
    rows = [f"{n}.png,Report {n}: no effusion.,P{n},S{n}" for n in range(3)]
    maker.table("cases.csv", "film,report,patient,study", *rows)


@pytest.fixture
def indexer(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command quietly: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--quiet"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def add(indexer: Callable[..., tuple[int, str, str]], maker: Maker) -> Run:
    """Runs `add` and gives what it counted of cases (passages are there after the first run)."""

    def run(*more: str) -> dict[str, object]:
        code, said, complaint = indexer("add", "folder", str(maker.folder), "--json", *more)
        assert (code, complaint) == (0, "")
        found: dict[str, object] = json.loads(said)
        return found

    return run


def test_a_film_that_fails_is_listed_passed_over_and_tried_again_when_it_has_changed(
    add: Run, indexer: Callable[..., tuple[int, str, str]], maker: Maker, stores: Path
) -> None:
    first = add()
    assert first["quarantined"] == {"not_an_image": 1} and first["examples"] == {"not_an_image": "S1"}
    code, said, _ = indexer("quarantine", "list")
    line, count = said.splitlines()
    assert code == 0 and count == "1 quarantined"
    assert line.startswith("folder S1: not_an_image (NotAnImage) 1.png, 20")
    assert (stores / "store.state" / "public" / "quarantine" / "quarantine.jsonl").read_text().count("\n") == 1
    second = add()
    assert (second["added"], second["quarantined"], second["still_quarantined"]) == (0, {}, 1)
    maker.film("1.png", 9)
    third = add()
    assert (third["added"], third["still_quarantined"]) == (1, 0)
    assert json.loads(indexer("quarantine", "list", "--json")[1]) == []
    assert sorted(indexer("ids")[1].split()) == ["S0", "S1", "S2"]


def test_a_tenants_studies_are_its_own(add: Run, indexer: Callable[..., tuple[int, str, str]], stores: Path) -> None:
    add("--tenant", "isle")
    assert add("--tenant", "isle")["added"] == 0
    assert (sorted(indexer("ids", "--tenant", "isle")[1].split()), indexer("ids")[1].split()) == (["S0", "S2"], [])
    assert json.loads(indexer("stats", "--json")[1])["tenants"] == {"isle": 2}
    assert add()["added"] == 2  # the same studies, once more for everybody
    assert json.loads(indexer("stats", "--json")[1])["tenants"] == {"isle": 2, "public": 2}
    assert sorted(p.name for p in (stores / "store.state").iterdir()) == ["isle", "public"]
    code, _, complaint = indexer("ids", "--tenant", "../isle")
    assert (code, complaint) == (2, "error: RAG_TENANT is a name of 1 to 64 letters, digits, '_' and '-'\n")


def test_retrying_takes_what_is_listed_and_nothing_else(
    add: Run, indexer: Callable[..., tuple[int, str, str]], maker: Maker, tmp_path: Path, words: HashedWords
) -> None:
    elsewhere = ("--quarantine", str(tmp_path / "failed"))
    add(*elsewhere)
    assert [e["study"] for e in json.loads(indexer("quarantine", "list", "--json", *elsewhere)[1])] == ["S1"]
    assert indexer("quarantine", "list")[1] == "0 quarantined\n"
    words.asked.clear()
    retry = ("quarantine", "retry", "folder", str(maker.folder), *elsewhere)
    code, said, _ = indexer(*retry)
    assert code == 0 and "0 added" in said and "1 quarantined\n  1 x not_an_image (first: S1)" in said
    maker.film("1.png", 9)
    assert json.loads(indexer(*retry, "--json")[1])["added"] == 1
    assert words.asked == ["Report 1: no effusion."]
    assert indexer("quarantine", "list", *elsewhere)[1] == "0 quarantined\n"
    complaint = "error: `quarantine retry` takes a source and its folder, `quarantine list` takes neither\n"
    assert indexer("quarantine", "retry") == (2, "", complaint)
    assert indexer("quarantine", "retry", "folder") == (2, "", complaint)
    assert indexer("quarantine", "list", "folder", ".") == (2, "", complaint)


def test_since_takes_what_is_new(
    add: Run, indexer: Callable[..., tuple[int, str, str]], maker: Maker, tmp_path: Path
) -> None:
    folder = str(maker.folder)
    nothing = (2, "", "error: no run over all of this folder is on record: leave out --since last\n")
    assert indexer("add", "folder", folder, "--since", "last") == nothing
    for number in range(3):
        os.utime(maker.folder / f"{number}.png", (1_700_000_000, 1_700_000_000))  # 2023-11-14
    add("--limit", "1")
    assert indexer("add", "folder", folder, "--since", "last") == nothing
    found = add("--since", "2024-01-01")
    assert (found["added"], found["earlier"]) == (0, 3)
    os.utime(maker.folder / "2.png")
    found = add("--since", "last")
    assert (found["added"], found["earlier"]) == (1, 2)
    maker.film("1.png", 9)
    found = add("--since", "last")
    assert (found["added"], found["earlier"]) == (1, 2)
    assert sorted(indexer("ids")[1].split()) == ["S0", "S1", "S2"]
    message = "error: --since takes a day, YYYY-MM-DD, or 'last'\n"
    assert indexer("add", "folder", folder, "--since", "yesterday") == (2, "", message)
    add("--rebuild", "--limit", "1")
    assert indexer("add", "folder", folder, "--since", "last") == nothing


def test_a_contradiction_is_kept_marked_and_told(
    indexer: Callable[..., tuple[int, str, str]], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "consistent", lambda case, *_: case.study != "S2")
    code, said, _ = indexer("add", "folder", str(maker.folder))
    assert code == 0 and "  1 added whose report contradicts the film: kept, marked\n" in said
    assert sorted(indexer("ids")[1].split()) == ["S0", "S2"]


def test_the_bar_tells_what_became_of_the_studies(maker: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["add", "folder", str(maker.folder), "--json"]) == 0
    told = capsys.readouterr().err
    assert "3/3" in told and "added=2, unchanged=0, quarantined=1" in told


def test_a_model_that_embeds_nothing_ends_the_run(
    indexer: Callable[..., tuple[int, str, str]], maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.film("1.png", 9)

    def broken(*_: object) -> None:
        raise BadWeights("numbers that are not finite")

    monkeypatch.setattr(FilmEncoder, "read_stored", broken)
    code, said, complaint = indexer("add", "folder", str(maker.folder))
    assert (code, said) == (3, "") and "numbers that are not finite" in complaint
