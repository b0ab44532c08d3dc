"""A second labeler to measure the first against: spaCy's EntityRuler, its own short term list, and negspacy's NegEx.

It shares no term, cue or code with `labeler`; only `eval` uses it. It reads presence well enough to be a peer and
little else: no sides, no normal statements, and a finding with a hedging word close before it is uncertain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from knowledge_base.findings import FINDINGS, NO_FINDING, PATHOLOGIES, Polarity

if TYPE_CHECKING:
    from spacy.language import Language

NAME_VERSION: Final = "context@1"
OTHER: Final = "OTHER"
"""Label of terms that only keep a finding's words from being taken for it."""

# fmt: off
TERMS: Final[Mapping[str, tuple[str, ...]]] = {
    "Enlarged Cardiomediastinum": (
        "mediastinal widening", "widened mediastinum", "mediastinal mass", "mediastinal enlargement", "aortic aneurysm",
        "widening of the mediastinum", "prominent mediastinum", "mediastinum is widened",
        "prominence of the mediastinum",
    ),
    "Cardiomegaly": (
        "cardiomegaly", "enlarged heart", "heart is enlarged", "heart size is enlarged", "heart is mildly enlarged",
        "heart size is mildly enlarged", "cardiac enlargement", "enlarged cardiac silhouette",
        "heart is borderline enlarged",
        "cardiac silhouette is enlarged", "cardiac silhouette is mildly enlarged", "heart remains enlarged",
        "enlargement of the cardiac silhouette", "heart size mildly enlarged", "heart size is moderately enlarged",
        "heart size moderately enlarged", "mildly enlarged heart", "heart enlarged", "heart size enlarged",
        "heart is slightly enlarged", "cardiac silhouette is borderline enlarged", "heart is moderately enlarged",
        "heart size is slightly enlarged", "heart is again enlarged", "cardiac silhouette remains enlarged",
        "heart is large", "heart size is borderline enlarged", "heart size remains enlarged",
        "borderline enlarged heart",
        "cardiac silhouette is moderately enlarged", "cardiac silhouette is at least mildly enlarged",
    ),
    "Lung Opacity": (
        "opacity", "opacities", "infiltrate", "infiltrates", "airspace disease", "air space disease", "opacification",
        "opacifications", "interstitial disease", "airspace process",
    ),
    "Lung Lesion": (
        "nodule", "nodules", "mass", "masses", "granuloma", "granulomas", "granulomata", "metastasis",
        "metastases", "neoplasm",
        "pulmonary lesion", "lung cancer",
    ),
    "Edema": (
        "edema", "oedema", "congestion", "heart failure", "chf", "vascular prominence", "vascular redistribution",
        "fluid overload", "cephalization", "venous hypertension",
    ),
    "Consolidation": ("consolidation", "consolidations", "consolidative"),
    "Pneumonia": ("pneumonia", "pneumonias", "pneumonitis", "infectious process", "infection"),
    "Atelectasis": ("atelectasis", "atelectases", "atelectatic", "lobe collapse", "lung collapse", "partial collapse"),
    "Pneumothorax": ("pneumothorax", "pneumothoraces", "hydropneumothorax"),
    "Pleural Effusion": (
        "effusion", "effusions", "pleural fluid", "hydropneumothorax", "hemothorax", "empyema",
    ),
    "Pleural Other": (
        "pleural thickening", "pleural scarring", "pleural plaque", "pleural plaques", "pleural calcification",
        "apical thickening", "pleural reaction", "pleural scar", "apical cap",
    ),
    "Fracture": ("fracture", "fractures", "fractured"),
    "Support Devices": (
        "pacemaker", "picc", "catheter", "catheters", "tube", "tubes", "port", "mediport", "defibrillator",
        "aicd", "icd",
        "stent", "stents", "pacer", "stimulator", "prosthesis", "prosthetic", "arthroplasty", "hardware",
        "tracheostomy",
        "screw", "screws", "picc line", "central line", "leads", "generator", "shunt", "valve replacement",
        "chest XXXX tip",
    ),
    OTHER: (
        "pericardial effusion", "mass effect", "soft tissue mass", "breast mass", "nipple shadow", "joint effusion",
        "granulomatous infection", "soft tissue edema", "lymph node mass", "bone infection",
        "upper respiratory infection",
    ),
}
# fmt: on
HEDGES: Final = frozenset(
    {"may", "might", "could", "possible", "possibly", "questionable", "versus", "vs", "question", "if"}
)
EXCLUDED_AFTER: Final = ("not excluded", "be excluded", "ruled out", "versus", "vs", "is possible", "is suspected")
REACH: Final = 8
"""Words before a finding in which a hedge counts."""
AIRSPACE: Final = ("Edema", "Consolidation", "Pneumonia", "Atelectasis")


class ContextLabeler:
    """Reads reports. Building one loads spaCy and compiles the terms (a second); keep and share it."""

    NAME_VERSION: Final = NAME_VERSION

    def __init__(self) -> None:
        self._nlp = _pipeline()

    def read_report(self, text: str) -> dict[str, Polarity]:
        """One polarity per observation the report speaks of, in CheXpert order."""
        found: dict[str, set[Polarity]] = {}
        for entity in self._nlp(_plain(text)).ents:
            if entity.label_ != OTHER:
                found.setdefault(entity.label_, set()).add(_polarity(entity))
                if entity.text.lower() == "hydropneumothorax":
                    found.setdefault("Pneumothorax", set()).add(_polarity(entity))
        for member in AIRSPACE:
            present = found.get(member, set()) - {Polarity.NEGATIVE}
            if present:
                found.setdefault("Lung Opacity", set()).update(present)
        stated = set().union(*(found[f] for f in PATHOLOGIES if f in found))
        present = stated - {Polarity.NEGATIVE}
        found[NO_FINDING] = {Polarity.NEGATIVE if present else Polarity.POSITIVE}
        return {f: _strongest(found[f]) for f in FINDINGS if f in found}


def _pipeline() -> Language:
    """spaCy blank English with sentence ends, the terms and NegEx; nothing is downloaded."""
    import spacy
    from negspacy import negation  # noqa: F401  (registers the "negex" component)

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    ruler: Any = nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": label, "pattern": term} for label, terms in TERMS.items() for term in terms])
    nlp.add_pipe("negex", config={"ent_types": list(FINDINGS)})
    return nlp


def _plain(text: str) -> str:
    """Slashes and colons apart from words, so that spaCy's tokens are words."""
    return text.replace("/", " / ").replace(":", ". ").replace(";", ". ")


def _polarity(entity: Any) -> Polarity:
    if entity._.negex:
        return Polarity.NEGATIVE
    sentence = entity.sent
    before = {t.lower_ for t in entity.doc[max(sentence.start, entity.start - REACH) : entity.start]}
    after = entity.doc[entity.end : min(sentence.end, entity.end + REACH)].text.lower()
    hedged = bool(before & HEDGES) or any(phrase in after for phrase in EXCLUDED_AFTER)
    return Polarity.UNCERTAIN if hedged else Polarity.POSITIVE


def _strongest(polarities: set[Polarity]) -> Polarity:
    order = (Polarity.POSITIVE, Polarity.UNCERTAIN, Polarity.NEGATIVE)
    return next(p for p in order if p in polarities)
