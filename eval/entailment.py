"""How well a judge tells what follows from what: on constructed pairs, on pairs judged by hand, and on reports with their tags.

Constructed pairs share the engine's idea of entailment. Pairs judged by hand do not, and neither do the tags that indexers gave
to Open-i's reports: a report makes its tags true, and none that its study lacks. The labeler's phrases were tuned on tags of the
same collection. A report's own sentences, and their opposites, only try that nothing is lost on the way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval.entailment_examples import EXAMPLES
from eval.entailment_pairs import Pair, pairs
from knowledge_base.findings import NO_FINDING, Polarity
from rag_service.datasets import openi
from rag_service.datasets.mesh import Tag, meant
from rag_service.report.aspects import Verdict
from rag_service.report.entailment import Judge
from rag_service.report.fixed_sentences import NAMES, fixed_sentence
from rag_service.report.labeler import shared_labeler
from rag_service.report.sentences import REQUEST, read_case_sentences

SIDES: Final = ("left", "right", "bilateral")
SETS: Final = ("constructed", "by_hand", "reports")


def measure(judge: Judge, folder: Path | None, limit: int | None, seed: int) -> dict[str, Any]:
    """Each set of pairs: how many, the share judged right, by kind, and what was answered for each right verdict."""
    of_reports = [] if folder is None else reports(folder, limit, seed)
    judged = dict(zip(SETS, (pairs(), EXAMPLES, of_reports), strict=True))
    return {
        "sets": {name: _of_set(given, judge) for name, given in judged.items() if given},
        "signature": {"seed": seed, "limit": limit, "labeler": shared_labeler().NAME_VERSION},
    }


def reports(folder: Path, limit: int | None, seed: int) -> list[Pair]:
    """Pairs of Open-i's reports, `limit` of them drawn by seed: tags, absent tags, own sentences and their opposites."""
    found = [r for _, r in sorted(openi.reports(openi.archive_of(folder)).items()) if r.text and r.labels]
    random = np.random.default_rng(seed)
    drawn = [found[i] for i in random.permutation(len(found))[:limit]]
    return [pair for report in drawn for pair in _of_report(report, random)]


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines: list[str] = []
    for name, found in result["sets"].items():
        lines.append(f"{name}: {found['right']} of {found['n']} right ({found['accuracy']:.3f})")
        lines += [f"  {kind:14s} {k['right']:5d} of {k['n']:5d}" for kind, k in found["kinds"].items()]
        for expected, given in found["confusion"].items():
            lines.append(f"  {expected:14s} judged " + ", ".join(f"{v} {n}" for v, n in given.items()))
    return "\n".join(lines)


def _of_set(given: Sequence[Pair], judge: Judge) -> dict[str, Any]:
    answered = [(p, judge(p.premises, p.hypothesis)) for p in given]
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for pair, verdict in answered:
        confusion[pair.verdict][verdict] += 1
        kinds[pair.kind].update({"n": 1, "right": int(_right(pair, verdict))})
    right = sum(_right(p, v) for p, v in answered)
    return {
        "n": len(answered),
        "right": right,
        "accuracy": right / len(answered),
        "kinds": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
        "confusion": {str(v): {str(w): confusion[v][w] for w in Verdict} for v in Verdict},
    }


def _right(pair: Pair, verdict: Verdict) -> bool:
    """Of a tag that a study lacks nobody knows whether its report denies it: only entailment is wrong."""
    if pair.kind == ABSENT:
        return verdict is not Verdict.ENTAILED
    return verdict is pair.verdict


TAGGED: Final = "tag"
TAGGED_SIDE: Final = "tag and side"
ABSENT: Final = "absent tag"
OWN: Final = "own sentence"
OPPOSITE: Final = "its opposite"


def _of_report(report: openi.Report, random: np.random.Generator) -> Iterator[Pair]:
    text = (report.text,)
    for finding, side in _tagged(report.tags):
        if side is None:
            yield Pair(text, fixed_sentence(finding, Polarity.POSITIVE), Verdict.ENTAILED, TAGGED)
        else:
            yield Pair(text, f"{side.capitalize()} {NAMES[finding]}.", Verdict.ENTAILED, TAGGED_SIDE)
    absent = [f for f in NAMES if not report.labels[f]]
    chosen = absent[int(random.integers(len(absent)))]
    yield Pair(text, fixed_sentence(chosen, Polarity.POSITIVE), Verdict.NEUTRAL, ABSENT)
    yield from _own(report.text, random)


def _own(text: str, random: np.random.Generator) -> Iterator[Pair]:
    """One sentence of a report, and the denial of what it states or the statement of what it denies."""
    said = [s for s in read_case_sentences(text, shared_labeler()) if s.section not in REQUEST]
    sure = [s for s in said if len(s.mentions) == 1 and s.mentions[0].finding != NO_FINDING]
    sure = [s for s in sure if s.mentions[0].polarity is not Polarity.UNCERTAIN and s.mentions[0].severity is None]
    if not sure:
        return
    chosen = sure[int(random.integers(len(sure)))]
    mention = chosen.mentions[0]
    opposite = Polarity.POSITIVE if mention.polarity is Polarity.NEGATIVE else Polarity.NEGATIVE
    yield Pair((text,), chosen.text, Verdict.ENTAILED, OWN)
    yield Pair((chosen.text,), fixed_sentence(mention.finding, opposite), Verdict.CONTRADICTED, OPPOSITE)


def _tagged(tags: Sequence[str]) -> list[tuple[str, str | None]]:
    """What tags say: each finding, and with its side where the tag has one."""
    found: dict[tuple[str, str | None], None] = {}
    for tag in map(Tag.parse, tags):
        for finding in sorted(meant(tag) & set(NAMES)):
            found[finding, None] = None
            found.update({(finding, side): None for side in SIDES if side in tag.qualifiers})
    return list(found)
