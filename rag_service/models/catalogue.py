"""Frozen model records: what a weight file is, and the digest it must have before a byte of it is used."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rag_service.errors import BadWeights

RECORD_FILE: Final = "film-encoder.json"
MAX_HEADER_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class ModelRecord:
    """A model by name and version: its weight file, that file's SHA-256, the preprocessing it expects, its licence terms."""

    name: str
    version: str
    file: str
    sha256: str
    preprocessing: str
    terms: str
    architecture: dict[str, Any]

    @property
    def id(self) -> str:
        """name@version-digest: what vectors and manifests carry, so that a retrained model is never taken for the old one."""
        return f"{self.name}@{self.version}-{self.sha256[:8]}"


def load_record(folder: Path) -> ModelRecord:
    """The record in `folder`. BadWeights when it is absent or malformed."""
    path = folder / RECORD_FILE
    try:
        return ModelRecord(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadWeights(f"{RECORD_FILE} is absent or malformed in the model folder") from error


def verified(record: ModelRecord, folder: Path) -> Path:
    """The path of the record's weight file once its digest has been checked. BadWeights names file and expected digest."""
    if not record.file.endswith(".safetensors") or Path(record.file).name != record.file:
        raise BadWeights(f"{record.file} is no safetensors file in the model folder (expected sha256 {record.sha256})")
    path = folder / record.file
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != record.sha256:
        raise BadWeights(f"{record.file}: expected sha256 {record.sha256}, found {found}")
    return path
