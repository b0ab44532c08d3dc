"""What the decoder learns to write: sentences of training reports and captions that say one finding and nothing else.

A sentence that says more is cut down to the words of the finding with their side, place and degree: of "No pneumothorax or pleural
effusion." remain "No pneumothorax." and "No pleural effusion." Whatever is cut must read as it did before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from knowledge_base.findings import NO_FINDING, Laterality, Polarity
from knowledge_base.records import CaseSentence, Mention
from rag_service.report.citations import MAX_EXTRA_WORDS, extra_words, wording_objections
from rag_service.report.comparisons import as_sentence, without_comparison
from rag_service.report.labeler import shared_labeler
from rag_service.report.phrases import normal_form
from rag_service.report.sentences import read_case_sentences

_BEFORE: Final = frozenset(
    """
    acute bibasilar bibasal bilateral left right sided small large mild moderate severe tiny trace massive minimal patchy focal
    streaky linear subsegmental discoid dense extensive diffuse hazy interstitial pulmonary pleural airspace lobe lobar basilar
    basal apical upper lower middle lung perihilar retrocardiac multiple calcified nodular rib
    """.split()
)
"""Words before a finding that belong to it, in `normal_form`."""
_PLACING: Final = frozenset({"in", "at", "within", "of", "on", "over"})
_PLACE: Final = frozenset(
    "zone base apex apice hemithorax field lingula hilum side region midlung lobe lung clavicle rib".split()
)
_PLACES: Final = _BEFORE | _PLACE | {"the", "both", "and"}
"""Words after a finding that may say where it lies; they end with one of _PLACE."""
_REMOVED: Final = re.compile(r"\bremov", re.IGNORECASE)
"""What is gone was seen on an earlier film."""
_OF_A_FIGURE: Final = re.compile(
    r"\b(x[- ]?rays?|radiographs?|radiography|films?|images?|cxr|figure|arrows?|panel|scan)\b", re.IGNORECASE
)
"""Words of a caption for the figure itself; of such a sentence only the words of the finding are learned."""

_STATES: Final = frozenset("is are was were appear appears normal clear within unremarkable intact size".split())
"""In the words of a finding: they are no name of it but a statement ("heart size is normal"), and stand for themselves."""


@dataclass(frozen=True)
class Target:
    """A sentence with the one thing it says. `mention`'s span is in `text`."""

    text: str
    mention: Mention

    @property
    def finding(self) -> str:
        """Of what it speaks."""
        return self.mention.finding

    @property
    def polarity(self) -> Polarity:
        """What it says of it."""
        return self.mention.polarity

    @property
    def side(self) -> Laterality | None:
        """On which side, if it says so."""
        return self.mention.laterality


def targets(text: str) -> list[Target]:
    """What is said in a report or caption, sentence by sentence, each finding by itself; each text once."""
    sentences = read_case_sentences(text, shared_labeler())
    return list({t.text: t for sentence in sentences for t in _of_sentence(sentence)}.values())


def _of_sentence(sentence: CaseSentence) -> Iterator[Target]:
    for finding in dict.fromkeys(m.finding for m in sentence.mentions if m.finding != NO_FINDING):
        about = [m for m in sentence.mentions if m.finding == finding]
        if len({m.polarity for m in about}) > 1:
            continue
        clause = without_comparison(sentence, finding)
        candidates = []
        if clause is not None and not _OF_A_FIGURE.search(clause.text):
            candidates.append(as_sentence(clause.text.rstrip(" .,;:")))
        if not _partial(about[0], clause) and not _STATES.intersection(_words(sentence, about[0])):
            candidates.append(_cut(sentence, about[0]))
        found = next((t for c in candidates if (t := _read(c, about[0])) is not None), None)
        if found is not None:
            yield found


def _read(text: str, said: Mention) -> Target | None:
    """The text as a target for what was said of a finding; None where it says anything else, or what no draft may say."""
    mentions = shared_labeler().read(text)
    if {m.finding for m in mentions} != {said.finding} or any(wording_objections(text)) or _REMOVED.search(text):
        return None
    sentence = CaseSentence(text, (0, len(text)), "findings", mentions)
    if extra_words(sentence) > MAX_EXTRA_WORDS:
        return None
    first = mentions[0]
    if any((m.polarity, m.laterality) != (said.polarity, said.laterality) or m.progression for m in mentions):
        return None
    return None if _partial(first, sentence) else Target(text, first)


def _partial(said: Mention, clause: CaseSentence | None) -> bool:
    """Whether a denial is of one degree or of a change alone, as in "no large effusion" and "no new effusion"."""
    return said.polarity is Polarity.NEGATIVE and (said.severity is not None or clause is None)


def _words(sentence: CaseSentence, mention: Mention) -> list[str]:
    start = sentence.span[0]
    return sentence.text[mention.span[0] - start : mention.span[1] - start].lower().split()


def _cut(sentence: CaseSentence, mention: Mention) -> str:
    """The words of a finding with those around it that belong to it, as a sentence of the same polarity."""
    start = sentence.span[0]
    before = sentence.text[: mention.span[0] - start].split()
    after = sentence.text[mention.span[1] - start :].split()
    denied = mention.polarity is Polarity.NEGATIVE
    words = [] if denied else [*_trailing(before, _BEFORE)]
    words.append(sentence.text[mention.span[0] - start : mention.span[1] - start])
    if not denied and after and after[0].lower() in _PLACING:
        words += _place(after)
    opening = {Polarity.NEGATIVE: "no ", Polarity.UNCERTAIN: "possible ", Polarity.POSITIVE: ""}[mention.polarity]
    phrase = " ".join(words).strip(" ,;.")
    return as_sentence(opening + (phrase if phrase[1:2].isupper() else phrase[:1].lower() + phrase[1:]))


def _place(after: Sequence[str]) -> list[str]:
    """The words after a finding up to the last that names a place, with the preposition before them; none where none does."""
    found = _leading(after[1:], _PLACES)
    while found and normal_form(found[-1]) not in _PLACE:
        found.pop()
    return [after[0], *found] if found else []


def _trailing(words: Sequence[str], known: frozenset[str]) -> list[str]:
    return _leading(words[::-1], known)[::-1]


def _leading(words: Sequence[str], known: frozenset[str]) -> list[str]:
    """The first words that are known ones, up to and with the first that ends in punctuation."""
    kept: list[str] = []
    for word in words:
        bare = word.strip(",;.:()").lower().replace("-sided", "")
        if normal_form(bare) not in known and bare not in known:
            break
        kept.append(word.strip(",;.:()"))
        if word[-1] in ",;.:)":
            break
    return kept
