"""JSON records that carry the SHA-256 of their own content, so that a changed figure is found before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from knowledge_base.records import digest
from rag_service.errors import BadWeights

SEAL: Final = "sha256"


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` with its digest under "sha256"."""
    path.write_text(json.dumps({SEAL: digest(content), **content}, separators=(",", ":")) + "\n", "utf-8")


def read(path: Path) -> dict[str, Any]:
    """The content without its digest. BadWeights when absent, malformed, or not what the digest was made of."""
    try:
        content = json.loads(path.read_text("utf-8"))
        expected = content.pop(SEAL)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{path.name} is absent or malformed in the model folder") from error
    if (found := digest(content)) != expected:
        raise BadWeights(f"{path.name}: expected sha256 {expected}, found {found}")
    return dict(content)


def read_made_for(path: Path, model: str, what: str, remedy: str) -> dict[str, Any]:
    """The content of a record that belongs to film model `model`. BadWeights, with the remedy, when it is altered or another's."""
    try:
        content = read(path)
        made_for = content["model"]
    except (BadWeights, KeyError) as error:
        raise BadWeights(f"{path.name} is altered or malformed; {remedy}") from error
    if made_for != model:
        raise BadWeights(f"the {what} for {made_for}, the model is {model}; {remedy}")
    return content


def weights(path: Path, expected: object, remedy: str | None = None) -> bytes:
    """The bytes of a weight file. BadWeights, with the remedy where there is one, unless their SHA-256 is `expected`."""
    content = path.read_bytes() if path.is_file() else None
    found = "no file" if content is None else hashlib.sha256(content).hexdigest()
    if content is None or found != expected:
        raise BadWeights(f"{path.name}: expected sha256 {expected}, found {found}{f'; {remedy}' if remedy else ''}")
    return content
