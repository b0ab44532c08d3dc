"""The films of one request: decoded, read, and each refused that cannot stand for what it was given as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowledge_base.duplicates import NEAR_DUPLICATE
from rag_service.errors import BadWeights, FilmError, LateralNotUsable, PriorNotUsable, PriorOfAnotherPatient
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmReading
from rag_service.reader import Reader
from rag_service.views import check_lateral

Decode = Callable[[bytes], Film]


@dataclass(frozen=True, eq=False)
class SecondView:
    """The study's lateral and the frontal's reading with its scores fused."""

    film: Film
    fused: FilmReading


@dataclass(frozen=True, eq=False)
class Prior:
    """The patient's earlier frontal film and its reading."""

    film: Film
    reading: FilmReading


def read_lateral(reader: Reader, decode: Decode, content: bytes, frontal: FilmReading) -> SecondView:
    """LateralNotUsable for a film that is unreadable or no lateral; BadWeights when the model reads no laterals."""
    try:
        film = decode(content)
    except FilmError as error:
        raise LateralNotUsable(f"the film given as lateral cannot be read ({error.code})") from error
    reading = reader.encoder.read(film)
    check_lateral(film, reading, frontal)
    if reader.views is None:
        raise BadWeights("the model folder has no views.json: this model reads no laterals")
    return SecondView(film, reader.views.fused(frontal, reading))


def read_prior(reader: Reader, decode: Decode, content: bytes, current: Film, frontal: FilmReading) -> Prior:
    """The earlier film. PriorOfAnotherPatient when the headers contradict each other; PriorNotUsable for a film that is
    unreadable, turned away by the gate, or the current one again under other bytes.
    """
    try:
        film = decode(content)
    except FilmError as error:
        raise PriorNotUsable(f"the film given as prior cannot be read ({error.code})") from error
    if film.subject.contradicts(current.subject):
        raise PriorOfAnotherPatient("the two films' headers name two patients")
    reading = reader.encoder.read(film)
    reasons = reader.gate.judge(film, reading).reasons
    if reasons:
        raise PriorNotUsable(f"the film given as prior is none that can be compared ({', '.join(reasons)})")
    if reading.box.overlap(frontal.box) >= NEAR_DUPLICATE:
        raise PriorNotUsable("the film given as prior is this film again")
    return Prior(film, reading)
