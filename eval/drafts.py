"""python -m eval drafts DIR: the drafts of studies against the reports that were written of them, controls beside.

Of every system, ours and the controls, the labeler reads the 14 observations in its text and in the reference report, as
CheXbert-F1 does with its own labeler; what a text hedges counts as stated. That is the headline. Beside it: hedges as absent, and
the hand-coded MeSH tags as reference. A film that is turned away is a report that says nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval import citations, controls, draft_checks, drafting, films, places_said, radfact, report_labels, scores
from eval.controls import Texts
from eval.drafting import Bench, Drafted, Study
from eval.overlap import overlap
from eval.readings import labels
from eval.report_labels import Bools, Floats
from knowledge_base.findings import FINDINGS, Polarity
from rag_service.report.draft import Status
from rag_service.report.entailment import judge
from rag_service.report.formats.grounded import GroundedSentence, sentences_of
from rag_service.report.formats.radfact import sample
from rag_service.report.labeler import NAME_VERSION
from rag_service.report.sentences import split_sentences

OURS: Final = "draft"
FLAGGED: Final = "draft, flagged counted"
HEADS: Final = "film heads, no text"
HEADLINE: Final = ("label_f1_macro", "label_f1_micro", "label_f1_example")


def measure(
    bench: Bench, found: Sequence[Study], tenant: str, *, laterals: bool, seed: int, samples: Path | None = None
) -> dict[str, Any]:
    """Everything `drafts --json` writes. `samples` is where drafts and reports go as RadFact's own program reads them."""
    service = bench.service()
    drafted = drafting.draft(service, found, laterals=laterals, told="drafting")
    if samples is not None:
        samples.write_text(json.dumps(for_radfact(drafted), indent=1), "utf-8")
    texts: dict[str, list[Texts]] = {
        OURS: [d.sentences for d in drafted],
        **{name: _written(bench, name, found, laterals) for name in bench.writers},
        "nearest report": controls.nearest(service, drafted, tenant),
        "constant normal report": [controls.NORMAL] * len(found),
        "random report": controls.drawn(found, seed),
    }
    wordless = {FLAGGED: _flagged(drafted), HEADS: controls.heads(bench.reader, found)}
    truth = _references(found)
    patients = ["/".join(s.patient) for s in found]
    systems = {n: _of_texts(t, found, truth, patients, seed) for n, t in texts.items()}
    systems |= {n: _of_labels(c, truth, patients, seed) for n, c in wordless.items()}
    ours = systems[OURS]["report"]
    return {
        **{name: ours[name] for name in HEADLINE},
        **citations.support(drafted),
        **_watched(drafted),
        "systems": systems,
        "per_finding": report_labels.per_finding(truth["report"], _called(texts[OURS])),
        "places_said": places_said.measure(texts[OURS], [s.sentences for s in found]),
        "radfact": _radfact(drafted, seed),
        "emission": _emission(drafted),
        "words_of": dict(sorted(Counter(f.source for d in drafted for f in d.draft.findings).items())),
        "seed": seed,
        "signature": _signature(bench, found, drafted, laterals),
    }


def _written(bench: Bench, name: str, found: Sequence[Study], laterals: bool) -> list[Texts]:
    """What another writer's drafts say."""
    return [d.sentences for d in drafting.draft(bench.written_by(name), found, laterals=laterals, told=name)]


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    abstained, checks = result["abstained"], result["checks"]
    lines = [
        f"{checks['drafts']} studies, {abstained['n']} films turned away ({_counts(abstained['reasons'])}), seed {result['seed']}",
        f"{'label-F1 against the report':28s} {'macro':>21s} {'micro':>21s} {'example':>7s} {'abnormal':>8s} {'made up':>8s}"
        f" {'BLEU-2':>6s} {'BLEU-4':>6s} {'ROUGE-L':>7s} {'METEOR':>6s}",
    ]
    lines += [_line(name, v) for name, v in result["systems"].items()]
    lines += [f"{'':28s} {'hedges absent':>21s} {'MeSH, hedges stated':>21s}   (macro / micro)"]
    lines += [_other(name, v) for name, v in result["systems"].items()]
    lines += _findings(result["per_finding"])
    lines += _sentences(result)
    return "\n".join(lines)


