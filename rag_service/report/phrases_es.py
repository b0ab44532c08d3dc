"""The fixed words of a Spanish draft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from knowledge_base.findings import Laterality, Polarity
from rag_service.report.change import OF_SIZE, State
from rag_service.report.said import Phrases, Said

FEMININE: Final = frozenset(
    {"Cardiomegaly", "Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia", "Atelectasis", "Fracture"}
)
NAMES: Final[Mapping[str, str]] = {
    "Enlarged Cardiomediastinum": "ensanchamiento mediastínico",
    "Cardiomegaly": "cardiomegalia",
    "Lung Opacity": "opacidad pulmonar",
    "Lung Lesion": "lesión pulmonar focal",
    "Edema": "edema pulmonar",
    "Consolidation": "consolidación pulmonar",
    "Pneumonia": "neumonía",
    "Atelectasis": "atelectasia",
    "Pneumothorax": "neumotórax",
    "Pleural Effusion": "derrame pleural",
    "Pleural Other": "engrosamiento pleural",
    "Fracture": "fractura",
    "Support Devices": "dispositivo de soporte",
}
SIDES: Final[Mapping[Laterality, tuple[str, str]]] = {
    Laterality.RIGHT: ("derecho", "derecha"),
    Laterality.LEFT: ("izquierdo", "izquierda"),
    Laterality.BILATERAL: ("bilateral", "bilateral"),
}
"""Masculine and feminine, here and below."""
SEVERITIES: Final[Mapping[str, tuple[str, str]]] = {
    "trace": ("mínimo", "mínima"),
    "small": ("pequeño", "pequeña"),
    "mild": ("leve", "leve"),
    "moderate": ("moderado", "moderada"),
    "large": ("grande", "grande"),
    "severe": ("grave", "grave"),
    "massive": ("masivo", "masiva"),
    "trace to small": ("mínimo a pequeño", "mínima a pequeña"),
    "small to moderate": ("pequeño a moderado", "pequeña a moderada"),
    "mild to moderate": ("leve a moderado", "leve a moderada"),
    "moderate to large": ("moderado a grande", "moderada a grande"),
    "moderate to severe": ("moderado a grave", "moderada a grave"),
}
LOCATIONS: Final[Mapping[str, str]] = {
    "apex": "en el vértice pulmonar",
    "upper lobe": "en el lóbulo superior",
    "middle lobe": "en el lóbulo medio",
    "lower lobe": "en el lóbulo inferior",
    "upper zone": "en el campo pulmonar superior",
    "mid zone": "en el campo pulmonar medio",
    "lower zone": "en el campo pulmonar inferior",
    "base": "en la base pulmonar",
    "lingula": "en la língula",
    "hilum": "en el hilio pulmonar",
    "perihilar": "en la región perihiliar",
    "suprahilar": "en la región suprahiliar",
    "infrahilar": "en la región infrahiliar",
    "retrocardiac": "en la región retrocardíaca",
    "costophrenic angle": "en el seno costofrénico",
    "cardiophrenic angle": "en el seno cardiofrénico",
    "fissure": "en la cisura",
    "paratracheal": "en la región paratraqueal",
    "rib": "en una costilla",
    "clavicle": "en la clavícula",
    "humerus": "en el húmero",
    "spine": "en la columna vertebral",
    "superior vena cava": "en la vena cava superior",
    "right atrium": "en la aurícula derecha",
}
FORMS: Final[Mapping[Polarity, str]] = {
    Polarity.POSITIVE: "{}",
    Polarity.UNCERTAIN: "posible {}",
    Polarity.NEGATIVE: "no se observa {}",
}
CHANGES: Final[Mapping[State, tuple[str, str]]] = {
    State.NEW: ("de nueva aparición respecto a la radiografía previa",) * 2,
    State.STABLE: ("sin cambios respecto a la radiografía previa",) * 2,
    State.RESOLVED: ("resuelto respecto a la radiografía previa", "resuelta respecto a la radiografía previa"),
}
SIZES: Final[Mapping[State, str]] = {
    State.WORSENED: "de mayor tamaño que en la radiografía previa",
    State.IMPROVED: "de menor tamaño que en la radiografía previa",
}
EXTENTS: Final[Mapping[State, tuple[str, str]]] = {
    State.WORSENED: ("más extenso que en la radiografía previa", "más extensa que en la radiografía previa"),
    State.IMPROVED: ("menos extenso que en la radiografía previa", "menos extensa que en la radiografía previa"),
}


def sentence(said: Said) -> str:
    """One sentence: finding, side, degree, place; then the change."""
    feminine = said.finding in FEMININE
    words = [NAMES[said.finding]]
    if said.laterality is not None:
        words.append(SIDES[said.laterality][feminine])
    if said.severity is not None:
        words.append(SEVERITIES[said.severity][feminine])
    if said.location is not None:
        words.append(LOCATIONS[said.location])
    text = FORMS[said.polarity].format(" ".join(words))
    if said.change is not None:
        text = f"{text}, {_change(said.finding, said.change, feminine)}"
    return f"{text[0].upper()}{text[1:]}."


def _change(finding: str, change: State, feminine: bool) -> str:
    if change in CHANGES:
        return CHANGES[change][feminine]
    return SIZES[change] if finding in OF_SIZE else EXTENTS[change][feminine]


SPANISH: Final = Phrases(
    names=NAMES,
    sides=SIDES,
    sentence=sentence,
    look_for="Buscar: {}.",
    not_assessed="No valorado: {}.",
    nothing_found="Ningún hallazgo alcanzó su umbral.",
    between=", ",
    joint=" ",
)
