"""DICOM headers cleaned by our recipe of the library deid, in memory and in silence.

`recipes/chest.recipe` keeps a short list of how a film was made and removes the rest; it can be run and read with deid's own
tools. The library logs every line it parses, remembers every header it has met and brings matplotlib along: it is imported at
first use only, its log is shut and emptied, and what it remembers is dropped after each header.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import FileDataset
from pydicom.multival import MultiValue

from indexer import fields
from indexer.deidentify import name_parts
from indexer.pseudonyms import Pseudonyms
from indexer.studies import OLDEST
from rag_service.imaging.dicom_header import quiet_pydicom

RECIPE: Final = Path(__file__).parent / "recipes" / "chest.recipe"
IDENTIFYING: Final = (
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StudyID", "PatientAddress",
    "PatientTelephoneNumbers", "MilitaryRank", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "RequestingService", "CurrentPatientLocation",
    "PatientBirthDate", "RegionOfResidence", "Occupation",
)  # fmt: skip
"""Attributes besides names (PN) whose values are blanked in the study's report."""


def clean(header: FileDataset, pseudonyms: Pseudonyms) -> FileDataset:
    """What the recipe leaves of the header, which is emptied in place; PatientID and StudyInstanceUID are pseudonyms.

    An age above 89 years is written 090Y. Raises what pydicom raises for a header that cannot be read.
    """
    from deid.dicom.parser import DicomParser

    with _quiet():
        parser = DicomParser(header, recipe=_recipe())
        parser.define("pseudonym", lambda field, **_: _pseudonym(field.element, pseudonyms))
        parser.define("age", lambda field, **_: _age(str(field.element.value or "")))
        # Sequences go first, whole: deid loses its way where one holds another of its own tag, as structured reports do.
        parser.parse(strip_sequences=True, remove_private=True)
    return header


def burned_in(header: FileDataset) -> bool:
    """Whether a filter of the recipe says that the pixels themselves show who the patient is."""
    from deid.dicom.pixels.detect import has_burned_pixels

    with _quiet():
        return bool(has_burned_pixels(header, deid=_recipe())["flagged"])


def identifiers(header: FileDataset) -> tuple[str, ...]:
    """Words of a header that must not stand in its report: every person's name in it, and the values of `IDENTIFYING`."""
    found: list[str] = []
    for element in header.iterall():
        if element.VR == "PN":
            found += [part for name in _values(element.value) for part in name_parts(name)]
        elif element.keyword in IDENTIFYING:
            found += _values(element.value)
    return tuple(dict.fromkeys(found))


def _values(value: Any) -> list[str]:
    several = value if isinstance(value, MultiValue) else [value]  # a name can be iterated too: over its letters
    return [str(v) for v in several if v]


def _pseudonym(element: Any, pseudonyms: Pseudonyms) -> str | None:
    identifier = str(element.value or "").strip()
    if not identifier:
        return None
    made = pseudonyms.uid if element.VR == "UI" else pseudonyms.name
    return made(element.keyword, identifier)


def _age(written: str) -> str:
    years = fields.age(written)
    return "" if years is None else f"{min(years, OLDEST):03d}Y"


@cache
def _recipe() -> Any:
    from deid.config import DeidRecipe

    return DeidRecipe(str(RECIPE))


@contextmanager
def _quiet() -> Iterator[None]:
    from deid.dicom import fields as memory
    from deid.logger import bot
    from deid.logger.message import QUIET

    bot.level = QUIET
    try:
        with quiet_pydicom():
            yield
    finally:
        memory._get_fields_inner.cache_clear()
        bot.history.clear()