def _references(found: Sequence[Study]) -> dict[str, Floats]:
    """(n, 14) by reference: the report as the labeler reads it, hedges as stated and as absent, and MeSH, NaN where untagged."""
    read = [report_labels.stated(s.sentences) for s in found]
    return {
        "report": np.stack([report_labels.present(p) for p in read]).astype(np.float64),
        "hedges_absent": np.stack([report_labels.present(p, hedged=False) for p in read]).astype(np.float64),
        "mesh": labels([s.frontal for s in found]),
    }


def _called(texts: Sequence[Texts], *, hedged: bool = True) -> Bools:
    return np.stack([report_labels.present(report_labels.stated(t), hedged=hedged) for t in texts])


def _of_texts(
    texts: Sequence[Texts], found: Sequence[Study], truth: Mapping[str, Floats], patients: Sequence[str], seed: int
) -> dict[str, Any]:
    """A system that writes."""
    called = _called(texts)
    surely = report_labels.measure(truth["hedges_absent"], _called(texts, hedged=False), patients, seed)
    words = overlap([" ".join(t) for t in texts], [s.report.findings or s.report.impression for s in found])
    return _of_labels(called, truth, patients, seed) | {"hedges_absent": surely, "overlap": asdict(words)}


def _of_labels(called: Bools, truth: Mapping[str, Floats], patients: Sequence[str], seed: int) -> dict[str, Any]:
    """A system that names findings, against both references."""
    tagged = np.flatnonzero(~np.isnan(truth["mesh"]).all(1))
    of_tagged = [patients[i] for i in tagged.tolist()]
    return {
        "report": report_labels.measure(truth["report"], called, patients, seed),
        "mesh": report_labels.measure(truth["mesh"][tagged], called[tagged], of_tagged, seed) if len(tagged) else None,
    }


def _flagged(drafted: Sequence[Drafted]) -> Bools:
    """(n, 14) what drafts say, and what they only list to be looked for."""
    said = _called([d.sentences for d in drafted])
    listed = [{n.label for n in d.draft.not_assessed if n.possible} for d in drafted]
    return report_labels.with_normal(said | np.array([[f in names for f in FINDINGS] for names in listed]))


def for_radfact(drafted: Sequence[Drafted]) -> list[dict[str, Any]]:
    """Drafts with their boxes beside the sentences of the reports in which a finding is read, as RadFact's program reads them."""
    return [
        sample(
            d.study.frontal.study,
            sentences_of(d.draft),
            [GroundedSentence(text) for text in _found_in(d.study.sentences)],
        )
        for d in drafted
    ]


def _radfact(drafted: Sequence[Drafted], seed: int) -> dict[str, Any]:
    """RadFact's logical numbers; the reports have no boxes. A report's phrases are its sentences in which a finding is read."""
    samples = [
        radfact.Sample(d.study.frontal.study, _phrases(d.sentences), _phrases(_found_in(d.study.sentences)))
        for d in drafted
    ]
    return dict(radfact.measure(samples, judge, seed)["logical"])


def _phrases(sentences: Sequence[str]) -> tuple[radfact.Phrase, ...]:
    return tuple(radfact.Phrase(s) for s in sentences)


def _found_in(sections: Sequence[str]) -> list[str]:
    spans = [(text, start, end) for text in sections for start, end in split_sentences(text)]
    return [text[a:b] for text, a, b in spans if report_labels.mentions([text[a:b]])]


def _watched(drafted: Sequence[Drafted]) -> dict[str, Any]:
    """What must not be said, what was turned away, and how long a draft took."""
    made = [d for d in drafted if d.draft.status is Status.DRAFT]
    checks = draft_checks.counts([draft_checks.check(d.draft) for d in drafted])
    times = [d.milliseconds for d in made]
    reasons = Counter(r for d in drafted for r in d.draft.abstain_reasons)
    return {
        "comparison_without_prior": checks["compares"],
        "checks": checks,
        "p50_ms": float(np.median(times)) if times else None,
        "p95_ms": float(np.quantile(times, 0.95)) if times else None,
        "abstained": {"n": len(drafted) - len(made), "reasons": dict(sorted(reasons.items()))},
    }


def _emission(drafted: Sequence[Drafted]) -> dict[str, Any]:
    """How many findings are stated, hedged and denied, and why of the others nothing is said."""
    said = Counter(str(f.polarity) for d in drafted for f in d.draft.findings)
    silent = [n for d in drafted for n in d.draft.not_assessed]
    return {
        **{str(p): said[str(p)] for p in Polarity},
        "not_assessed": dict(sorted(Counter(n.reason for n in silent).items())),
        "listed_to_look_for": sum(n.possible for n in silent),
    }


