"""A study of PadChest-GR's list of single-finding sentences, read and written (Castro et al., arXiv 2411.05085).

Boxes are [x_min, y_min, x_max, y_max] in fractions of the film, `boxes` of the first reader and `extra_boxes` of the second. What
is normal has neither, nor labels. A draft has one reader; what it only calls possible is listed as abnormal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from knowledge_base.findings import NO_FINDING, Polarity
from rag_service.imaging.film import Box
from rag_service.report.draft import Draft, Finding
from rag_service.report.formats.grounded import english, places
from rag_service.report.languages import findings_in
from rag_service.requests import Language

PROGRESSIONS: Final = frozenset({"stable", "improved", "worsened"})
LABELS: Final[Mapping[str, str]] = {
    "Enlarged Cardiomediastinum": "mediastinal enlargement",
    "Cardiomegaly": "cardiomegaly",
    "Lung Opacity": "increased density",
    "Lung Lesion": "nodule",
    "Edema": "pulmonary edema",
    "Consolidation": "consolidation",
    "Pneumonia": "pneumonia",
    "Atelectasis": "atelectasis",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "pleural effusion",
    "Pleural Other": "pleural thickening",
    "Fracture": "fracture",
}
"""Observation -> the label of PadChest nearest to it. A device has none: each kind has its own there, and a draft names no kind."""


class NotPadChestGr(ValueError):
    """The value is no study of PadChest-GR's; the message names the field at fault, never what it holds."""


@dataclass(frozen=True)
class ReadFinding:
    """One sentence in English and Spanish ("" for none), and what readers said of it; boxes are None, never empty, without any."""

    sentence_en: str
    sentence_es: str
    abnormal: bool
    boxes: tuple[Box, ...] | None = None
    extra_boxes: tuple[Box, ...] | None = None
    labels: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    progression: str | None = None


@dataclass(frozen=True)
class ReadStudy:
    """A film by the names of its study and file, its findings, and the names of its prior where there is one."""

    study: str
    image: str
    findings: tuple[ReadFinding, ...]
    previous_study: str | None = None
    previous_image: str | None = None


def study_of(draft: Draft, study: str, image: str) -> ReadStudy:
    """A draft in both languages, whatever its own, under the names of its study and film."""
    said = findings_in([replace(f, sentence=english(f)) for f in draft.findings], Language.ES)
    return ReadStudy(study, image, tuple(map(_finding_of, said)))


def write_study(study: ReadStudy) -> dict[str, Any]:
    """One element of the list, as JSON has it."""
    return {
        "StudyID": study.study,
        "ImageID": study.image,
        "PreviousStudyID": study.previous_study,
        "PreviousImageID": study.previous_image,
        "findings": [_written(f) for f in study.findings],
    }


def read_study(raw: Any) -> ReadStudy:
    """One element of the list; what is absent is empty. NotPadChestGr for a field of another form, or a box outside the film."""
    if not isinstance(raw, dict) or not isinstance(raw.get("findings") or [], list):
        raise NotPadChestGr("a study is an object with a list of findings")
    return ReadStudy(
        _text(raw, "StudyID"),
        _text(raw, "ImageID"),
        tuple(_read(f) for f in raw.get("findings") or ()),
        _text(raw, "PreviousStudyID") or None,
        _text(raw, "PreviousImageID") or None,
    )


def _finding_of(finding: Finding) -> ReadFinding:
    """Of a finding in Spanish with its English beside it."""
    spanish = finding.sentence
    if finding.polarity is Polarity.NEGATIVE or finding.label == NO_FINDING:
        return ReadFinding(english(finding), spanish, abnormal=False)
    changed = finding.comparison.state if finding.comparison else finding.progression
    label = LABELS.get(finding.label)
    said = (str(place) for place in (finding.laterality, finding.location) if place)
    return ReadFinding(
        english(finding),
        spanish,
        abnormal=True,
        boxes=places(finding),
        labels=(label,) if label else (),
        locations=tuple(dict.fromkeys(said)),
        progression=str(changed) if changed in PROGRESSIONS else None,
    )


def _written(finding: ReadFinding) -> dict[str, Any]:
    said = {
        "sentence_en": finding.sentence_en,
        "sentence_es": finding.sentence_es,
        "abnormal": finding.abnormal,
    }
    if not finding.abnormal:
        return said
    return {
        **said,
        "boxes": [_corners(b) for b in finding.boxes or ()],
        "extra_boxes": [_corners(b) for b in finding.extra_boxes or ()],
        "labels": list(finding.labels),
        "locations": list(finding.locations),
        "progression": finding.progression,
    }


def _corners(box: Box) -> list[float]:
    return [round(v, 6) for v in (box.x_min, box.y_min, box.x_max, box.y_max)]


def _read(raw: Any) -> ReadFinding:
    if not isinstance(raw, dict) or not isinstance(abnormal := raw.get("abnormal"), bool):
        raise NotPadChestGr("a finding is an object that says whether it is abnormal")
    return ReadFinding(
        _text(raw, "sentence_en"),
        _text(raw, "sentence_es"),
        abnormal,
        _boxes(raw, "boxes"),
        _boxes(raw, "extra_boxes"),
        _names(raw, "labels"),
        _names(raw, "locations"),
        _text(raw, "progression") or None,
    )


def _text(raw: Mapping[str, Any], field: str) -> str:
    value = raw.get(field)
    if value is not None and not isinstance(value, str):
        raise NotPadChestGr(f"{field} is a text or null")
    return (value or "").strip()


def _names(raw: Mapping[str, Any], field: str) -> tuple[str, ...]:
    values = raw.get(field) or []
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise NotPadChestGr(f"{field} is a list of texts")
    return tuple(values)


def _boxes(raw: Mapping[str, Any], field: str) -> tuple[Box, ...] | None:
    try:
        return tuple(Box(x_min, y_min, x_max, y_max) for x_min, y_min, x_max, y_max in raw.get(field) or ()) or None
    except (TypeError, ValueError) as error:
        raise NotPadChestGr(f"{field} is a list of boxes on the film, four numbers each") from error
