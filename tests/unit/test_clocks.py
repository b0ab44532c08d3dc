"""A clock that jumps changes no deadline, budget or order: timers are monotonic, the wall clock is only written down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WALL_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}


def wall_clock_readers() -> Iterator[str]:
    for package in ("knowledge_base", "rag_service", "api"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func).removeprefix("datetime.datetime") in WALL_CLOCKS
                ):
                    yield path.relative_to(ROOT).as_posix()


def test_only_records_of_what_happened_carry_the_time_of_day() -> None:
    assert set(wall_clock_readers()) <= {"knowledge_base/audit_log.py", "api/logs.py"}
    assert "knowledge_base/audit_log.py" in set(wall_clock_readers())
