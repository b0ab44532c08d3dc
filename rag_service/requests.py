"""What callers ask of the service, checked where it is made: the API and the command line build the same values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rag_service.errors import BadRequest, LateralNotUsable
from rag_service.imaging.film import Box

MAX_TEXT: Final = 4000
"""Characters of a prompt, an indication or a query."""
MAX_LIMIT: Final = 50
MAX_ALPHA: Final = 4.0
PUBLIC: Final = "public"
_FRACTION: Final = r"[01](?:\.[0-9]{1,12})?"
REGION: Final = f"^{','.join([_FRACTION] * 4)}$"
"""How a region is written."""


@dataclass(frozen=True)
class DraftRequest:
    """A frontal film as bytes, with the reader's question, the clinical indication and the study's lateral film if any."""

    film: bytes
    prompt: str = ""
    indication: str = ""
    tenant: str = PUBLIC
    patient: tuple[str, str] | None = None
    lateral: bytes | None = None

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        _check_text("indication", self.indication)
        if self.lateral == self.film:
            raise LateralNotUsable("the film given as lateral is the frontal film again")


@dataclass(frozen=True)
class SearchRequest:
    """Similar cases for a film, words, or both; `finding` keeps to cases that state it.

    `region` is a box on the film whose like is looked for; `include_same` lets the film itself be among the answers; `diverse` asks
    for cases unlike each other.
    """

    film: bytes | None = None
    text: str = ""
    finding: str | None = None
    limit: int = 10
    tenant: str = PUBLIC
    patient: tuple[str, str] | None = None
    region: Box | None = None
    include_same: bool = False
    diverse: bool = False

    def __post_init__(self) -> None:
        _check_text("text", self.text)
        if self.film is None and not self.text.strip():
            raise BadRequest("a search needs a film, a text, or both")
        if self.film is None and (self.region is not None or self.include_same):
            raise BadRequest("a region, and the film among the answers, need a film")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadRequest(f"limit must lie between 1 and {MAX_LIMIT}")


@dataclass(frozen=True)
class SteerRequest:
    """A film, the index of a concept, and how far to move the film along it: 1 is as much as films that show it carry."""

    film: bytes
    concept: int
    alpha: float

    def __post_init__(self) -> None:
        if self.concept < 0:
            raise BadRequest("concept must not be negative")
        if not -MAX_ALPHA <= self.alpha <= MAX_ALPHA:
            raise BadRequest(f"alpha must lie between {-MAX_ALPHA:g} and {MAX_ALPHA:g}")


def read_region(text: str) -> Box:
    """A box from "x_min,y_min,x_max,y_max", fractions of the film. BadRequest when it is none, inverted or outside."""
    try:
        if not re.fullmatch(REGION, text):
            raise ValueError
        return Box(*map(float, text.split(",")))
    except ValueError:
        raise BadRequest("region is x_min,y_min,x_max,y_max in fractions of the film, 0 <= min < max <= 1") from None


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BadRequest(f"{name} is longer than {MAX_TEXT} characters")
    if "\x00" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise BadRequest(f"{name} holds characters that are no text")
