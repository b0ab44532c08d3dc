"""Where cases come from. Each source yields studies, or says why a row is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from indexer.pseudonyms import Pseudonyms
from indexer.sources import cohen, dicom, folder, mimic_cxr, nih, openi, padchest_gr, rocov2
from indexer.studies import Skipped, Study

Studies = Iterator[Study | Skipped]
SOURCES: Final[Mapping[str, Callable[[Path], Studies]]] = {
    "openi": openi.studies,
    "nih": nih.studies,
    "cohen": cohen.studies,
    "rocov2": rocov2.studies,
    "padchest-gr": padchest_gr.studies,
    "mimic-cxr": mimic_cxr.studies,
    "folder": folder.studies,
}
"""Source whose patients are pseudonyms already -> reader of its folder."""
KEYED: Final[Mapping[str, Callable[[Path, Pseudonyms], Studies]]] = {"dicom": dicom.studies}
"""Source with real identifiers -> reader that replaces them."""
NAMES: Final = (*SOURCES, *KEYED)


def read(source: str, place: Path, pseudonym_key: str | None) -> Studies:
    """The studies of a folder. `pseudonyms.PseudonymKeyMissing` at once when the source needs a key and there is none."""
    if source in KEYED:
        return KEYED[source](place, Pseudonyms.of(pseudonym_key))
    return SOURCES[source](place)
