"""Asserts of the suite's classes explain themselves as those of test files do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.contract.store_suite")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: the engine's many small flushes are slow on a busy disk."""
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield path
    shutil.rmtree(path)
