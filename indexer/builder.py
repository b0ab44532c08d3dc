"""From studies to points: open the film, read it, label the report, embed the words. One function, whatever engine runs it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.films import FilmFile, Stamp, origin_of
from indexer.quarantine import Failure
from indexer.studies import Study
from knowledge_base.cases import to_point
from knowledge_base.findings import Polarity
from knowledge_base.records import Case, CaseSentence, Mention, RecordError
from knowledge_base.schema import CollectionSchema
from knowledge_base.store import PUBLIC, Point, checked_point
from rag_service.calibration import Calibration
from rag_service.errors import BadWeights, FilmError
from rag_service.imaging.decode_pool import DecodePool
from rag_service.imaging.limits import Limits
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.report.consistency import consistent
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences

BATCH: Final = 32
"""Studies that are encoded, stored and acknowledged together."""
LABELS: Final = "labels"
"""Section of a case whose words are labels, not a report: found, never quoted in a draft."""


class Embedder(Protocol):
    """Contract: unit vectors float32 (n, 384) of n texts."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts, in order."""
        ...


@dataclass(frozen=True, eq=False)
class Opened:
    """A study and its film as the encoder reads it, uint8 (256, 256); both None when it has none. `seconds` it took."""

    study: Study
    file: FilmFile | None = None
    pixels: NDArray[np.uint8] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Mapped:
    """What a batch of studies became: checked points, the films that were read, the studies that failed, work in seconds."""

    studies: tuple[Study, ...]
    points: tuple[Point, ...]
    films: tuple[FilmFile, ...]
    failures: tuple[Failure, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class StudyMap:
    """The map from studies to points: it reads films and stores nothing. Built of parts that are ready.

    `calibration` judges whether report and film agree; without one nothing is said of it. The film's region vectors come
    with its reading where the model has them.
    """

    schema: CollectionSchema
    encoder: FilmEncoder
    embedder: Embedder
    labeler: Labeler
    decoder: DecodePool
    calibration: Calibration | None = None
    tenant: str = PUBLIC

    def __call__(self, studies: Sequence[Study]) -> Mapped:
        """Map a batch, film after film and then all together. Raises BadWeights when no film of several can be encoded."""
        return self.points([self.open(s) for s in studies])

    def open(self, study: Study) -> Opened | Failure:
        """Read and decode a study's film, in any thread."""
        if study.film is None:
            return Opened(study)
        began, stamp = time.monotonic(), None
        try:
            stamp = Stamp.of(study.film)
            file, pixels = self._decoded(study.film, stamp)
        except FilmError as error:
            return Failure(study, error.code, type(error).__name__, stamp)
        except OSError as error:
            return Failure(study, "film_unreadable", type(error).__name__, stamp)
        return Opened(study, file, pixels, time.monotonic() - began)

    def _decoded(self, path: Path, stamp: Stamp) -> tuple[FilmFile, NDArray[np.uint8]]:
        limits = Limits()
        limits.check_bytes(stamp.size)
        content = path.read_bytes()
        file = FilmFile(path, stamp, hashlib.sha256(content).hexdigest())
        return file, self.decoder.decode_squeezed(content, limits)

    def points(self, batch: Sequence[Opened | Failure]) -> Mapped:
        """Map studies that were opened."""
        opened = [b for b in batch if isinstance(b, Opened)]
        seconds = {"decode": sum(o.seconds for o in opened), **dict.fromkeys(("label", "encode", "embed"), 0.0)}
        with _timed(seconds, "label"):
            cases = [case_record(o.study, self.labeler, self.tenant, _origin(o)) for o in opened]
        with ThreadPoolExecutor(1) as beside:  # two models, each on threads of its own: neither waits for the other
            texts = beside.submit(self._texts, cases, seconds)
            with _timed(seconds, "encode"):
                readings = self._readings(opened)
            vectors = texts.result()
        made = [self._point(*parts) for parts in zip(opened, cases, readings, vectors, strict=True)]
        return Mapped(
            studies=tuple(b.study for b in batch),
            points=tuple(m for m in made if isinstance(m, Point)),
            films=tuple(o.file for o in opened if o.file),
            failures=tuple(f for f in (*batch, *made) if isinstance(f, Failure)),
            seconds=seconds,
        )

    def _texts(self, cases: Sequence[Case], seconds: dict[str, float]) -> Sequence[NDArray[np.float32]]:
        with _timed(seconds, "embed"):
            return list(self.embedder.encode([c.text or c.study for c in cases])) if cases else []

    def _readings(self, opened: Sequence[Opened]) -> list[FilmReading | None]:
        """One reading per study, None for a study without a film and for a film whose numbers are not finite."""
        films = [o.pixels for o in opened if o.pixels is not None]
        read = iter(_read(self.encoder, np.stack(films)) if films else ())
        return [None if o.pixels is None else next(read) for o in opened]

    def _point(
        self, opened: Opened, case: Case, reading: FilmReading | None, text: NDArray[np.float32]
    ) -> Point | Failure:
        if reading is None and opened.pixels is not None:
            return _failure(opened, "embedding_not_finite", BadWeights)
        if reading is not None and self.calibration is not None:
            case = replace(case, consistent=consistent(case, reading.probabilities, self.calibration))
        box, regions = (reading.box, reading.regions) if reading else (None, None)
        try:
            return checked_point(to_point(case, self.schema, box=box, text_vector=text, regions=regions), self.schema)
        except RecordError:
            return _failure(opened, "embedding_unusable", RecordError)


def case_record(study: Study, labeler: Labeler, tenant: str = PUBLIC, origin: str | None = None) -> Case:
    """The case of a study: its text, and what the labeler reads in it. `origin` is what it was made from (see `origin_of`)."""
    text, sentences = (study.text, read_case_sentences(study.text, labeler)) if study.text else labelled(study.labels)
    return Case(
        source=study.source,
        study=study.study,
        patient=study.patient,
        text=text,
        sentences=sentences,
        tenant=tenant,
        view=study.view,
        sex=study.sex,
        age_years=study.age_years,
        origin=origin,
    )


def _origin(opened: Opened) -> str:
    return origin_of(opened.study, opened.file.sha256 if opened.file else None)


def _read(encoder: FilmEncoder, films: NDArray[np.uint8]) -> list[FilmReading | None]:
    """Readings of films (n, 256, 256), None where the numbers are not finite; BadWeights when that is all of several."""
    try:
        return [*encoder.read_stored(films)]
    except BadWeights:
        if len(films) == 1:
            return [None]
        alone = [_read(encoder, film[None])[0] for film in films]
        if not any(alone):
            raise
        return alone


def _failure(opened: Opened, reason: str, error: type[Exception]) -> Failure:
    return Failure(opened.study, reason, error.__name__, opened.file.stamp if opened.file else None)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - began


def labelled(labels: Sequence[str]) -> tuple[str, tuple[CaseSentence, ...]]:
    """Text and sentences of a case that has labels and no report: one word group per label."""
    text, sentences = "", []
    for label in labels:
        start = len(text)
        text += f"{label}. "
        end = start + len(label) + 1
        mention = Mention(label, Polarity.POSITIVE, (start, end - 1))
        sentences.append(CaseSentence(text[start:end], (start, end), LABELS, (mention,)))
    return text.rstrip(), tuple(sentences)
