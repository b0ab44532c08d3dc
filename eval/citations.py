"""python -m eval citations DIR: do the citations bear out what drafts say, are they what they claim, and does a draft rest on them?

ALCE's recall and precision by the entailment engine; every quote against the record it names; what changes when the cited cases
may not be found; and what happens when a share of what is found was never looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import numpy as np

from eval import alce, draft_checks, drafting, films, report_labels, scores
from eval.altered_search import Noisy, Without, strangers
from eval.drafting import Bench, Drafted, Study
from eval.overlap import words
from knowledge_base.findings import Polarity
from knowledge_base.records import Case
from rag_service.report.draft import Finding
from rag_service.report.entailment import judge
from rag_service.service import RadiographService

SHARES: Final = (0.25, 0.5, 0.75)
"""Of the cases found, exchanged for others."""
POOL: Final = 500
PIECE: Final = 3
"""Words in a row that a quote put together from pieces has from its record."""


def measure(bench: Bench, found: Sequence[Study], tenant: str, seed: int) -> dict[str, Any]:
    """Everything `citations --json` writes."""
    service = bench.service()
    drafted = drafting.draft(service, found, laterals=False, told="drafting")
    return {
        **support(drafted),
        "quotes": _quotes(service, drafted, tenant),
        "comparison_without_prior": draft_checks.counts([draft_checks.check(d.draft) for d in drafted])["compares"],
        "without_cited": _without_cited(bench, drafted),
        "noise": _noise(bench, found, drafted, tenant, seed),
        "studies": len(found),
        "seed": seed,
        "signature": {
            "films": films.signature([s.frontal for s in found]),
            "model": bench.reader.encoder.record.id,
            "knowledge_base": drafted[0].draft.provenance.knowledge_base,
        },
    }


def support(drafted: Sequence[Drafted]) -> dict[str, Any]:
    """ALCE over all sentences of all drafts, and the positive or hedged ones that their quotes do not bear out, or have none."""
    said = [f for d in drafted for f in d.draft.findings]
    judged = [alce.judge_sentence(alce.Cited(f.sentence, tuple(c.quote for c in f.citations)), judge) for f in said]
    affirmed = [(f, j) for f, j in zip(said, judged, strict=True) if f.polarity is not Polarity.NEGATIVE]
    return {
        "citation_precision": alce.precision(judged),
        "citation_recall": alce.recall(judged),
        "unsupported_positives": sum(not j.supported for _, j in affirmed),
        "uncited_positives": sum(not f.citations for f, _ in affirmed),
        "cited": {
            "sentences": len(judged),
            "citations": sum(len(j.right) for j in judged),
            "positives": len(affirmed),
        },
    }


def fault(quote: str, span: tuple[int, int], text: str, others: Sequence[str]) -> str | None:
    """What is wrong with a quote of `text`: misplaced (it stands elsewhere in it), misattributed (in another cited record),
    frankenquote (in pieces), fabricated; None when it is verbatim.
    """
    if text[slice(*span)] == quote:
        return None
    if quote in text:
        return "misplaced"
    if any(quote in o for o in others):
        return "misattributed"
    return "frankenquote" if _in_pieces(words(quote), words(text)) else "fabricated"


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    cited, quotes, without = result["cited"], result["quotes"], result["without_cited"]
    faults = ", ".join(f"{name} {n}" for name, n in quotes["faults"].items()) or "none"
    lines = [
        f"{result['studies']} studies, seed {result['seed']}",
        f"precision {scores.shown(result['citation_precision'])} of {cited['citations']} citations, recall"
        f" {scores.shown(result['citation_recall'])} of {cited['sentences']} sentences",
        f"positives: {cited['positives']}, of them uncited {result['uncited_positives']}, unsupported"
        f" {result['unsupported_positives']}; drafts that compare without a prior: {result['comparison_without_prior']}",
        f"quotes: {quotes['checked']} checked, not verbatim: {faults}; of the film's own patient: {quotes['own_patient']}",
        f"without the cited cases, of {without['findings']} findings: {without['same_words']} in the same words by other cases,"
        f" {without['other_words']} in other words, {without['other_polarity']} stated otherwise, {without['unsaid']} unsaid",
        f"{'noise':>6s} {'macro-F1':>9s} {'micro-F1':>9s} {'precision':>10s} {'recall':>7s} {'said':>6s}"
        f" {'same words':>10s} {'strangers cited':>15s}",
    ]
    lines += [
        f"{share:>6s} {scores.shown(v['label_f1_macro']):>9s} {scores.shown(v['label_f1_micro']):>9s}"
        f" {scores.shown(v['citation_precision']):>10s} {scores.shown(v['citation_recall']):>7s} {v['said']:6d}"
        f" {v['same_words']:10d} {v['of_pool']:15d}"
        for share, v in result["noise"].items()
    ]
    return "\n".join(lines)


def _quotes(service: RadiographService, drafted: Sequence[Drafted], tenant: str) -> dict[str, Any]:
    """Every citation of a case against the case it names."""
    faults: Counter[str] = Counter()
    checked = own = 0
    for d in drafted:
        cited = [c for f in d.draft.findings for c in f.citations if c.kind == "case"]
        cases = {c.id: service.case(UUID(c.id), tenant) for c in cited}
        own += sum((cases[c.id].source, cases[c.id].patient) == d.study.patient for c in cited)
        for c in cited:
            others = [case.text for key, case in cases.items() if key != c.id]
            faults.update(filter(None, [fault(c.quote, c.span, cases[c.id].text, others)]))
        checked += len(cited)
    return {"checked": checked, "faults": dict(sorted(faults.items())), "own_patient": own}


def _without_cited(bench: Bench, drafted: Sequence[Drafted]) -> dict[str, int]:
    """Each film drafted again when none of the cases that its draft cites may be found: what becomes of its findings."""
    outcome: Counter[str] = Counter()
    for d in drafted:
        cited = {UUID(c.id) for f in d.draft.findings for c in f.citations if c.kind == "case"}
        memory = replace(bench.memory, cases=Without(bench.memory.cases, cited))
        (again,) = drafting.draft(bench.service(memory), [d.study], laterals=False)
        found = {f.label: f for f in again.draft.findings}
        outcome.update(_changed(f, found.get(f.label)) for f in d.draft.findings)
    names = ("same_words", "other_words", "other_polarity", "unsaid")
    return {name: outcome[name] for name in names} | {"findings": outcome.total()}


def _changed(before: Finding, after: Finding | None) -> str:
    if after is None:
        return "unsaid"
    if after.polarity is not before.polarity:
        return "other_polarity"
    return "same_words" if after.sentence == before.sentence else "other_words"


def _noise(
    bench: Bench, found: Sequence[Study], drafted: Sequence[Drafted], tenant: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Share of the found cases exchanged -> label-F1 and citations of the drafts."""
    pool = strangers(bench.memory.store, tenant, POOL, seed)
    curve = {"0": _figures(found, drafted) | _moved(drafted, drafted, pool)}
    for share in SHARES if pool else ():
        noisy = replace(bench.memory, cases=Noisy(bench.memory.cases, pool, share, seed))
        again = drafting.draft(bench.service(noisy), found, laterals=False, told=f"{share:.0%} exchanged")
        curve[f"{share:g}"] = _figures(found, again) | _moved(drafted, again, pool)
    return curve


