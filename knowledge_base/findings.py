"""The words every room shares: the 14 CheXpert observations, polarity, laterality and progression."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

FINDINGS: Final = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 observations in CheXpert's own order and spelling (Irvin et al., AAAI 2019). Every score vector uses it."""

NO_FINDING: Final = "No Finding"
PATHOLOGIES: Final = tuple(f for f in FINDINGS if f not in {NO_FINDING, "Support Devices"})
"""The twelve that are disease: "No Finding" means none of these."""


class Polarity(StrEnum):
    """Whether a text affirms, denies or hedges an observation."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNCERTAIN = "uncertain"


class Laterality(StrEnum):
    """The patient's side, as reports write it (a frontal film shows the patient's right at the viewer's left)."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


class Progression(StrEnum):
    """Change against an earlier film; only meaningful when there is one."""

    NEW = "new"
    STABLE = "stable"
    IMPROVED = "improved"
    WORSENED = "worsened"
