"""The words around a finding: what denies it, hedges it, ends a scope, places it, grades it or compares it with before.

Cues follow NegEx and ConText (Chapman et al., 2001; Harkema et al., 2009): a cue reaches forward or backward until a
terminator. Which words hedge was decided by pooled kappa with Open-i's MeSH tags on the tuning studies, one word
moved at a time from 0.938: affirmed are "consistent with" (0.933 were it a hedge), "compatible with" (0.934),
"probable" (0.933) and "representing" (0.931); "likely" goes with "probable" (Open-i blanked it). Hedged are "suggest"
(0.940 against 0.938), "may" (0.922 were it not), "could" (0.935), "possible" (0.933) and "suspicious for" (0.934).
"Versus" stays a hedge against the tags (0.945 were it not): coders tag both sides of an alternative, but neither side
is affirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from knowledge_base.findings import Laterality, Progression


class Cue(StrEnum):
    """What a phrase does to the findings near it; `FREE` only keeps its words from being read as another cue."""

    DENY = "deny"
    DENY_BEFORE = "deny_before"
    HEDGE = "hedge"
    HEDGE_BEFORE = "hedge_before"
    HEDGE_BOTH = "hedge_both"
    PAST = "past"
    STOP = "stop"
    VERB = "verb"
    FREE = "free"


# fmt: off
CUES: Final[Mapping[Cue, tuple[str, ...]]] = {
    Cue.DENY: (
        "no", "without", "negative for", "free of", "clear of", "not", "never", "absent", "absence of", "lack of",
        "denies", "nor", "neither", "non",
        "no [definite|convincing|radiographic|radiologic|plain film|significant|obvious|"
        "visible] evidence (of|for|to suggest)",
        "without evidence of", "no sign of", "without sign of", "rather than", "instead of",
        "no (definite|convincing|obvious|suspicious|suggestion of|indication of|radiographic evidence of)",
        "resolved", "resolution of", "(complete|interval) resolution of", "interval resolution", "isn t", "aren t",
        "does not (represent|suggest|demonstrate|show|have)", "is not", "are not", "has been removed", "removal of",
        "[interval] removal of [the]", "fails to", "(cleared|clearing of) [the]", "devoid of", "not have",
        "argue against", "argues against",
        "low (suspicion|likelihood|probability) (for|of)", "unlikely to (represent|be)",
    ),
    Cue.DENY_BEFORE: (
        "(is|are|was|were) (not|no longer) [definitely|clearly] (seen|identified|present|"
        "evident|visualized|appreciated|demonstrated|observed|noted|visible|apparent|detected|" "suspected)",
        "not (seen|identified|present|evident|visualized|appreciated|demonstrated|observed|"
        "noted|visible|apparent|detected|suspected)",
        "(is|are) absent", "[has|have|had] [completely|now|since|interval|been] resolved",
        "no longer (seen|identified|present|evident|visualized|visible|apparent)",
        "(is|are|felt|considered|thought) [very|highly|felt|considered|thought] unlikely", "unlikely",
        "[has|have] [interval|been] removed", "(has|have) [completely] cleared",
        "(has|have) been (excluded|ruled out)", "is excluded",
        "doubtful", "less likely",
    ),
    Cue.HEDGE: (
        "may", "might", "could", "possible", "possibly", "possibility of", "cannot exclude", "can not exclude",
        "cannot rule out", "can t exclude", "not exclude", "does not exclude", "cannot be excluded",
        "questionable", "question of", "question", "equivocal", "perhaps",
        "(suspicion|suspicious|concern|concerning|worrisome) [for|of]", "suspected", "suspect", "rule out", "r / o",
        "to exclude", "exclude", "evaluate for", "evaluation for", "for evaluation of",
        "cannot be ruled out", "differential [diagnosis|considerations|consideration|includes|include]", "either",
        "if", "presumably", "presumed", "whether", "could represent", "may represent", "potentially",
        "can be seen with", "(raises|raising) the (question|possibility)",
        "would be", "suggestion of", "versus less likely", "difficult to exclude", "not entirely exclude",
        "conceivably", "borderline for", "without excluding", "limited evaluation for", "and / or possible",
        "must be considered", "(suggest|suggesting|suggestive|suggested)",
        "(correlate|correlation) [clinically] (for|as to)", "assess for", "maybe",
        "cannot entirely exclude", "cannot completely exclude", "possible versus",
    ),
    Cue.HEDGE_BEFORE: (
        "(cannot|can not|could not|can t|not) [be] [entirely|completely|definitely|"
        "definitively|fully] [be] (excluded|ruled out)",
        "(is|are) (possible|questioned|suspected|questionable|suggested|not excluded)",
        "not [entirely|completely] excluded", "(should|could|can|might|must) (be considered|be entertained)",
        "may be present", "might be present", "could be present",
        "[is|are|remain] in the (differential|appropriate clinical setting)", "is a (consideration|possibility)",
        "is also a (consideration|possibility)", "difficult to exclude", "is difficult to exclude", "are possible",
        "is also possible", "should be excluded", "may not be (seen|demonstrated|visible)",
        "be considered", "not ruled out",
    ),
    Cue.HEDGE_BOTH: ("versus",),
    Cue.PAST: ("history of", "previous history of", "h / o", "history", "status post", "s / p"),
    Cue.STOP: (
        "but", "however", "except", "although", "though", ";", ":",
        "there (is|are|has been|have been|remain|remains|was|were)", "which", "aside from", "apart from",
        "other than", "yet", "nevertheless", "while", "whereas",
        "with [the] exception of", "and the", "as well as [a]", "still", "despite", "besides", "there s",
        "in addition to", "again seen",
        "shows", "demonstrates",
    ),
    Cue.VERB: ("is", "are", "was", "were", "has", "have", "appear", "remain", "seen", "noted", "present", "identified"),
    Cue.FREE: (
        "no [significant|definite|appreciable|substantial|obvious|real|short] [interval] "
        "(change|increase|decrease|improvement|progression) [in|of|from|since]",
        "not [significantly|appreciably|substantially] [significantly] (changed|increased|decreased|improved)",
        "not only", "no further",
        "without [significant|appreciable] [interval] (change|improvement|increase|decrease|progression) [in|of]",
        "no interval (growth|enlargement|improvement|change) [of|in]",
        "no longer", "not well (seen|evaluated|visualized|defined|marginated)", "no new since", "not included",
        "not optimally", "no comparison", "no prior", "no previous", "no change in the appearance of",
        "no longer low", "no doubt", "without difficulty", "no worse", "no larger", "no smaller", "no less",
        "not clearly",
        "no other change", "if any", "if clinically (indicated|warranted)", "not fully", "partially resolved",
        "(nearly|almost) [completely] resolved", "near complete resolution of", "resolving",
        "partial (resolution|clearing) of", "not yet resolved", "has not (resolved|cleared|changed)",
        "have not (resolved|cleared|changed)",
        "not (resolved|cleared)", "may have (increased|decreased|improved|worsened)", "not quite",
    ),
}

SIDES: Final[Mapping[Laterality, tuple[str, ...]]] = {
    Laterality.LEFT: ("left", "left sided", "leftward", "lul", "lll", "lingula", "lingular", "retrocardiac", "l"),
    Laterality.RIGHT: ("right", "right sided", "rightward", "rul", "rml", "rll", "middle lobe", "r"),
    Laterality.BILATERAL: (
        "bilateral", "bilaterally", "both", "biapical", "bibasilar", "bibasal", "bibasal", "bihilar", "biperihilar",
        "(left|right) and (left|right)", "(left|right) greater than (left|right)",
        "each side", "either side", "bi basilar", "bi apical", "bibasally",
    ),
}
NOT_A_SIDE: Final = (
    "(left|right) (heart|cardiac) [border|margin|size|silhouette]",
    "(left|right) (atrium|atrial|ventricle|ventricular|aortic) [enlargement|appendage|lead|prominence|arch]",
    "elevation of the (left|right) (hemidiaphragm|diaphragm)", "elevated (left|right) (hemidiaphragm|diaphragm)",
    "(left|right) (hemidiaphragm|diaphragm) elevation",
    "(left|right) (hemidiaphragm|diaphragm) is [mildly|slightly|chronically] elevated",
    "to the (left|right) of midline", "(left|right) (convex|convexity|scoliosis)", "both view", "both the",
    "right away", "(left|right) lateral decubitus",
)
"""Phrases whose left or right is not the finding's; they are read before `SIDES`."""

LOCATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "apex": ("apex", "apical", "biapical"),
    "upper lobe": ("upper lobe", "rul", "lul"),
    "middle lobe": ("middle lobe", "rml"),
    "lower lobe": ("lower lobe", "rll", "lll"),
    "upper zone": ("upper [lung] (zone|field)", "upper lung"),
    "mid zone": ("(mid|middle) [lung] (zone|field)", "mid lung", "midlung", "midzone"),
    "lower zone": ("lower [lung] (zone|field)", "lower lung"),
    "base": ("base", "[lung|pulmonary] base", "basilar", "bibasilar", "basal", "bibasal", "infrabasilar"),
    "lingula": ("lingula", "lingular"),
    "hilum": ("hilum", "hilar"),
    "perihilar": ("perihilar", "parahilar"),
    "suprahilar": ("suprahilar",),
    "infrahilar": ("infrahilar",),
    "retrocardiac": ("retrocardiac",),
    "costophrenic angle": ("costophrenic [angle|sulcus|recess|xxxx]", "cp angle"),
    "cardiophrenic angle": ("cardiophrenic [angle|sulcus|xxxx]",),
    "fissure": ("[minor|major|horizontal|oblique] fissure",),
    "paratracheal": ("paratracheal",),
    "rib": ("rib",),
    "clavicle": ("clavicle", "clavicular"),
    "humerus": ("humerus", "humeral"),
    "spine": ("spine", "vertebral [body]", "vertebra", "vertebrae", "thoracolumbar"),
    "superior vena cava": ("superior vena cava", "svc", "cavoatrial junction"),
    "right atrium": ("right atrium",),
}

