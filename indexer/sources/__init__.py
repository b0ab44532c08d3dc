"""Where cases come from. Each source yields studies, or says why a row is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from indexer.sources import folder, nih, openi
from indexer.studies import Skipped, Study

SOURCES: Final[Mapping[str, Callable[[Path], Iterator[Study | Skipped]]]] = {
    "openi": openi.studies,
    "nih": nih.studies,
    "folder": folder.studies,
}
"""Source name -> reader of its folder."""
