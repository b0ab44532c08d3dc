"""Whose film it is, as digests alone: enough to see that two films are of two patients, nothing that names either."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any, Final, Self

from pydicom import dcmread

_ELEMENTS: Final[Mapping[str, str]] = {
    "patient": "PatientID",
    "issuer": "IssuerOfPatientID",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
}


@dataclass(frozen=True)
class Subject:
    """SHA-256 of what a header says of its patient (DICOM PS3.3 C.7.1.1), "" where it says nothing."""

    patient: str = ""
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""

    def contradicts(self, other: Subject) -> bool:
        """Whether the two say something different of their patient; what only one of them says contradicts nothing."""
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return any(mine and theirs and mine != theirs for mine, theirs in pairs)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The fields as plain values. KeyError or TypeError when they are others."""
        return cls(**{f.name: str(raw[f.name]) for f in fields(cls)})


def read_subject(stream: bytes) -> Subject:
    """The subject of a DICOM file whose header was judged before; case and blanks at the ends make no difference."""
    header = dcmread(BytesIO(stream), specific_tags=list(_ELEMENTS.values()), stop_before_pixels=True)
    return Subject(**{name: _digest(header.get(keyword)) for name, keyword in _ELEMENTS.items()})


def _digest(value: object) -> str:
    text = "" if value is None else str(value).strip().upper()
    return hashlib.sha256(text.encode()).hexdigest() if text else ""
