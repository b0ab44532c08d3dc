"""Open-i (Indiana University): films, reports and hand-coded MeSH tags.

Two layouts are read: a folder with `images.csv` (file, image_id, study_id, projection; where known sex, manufacturer) beside
`NLMCXR_reports.tgz` (where that is absent, the same archive as a package carries it), and the public one, a folder of `*.png`
named by image id beside the same archive or its unpacked `ecgen-radiology/`.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, ElementTree

from rag_service.datasets import corrections, mesh
from rag_service.datasets.films import DatasetError, FilmRow, read_table

SOURCE = "openi"
ARCHIVE = "NLMCXR_reports.tgz"
MAX_REPORT_BYTES = 1 << 20


@dataclass(frozen=True)
class Report:
    """One Open-i report: its sections as written (de-identified as XXXX by the publisher), MeSH tags, image ids."""

    study: str
    comparison: str
    indication: str
    findings: str
    impression: str
    tags: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def labels(self) -> Mapping[str, bool]:
        """The 14 observations by MeSH tag; empty when the study was not indexed."""
        return mesh.findings(self.tags) or {}

    @property
    def text(self) -> str:
        """The report as a case quotes it: a FINDINGS line and an IMPRESSION line, absent sections left out."""
        sections = (("FINDINGS", self.findings), ("IMPRESSION", self.impression))
        return "\n".join(f"{name}: {body}" for name, body in sections if body)


def bundled_archive() -> Path:
    """The report archive that the torchxrayvision package carries (text only, no films). The package is not imported."""
    spec = find_spec("torchxrayvision")
    if spec is None or spec.origin is None:
        raise DatasetError("the package torchxrayvision, which carries the starter reports, is not installed")
    return Path(spec.origin).parent / "data" / ARCHIVE


def parse_report(xml: bytes) -> Report:
    """One eCitation document. DatasetError when it is not XML, declares entities, or names no study."""
    try:
        root = ElementTree.fromstring(xml)
    except ParseError as error:
        raise DatasetError("a report is not well-formed XML") from error
    except DefusedXmlException as error:
        raise DatasetError("a report declares entities or refers outside itself") from error
    uid = root.find("uId")
    if uid is None or not uid.get("id"):
        raise DatasetError("a report names no study (uId)")
    sections = {e.get("Label", ""): _squeeze(e.text) for e in root.iter("AbstractText")}
    return Report(
        study=uid.get("id", ""),
        comparison=sections.get("COMPARISON", ""),
        indication=sections.get("INDICATION", ""),
        findings=sections.get("FINDINGS", ""),
        impression=sections.get("IMPRESSION", ""),
        tags=tuple(_squeeze(e.text) for e in root.iter("major") if e.text),
        images=tuple(e.get("id", "") for e in root.iter("parentImage")),
    )


def reports(archive: Path) -> dict[str, Report]:
    """Every report of the archive (or of an unpacked folder of XML files), by study id."""
    documents = archive.rglob("*.xml") if archive.is_dir() else None
    found = (p.read_bytes() for p in documents) if documents else _members(archive)
    return {r.study: r for r in sorted(map(parse_report, found), key=lambda r: r.study)}


def films(folder: Path) -> list[FilmRow]:
    """Every film of an Open-i folder in either layout, in a stable order. DatasetError when it is neither."""
    by_study = reports(archive_of(folder))
    if (folder / "images.csv").is_file():
        rows = read_table(folder / "images.csv", ("file", "image_id", "study_id", "projection"))
        listed = [(folder / r["file"], r["study_id"], r) for r in rows]
    else:
        listed = [(p, _study_of(p.stem), {}) for p in sorted(folder.rglob("CXR*.png"))]
    if not listed:
        raise DatasetError(f"{folder.name}/ holds neither images.csv nor CXR*.png")
    return [_film(path, study, row, by_study.get(study)) for path, study, row in listed if path.is_file()]


def _film(path: Path, study: str, row: Mapping[str, str], report: Report | None) -> FilmRow:
    projection = (row.get("projection") or "").lower() or None
    return FilmRow(
        source=SOURCE,
        path=path,
        study=study,
        patient=study,
        labels=report.labels if report else {},
        tags=report.tags if report and report.labels else None,
        text=report.text if report else "",
        presentation=corrections.presentation(path, projection),
        view=projection,
        sex=row.get("sex") or None,
        manufacturer=row.get("manufacturer") or None,
    )


def archive_of(folder: Path) -> Path:
    """The archive, or unpacked folder, of the reports that go with a folder of films; DatasetError when there is none."""
    for candidate in (folder / ARCHIVE, folder / "ecgen-radiology"):
        if candidate.exists():
            return candidate
    if (folder / "images.csv").is_file():
        return bundled_archive()
    raise DatasetError(f"{folder.name}/ holds neither {ARCHIVE} nor ecgen-radiology/")


def _members(archive: Path) -> Iterator[bytes]:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".xml") and member.size <= MAX_REPORT_BYTES:
                    file = tar.extractfile(member)
                    if file is not None:
                        yield file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{archive.name} is no archive or is cut short") from error


def _study_of(stem: str) -> str:
    match = re.match(r"CXR\d+", stem)
    return match.group() if match else stem


def _squeeze(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()
