"""Words of a report and phrases over them: tokens, a small phrase notation, and a trie that finds phrases fast.

Notation of a phrase: words in lower case; `[a|b]` is optional, `(a|b)` is one of; alternatives may be several words and
do not nest. "heart [size] (is|appears) enlarged" stands for four phrases. Words are compared after `normal_form`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Final, Generic, NamedTuple, TypeVar

TOKEN: Final = re.compile(r"[^\W_]+|[,;:.()/&+]")
ITEM: Final = re.compile(r"\[([^\]]*)\]|\(([^)]*)\)|(\S+)")

T = TypeVar("T")

# fmt: off
SPELLINGS: Final[Mapping[str, str]] = {
    "oedema": "edema", "oedematous": "edematous", "haemothorax": "hemothorax", "haemopneumothorax": "hemopneumothorax",
    "grey": "gray", "centre": "center", "tumour": "tumor", "calibre": "caliber", "vs": "versus", "w": "with",
    "opacities": "opacity", "densities": "density", "cavities": "cavity", "deformities": "deformity", "masses": "mass",
    "abnormalities": "abnormality", "pneumonias": "pneumonia", "diseases": "disease", "processes": "process",
    "pneumothoraces": "pneumothorax", "pneumothoraxes": "pneumothorax", "granulomata": "granuloma", "bases": "base",
    "silhouettes": "silhouette", "apices": "apex", "apexes": "apex", "hila": "hilum", "hili": "hilum", "sulci":
        "sulcus",
    "metastases": "metastasis", "prostheses": "prosthesis", "bronchopneumonia": "pneumonia", "fissures": "fissure",
    "cardiomegally": "cardiomegaly", "cardiomegalia": "cardiomegaly", "cardiomegaley": "cardiomegaly",
    "caridomegaly": "cardiomegaly", "cardiomegly": "cardiomegaly", "cardiomeagly": "cardiomegaly",
    "atelectesis": "atelectasis", "atelectatis": "atelectasis", "atelectases": "atelectasis", "atelectais":
        "atelectasis",
    "atlectasis": "atelectasis", "atelactasis": "atelectasis", "atelecatsis": "atelectasis", "atelectsis":
        "atelectasis",
    "pnemothorax": "pneumothorax", "pneumothroax": "pneumothorax", "pneumothorx": "pneumothorax",
    "pneumothoax": "pneumothorax", "pneumothoracies": "pneumothorax", "peumothorax": "pneumothorax",
    "pneumonthorax": "pneumothorax", "pneuomothorax": "pneumothorax", "pneumothorces": "pneumothorax",
    "effsion": "effusion", "effusion s": "effusion", "efusion": "effusion", "effussion": "effusion", "effuson":
        "effusion",
    "plueral": "pleural", "pleurual": "pleural", "pleual": "pleural", "consolodation": "consolidation",
    "consolidaton": "consolidation", "consolidatin": "consolidation", "consolidations": "consolidation",
    "infitrate": "infiltrate", "infilrate": "infiltrate", "inflitrate": "infiltrate", "infiltrates": "infiltrate",
    "pnuemonia": "pneumonia", "pneumona": "pneumonia", "pnemonia": "pneumonia", "penumonia": "pneumonia",
    "opacitiy": "opacity", "opactiy": "opacity", "opacites": "opacity", "opacty": "opacity", "fractue": "fracture",
    "silouette": "silhouette", "silhoutte": "silhouette", "silhouete": "silhouette", "sillhouette": "silhouette",
    "cardiomediastinum": "cardiomediastinal", "cardiomediastinal": "cardiomediastinal", "mediastium": "mediastinum",
    "unremarakable": "unremarkable", "unremakable": "unremarkable", "enlarge": "enlarged", "noraml": "normal",
    "pacemarker": "pacemaker", "catheters": "catheter", "cathether": "catheter", "cathetar": "catheter",
}
# fmt: on
"""British to American, irregular plurals, and typing errors seen in reports."""


class Token(NamedTuple):
    """A word in `normal_form` (or a punctuation mark) and its characters [start, end) of the text."""

    word: str
    start: int
    end: int


@lru_cache(maxsize=8192)
def normal_form(word: str) -> str:
    """Lower case, American spelling, typing errors mended, a plural s dropped."""
    lower = word.lower()
    if known := SPELLINGS.get(lower):
        return known
    if len(lower) > 3 and lower.endswith("s") and not lower.endswith(("ss", "us", "is")):
        return SPELLINGS.get(lower[:-1], lower[:-1])
    return lower


def tokens(text: str) -> list[Token]:
    """The words and punctuation of a text; hyphens only join words and are left out."""
    return [Token(normal_form(m.group()), m.start(), m.end()) for m in TOKEN.finditer(text)]


def expand(pattern: str) -> Iterator[tuple[str, ...]]:
    """Every phrase a pattern stands for, as words in `normal_form`."""
    choices: list[list[str]] = []
    for optional, one_of, word in ITEM.findall(pattern):
        if word:
            choices.append([word])
        else:
            choices.append([*(optional or one_of).split("|"), *([""] if optional else [])])
    for chosen in product(*choices):
        yield tuple(normal_form(w) for w in TOKEN.findall(" ".join(chosen)))


class Hit(NamedTuple, Generic[T]):
    """A phrase found: its value and the tokens [first, last) it covers."""

    value: T
    first: int
    last: int


class Trie(Generic[T]):
    """Phrases with values. `scan` costs at most the longest phrase per token, whatever the text."""

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._root: dict[Any, Any] = {}
        for pattern, value in entries:
            for words in expand(pattern):
                node = self._root
                for word in words:
                    node = node.setdefault(word, {})
                node.setdefault(None, value)

    def scan(self, words: Sequence[str]) -> list[Hit[T]]:
        """Longest phrases from left to right, none overlapping another."""
        hits: list[Hit[T]] = []
        at, size, starts = 0, len(words), self._root.get
        while at < size:
            node = starts(words[at])
            if node is None:
                at += 1
                continue
            last, value, ahead = at, None, at + 1
            while node is not None:
                if None in node:
                    last, value = ahead, node[None]
                if ahead == size:
                    break
                node, ahead = node.get(words[ahead]), ahead + 1
            if value is not None:
                hits.append(Hit(value, at, last))
            at = max(last, at + 1)
        return hits
