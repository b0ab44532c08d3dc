"""Questions put to the case search on calibration studies, with how relevant every case is to each.

By film: an Open-i film, asked as the service asks, its own study left out; relevance by the hand-coded tags of both studies. By
film and indication: the same film, asked with its indication besides the names of what it shows. By region: a radiologist's
box on an NIH film; a case should have that finding there. By words: a sentence of a calibration report that states one finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.cases import to_point
from knowledge_base.findings import FINDINGS, NO_FINDING, Laterality, Polarity
from knowledge_base.memory import MemoryStore
from knowledge_base.records import Case, Mention
from knowledge_base.schema import CASES, CollectionSchema, IndexManifest
from knowledge_base.search import CaseQuery
from knowledge_base.store import PUBLIC
from knowledge_base.zones import ZONES
from rag_service.calibration import Calibration
from rag_service.datasets import nih, openi
from rag_service.datasets.films import FilmRow, Split, split_of
from rag_service.datasets.relevance import LEVEL_WORDS, SIDES, grades, trait, traits
from rag_service.film_words import film_words, shown
from rag_service.imaging.film import Box
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.models.regions import region_of
from rag_service.models.starter import StarterCases
from rag_service.models.text import TextEncoder
from rag_service.report.labeler import Labeler
from rag_service.report.sentences import read_case_sentences
from rag_service.training.corpus import stored_film

BY_FILM: Final = "film"
TOLD: Final = "film and indication"
BY_REGION: Final = "region"
BY_WORDS: Final = "words"
LONGEST: Final = 9
"""Words of a sentence that is asked with; longer ones say more than one thing."""
_BATCH: Final = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gallery:
    """The cases that are searched: starter cases of training and calibration studies, with `traits` (m, 14, 6) by their tags."""

    cases: tuple[Case, ...]
    rows: NDArray[np.int64]
    traits: Floats

    def store(self, starter: StarterCases, schema: CollectionSchema, manifest: IndexManifest) -> MemoryStore:
        """A store that holds them."""
        store = MemoryStore()
        store.open(schema, manifest)
        points = [
            to_point(case, schema, box=starter.box(i), text_vector=starter.texts[i], regions=starter.zones(i))
            for case, i in zip(self.cases, self.rows.tolist(), strict=True)
        ]
        store.upsert(CASES, points)
        return store


@dataclass(frozen=True, eq=False)
class Question:
    """A query, and the grade (m,) of every case of the gallery for it. `patient` (source, study) keeps folds apart."""

    kind: str
    patient: tuple[str, str]
    query: CaseQuery
    grade: Floats


def gallery(starter: StarterCases, reports: Mapping[str, openi.Report], labeler: Labeler) -> Gallery:
    """The starter cases that have tags and are not of the test split."""
    kept = [i for i, s in enumerate(starter.studies) if _usable(s, reports)]
    return Gallery(
        cases=tuple(_case(reports[starter.studies[i]], labeler) for i in kept),
        rows=np.array(kept),
        traits=np.stack([traits(reports[starter.studies[i]].tags) for i in kept]),
    )


class Questioner:
    """Asks as the service does: with a film's box, its calibrated findings, and the names of those that it may show."""

    def __init__(self, encoder: FilmEncoder, calibration: Calibration, text: TextEncoder, base: Gallery) -> None:
        self._encoder, self._calibration, self._text, self._base = encoder, calibration, text, base
        self._names = dict(zip(FINDINGS, text.encode(FINDINGS), strict=True))

    def films(self, rows: Sequence[FilmRow], indications: Mapping[str, str]) -> Iterator[Question]:
        """A question for the first frontal film of each labelled calibration study, and one with its indication if it has one."""
        first: dict[str, FilmRow] = {}
        for row in rows:
            if row.split is Split.CALIBRATION and row.presentation == "frontal" and any(row.labels.values()):
                first.setdefault(row.study, row)
        for row, reading in self._read(list(first.values())):
            own = (openi.SOURCE, row.study)
            grade = self._grades(traits(row.tags or ()))
            grade[self._of_study(row.study)] = 0.0
            yield Question(BY_FILM, own, self._query(reading, own), grade)
            if told := indications.get(row.study):
                yield Question(TOLD, own, self._query(reading, own, told=told), grade)

    def regions(self, rows: Sequence[FilmRow], boxes: Sequence[nih.ReaderBox]) -> Iterator[Question]:
        """A question for each radiologist's box on a calibration film; none where the model makes no regions."""
        drawn: dict[str, list[nih.ReaderBox]] = {}
        for box in boxes:
            drawn.setdefault(Path(box.image).stem, []).append(box)
        films = [r for r in rows if r.split is Split.CALIBRATION and r.path.stem in drawn]
        for row, reading in self._read(films):
            for box in drawn[row.path.stem]:
                region = region_of(reading, Box(box.x_min, box.y_min, box.x_max, box.y_max))
                if region is not None:
                    grade = self._grades(trait(box.finding, [p for p in region[0].split("-") if p != ZONES[-1]]))
                    yield Question(BY_REGION, (row.source, row.patient), self._query(reading, None, region), grade)

    def words(self, reports: Mapping[str, openi.Report], labeler: Labeler) -> Iterator[Question]:
        """A question for each short sentence of a calibration report that says one finding is there, and nothing else."""
        said = [
            (study, sentence.text, sentence.mentions[0])
            for study, report in reports.items()
            if report.labels and split_of(openi.SOURCE, study) is Split.CALIBRATION
            for sentence in read_case_sentences(report.text, labeler)
            if len(sentence.text.split()) <= LONGEST and _says_one(sentence.mentions)
        ]
        vectors = self._text.encode([sentence for _, sentence, _ in said])
        for (study, sentence, mention), vector in zip(said, vectors, strict=True):
            own = (openi.SOURCE, study)
            grade = self._grades(trait(mention.finding, _places(mention)))
            grade[self._of_study(study)] = 0.0
            query = CaseQuery(PUBLIC, text_vector=vector, text=sentence, exclude_patient=own)
            yield Question(BY_WORDS, own, query, grade)

    def _of_study(self, study: str) -> list[int]:
        return [i for i, case in enumerate(self._base.cases) if case.study == study]

    def _grades(self, wanted: Floats) -> Floats:
        return np.asarray(grades([wanted], self._base.traits)[0])

    def _read(self, rows: Sequence[FilmRow]) -> Iterator[tuple[FilmRow, FilmReading]]:
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            films = np.stack([stored_film(r.path) for r in some])
            yield from zip(some, self._encoder.read_stored(films), strict=True)

    def _query(
        self,
        reading: FilmReading,
        own: tuple[str, str] | None,
        region: tuple[str, NDArray[np.float32]] | None = None,
        told: str = "",
    ) -> CaseQuery:
        chances = self._calibration.probabilities(reading.probabilities[None])[0]
        words, vector = film_words(shown(self._calibration, chances), self._names, told)
        return CaseQuery(
            tenant=PUBLIC,
            box=reading.box,
            text_vector=vector,
            text=words,
            exclude_patient=own,
            region=region,
            probabilities=dict(zip(FINDINGS, chances.tolist(), strict=True)),
        )


def _usable(study: str, reports: Mapping[str, openi.Report]) -> bool:
    return study in reports and bool(reports[study].labels) and split_of(openi.SOURCE, study) is not Split.TEST


def _case(report: openi.Report, labeler: Labeler) -> Case:
    return Case(openi.SOURCE, report.study, report.study, report.text, read_case_sentences(report.text, labeler))


def _says_one(mentions: Sequence[Mention]) -> bool:
    return len(mentions) == 1 and mentions[0].polarity is Polarity.POSITIVE and mentions[0].finding != NO_FINDING


def _places(mention: Mention) -> list[str]:
    """Sides and heights as `trait` names them."""
    side = mention.laterality
    sides = list(SIDES) if side is Laterality.BILATERAL else [] if side is None else [side.value]
    return sides + [LEVEL_WORDS[p] for p in (mention.location,) if p in LEVEL_WORDS]
