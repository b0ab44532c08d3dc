"""Citation recall and precision as ALCE defines them (Gao et al., EMNLP 2023), with any judge of entailment.

A sentence is supported when its quotes together make it true. A citation is right when its sentence is supported and it is needed:
alone it makes the sentence true, or without it the others do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag_service.report.aspects import Verdict
from rag_service.report.entailment import Judge


@dataclass(frozen=True)
class Cited:
    """A sentence with what it quotes."""

    sentence: str
    quotes: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """Whether a sentence is supported, and which of its citations are right."""

    supported: bool
    right: tuple[bool, ...]


def judge_sentence(cited: Cited, judge: Judge) -> Judged:
    """One sentence; without a quote it is not supported."""

    def holds(quotes: Sequence[str]) -> bool:
        return bool(quotes) and judge(quotes, cited.sentence) is Verdict.ENTAILED

    if not holds(cited.quotes):
        return Judged(False, (False,) * len(cited.quotes))
    others = [(*cited.quotes[:i], *cited.quotes[i + 1 :]) for i in range(len(cited.quotes))]
    return Judged(True, tuple(holds((q,)) or not holds(rest) for q, rest in zip(cited.quotes, others, strict=True)))


def recall(judged: Sequence[Judged]) -> float | None:
    """Share of sentences that are supported; None without a sentence."""
    return sum(j.supported for j in judged) / len(judged) if judged else None


def precision(judged: Sequence[Judged]) -> float | None:
    """Share of citations that are right; None without a citation."""
    right = [r for j in judged for r in j.right]
    return sum(right) / len(right) if right else None
