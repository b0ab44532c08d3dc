"""Overlap of words between texts: BLEU, ROUGE-L, METEOR. Reported because others report it, never steered by.

One constant normal report beats published systems on it. Words are runs of letters and digits in lower case.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from knowledge_base.bm25 import stem

_WORD: Final = re.compile(r"[a-z0-9]+")
ORDERS: Final = 4
_RECALL_SHARE, _FRAGMENT_WEIGHT, _FRAGMENT_POWER = 0.9, 0.5, 3


@dataclass(frozen=True)
class Overlap:
    """Means over pairs of texts but for BLEU-1 to BLEU-4, which pool the pairs' counts; all in [0, 1]."""

    bleu: tuple[float, ...]
    rouge_l: float
    meteor: float


def words(text: str) -> list[str]:
    """The words of a text."""
    return _WORD.findall(text.lower())


def overlap(candidates: Sequence[str], references: Sequence[str]) -> Overlap:
    """Of pairs of texts, row by row."""
    pairs = [(words(c), words(r)) for c, r in zip(candidates, references, strict=True)]
    rouge, meteors = ([score(c, r) for c, r in pairs] for score in (rouge_l, meteor))
    return Overlap(bleu(pairs), sum(rouge) / max(len(pairs), 1), sum(meteors) / max(len(pairs), 1))


def bleu(pairs: Sequence[tuple[list[str], list[str]]]) -> tuple[float, ...]:
    """BLEU-1 to BLEU-4 of (candidate, reference) pairs: geometric mean of the clipped precisions, pooled and not smoothed, times
    the brevity penalty (Papineni et al., ACL 2002).
    """
    long, short = sum(len(r) for _, r in pairs), sum(len(c) for c, _ in pairs)
    if not short:
        return (0.0,) * ORDERS
    penalty = min(1.0, math.exp(1.0 - long / short))
    precisions = [_precision(pairs, n) for n in range(1, ORDERS + 1)]
    return tuple(penalty * math.prod(precisions[:n]) ** (1.0 / n) for n in range(1, ORDERS + 1))


def rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence (Lin, 2004)."""
    row = [0] * (len(reference) + 1)
    for word in candidate:
        before = row.copy()
        for j, other in enumerate(reference, 1):
            row[j] = before[j - 1] + 1 if word == other else max(before[j], row[j - 1])
    return 2.0 * row[-1] / (len(candidate) + len(reference)) if row[-1] else 0.0


def meteor(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """METEOR without synonyms: words match as they are, then less their plural. Parameters of Banerjee and Lavie, 2005."""
    matched = _aligned(candidate, reference)
    if not matched:
        return 0.0
    precision, recall = len(matched) / len(candidate), len(matched) / len(reference)
    mean = precision * recall / (_RECALL_SHARE * precision + (1.0 - _RECALL_SHARE) * recall)
    ordered = sorted(matched.items())
    chunks = 1 + sum(b != (a[0] + 1, a[1] + 1) for a, b in pairwise(ordered))
    return float(mean * (1.0 - _FRAGMENT_WEIGHT * (chunks / len(matched)) ** _FRAGMENT_POWER))


def _precision(pairs: Sequence[tuple[list[str], list[str]]], n: int) -> float:
    shared = total = 0
    for candidate, reference in pairs:
        said, wanted = _ngrams(candidate, n), _ngrams(reference, n)
        shared += (said & wanted).total()
        total += said.total()
    return shared / total if total else 0.0


def _ngrams(text: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))


def _aligned(candidate: Sequence[str], reference: Sequence[str]) -> dict[int, int]:
    """Candidate position -> reference position, each once: next to the match before where that is possible, else the first."""
    matched: dict[int, int] = {}
    for form in (str, stem):
        left, right = [form(w) for w in candidate], [form(w) for w in reference]
        for i, word in enumerate(left):
            free = [j for j, other in enumerate(right) if other == word and j not in matched.values()]
            if i not in matched and free:
                after = matched.get(i - 1, -2) + 1
                matched[i] = after if after in free else free[0]
    return matched
