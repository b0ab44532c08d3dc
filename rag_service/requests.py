"""What callers ask of the service, checked where it is made: the API and the command line build the same values."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rag_service.errors import BadRequest, LateralNotUsable, PriorNotUsable, PriorOfAnotherPatient
from rag_service.imaging.film import Box

MAX_TEXT: Final = 4000
"""Characters of a prompt, an indication or a query."""
MAX_QUESTIONS: Final = 12
"""Prompts and boxes of one request."""
MAX_LIMIT: Final = 50
MAX_ALPHA: Final = 4.0
PUBLIC: Final = "public"
_BREAKS: Final = "\t\n\r"
_NO_TEXT: Final = frozenset({"Cc", "Cs"})
"""Unicode categories of control characters and halves of surrogate pairs."""
_FRACTION: Final = r"[01](?:\.[0-9]{1,12})?"
REGION: Final = f"^{','.join([_FRACTION] * 4)}$"
"""How a region is written."""


class Language(StrEnum):
    """What a draft is written in (BCP 47)."""

    EN = "en"
    ES = "es"
    JA = "ja"


class Format(StrEnum):
    """Other projects' ways of writing a report that a draft can be had in."""

    PADCHEST_GR = "padchest-gr"
    MAIRA_2 = "maira-2"


@dataclass(frozen=True)
class DraftRequest:
    """A frontal film as bytes, with what came with it: the study's lateral, the patient's earlier film and its report, and words.

    `prompt` holds one question a line, `boxes` the places asked about. `patient` and `prior_patient` are (source, patient) of
    the two films, the source "" where it is not known. Without a prior film, `prior_report` and `comparison` are used for
    nothing; the draft's checks say so.
    """

    film: bytes
    prompt: str = ""
    indication: str = ""
    tenant: str = PUBLIC
    patient: tuple[str, str] | None = None
    lateral: bytes | None = None
    prior: bytes | None = None
    prior_report: str = ""
    technique: str = ""
    comparison: str = ""
    boxes: tuple[Box, ...] = ()
    language: Language = Language.EN
    prior_patient: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "indication", "technique", "comparison", "prior_report"):
            _check_text(name, getattr(self, name))
        if len(self.prompts) + len(self.boxes) > MAX_QUESTIONS:
            raise BadRequest(f"at most {MAX_QUESTIONS} prompts and boxes are answered at once")
        if self.lateral == self.film:
            raise LateralNotUsable("the film given as lateral is the frontal film again")
        if self.prior is not None and self.prior in {self.film, self.lateral}:
            raise PriorNotUsable("the film given as prior is one of this study's films again")
        if self.prior_patient is not None and (self.patient is None or self.prior is None):
            raise BadRequest("prior_patient is compared with patient, and needs the prior film")
        if self.prior_patient is not None and self.patient is not None and _two(self.patient, self.prior_patient):
            raise PriorOfAnotherPatient("the prior film is said to be of another patient")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The questions, each once, in order."""
        return tuple(dict.fromkeys(line.strip() for line in self.prompt.splitlines() if line.strip()))


@dataclass(frozen=True)
class QueryRequest:
    """A frontal film and what is asked of it: words, a box, or both (the words, about that place)."""

    film: bytes
    prompt: str = ""
    box: Box | None = None
    tenant: str = PUBLIC
    patient: tuple[str, str] | None = None
    language: Language = Language.EN

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        if not self.prompt.strip() and self.box is None:
            raise BadRequest("a query needs a prompt, a box, or both")


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


def read_language(text: str) -> Language:
    """A language by its code. BadRequest for one that no draft is written in."""
    if text not in set(Language):
        raise BadRequest(f"language must be one of: {', '.join(Language)}")
    return Language(text)


def read_format(text: str) -> Format | None:
    """A format by its name; None for the draft's own, "json". BadRequest for one that there is not."""
    if text == "json":
        return None
    if text not in set(Format):
        raise BadRequest(f"format must be one of: json, {', '.join(Format)}")
    return Format(text)


def read_patient(text: str) -> tuple[str, str]:
    """(source, patient) from "SOURCE:PATIENT" or "PATIENT". BadRequest when it is empty or no text."""
    _check_text("patient", text)
    before, colon, after = text.strip().partition(":")
    source, patient = (before.strip(), after.strip()) if colon else ("", before)
    if not patient or (colon and not source):
        raise BadRequest("a patient is given as PATIENT or SOURCE:PATIENT")
    return source, patient


def read_region(text: str) -> Box:
    """A box from "x_min,y_min,x_max,y_max", fractions of the film. BadRequest when it is none, inverted or outside."""
    try:
        if not re.fullmatch(REGION, text):
            raise ValueError
        return Box(*map(float, text.split(",")))
    except ValueError:
        raise BadRequest("region is x_min,y_min,x_max,y_max in fractions of the film, 0 <= min < max <= 1") from None


def read_boxes(text: str) -> tuple[Box, ...]:
    """Boxes from regions with ";" or line breaks between them; BadRequest as `read_region`."""
    return tuple(read_region(part.strip()) for part in re.split(r"[;\r\n]", text) if part.strip())


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BadRequest(f"{name} is longer than {MAX_TEXT} characters")
    if any(unicodedata.category(c) in _NO_TEXT and c not in _BREAKS for c in text):
        raise BadRequest(f"{name} holds characters that are no text")


def _two(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two names are of two patients; a source that one of them leaves out is not compared."""
    sources = {one[0], other[0]} - {""}
    return one[1] != other[1] or len(sources) > 1
