"""What a writer is that somebody else trained: its record, and the digests of every file of its folder that is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from rag_service.errors import BadWeights
from rag_service.models.encoders.record import file_digest

SIDECAR: Final = "writer.json"
READ: Final = (".safetensors", ".json", ".jinja")
"""Endings of the files that loading may read: tensors, settings and the chat template. Code and pickles are never read."""


@dataclass(frozen=True)
class WriterRecord:
    """A writer by name and version, on what terms, and from where; `files` (name -> SHA-256) is empty in the catalogue and
    known once a folder has been recorded.
    """

    name: str
    version: str
    terms: str
    source: str
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """name@version-digest, the digest over those of all files; "unrecorded" before a folder has been recorded."""
        listed = json.dumps(dict(sorted(self.files.items()))).encode()
        return f"{self.name}@{self.version}-{hashlib.sha256(listed).hexdigest()[:8] if self.files else 'unrecorded'}"


def write_record(record: WriterRecord, folder: Path) -> WriterRecord:
    """Record a folder: write the digests of its files beside them. BadWeights where no weights or no configuration lie."""
    found = replace(record, files=_digests(folder))
    if "config.json" not in found.files or not any(name.endswith(".safetensors") for name in found.files):
        raise BadWeights(f"the folder of {record.name} lacks config.json or a .safetensors file")
    (folder / SIDECAR).write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
    return found


def checked_record(name: str, folder: Path) -> WriterRecord:
    """The record in `folder`, once the files that would be read are those recorded, each with its digest.

    BadWeights when the record is absent, malformed or another writer's, and for a file that is altered, gone or new.
    """
    record = _read(name, folder)
    found = _digests(folder)
    for file in sorted({*record.files, *found}):
        if (stated := record.files.get(file, "no file")) != (seen := found.get(file, "no file")):
            raise BadWeights(f"{file} of {record.name}: expected sha256 {stated}, found {seen}")
    return record


def _read(name: str, folder: Path) -> WriterRecord:
    try:
        raw = json.loads((folder / SIDECAR).read_text("utf-8"))
        record = WriterRecord(**{**raw, "files": dict(raw["files"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadWeights(
            f"{SIDECAR} is absent or malformed; run `python -m rag_service.training record --writer {name} --model FOLDER`"
        ) from error
    if record.name != name:
        raise BadWeights(f"the folder holds {record.name}, not {name}")
    return record


def _digests(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of the files in the folder itself; sub-folders are not read by anybody."""
    files = sorted(p for p in folder.glob("*") if p.suffix in READ and p.name != SIDECAR)
    return {p.name: file_digest(p) for p in files}