SEVERITIES: Final[Mapping[str, tuple[str, ...]]] = {
    "trace": ("trace", "tiny", "minimal", "minimally", "miniscule", "minuscule"),
    "small": ("small", "subtle"),
    "mild": ("mild", "mildly", "slight", "slightly"),
    "moderate": ("moderate", "moderately", "moderate sized", "medium sized"),
    "large": ("large", "big", "sizable", "sizeable"),
    "severe": ("severe", "severely", "marked", "markedly", "extensive", "gross", "grossly", "considerable"),
    "massive": ("massive", "massively", "huge"),
    "trace to small": ("(trace|tiny|minimal) to small",),
    "small to moderate": ("small to moderate",),
    "mild to moderate": ("mild to moderate",),
    "moderate to large": ("moderate to large",),
    "moderate to severe": ("moderate to severe",),
}
NOT_A_SEVERITY: Final = ("grossly (normal|clear|unremarkable|intact)", "small bowel", "large bore",
    "large body habitus", "small airway", "small caliber")

PROGRESSIONS: Final[Mapping[Progression, tuple[str, ...]]] = {
    Progression.NEW: ("new", "newly", "interval (development|appearance|placement) [of]", "(has|have) developed",
        "developed", "developing", "newly [seen|noted|identified]", "interval new",
        "not present (previously|before)", "not seen (previously|before)"),
    Progression.STABLE: (
        "stable", "unchanged", "no [significant|definite|appreciable|substantial|obvious] [interval] change",
        "not [significantly|appreciably|substantially] [significantly] changed",
        "without [significant|appreciable] [interval] change", "again", "persistent", "persist", "persisting",
        "remain", "remaining", "similar", "as before", "chronic and unchanged",
        "no interval (growth|change|increase|enlargement)", "constant",
        "redemonstrated", "redemonstration", "no longer changing", "unaltered", "grossly (stable|unchanged)",
        "relatively (stable|unchanged)", "continued", "continue", "little change", "minimal change", "not improved",
        "not worsened", "still",
    ),
    Progression.IMPROVED: (
        "improved", "improving", "improvement", "[interval] (decrease|improvement|clearing|resolution|reduction)",
        "decreased", "decreasing", "smaller", "resolved", "resolving", "cleared",
        "less (prominent|conspicuous|pronounced|extensive|dense)", "diminished", "reduced", "regressed",
        "regression",
        "nearly resolved", "partially (resolved|cleared)", "better", "receding",
    ),
    Progression.WORSENED: (
        "worsened", "worsening", "worse", "increased", "increasing", "[interval] (increase|worsening|progression)",
        "interval (enlargement|growth)", "progressed", "progressive", "progressing", "larger", "enlarging",
        "more (prominent|conspicuous|pronounced|extensive|dense)", "grown", "deteriorated", "deterioration",
        "accumulating", "reaccumulated",
        "expanding",
    ),
}
NOT_A_PROGRESSION: Final = (
    "increased (interstitial marking|density|marking|ap diameter|heart size|cardiac size)",
    "(worsening|increasing) (shortness|dyspnea|cough|pain)", "stable position",
    "remaining (lung|portion|bone|structure)", "new york")

COMPARISONS: Final = (
    "new", "newly", "stable", "unchanged",
    "no [significant|definite|appreciable|substantial|obvious] [interval] change",
    "not [significantly|appreciably|substantially] [significantly] changed", "unaltered", "interval", "again",
    "persistent", "persist", "persisting", "remain", "improved", "improving", "improvement", "decreased",
    "decreasing", "decrease [in]", "increased",
    "increasing", "increase [in]", "worsened", "worsening", "worse", "resolved", "resolving", "resolution",
    "cleared", "clearing", "prior", "previous", "previously", "compared", "compared (with|to)", "comparison",
    "in comparison", "since", "as before", "no longer", "progressed", "progressive", "progression", "larger",
    "smaller", "enlarging", "diminished", "reduced", "redemonstrated",
    "redemonstration", "similar to", "similar in", "still", "more (prominent|conspicuous|pronounced|extensive)",
    "less (prominent|conspicuous|pronounced|extensive)", "change from",
    "earlier (film|study|exam|examination|radiograph)", "last (film|study|exam|examination|radiograph)",
    "older (film|study|exam|examination|radiograph)", "old (film|study|exam|examination|radiograph)", "baseline",
    "recurrent", "residual", "continued", "continue", "developing", "developed", "regressed", "regression",
    "evolving", "evolution", "follow up of", "followup of", "now", "better", "unresolved", "reaccumulation",
    "recurrence", "has (changed|grown|removed|advanced|been removed|been placed)",
    "have (changed|grown|removed|advanced|been removed|been placed)", "have been removed", "re demonstrated",
    "serial", "trend", "known", "former", "formerly", "past (film|study|exam|examination|radiograph)", "changed",
    "subsequent", "deteriorated", "deterioration", "constant", "unimproved",
    "remote (film|study|exam|examination|radiograph)",
)
# fmt: on
"""Words that presuppose an earlier film; a draft without one may not say them."""
