"""From Open-i's hand-coded MeSH tags to the 14 CheXpert observations.

Each report carries `major` tags such as "Opacity/lung/base/left": a heading, then qualifiers. Rules look at the heading
and, where a heading alone says too little ("Cardiac Shadow/enlarged"), at the qualifiers. A study whose only tag is
"normal" has No Finding; tags that are none of the observations (spine, aorta, scars) leave all pathologies negative.
Headings: Demner-Fushman et al., JAMIA 2016;23:304-310.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from knowledge_base.findings import FINDINGS, PATHOLOGIES


@dataclass(frozen=True)
class Rule:
    """A tag with this heading, and any of `having` (when given) and none of `lacking` among its words, means `findings`."""

    heading: str
    findings: tuple[str, ...]
    having: frozenset[str] = frozenset()
    lacking: frozenset[str] = frozenset()

    def matches(self, heading: str, words: frozenset[str]) -> bool:
        """Whether a tag, split into its heading and qualifiers in lower case, is covered."""
        return heading == self.heading and (not self.having or bool(words & self.having)) and not words & self.lacking


RULES: Final = (
    Rule("cardiomegaly", ("Cardiomegaly",)),
    Rule("cardiac shadow", ("Cardiomegaly",), having=frozenset({"enlarged"})),
    Rule("heart", ("Cardiomegaly",), having=frozenset({"enlarged"})),
    Rule("mediastinum", ("Enlarged Cardiomediastinum",), having=frozenset({"enlarged", "prominent", "mass"})),
    Rule("aortic aneurysm", ("Enlarged Cardiomediastinum",)),
    Rule("opacity", ("Lung Opacity",)),
    Rule("airspace disease", ("Lung Opacity",)),
    Rule("infiltrate", ("Lung Opacity",)),
    Rule("consolidation", ("Lung Opacity", "Consolidation")),
    Rule("pneumonia", ("Lung Opacity", "Pneumonia")),
    Rule("pulmonary atelectasis", ("Lung Opacity", "Atelectasis")),
    Rule("pulmonary edema", ("Lung Opacity", "Edema")),
    Rule("pulmonary congestion", ("Edema",)),
    Rule("heart failure", ("Edema",)),
    Rule("nodule", ("Lung Lesion",)),
    Rule("mass", ("Lung Lesion",), lacking=frozenset({"mediastinum", "breast", "hilum"})),
    Rule("granuloma", ("Lung Lesion",)),
    Rule("calcified granuloma", ("Lung Lesion",)),
    Rule("pneumothorax", ("Pneumothorax",)),
    Rule("hydropneumothorax", ("Pneumothorax", "Pleural Effusion")),
    Rule("hemopneumothorax", ("Pneumothorax", "Pleural Effusion")),
    Rule("pleural effusion", ("Pleural Effusion",)),
    Rule("hemothorax", ("Pleural Effusion",)),
    Rule("thickening", ("Pleural Other",), having=frozenset({"pleura", "costophrenic angle"})),
    Rule("pleura", ("Pleural Other",), lacking=frozenset({"normal"})),
    Rule("fractures, bone", ("Fracture",)),
    Rule("catheters, indwelling", ("Support Devices",)),
    Rule("implanted medical device", ("Support Devices",)),
    Rule("tube, inserted", ("Support Devices",)),
    Rule("medical device", ("Support Devices",)),
    Rule("stents", ("Support Devices",)),
)


@dataclass(frozen=True)
class Tag:
    """One `major` tag: heading and qualifiers, lower case."""

    heading: str
    qualifiers: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Tag:
        """From "Heading/qualifier/qualifier"."""
        heading, *rest = (part.strip().lower() for part in text.split("/"))
        return cls(heading, frozenset(rest))


def meant(tag: Tag) -> frozenset[str]:
    """The observations that one tag means; empty for most headings."""
    return frozenset(f for r in RULES if r.matches(tag.heading, tag.qualifiers) for f in r.findings)


def findings(tags: Iterable[str]) -> dict[str, bool] | None:
    """Presence of each of the 14 observations, or None when the study was never indexed ("No Indexing" or no tag)."""
    parsed = [Tag.parse(t) for t in tags]
    if not parsed or all(t.heading == "no indexing" for t in parsed):
        return None
    present = set().union(*map(meant, parsed))
    if not present.intersection(PATHOLOGIES):
        present.add("No Finding")
    return {f: f in present for f in FINDINGS}
