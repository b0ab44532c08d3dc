"""Cases as points: what a prior study looks like in the store, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge_base.bm25 import document_vector
from knowledge_base.errors import DamagedRecordError
from knowledge_base.findings import Laterality, Polarity, Progression
from knowledge_base.records import BoxLatent, Case, CaseSentence, Mention, RecordError
from knowledge_base.schema import BM25, WITHDRAWN, CollectionSchema, region_vector
from knowledge_base.store import Point, intact, seal
from knowledge_base.zones import ZONES


@dataclass(frozen=True)
class VectorNames:
    """Which named vector of a cases collection holds what; `regions` by zone."""

    box: str
    text: str
    regions: Mapping[str, str]
    sparse: str = BM25

    @classmethod
    def of(cls, schema: CollectionSchema) -> VectorNames:
        """Read them off a schema made by `cases_schema`."""
        by_kind = {name.split(".", 1)[0]: name for name in schema.dense}
        model = by_kind["box"].removeprefix("box.")
        return cls(
            by_kind["box"], by_kind["text"], {z: region_vector(z, model) for z in ZONES}, next(iter(schema.sparse))
        )


def patient_key(source: str, patient: str) -> str:
    """A patient across sources: the numbers of two sources may coincide."""
    return json.dumps([source, patient], ensure_ascii=False)


def to_point(
    case: Case,
    schema: CollectionSchema,
    *,
    box: BoxLatent | None = None,
    text_vector: NDArray[np.float32] | None = None,
    regions: Mapping[str, NDArray[np.float32]] | None = None,
) -> Point:
    """The case as a point of a collection of `schema`, with its words as a BM25 vector and its payload sealed.

    `regions` are the film's region vectors by zone, None where the film's model makes none.
    """
    names = VectorNames.of(schema)
    vectors: dict[str, NDArray[np.float32]] = {}
    if box is not None:
        vectors[names.box] = box.vector()
    if text_vector is not None:
        vectors[names.text] = text_vector
    vectors.update({names.regions[zone]: vector for zone, vector in (regions or {}).items()})
    words = document_vector(case.text, schema.sparse[names.sparse])
    return Point(case.id, vectors, {} if words is None else {names.sparse: words}, to_payload(case))


def to_payload(case: Case) -> dict[str, Any]:
    """The sealed payload. Absent parts are absent; sentences and mentions are rows (see `_sentence_row`)."""
    consistent = None if case.consistent is None else int(case.consistent)
    optional = {"view": case.view, "sex": case.sex, "age": case.age_years, "film": case.film, "origin": case.origin}
    optional["consistent"] = consistent
    return seal(
        {
            "tenant": case.tenant,
            "source": case.source,
            "study": case.study,
            "patient": case.patient,
            "patient_key": patient_key(case.source, case.patient),
            "text": case.text,
            "sentences": [_sentence_row(s) for s in case.sentences],
            **{f"labels_{p}": list(case.labels(p)) for p in Polarity},
            **{k: v for k, v in optional.items() if v is not None},
            WITHDRAWN: int(case.withdrawn),
        }
    )


def from_payload(payload: Mapping[str, Any]) -> Case:
    """The case of a stored payload; raises `DamagedRecordError` when its checksum fails or it is no case."""
    if not intact(payload):
        raise DamagedRecordError("a stored case fails its checksum")
    return case_of(payload)


def case_of(payload: Mapping[str, Any]) -> Case:
    """`from_payload` for a payload that a store has read, and so checked already."""
    try:
        return Case(
            source=payload["source"],
            study=payload["study"],
            patient=payload["patient"],
            text=payload["text"],
            sentences=tuple(_sentence(row, payload["text"]) for row in payload["sentences"]),
            tenant=payload["tenant"],
            view=payload.get("view"),
            sex=payload.get("sex"),
            age_years=payload.get("age"),
            film=payload.get("film"),
            withdrawn=bool(payload[WITHDRAWN]),
            origin=payload.get("origin"),
            consistent=None if (agrees := payload.get("consistent")) is None else bool(agrees),
        )
    except (KeyError, TypeError, ValueError, RecordError) as error:
        raise DamagedRecordError("a stored payload is no case") from error


def _sentence_row(sentence: CaseSentence) -> list[Any]:
    """[start, end, section, mentions]: the words are the case text's own."""
    return [*sentence.span, sentence.section, [_mention_row(m) for m in sentence.mentions]]


def _mention_row(mention: Mention) -> list[Any]:
    """[finding, polarity, start, end, laterality, location, severity, progression], trailing absences cut off."""
    row: list[Any] = [mention.finding, mention.polarity.value, *mention.span]
    side = mention.laterality.value if mention.laterality else None
    change = mention.progression.value if mention.progression else None
    row += [side, mention.location, mention.severity, change]
    while row[-1] is None:
        row.pop()
    return row


def _sentence(row: list[Any], text: str) -> CaseSentence:
    start, end, section, mentions = row
    return CaseSentence(text[start:end], (start, end), section, tuple(_mention(m) for m in mentions))


def _mention(row: list[Any]) -> Mention:
    finding, polarity, start, end, side, location, severity, change = row + [None] * (8 - len(row))
    return Mention(
        finding=finding,
        polarity=Polarity(polarity),
        span=(start, end),
        laterality=Laterality(side) if side else None,
        location=location,
        severity=severity,
        progression=Progression(change) if change else None,
    )
