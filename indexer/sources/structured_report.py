"""The words of a report that is kept as a DICOM structured report (PS3.3 A.35), or in a file beside a film."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from indexer.sources import files
from rag_service.datasets.films import DatasetError

CLASSES: Final = frozenset(
    {"1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33"}
)
"""Basic Text, Enhanced and Comprehensive SR."""
SECTIONS: Final = {
    "FINDING": "FINDINGS", "FINDINGS": "FINDINGS", "IMPRESSION": "IMPRESSION", "IMPRESSIONS": "IMPRESSION",
    "CONCLUSION": "IMPRESSION", "CONCLUSIONS": "IMPRESSION",
}  # fmt: skip
"""Concept name in capitals -> section of a case; texts under other names (history, request ...) are no reading of the film."""
MAX_DEPTH: Final = 16


def words(report: Dataset) -> str:
    """FINDINGS and IMPRESSION of a structured report; '' when it has neither. DatasetError `report_too_large`."""
    found: dict[str, list[str]] = defaultdict(list)
    for section, text in _texts(report, None, 0):
        found[section].append(" ".join(text.split()))
    return _joined({section: " ".join(texts) for section, texts in found.items()})


def beside(folder: Path, film: Path) -> str:
    """The report in `<film>.txt`, or in `<film>.json` with `findings` and `impression` (or `report`); '' when there is neither.

    DatasetError of `files.report`, or for a JSON file that is none.
    """
    for name in (film.with_suffix(".txt"), film.with_suffix(".json")):
        if name.is_symlink() or name.is_file():
            text = files.report(folder, str(name.relative_to(folder)))
            return text if name.suffix == ".txt" else _from_json(files.read_json(name))
    return ""


def _texts(item: Any, section: str | None, depth: int) -> Iterator[tuple[str, str]]:
    if depth > MAX_DEPTH:
        return
    for content in item.get("ContentSequence") or ():
        names = content.get("ConceptNameCodeSequence") or ()
        named = next((SECTIONS.get(str(n.get("CodeMeaning", "")).strip().upper()) for n in names), None)
        under = named or section
        if under and content.get("TextValue"):
            yield under, str(content.TextValue)
        yield from _texts(content, under, depth + 1)


def _from_json(content: Any) -> str:
    if not isinstance(content, dict):
        raise DatasetError("report_not_json")
    stated = {key: value.strip() for key, value in content.items() if isinstance(value, str)}
    return stated.get("report") or _joined({s: stated.get(s.lower(), "") for s in ("FINDINGS", "IMPRESSION")})


def _joined(sections: dict[str, str]) -> str:
    text = "\n".join(f"{s}: {sections[s]}" for s in ("FINDINGS", "IMPRESSION") if sections.get(s))
    if len(text.encode()) > files.MAX_REPORT:
        raise DatasetError("report_too_large")
    return text
