"""PadChest's labels as the 14 CheXpert observations.

The labels are those of PadChest's tree of radiographic findings (Bustos et al., Med Image Anal 2020;66:101797, arXiv:1901.07441)
and of PadChest-GR's table. The mapping is ours, read off CheXpert's own definition of each observation (Irvin et al., AAAI 2019):
what CheXpert does not name (scoliosis, hiatal hernia, aortic elongation ...) is not here, and neither is what may be either of
two observations (loss of volume, chronic changes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "No Finding": ("normal",),
    "Enlarged Cardiomediastinum": ("mediastinal enlargement", "superior mediastinal enlargement", "mediastinal mass"),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Opacity": (
        "infiltrates", "interstitial pattern", "ground glass pattern", "reticular interstitial pattern",
        "reticulonodular interstitial pattern", "miliary opacities", "alveolar pattern", "increased density",
    ),
    "Lung Lesion": (
        "nodule", "multiple nodules", "pulmonary mass", "mass", "granuloma", "calcified granuloma", "cavitation", "abscess",
        "lung metastasis",
    ),
    "Edema": ("pulmonary edema", "kerley lines", "central vascular redistribution", "vascular redistribution"),
    "Consolidation": ("consolidation", "air bronchogram"),
    "Pneumonia": ("pneumonia", "atypical pneumonia"),
    "Atelectasis": (
        "atelectasis", "laminar atelectasis", "lobar atelectasis", "segmental atelectasis", "total atelectasis",
        "round atelectasis", "atelectasis basal",
    ),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax"),
    "Pleural Effusion": (
        "pleural effusion", "loculated pleural effusion", "loculated fissural effusion", "costophrenic angle blunting",
    ),
    "Pleural Other": (
        "pleural thickening", "apical pleural thickening", "calcified pleural thickening", "pleural plaques",
        "calcified pleural plaques", "pleural mass", "fissure thickening", "minor fissure thickening", "major fissure thickening",
    ),
    "Fracture": (
        "fracture", "rib fracture", "callus rib fracture", "clavicle fracture", "humeral fracture", "vertebral fracture",
    ),
    "Support Devices": (
        "pacemaker", "dual chamber device", "single chamber device", "dai", "electrical device", "endotracheal tube",
        "tracheostomy tube", "nsg tube", "chest drain tube", "gastrostomy tube", "ventriculoperitoneal drain tube", "catheter",
        "central venous catheter", "central venous catheter via jugular vein",
        "central venous catheter via subclavian vein", "central venous catheter via umbilical vein",
        "reservoir central venous catheter", "artificial heart valve", "artificial mitral heart valve",
        "artificial aortic heart valve", "aortic endoprosthesis", "endoprosthesis", "osteosynthesis material",
        "humeral prosthesis", "prosthesis", "suture material", "sternotomy",
    ),
}  # fmt: skip
CHEXPERT: Final[Mapping[str, str]] = {label: finding for finding, labels in _LABELS.items() for label in labels}
"""PadChest label in small letters -> CheXpert observation."""
