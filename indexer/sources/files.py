"""Files of a tree that a stranger may have made: nothing outside its root is touched, and nothing is read without a limit.

Limits: a report 64 KiB, a table 1 GiB once unpacked and 1 MiB a line (csv itself refuses a cell above 128 KiB), a JSON file
256 MiB. A link inside the tree is followed only to a place inside the tree.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rag_service.datasets.films import DatasetError

MAX_REPORT: Final = 64 << 10
MAX_TABLE: Final = 1 << 30
MAX_LINE: Final = 1 << 20
MAX_JSON: Final = 256 << 20


def inside(folder: Path, name: str) -> Path:
    """The file of that name, which must exist and lie inside the folder once links are followed.

    DatasetError `path_outside_folder` or `file_missing`.
    """
    try:
        path = (folder / name.strip()).resolve()
        present = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a null character
        raise DatasetError("file_missing") from error
    if not path.is_relative_to(folder.resolve()):
        raise DatasetError("path_outside_folder")
    if not present:
        raise DatasetError("file_missing")
    return path


def report(folder: Path, name: str) -> str:
    """A report file's text. DatasetError as of `inside`, `report_too_large` or `report_not_utf8`."""
    path = inside(folder, name)
    if path.stat().st_size > MAX_REPORT:
        raise DatasetError("report_too_large")
    try:
        return path.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DatasetError("report_not_utf8") from error


def walk(folder: Path) -> Iterator[Path]:
    """Every file below the folder, in the order of names; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def table(folder: Path, name: str) -> Path | None:
    """The table of that name, plain or gzipped; None when there is neither. DatasetError when it lies outside the folder."""
    for candidate in (name, f"{name}.gz"):
        if (folder / candidate).is_file():
            return inside(folder, candidate)
    return None


def needed(folder: Path, name: str) -> Path:
    """See `table`; DatasetError also when there is none."""
    if found := table(folder, name):
        return found
    raise DatasetError(f"{name} is missing from {folder.name}/")


def rows(path: Path, required: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows of a CSV with a header, plain or gzipped, one at a time; an absent cell is ''.

    DatasetError when a required column is missing, it is no table in UTF-8, or it passes a limit.
    """
    try:
        reader = csv.DictReader(_lines(path))
        if missing := [c for c in required if c not in (reader.fieldnames or ())]:
            raise DatasetError(f"{path.name} lacks the columns {', '.join(missing)}")
        for row in reader:
            yield {str(k): v or "" for k, v in row.items() if isinstance(v, str | None) and k is not None}
    except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path.name} is no table in UTF-8") from error


def read_json(path: Path) -> Any:
    """A JSON file's content. DatasetError when it is none or passes the limit."""
    if path.stat().st_size > MAX_JSON:
        raise DatasetError(f"{path.name} has more than {MAX_JSON >> 20} MiB")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path.name} is no JSON") from error


def _lines(path: Path) -> Iterator[str]:
    opened: Callable[[Path], Any] = gzip.open if path.suffix == ".gz" else lambda plain: plain.open("rb")
    left = MAX_TABLE
    with opened(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as stream:
        while line := stream.readline(MAX_LINE):
            left -= len(line)
            if left < 0 or len(line) >= MAX_LINE:
                raise DatasetError(f"{path.name} is longer than a table may be")
            yield line
