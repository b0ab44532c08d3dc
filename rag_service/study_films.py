"""The films of one request: decoded, read, and each refused that cannot stand for what it was given as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowledge_base.duplicates import NEAR_DUPLICATE
from rag_service.errors import BadWeights, FilmError, LateralNotUsable, PriorNotUsable, PriorOfAnotherPatient
from rag_service.imaging.film import Film
from rag_service.models.encoder import FilmReading
from rag_service.reader import Reader
from rag_service.report.writing import Study
from rag_service.requests import DraftRequest
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


@dataclass(frozen=True, eq=False)
class StudyFilms:
    """The films of a study as read: the frontal, what came with it, and the reading that the draft is made of."""

    film: Film
    frontal: FilmReading
    side: SecondView | None
    prior: Prior | None

    @property
    def reading(self) -> FilmReading:
        """The frontal's, its scores fused with the lateral's where there is one."""
        return self.frontal if self.side is None else self.side.fused

    @property
    def views(self) -> list[str]:
        """What of the study was read."""
        return ["frontal"] if self.side is None else ["frontal", "lateral"]

    def unused(self, request: DraftRequest) -> list[str]:
        """Words of the request that are used for nothing: what was said of an earlier film, or of a lateral, where none came."""
        of_prior = [n for n in ("prior_report", "comparison") if self.prior is None and getattr(request, n).strip()]
        of_lateral = ["technique"] if self.side is None and "lateral" in request.technique.casefold() else []
        return of_prior + of_lateral

    def study(self, request: DraftRequest, reading: FilmReading) -> Study:
        """What a writer may look at; of an earlier film it hears only where there is one."""
        earlier = self.prior
        return Study(
            self.film,
            reading,
            lateral=None if self.side is None else self.side.film,
            prior=None if earlier is None else earlier.film,
            prior_reading=None if earlier is None else earlier.reading,
            prior_report="" if earlier is None else request.prior_report,
            prompt=request.prompt,
            indication=request.indication,
            technique="" if "technique" in self.unused(request) else request.technique,
            comparison="" if earlier is None else request.comparison,
        )


def read_films(reader: Reader, decode: Decode, film: Film, request: DraftRequest) -> StudyFilms:
    """The decoded frontal read, with what came with it. The errors are those of `read_lateral` and `read_prior`."""
    frontal = reader.encoder.read(film)
    side = None if request.lateral is None else read_lateral(reader, decode, request.lateral, frontal)
    prior = None if request.prior is None else read_prior(reader, decode, request.prior, film, frontal)
    return StudyFilms(film, frontal, side, prior)


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
