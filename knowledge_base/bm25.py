"""Words as sparse vectors: the tokenizer shared by reports and guidelines, and BM25 document and query vectors.

The inverse document frequency is not in the document vector: the store multiplies it in when it searches, over the
documents the asker may see, ln((N - n + 0.5) / (n + 0.5) + 1).
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

import numpy as np

from knowledge_base.schema import TermWeights
from knowledge_base.store import SparseVector

STOP_WORDS: Final = re.compile(
    "a|an|and|are|as|at|be|been|by|for|from|has|have|in|is|it|its|of|on|or|that|the|this|to|was|were|will|with"
)
"""Function words only. Negations ("no", "not", "without", "nor") carry a report's meaning and stay."""

_IRREGULAR: Final = {
    "apices": "apex",
    "atelectases": "atelectasis",
    "bronchi": "bronchus",
    "calculi": "calculus",
    "diagnoses": "diagnosis",
    "emphases": "emphasis",
    "fibroses": "fibrosis",
    "hila": "hilum",
    "metastases": "metastasis",
    "pneumothoraces": "pneumothorax",
    "stenoses": "stenosis",
    "vertebrae": "vertebra",
}
_WORD: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")


def terms(text: str) -> list[str]:
    """Search terms of a text in reading order: NFKC lower-case words, stop words dropped, plurals folded.

    Runs of Japanese, Chinese or Korean script, which write no spaces, become overlapping pairs of characters.
    """
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        start = 0
        for run in _UNSPACED.finditer(word):
            found.extend(_spaced(word[start : run.start()]))
            found.extend(_pairs(run.group()))
            start = run.end()
        found.extend(_spaced(word[start:]))
    return found


def _spaced(word: str) -> list[str]:
    """The term of a space-delimited word: none for a stop word or a lone letter."""
    if not word or STOP_WORDS.fullmatch(word) or (len(word) == 1 and word.isalpha()):
        return []
    return [stem(word)]


def _pairs(run: str) -> list[str]:
    """Overlapping character pairs of a run written without spaces; the character itself when it stands alone."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Fold an English plural onto its singular: opacities -> opacity, masses -> mass, effusions -> effusion."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


@lru_cache(maxsize=65_536)
def term_id(term: str) -> int:
    """A stable 32-bit id of a term: BLAKE2b of its UTF-8 bytes, the same on every machine and in every release."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "big")


def document_vector(text: str, weights: TermWeights) -> SparseVector | None:
    """Saturated term frequencies tf (k1+1) / (tf + k1 (1 - b + b len/average)); None for a text without terms."""
    words = terms(text)
    if not words:
        return None
    norm = weights.k1 * (1.0 - weights.b + weights.b * len(words) / weights.average_terms)
    summed: dict[int, float] = {}
    for term, tf in Counter(words).items():
        identity = term_id(term)
        summed[identity] = summed.get(identity, 0.0) + tf * (weights.k1 + 1.0) / (tf + norm)
    return _sparse(summed)


def query_vector(text: str) -> SparseVector | None:
    """Weight 1 for each distinct term of the question; None for a text without terms."""
    return _sparse({term_id(t): 1.0 for t in terms(text)})


def idf(documents: int, containing: int) -> float:
    """Qdrant's inverse document frequency, ln((N - n + 0.5) / (n + 0.5) + 1): positive for every n <= N."""
    return math.log((documents - containing + 0.5) / (containing + 0.5) + 1.0)


def _sparse(weights: dict[int, float]) -> SparseVector | None:
    if not weights:
        return None
    order = sorted(weights)
    return SparseVector(np.array(order, np.uint32), np.array([weights[i] for i in order], np.float32))
