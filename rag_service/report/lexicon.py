"""How reports name the 14 observations, in the notation of `phrases`; statements about anatomy are in `anatomy_terms`.

Decisions, each checked against Open-i's MeSH tags on the tuning part (see `eval.labeler`):
- Blunting of a costophrenic angle is an uncertain Pleural Effusion: the coders tag it apart from effusion.
- A calcified granuloma is a Lung Lesion; "granulomatous disease" without a granuloma is not.
- Lung scars and bare "density" or "markings" are no observation; pleural scars and thickening are Pleural Other.
- Vascular congestion is Edema. A heart at the upper limit of normal is normal; a borderline enlarged heart is enlarged.
- A compression or rib deformity without the word fracture is no Fracture: the coders tag it "Deformity".
- "Normal chest" and a denied "acute abnormality" are No Finding; `labeler.overall` withdraws it beside any pathology.
- Sternotomy wires and surgical clips are no Support Device; lines, tubes, generators, leads, stents, valves and
  screws are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SHADOW: Final = ""
"""The finding of a phrase that only looks like one ("pericardial effusion")."""

# fmt: off
PHRASES: Final[Mapping[str, tuple[str, ...]]] = {
    "No Finding": (
        "normal [pa|ap|frontal] [and lateral] (chest|exam|examination|study|radiograph|film)",
        "normal [two|2|pa and lateral|single] [view] chest [(x ray|x xxxx|xray|radiograph|film|exam|examination)]",
        "normal (chest x ray|chest x xxxx|chest radiograph|radiographic chest|radiographic examination)",
        "negative [for] (chest [x ray|x xxxx|radiograph|exam]|exam|examination|study)",
        "chest is normal", "chest radiograph is normal",
        "unremarkable (chest|exam|examination|study|radiograph|chest radiograph|chest x ray)",
        "within normal limit for age",
    ),
    "Enlarged Cardiomediastinum": (
        "(widened|widening of|wide|enlarged|enlargement of) [the] [upper|superior] "
        "(mediastinum|mediastinal silhouette|mediastinal contour)",
        "mediastinal (widening|enlargement|mass|fullness|prominence)",
        "(anterior|posterior|superior) mediastinal (mass|widening)",
        "(prominence|fullness) of the [upper|superior] mediastinum", "mediastinal and hilar (enlargement|fullness)",
        "[thoracic] aortic aneurysm", "aneurysm of the [thoracic|descending|ascending] aorta",
        "enlarged cardiomediastinal (silhouette|contour)", "enlargement of the cardiomediastinal silhouette",
        "(widened|prominent) (cardiomediastinal silhouette|mediastinum)",
    ),
    "Cardiomegaly": (
        "cardiomegaly", "cardiac enlargement",
        "(enlarged|enlargement of|large) [the] (heart|heart size|cardiac silhouette|cardiac "
        "shadow|cardiac contour|cardiac size)",
        "prominent (heart|heart size|cardiac silhouette)", "prominence of the (cardiac silhouette|heart)",
        "borderline [enlarged|enlargement of|large|prominent] [the] (heart|heart size|cardiac silhouette|cardiac size)",
        "(increased|increase in) (heart|cardiac) size", "enlarged cardiopericardial silhouette", "megacardia",
        "cardiac dilatation", "dilated heart",
    ),
    "Lung Opacity": (
        "opacity", "opacification", "[patchy|focal] air [space] disease",
        "airspace (disease|process|consolidation process)", "infiltrate",
        "infiltration", "infiltrative process", "airspace (infiltrate|opacity)",
        "alveolar (disease|process|infiltrate)",
        "(interstitial|alveolar|lung|pulmonary|parenchymal|basilar) (opacity|infiltrate|opacification)", "whiteout",
        "ground glass [opacity|attenuation|change]", "haziness",
    ),
    "Lung Lesion": (
        "[pulmonary|lung] nodule", "nodular lesion", "[pulmonary|lung|parenchymal|hilar|suspicious] mass",
        "granuloma", "calcified granuloma",
        "[pulmonary|lung|cavitary] lesion",
        "(lung|bronchogenic|pulmonary) (carcinoma|cancer|neoplasm|tumor|malignancy)",
        "[pulmonary|lung] metastasis", "metastatic disease", "cavitary (mass|lesion|nodule)", "mass lesion",
        "micronodule",
        "metastatic nodule", "neoplasm",
    ),
    "Edema": (
        "edema", "[pulmonary|interstitial|alveolar] edema",
        "[pulmonary|central|venous] [vascular|venous] congestion", "vascular engorgement",
        "(pulmonary|central) vascular (prominence|engorgement|redistribution|cephalization)", "vascular congestion",
        "vascular prominence",
        "[congestive] heart failure", "congestive failure", "chf", "cardiac failure", "cardiac decompensation",
        "kerley [b] line",
        "pulmonary venous hypertension", "cephalization", "fluid overload", "volume overload", "congestive change",
        "congestion", "venous hypertension",
        "(prominent|prominence of the|engorged|engorgement of the|congested) [central|"
        "pulmonary] [pulmonary] (vasculature|vascularity)",
    ),
    "Consolidation": ("consolidation", "consolidative (opacity|process|change)", "consolidative",
        "consolidated lung", "air bronchogram"),
    "Pneumonia": (
        "pneumonia", "bronchopneumonia", "pneumonic (infiltrate|process|consolidation)",
        "infectious (process|infiltrate|etiology|consolidation)",
        "pneumonitis", "[pulmonary|lung|superimposed|airspace|parenchymal] infection", "infectious disease",
        "tuberculosis",
    ),
    "Atelectasis": (
        "atelectasis", "atelectatic (change|opacity|lung|streak|band)", "atelectatic",
        "(lobar|lobe|lung|segmental) collapse",
        "collapse of the (left|right) [upper|middle|lower] (lobe|lung)", "subsegmental collapse",
        "collapsed (lung|lobe)", "(partial|lung) collapse",
    ),
    "Pneumothorax": ("pneumothorax", "hydropneumothorax", "hemopneumothorax", "ptx", "pneumo thorax"),
    "Pleural Effusion": (
        "effusion", "[pleural|parapneumonic] effusion", "pleural fluid",
        "(fluid|liquid) in the [minor|major|right|left] (fissure|pleural space)",
        "hemothorax", "hydrothorax", "hydropneumothorax", "hemopneumothorax", "empyema", "pleural effusive",
        "pleural (air|collection)",
        "fissural fluid", "fluid collection",
    ),
    "Pleural Other": (
        "(pleural|apical|biapical|pleuroparenchymal|fibronodular) thickening",
        "thickening of the [left|right] [apical] pleura",
        "pleural (scar|scarring|plaque|calcification|reaction|density|opacity|disease|fibrosis|"
        "mass|abnormality|change|based)",
        "[apical|biapical] (pleural and parenchymal|pleuroparenchymal|pleural parenchymal) (scar|scarring|thickening)",
        "fibrothorax",
        "calcified pleural plaque", "pleural (thickening and scarring|thickening and calcification)",
        "pleural based (mass|opacity|thickening)",
        "biapical [pleural] cap", "apical [pleural] cap", "pleural cap", "asbestos related pleural disease",
    ),
    "Fracture": (
        "fracture", "[rib|compression|clavicle|vertebral|wedge] fracture", "fracture deformity", "fractured",
        "broken rib",
    ),
    "Support Devices": (
        "[dual|single] [chamber|lead] [cardiac] (pacemaker|pacer|icd|aicd|defibrillator|biventricular pacemaker)",
        "pacing (lead|wire|device)", "pacemaker [lead|generator]",
        "(central venous|venous|dialysis|swan ganz|pulmonary artery|picc|hickman|jugular|ij|"
        "subclavian|port|chest|central) (catheter|line)",
        "catheter", "picc", "picc line",
        "port a cath", "portacath", "mediport", "port", "chest port", "infusion port",
        "(endotracheal|et|nasogastric|ng|enteric|feeding|dobhoff|dobbhoff|gastrostomy|"
        "tracheostomy|orogastric|chest|thoracostomy|pleural|drainage|enteral|gastric|pigtail) "
        "(tube|drain|catheter)",
        "tracheostomy [cannula]", "tube", "swan ganz", "[vascular|coronary|coronary artery|tracheal|stent] stent",
        "pigtail", "ventriculoperitoneal shunt", "vp shunt", "shunt [catheter|tubing]", "tubing",
        "[aortic|mitral|prosthetic|cardiac|heart|bioprosthetic] valve (replacement|prosthesis)",
        "prosthetic [aortic|mitral|heart|cardiac] valve",
        "[humeral|shoulder|joint] (prosthesis|arthroplasty|hemiarthroplasty)",
        "[orthopedic|spinal|surgical|fixation|fusion|metallic] hardware", "(spinal|harrington|fixation) rod",
        "screw", "nerve stimulator", "(spinal|vagal|vagus|neural|cord|neuro) stimulator", "stimulator",
        "loop recorder", "(support|monitoring|medical|implanted|assist|indwelling) device", "generator",
        "battery pack", "lead", "cardiac device", "intra aortic balloon pump", "iabp", "lvad", "electrode",
        "chest xxxx [has|with|is] [its|visualized] [distal] tip", "xxxx a xxxx", "cardiac xxxx generator",
        "injection xxxx", "lap band", "gastric band", "ivc filter", "drain", "line and tube", "line", "bone anchor",
        "surgical anchor", "internal fixation", "fixation plate",
    ),
}
"""Observation -> how it is named. A phrase under two observations is both of them."""

DENIED_MEANS_NORMAL: Final = (
    "[active|acute] (cardiopulmonary|cardiac|pulmonary|cardiothoracic|intrathoracic|"
    "thoracic|chest|lung|pleuropulmonary|radiographic|radiologic|cardio pulmonary|"
    "cardiovascular|cardio xxxx) (disease|abnormality|process|finding|pathology|"
    "disease process|radiographic abnormality|infiltrate process)",
    "(acute|active) [focal] (disease|abnormality|process|finding|pathology|disease process)",
    "[acute] (cardiac or pulmonary|pulmonary or cardiac|heart or lung) (disease|abnormality|process|finding|pathology)",
    "(acute|active) [intra] (cardiopulmonary|pulmonary|thoracic|cardiac|chest) [disease|"
    "abnormality|process|finding|findings|pathology]",
    "(focal|significant|radiographic|visible|suspicious|evident) (abnormality|disease)",
    "(radiographic|radiologic) evidence of [acute|active] [cardiopulmonary|pulmonary|chest] disease",
    "no abnormality", "without abnormality",
)
"""Denied they are No Finding; affirmed they deny it."""

SHADOWS: Final = (
    "pericardial effusion", "joint effusion", "(septal|suture|staple|skin) line", "(chest wall|axillary) mass",
    "(soft tissue|subcutaneous|peripheral|leg|ankle|cerebral|bowel wall) edema", "mass effect", "breast mass",
    "(adrenal|renal|liver|abdominal|thyroid|soft tissue|body|neck) (mass|nodule|lesion)", "lymph node mass",
    "nipple shadow",
    "[lytic|blastic|osseous|bony|bone|sclerotic|osteolytic] (bone|bony|osseous|"
    "osteoblastic|lytic|blastic|sclerotic|destructive|skeletal|rib|osteolytic) (lesion|" "metastasis)",
    "(paratracheal|fat|pleural|mid|mammary|axillary|midclavicular|joint|paraspinal|"
    "spinolaminar|junction|gum|psoas|azygoesophageal) (stripe|line)",
    "air fluid level",
    "(hemidiaphragm|diaphragm) line", "line of", "in line", "(in|along) the line", "lead to", "leading to",
    "first line", "lead in", "base line", "body mass", "muscle mass", "portable", "midline", "vertebral line",
    "lucent line", "pleural line", "fracture line", "curvilinear line", "central line placement recommended",
    "(granulomatous|calcified granulomatous) (disease|process|infection)", "prior infection",
    "(old|previous|remote|prior) granulomatous infection", "upper respiratory infection", "urinary tract infection",
    "sternal fracture wire", "pleural effusion protocol", "evaluate for",
    "obstructive [airway|pulmonary|lung] disease", "chronic obstructive disease", "interstitial lung disease",
    "(chronic|interstitial|emphysematous) [lung|pulmonary] (disease|change)",
    "chronic lung (disease|change)", "reactive airway disease", "b line", "xxxx b line", "breast prosthesis",
    "or line", "lung line", "vascular engorgement (is|are|appear) [within]", "prior tuberculosis [infection]",
    "(histoplasmosis|tuberculous) infection", "(pulmonary|central) vascular engorgement (is|are|appear) [within]",
    "splenic granuloma", "granuloma in the spleen", "prior tuberculou infection", "airway disease",
    "small airway (disease|infection)", "bronchial edema",
)
# fmt: on
"""Phrases that hold a finding's words without stating it."""

IMPLIED: Final[Mapping[str, tuple[str, ...]]] = {"Lung Opacity": ("Consolidation", "Pneumonia", "Atelectasis", "Edema")}
"""CheXpert's hierarchy: when a member holds, so does its family (Irvin et al., AAAI 2019, figure 1)."""

UNSIDED: Final = frozenset({"No Finding", "Cardiomegaly", "Enlarged Cardiomediastinum"})
"""Observations of midline structures: a side in their clause belongs to something else."""
