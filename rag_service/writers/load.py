"""From a name and a folder to a writer: digests first, then weights, then the port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rag_service.report.writing import Writer
from rag_service.writers.catalogue import MAIRA_2, MEDGEMMA
from rag_service.writers.maira2 import load_maira2
from rag_service.writers.medgemma import load_medgemma
from rag_service.writers.record import WriterRecord, checked_record

_LOADERS: Final[Mapping[str, Callable[[WriterRecord, Path], Writer]]] = {
    MAIRA_2: load_maira2,
    MEDGEMMA: load_medgemma,
}


def load_writer(name: str, folder: Path) -> Writer:
    """The writer `name` of the catalogue whose files and record lie in `folder`. BadWeights otherwise; never random weights."""
    return _LOADERS[name](checked_record(name, folder), folder)