def _signature(bench: Bench, found: Sequence[Study], drafted: Sequence[Drafted], laterals: bool) -> dict[str, Any]:
    made = drafted[0].draft.provenance
    return {
        "films": films.signature([s.frontal for s in found]),
        "model": bench.reader.encoder.record.id,
        "thresholds": made.thresholds,
        "knowledge_base": made.knowledge_base,
        "labeler": NAME_VERSION,
        "writer": None if bench.writer is None else bench.writer.id,
        "reference": "the labeler on both texts, hedges as stated",
        "views": "frontal and lateral" if laterals else "frontal",
        "bootstrap": scores.RESAMPLES,
        "time": "decode to draft, one film at a time, films decoded in this process",
    }


def _line(name: str, v: Mapping[str, Any]) -> str:
    r, words = v["report"], v.get("overlap")
    figures = (words["bleu"][1], words["bleu"][3], words["rouge_l"], words["meteor"]) if words else (None,) * 4
    overlaps = " ".join(f"{scores.shown(x):>{w}s}" for x, w in zip(figures, (6, 6, 7, 6), strict=True))
    return (
        f"{name:28s} {_with_interval(r, 'label_f1_macro')} {_with_interval(r, 'label_f1_micro')}"
        f" {scores.shown(r['label_f1_example']):>7s} {scores.shown(r['abnormal']['label_f1_macro']):>8s}"
        f" {scores.shown(r['hallucinated']['rate']):>8s} {overlaps}"
    )


def _other(name: str, v: Mapping[str, Any]) -> str:
    cells = [f"{_pair(v.get(reference)):>21s}" for reference in ("hedges_absent", "mesh")]
    return f"{name:28s} {' '.join(cells)}"


def _pair(r: Mapping[str, Any] | None) -> str:
    return "-" if r is None else f"{scores.shown(r['label_f1_macro'])} / {scores.shown(r['label_f1_micro'])}"


def _with_interval(r: Mapping[str, Any], name: str) -> str:
    low, high = r[f"{name}_ci"] or (None, None)
    return f"{scores.shown(r[name])} [{scores.shown(low)}, {scores.shown(high)}]"


def _findings(per_finding: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"{'finding':28s} {'F1':>6s} {'missed':>7s} {'of':>5s} {'falsely':>8s} {'of':>5s} {'said':>5s}"]
    for name, v in per_finding.items():
        shares = f"{scores.shown(v['missed']):>7s} {v['positives']:5d} {scores.shown(v['falsely_said']):>8s} {v['negatives']:5d}"
        lines.append(f"{name:28s} {scores.shown(v['f1']):>6s} {shares} {v['said']:5d}")
    return lines


def _sentences(result: Mapping[str, Any]) -> list[str]:
    cited, checks, told, where, fact = (result[k] for k in ("cited", "checks", "emission", "places_said", "radfact"))
    said = ", ".join(f"{told[str(p)]} {p}" for p in Polarity)
    return [
        f"in the words of: {_counts(result['words_of'])}",
        f"said: {said}; listed to look for {told['listed_to_look_for']}; not assessed: {_counts(told['not_assessed'])}",
        f"citation precision {scores.shown(result['citation_precision'])} of {cited['citations']} citations, recall"
        f" {scores.shown(result['citation_recall'])} of {cited['sentences']} sentences; unsupported positives"
        f" {result['unsupported_positives']} of {cited['positives']}",
        f"RadFact, logical, by rule: precision {scores.shown(fact['precision'])}, recall {scores.shown(fact['recall'])}, F1"
        f" {scores.shown(fact['f1'])}",
        f"of {checks['drafts']} drafts: comparison without a prior {checks['compares']}, repeated phrase {checks['repeats']}, sides"
        f" that clash {checks['sides_clash']}, impression that differs {checks['impression_differs']}, placeholder"
        f" {checks['placeholder']}",
        f"side right {_of(where['side'])}, place right {_of(where['place'])}, side left out {where['side_left_out']['n']} of"
        f" {where['side_left_out']['of']}",
        f"a draft takes {scores.shown(result['p50_ms'], 0)} ms (p95 {scores.shown(result['p95_ms'], 0)})",
    ]


def _of(share: Mapping[str, Any]) -> str:
    return f"{scores.shown(share['share'])} of {share['of']}"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in found.items()) or "none"
