"""The fixed words of a Spanish draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    "Lung Lesion": "lesión pulmonar",
    "Edema": "edema pulmonar",
    "Consolidation": "consolidación",
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
BOTH: Final = ("ambos", "ambas")
THE: Final = ("el", "la")
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


@dataclass(frozen=True)
class Place:
    """A place and what two of it are called; `both` is None where there is one, and a side beside it is the finding's."""

    name: str
    both: str | None = None
    feminine: bool = False


LOCATIONS: Final[Mapping[str, Place]] = {
    "apex": Place("vértice pulmonar", "vértices pulmonares"),
    "upper lobe": Place("lóbulo superior", "lóbulos superiores"),
    "middle lobe": Place("lóbulo medio", "lóbulos medios"),
    "lower lobe": Place("lóbulo inferior", "lóbulos inferiores"),
    "upper zone": Place("campo pulmonar superior", "campos pulmonares superiores"),
    "mid zone": Place("campo pulmonar medio", "campos pulmonares medios"),
    "lower zone": Place("campo pulmonar inferior", "campos pulmonares inferiores"),
    "base": Place("base pulmonar", "bases pulmonares", feminine=True),
    "lingula": Place("língula", feminine=True),
    "hilum": Place("hilio pulmonar", "hilios pulmonares"),
    "perihilar": Place("región perihiliar", "regiones perihiliares", feminine=True),
    "suprahilar": Place("región suprahiliar", "regiones suprahiliares", feminine=True),
    "infrahilar": Place("región infrahiliar", "regiones infrahiliares", feminine=True),
    "retrocardiac": Place("región retrocardíaca", feminine=True),
    "costophrenic angle": Place("seno costofrénico", "senos costofrénicos"),
    "cardiophrenic angle": Place("seno cardiofrénico", "senos cardiofrénicos"),
    "fissure": Place("cisura", "cisuras", feminine=True),
    "paratracheal": Place("región paratraqueal", "regiones paratraqueales", feminine=True),
    "rib": Place("parrilla costal", "parrillas costales", feminine=True),
    "clavicle": Place("clavícula", "clavículas", feminine=True),
    "humerus": Place("húmero", "húmeros"),
    "spine": Place("columna vertebral", feminine=True),
    "superior vena cava": Place("vena cava superior", feminine=True),
    "right atrium": Place("aurícula derecha", feminine=True),
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
    """One sentence: finding, side, degree, place; then the change. The side stands with the place where the place has sides."""
    feminine = said.finding in FEMININE
    place = None if said.location is None else LOCATIONS[said.location]
    words = [NAMES[said.finding]]
    if said.laterality is not None and (place is None or place.both is None):
        words.append(SIDES[said.laterality][feminine])
    if said.severity is not None:
        words.append(SEVERITIES[said.severity][feminine])
    if place is not None:
        words.append(_in(place, said.laterality))
    text = FORMS[said.polarity].format(" ".join(words))
    if said.change is not None:
        text = f"{text}, {_change(said.finding, said.change, feminine)}"
    return f"{text[0].upper()}{text[1:]}."


def _in(place: Place, side: Laterality | None) -> str:
    """ "en el lóbulo inferior derecho", "en ambas bases pulmonares"."""
    if place.both is not None and side is Laterality.BILATERAL:
        return f"en {BOTH[place.feminine]} {place.both}"
    where = f"en {THE[place.feminine]} {place.name}"
    return where if place.both is None or side is None else f"{where} {SIDES[side][place.feminine]}"


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
    no_case="Aquí no hay ningún caso de {finding}.",
    one_case="Aquí solo hay 1 caso de {finding}.",
    few_cases="Aquí solo hay {cases} casos de {finding}.",
)
