"""What callers ask of the service, checked where it is made: the API and the command line build the same values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rag_service.errors import BadRequest

MAX_TEXT: Final = 4000
"""Characters of a prompt, an indication or a query."""
MAX_LIMIT: Final = 50
PUBLIC: Final = "public"


@dataclass(frozen=True)
class DraftRequest:
    """A film as bytes, with the reader's question and the clinical indication if there are any."""

    film: bytes
    prompt: str = ""
    indication: str = ""
    tenant: str = PUBLIC
    patient: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        _check_text("indication", self.indication)


@dataclass(frozen=True)
class SearchRequest:
    """Similar cases for a film, words, or both; `finding` keeps to cases that state it."""

    film: bytes | None = None
    text: str = ""
    finding: str | None = None
    limit: int = 10
    tenant: str = PUBLIC
    patient: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        _check_text("text", self.text)
        if self.film is None and not self.text.strip():
            raise BadRequest("a search needs a film, a text, or both")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadRequest(f"limit must lie between 1 and {MAX_LIMIT}")


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BadRequest(f"{name} is longer than {MAX_TEXT} characters")
    if "\x00" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise BadRequest(f"{name} holds characters that are no text")
