"""The plainest sentence for each finding, for when evidence states it and no other words may be said: no side, place or degree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from knowledge_base.findings import Polarity

NAMES: Final[Mapping[str, str]] = {
    "Enlarged Cardiomediastinum": "mediastinal widening",
    "Cardiomegaly": "cardiomegaly",
    "Lung Opacity": "lung opacity",
    "Lung Lesion": "lung nodule or mass",
    "Edema": "pulmonary edema",
    "Consolidation": "consolidation",
    "Pneumonia": "pneumonia",
    "Atelectasis": "atelectasis",
    "Pneumothorax": "pneumothorax",
    "Pleural Effusion": "pleural effusion",
    "Pleural Other": "pleural thickening",
    "Fracture": "fracture",
    "Support Devices": "support device",
}
_FORMS: Final[Mapping[Polarity, str]] = {
    Polarity.POSITIVE: "Evidence of {}.",
    Polarity.UNCERTAIN: "Possible {}.",
    Polarity.NEGATIVE: "No {}.",
}


def fixed_sentence(finding: str, polarity: Polarity) -> str:
    """The sentence; KeyError for "No Finding", which is never said."""
    return _FORMS[polarity].format(NAMES[finding])