def _moved(before: Sequence[Drafted], after: Sequence[Drafted], pool: Sequence[Case]) -> dict[str, int]:
    """Findings that keep their words, and citations of cases of the pool, which may be found without noise too."""
    ids = {str(c.id) for c in pool}
    kept = sum(len(set(b.sentences) & set(a.sentences)) for b, a in zip(before, after, strict=True))
    cited = [c for a in after for f in a.draft.findings for c in f.citations]
    return {"same_words": kept, "of_pool": sum(c.id in ids for c in cited)}


def _figures(found: Sequence[Study], drafted: Sequence[Drafted]) -> dict[str, Any]:
    truth = np.stack([report_labels.present(report_labels.stated(s.sentences)) for s in found]).astype(np.float64)
    called = np.stack([report_labels.present(report_labels.stated(d.sentences)) for d in drafted])
    supported = support(drafted)
    return {
        "label_f1_macro": scores.macro_f1(truth, called),
        "label_f1_micro": report_labels.micro_f1(truth, called),
        "citation_precision": supported["citation_precision"],
        "citation_recall": supported["citation_recall"],
        "said": sum(len(d.draft.findings) for d in drafted),
    }


def _in_pieces(quote: Sequence[str], text: Sequence[str]) -> bool:
    """Whether every word of the quote lies in PIECE words in a row that the text has too."""
    runs = {tuple(text[i : i + PIECE]) for i in range(len(text) - PIECE + 1)}
    covered: set[int] = set()
    for i in range(len(quote) - PIECE + 1):
        if tuple(quote[i : i + PIECE]) in runs:
            covered.update(range(i, i + PIECE))
    return len(covered) == len(quote)
