"""What a machine remembers of indexing: digests by stamp, finished runs, studies that failed, and what --since admits."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from indexer.checkpoint import FILE, Checkpoint
from indexer.films import FilmFile, Stamp, hashed, origin_of, stamp_of
from indexer.quarantine import FILE as LIST
from indexer.quarantine import Failure, Quarantine
from indexer.since import Since
from indexer.studies import Study


def study(film: Path | None = None, number: int = 1, **more: str) -> Study:
    return Study("folder", f"S{number}", f"P{number}", film, "Clear lungs.", **more)


# --- films


def test_a_film_is_known_by_its_bytes_and_its_stamp(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(b"abc")
    os.utime(film, ns=(5, 7))
    read = hashed(film)
    assert read == FilmFile(film, Stamp(3, 7), hashlib.sha256(b"abc").hexdigest())
    assert stamp_of(study(film)) == Stamp(3, 7)
    assert stamp_of(study()) is None and stamp_of(study(tmp_path / "gone")) is None


def test_an_origin_changes_with_every_part_of_a_study_and_with_the_film() -> None:
    made = origin_of(study(), "aa")
    assert made == origin_of(study(Path("elsewhere.png"), date="2026-01-01"), "aa") and len(made) == 64
    changes = {
        "source": "dicom", "study": "S2", "patient": "P2", "text": "Edema.", "labels": ("Edema",), "view": "PA", "sex": "F",
        "age_years": 7,
    }  # fmt: skip
    others = [origin_of(replace(study(), known=(), **{k: v}), "aa") for k, v in changes.items()]  # type: ignore[arg-type]
    assert len({made, origin_of(study(), "bb"), origin_of(study(), None), *others}) == 3 + len(changes)


# --- checkpoint


def test_a_digest_is_remembered_for_one_stamp(tmp_path: Path) -> None:
    film = tmp_path / "a.png"
    with closing(Checkpoint(tmp_path / "state")) as checkpoint:
        checkpoint.remember([FilmFile(film, Stamp(3, 7), "aa"), FilmFile(tmp_path / "b.png", Stamp(1, 1), "bb")])
        checkpoint.remember([FilmFile(film, Stamp(4, 8), "cc")])
    with closing(Checkpoint(tmp_path / "state")) as checkpoint:
        assert checkpoint.digest(film, Stamp(4, 8)) == "cc"
        assert checkpoint.digest(film, Stamp(3, 7)) is None
        assert checkpoint.digest(tmp_path / "c.png", Stamp(1, 1)) is None


def test_a_finished_run_is_remembered_for_its_store_source_and_folder(tmp_path: Path) -> None:
    with closing(Checkpoint(tmp_path)) as checkpoint:
        checkpoint.finished("kb", "openi", tmp_path, 5.5)
        checkpoint.finished("kb", "openi", tmp_path, 7.5)
        checkpoint.finished("other", "openi", tmp_path, 9.5)
        assert checkpoint.last("kb", "openi", tmp_path) == 7.5
        assert checkpoint.last("kb", "nih", tmp_path) is None
        assert checkpoint.last("kb", "openi", tmp_path / "x") is None
        checkpoint.forget("kb")
        assert checkpoint.last("kb", "openi", tmp_path) is None
        assert checkpoint.last("other", "openi", tmp_path) == 9.5


def test_a_damaged_checkpoint_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database " * 100)
    with closing(Checkpoint(tmp_path)) as checkpoint:
        assert checkpoint.digest(tmp_path, Stamp(1, 1)) is None
        checkpoint.finished("kb", "openi", tmp_path, 1.0)
        assert checkpoint.last("kb", "openi", tmp_path) == 1.0


# --- quarantine


def test_a_failure_is_one_line_without_a_word_of_the_report(tmp_path: Path) -> None:
    film = tmp_path / "films" / "1.png"
    quarantine = Quarantine(tmp_path / "q")
    quarantine.update([Failure(study(film), "not_an_image", "NotAnImage", Stamp(3, 7))], [], tmp_path)
    (line,) = (tmp_path / "q" / LIST).read_text().splitlines()
    told = json.loads(line)
    written = told.pop("time")
    assert written.endswith("+00:00") and len(written) == 25
    assert told == {
        "source": "folder", "study": "S1", "reason": "not_an_image", "error": "NotAnImage", "film": "films/1.png",
        "said": origin_of(study(), None), "size": 3, "changed_ns": 7,
    }  # fmt: skip
    assert "Clear" not in line


def test_a_study_is_held_while_nothing_about_it_changes(tmp_path: Path) -> None:
    film = tmp_path / "1.png"
    film.write_bytes(b"abc")
    failed = [
        Failure(study(film), "not_an_image", "NotAnImage", Stamp.of(film)),
        Failure(study(tmp_path / "gone.png", 2), "film_unreadable", "FileNotFoundError", None),
    ]
    Quarantine(tmp_path).update(failed, [], tmp_path)
    quarantine = Quarantine(tmp_path)
    assert quarantine.holds(study(film)) and quarantine.holds(study(tmp_path / "gone.png", 2))
    assert not quarantine.holds(study(film, 3))
    assert not quarantine.holds(replace(study(film), known=(), text="Edema."))
    (tmp_path / "gone.png").write_bytes(b"here")
    assert not quarantine.holds(study(tmp_path / "gone.png", 2))
    film.write_bytes(b"abcd")
    assert not quarantine.holds(study(film)) and quarantine.names(study(film))


def test_what_is_indexed_leaves_the_list_and_a_line_that_is_none_is_passed_over(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.update([], [study()], tmp_path)
    assert not (tmp_path / LIST).exists()
    quarantine.update([Failure(study(number=n), "r", "E", None) for n in (1, 2)], [], tmp_path)
    quarantine.update([], [study(number=1)], tmp_path)
    with (tmp_path / LIST).open("a") as file:
        file.write('[1]\n{"source": "folder"}\n{"cut')
    left = Quarantine(tmp_path)
    assert [e.study for e in left] == ["S2"] and len(left) == 1


# --- since


@pytest.mark.parametrize(
    ("dated", "changed", "admitted"),
    [
        ("2026-03-02", "2026-02-01", True),
        ("2026-03-01", "2026-02-01", True),
        ("2026-02-28", "2026-02-01", False),
        ("2026-02-28", "2026-03-01", True),
        (None, "2026-03-01", True),
        (None, "2026-02-28", False),
    ],
)
def test_a_study_of_that_day_or_a_film_changed_since_is_admitted(
    tmp_path: Path, dated: str | None, changed: str, admitted: bool
) -> None:
    film = tmp_path / "1.png"
    film.write_bytes(b"film")
    moment = time.mktime(time.strptime(changed, "%Y-%m-%d")) + 1
    os.utime(film, (moment, moment))
    assert Since.of_day("2026-03-01").admits(replace(study(film), known=(), date=dated)) is admitted


def test_a_study_without_date_and_film_is_always_admitted() -> None:
    since = Since.of_moment(time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1)))
    assert since.day == date(2026, 3, 1)
    assert since.admits(study()) and since.admits(study(date="2026-03-01"))
    assert not since.admits(study(date="2026-02-28"))
    with pytest.raises(ValueError, match="Invalid isoformat"):
        Since.of_day("yesterday")
