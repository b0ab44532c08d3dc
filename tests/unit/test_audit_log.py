"""The audit log: what it writes, that it is continued, and that a missing or altered line shows."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from knowledge_base import audit_log
from knowledge_base.audit_log import NONE_BEFORE, AuditLog, check_chain, log_files, read_events
from knowledge_base.errors import DiskLow, StoreUnavailable


def lines(folder: Path) -> list[bytes]:
    return [line for path in log_files(folder) for line in path.read_bytes().splitlines()]


def written(folder: Path, count: int, **log: Any) -> AuditLog:
    opened = AuditLog(folder, **log)
    for number in range(count):
        opened.append({"tenant": "isle", "count": number})
    return opened


def append_some(folder: Path) -> None:
    written(folder, 25)


def test_nothing_is_made_before_the_first_event(tmp_path: Path) -> None:
    AuditLog(tmp_path / "log").close()
    assert list(tmp_path.iterdir()) == []
    assert check_chain(tmp_path / "log").events == 0


def test_each_line_carries_its_number_and_the_digest_of_the_line_before(tmp_path: Path) -> None:
    written(tmp_path, 3).close()
    first, second, third = lines(tmp_path)
    assert [json.loads(line)["sequence"] for line in (first, second, third)] == [1, 2, 3]
    assert json.loads(first)["previous"] == NONE_BEFORE
    assert json.loads(second)["previous"] == hashlib.sha256(first).hexdigest()
    assert json.loads(third)["previous"] == hashlib.sha256(second).hexdigest()
    assert json.loads(third) | {"time": "", "previous": ""} == {
        "sequence": 3, "time": "", "tenant": "isle", "count": 2, "previous": "",
    }  # fmt: skip
    audit = check_chain(tmp_path)
    assert (audit.events, audit.fault) == (3, None)
    assert audit.head.digest == hashlib.sha256(third).hexdigest()


def test_another_run_continues_the_chain(tmp_path: Path) -> None:
    written(tmp_path, 2).close()
    written(tmp_path, 2).close()
    assert [event["sequence"] for event, _ in read_events(tmp_path)] == [1, 2, 3, 4]
    assert check_chain(tmp_path).fault is None


def test_a_full_file_is_followed_by_another_and_nothing_is_lost(tmp_path: Path) -> None:
    written(tmp_path, 40, file_bytes=1000).close()
    files = log_files(tmp_path)
    assert len(files) > 3
    assert files[0].name == "audit-000000000001.jsonl"
    assert json.loads(files[1].read_bytes().splitlines()[0])["sequence"] == int(files[1].stem.split("-")[1])
    assert (check_chain(tmp_path).events, check_chain(tmp_path).fault) == (40, None)


def test_threads_and_processes_share_one_chain(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(append_some, tmp_path) for _ in range(2)]
        shared = AuditLog(tmp_path, file_bytes=4000)
        threads = [threading.Thread(target=lambda: [shared.append({}) for _ in range(25)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for job in jobs:
            job.result()
    assert (check_chain(tmp_path).events, check_chain(tmp_path).fault) == (100, None)


def test_order_is_by_sequence_whatever_the_clock_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        hours = iter((12, 36, 3))

        @classmethod
        def now(cls, zone: object) -> Any:
            return audit_log_time(next(cls.hours))

    monkeypatch.setattr(audit_log, "datetime", Clock)
    written(tmp_path, 3).close()
    assert [event["time"][:13] for event, _ in read_events(tmp_path)] == [
        "2038-01-18T12", "2038-01-19T12", "2038-01-18T03",
    ]  # fmt: skip
    assert check_chain(tmp_path).fault is None


def audit_log_time(hours: int) -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime(2038, 1, 18, tzinfo=UTC) + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda kept: kept[:3] + kept[4:], "event 5 does not follow on 3"),
        (lambda kept: kept[1:], "event 2 does not follow on 0"),
        (lambda kept: [kept[1], kept[0], *kept[2:]], "event 2 does not follow on 0"),
        (lambda kept: [kept[0].replace(b"isle", b"cove"), *kept[1:]], "event 2 does not follow on 1"),
        (lambda kept: [*kept[:2], kept[1], *kept[2:]], "event 2 does not follow on 2"),
        (lambda kept: [*kept[:2], b"{]", *kept[2:]], "what follows event 2 is no event"),
        (lambda kept: [*kept[:2], b"[]", *kept[2:]], "what follows event 2 is no event"),
    ],
    ids=["removed", "first removed", "swapped", "altered", "doubled", "no JSON", "no event"],
)
def test_what_was_done_to_a_line_shows(tmp_path: Path, spoil: Any, fault: str) -> None:
    written(tmp_path, 6).close()
    path = log_files(tmp_path)[0]
    path.write_bytes(b"".join(line + b"\n" for line in spoil(lines(tmp_path))))
    assert check_chain(tmp_path).fault == fault


def test_a_cut_end_shows_to_whoever_noted_the_head(tmp_path: Path) -> None:
    head = written(tmp_path, 4).append({"tenant": "isle"})
    assert check_chain(tmp_path, head.digest).fault is None
    path = log_files(tmp_path)[0]
    path.write_bytes(b"".join(line + b"\n" for line in lines(tmp_path)[:-1]))
    assert check_chain(tmp_path).fault is None
    assert check_chain(tmp_path, head.digest).fault == "the event of the expected digest is not in the log"


def test_a_line_cut_short_by_a_kill_is_cut_off_and_the_chain_goes_on(tmp_path: Path) -> None:
    written(tmp_path, 2).close()
    path = log_files(tmp_path)[0]
    path.write_bytes(path.read_bytes() + b'{"sequence":3,"ti')
    assert check_chain(tmp_path).fault == "what follows event 2 is no event"
    written(tmp_path, 1)
    assert (check_chain(tmp_path).events, check_chain(tmp_path).fault) == (3, None)
    (tmp_path / "audit-000000000004.jsonl").write_bytes(b'{"sequ')
    written(tmp_path, 1)
    assert (check_chain(tmp_path).events, check_chain(tmp_path).fault) == (4, None)
    path.write_bytes(b"")
    (tmp_path / "audit-000000000004.jsonl").unlink(missing_ok=True)
    written(tmp_path, 1)
    assert check_chain(tmp_path).events == 1


def test_a_log_whose_end_cannot_be_read_takes_no_more_events(tmp_path: Path) -> None:
    (tmp_path / "audit-000000000001.jsonl").write_bytes(b"{}\n")
    with pytest.raises(StoreUnavailable, match="python -m indexer audit verify"):
        written(tmp_path, 1)


def test_a_full_disk_leaves_whole_lines_and_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(tmp_path, 2)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr("knowledge_base.audit_log.os.write", lambda descriptor, line: write(descriptor, line[:9]))
        with pytest.raises(DiskLow, match="audit log"):
            log.append({})
    log.append({})
    assert (check_chain(tmp_path).events, check_chain(tmp_path).fault) == (3, None)


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a file")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        AuditLog(tmp_path / "log").append({})
