"""python -m eval calibration DIR: calibrators compared, conformal coverage, and tiers, on films none of them was fitted to.

Everything is fitted to the calibration sample that the model's calibration carries; the films of DIR only measure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval import films, scores, tiers
from eval.labels import Predictions, Studies, by_study, scorable
from eval.scores import shown
from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration, FindingCalibration
from rag_service.calibrators import FAMILIES, Calibrator, Temperature, log_loss
from rag_service.conformal import cutoffs, expected_coverage

Floats = NDArray[np.float64]

LEVELS: Final = (0.2, 0.1, 0.05)
UNCALIBRATED: Final = "uncalibrated"
CHOSEN: Final = "chosen"
PERFECT_DRAWS: Final = 50
_FIGURES: Final = ("brier", "ece", "log_loss")


def measure(predictions: Predictions, calibration: Calibration, seed: int) -> dict[str, Any]:
    """Everything `calibration --json` writes. Calibrators are measured by study, conformal sets by film, as they are fitted."""
    predictions = scorable(predictions)
    methods = {name: _by_study(predictions, c) for name, c in _calibrators(calibration).items()}
    chosen = methods[CHOSEN]
    tier_table = tiers.measure(chosen.labels, chosen.p, chosen.raw, chosen.spread, chosen.radius, calibration)
    return {
        "methods": {name: _method(studies, seed) for name, studies in methods.items()},
        "chosen_kind": {f: calibration.findings[f].calibrator.kind for f in FINDINGS},
        "ece_of_perfect": perfect_ece(chosen, seed),
        "reliability": {f: _curve(chosen, i) for i, f in enumerate(FINDINGS)},
        "conformal": {f"{1 - level:g}": _conformal(predictions, calibration, level) for level in LEVELS},
        "tiers": tier_table,
        "tiers_monotone": tiers.monotone(tier_table),
        "n_films": len(predictions.rows),
        "n_studies": len(chosen.p),
        "n_fitted": {f: calibration.findings[f].films for f in FINDINGS},
        "seed": seed,
        "signature": {
            "films": films.signature(list(predictions.rows)),
            "model": calibration.model,
            "thresholds": calibration.digest,
            "fitted_to": calibration.sample,
            "bootstrap": scores.RESAMPLES,
            "ece": f"equal mass, {scores.ECE_BINS} bins",
        },
    }


def perfect_ece(studies: Studies, seed: int) -> float | None:
    """The ECE macro that these very probabilities would show were they exact: labels are drawn from them, PERFECT_DRAWS times.

    With so few studies a bin the error of chance is not zero; a measured figure near this one cannot be bettered.
    """
    rng = np.random.default_rng(seed)
    unknown = np.isnan(studies.labels)
    drawn = (np.where(unknown, np.nan, rng.random(studies.p.shape) < studies.p) for _ in range(PERFECT_DRAWS))
    return scores.mean_known([scores.macro(scores.ece, labels, studies.p) for labels in drawn])


def table(result: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{result['n_films']} films, {result['n_studies']} studies, seed {result['seed']}; fitted to"
        f" {result['signature']['fitted_to']}",
        f"{'calibrator':14s} {'Brier':>7s} {'ECE':>7s} {'log loss':>8s}   Brier 95 %",
    ]
    for name, v in result["methods"].items():
        low, high = v["brier_ci"] or (None, None)
        figures = f"{shown(v['brier'], 4):>7s} {shown(v['ece'], 4):>7s} {shown(v['log_loss'], 4):>8s}"
        lines.append(f"{name:14s} {figures}   [{shown(low, 4)}, {shown(high, 4)}]")
    lines.append(f"ECE of exact probabilities at this size: {shown(result['ece_of_perfect'], 4)}")
    lines += [*_finding_lines(result), *_conformal_lines(result)]
    for tier, v in result["tiers"].items():
        lines.append(f"tier {tier:7s} accuracy {shown(v['accuracy'])} of {v['statements']} statements")
    lines.append(f"accuracy falls from tier to tier: {'yes' if result['tiers_monotone'] else 'NO'}")
    return "\n".join(lines)


def _finding_lines(result: dict[str, Any]) -> list[str]:
    names = list(result["methods"])
    lines = ["ECE by finding", f"{'finding':28s} {'kind':>11s} " + " ".join(f"{n[:9]:>9s}" for n in names)]
    for finding, kind in result["chosen_kind"].items():
        figures = (shown(result["methods"][n]["per_label"][finding]["ece"]) for n in names)
        lines.append(f"{finding:28s} {kind:>11s} " + " ".join(f"{v:>9s}" for v in figures))
    return lines


def _conformal_lines(result: dict[str, Any]) -> list[str]:
    lines = [
        f"{'conformal':>9s} {'covered':>8s} {'present':>8s} {'absent':>8s} {'size':>6s} {'single':>7s} {'empty':>6s}"
    ]
    for nominal, v in result["conformal"].items():
        covered = (v["coverage"], v["present"]["coverage"], v["absent"]["coverage"])
        figures = " ".join(f"{shown(c):>8s}" for c in covered)
        lines.append(
            f"{nominal:>9s} {figures} {shown(v['size'], 2):>6s} {shown(v['singletons']):>7s} {shown(v['empty']):>6s}"
        )
        expected = " ".join(f"{shown(c):>8s}" for c in (v["present"]["expected"], v["absent"]["expected"]))
        lines.append(f"{'expected':>9s} {'':>8s} {expected}")
    return lines


def _calibrators(calibration: Calibration) -> dict[str, list[Calibrator]]:
    """One calibrator a finding by method, each fitted to the calibration sample alone."""
    entries = [calibration.findings[f] for f in FINDINGS]
    samples = [(np.array(e.scores), np.array(e.outcomes, np.float64)) for e in entries]
    fitted: dict[str, list[Calibrator]] = {f.kind: [f.fit(*s) for s in samples] for f in FAMILIES}
    return {UNCALIBRATED: [Temperature(1.0)] * len(entries), **fitted, CHOSEN: [e.calibrator for e in entries]}


def _by_study(predictions: Predictions, fitted: list[Calibrator]) -> Studies:
    p = np.stack([c.p(predictions.raw[:, i]) for i, c in enumerate(fitted)], axis=1)
    return by_study(replace(predictions, p=p))


def _method(studies: Studies, seed: int) -> dict[str, Any]:
    per_label = {f: _label(studies, i) for i, f in enumerate(FINDINGS)}
    means = {name: scores.mean_known([v[name] for v in per_label.values()]) for name in _FIGURES}
    brier_ci = scores.interval(
        studies.patients, lambda rows: scores.macro(scores.brier, studies.labels[rows], studies.p[rows]), seed
    )
    return {**means, "brier_ci": brier_ci, "per_label": per_label}


def _label(studies: Studies, index: int) -> dict[str, Any]:
    labels, p = _known(studies, index)
    if not len(labels):
        return {**dict.fromkeys(_FIGURES), "positives": 0, "studies": 0}
    return {
        "brier": scores.brier(labels, p),
        "ece": scores.ece(labels, p),
        "log_loss": float(log_loss(p, labels).mean()),
        "positives": int(labels.sum()),
        "studies": len(labels),
    }


def _curve(studies: Studies, index: int) -> list[dict[str, Any]]:
    """The reliability diagram of one finding: bins of equal mass, mean probability against share of positives."""
    labels, p = _known(studies, index)
    parts = np.array_split(np.argsort(p, kind="stable"), scores.ECE_BINS)
    return [{"p": float(p[b].mean()), "share": float(labels[b].mean()), "n": len(b)} for b in parts if len(b)]


def _known(studies: Studies, index: int) -> tuple[Floats, Floats]:
    known = ~np.isnan(studies.labels[:, index])
    return studies.labels[known, index], studies.p[known, index]


def _conformal(predictions: Predictions, calibration: Calibration, level: float) -> dict[str, Any]:
    """Coverage over films and findings, by class, and the size of the sets; per finding too."""
    labels = np.array([[float(r.labels[f]) if f in r.labels else np.nan for f in FINDINGS] for r in predictions.rows])
    entries = [calibration.findings[f] for f in FINDINGS]
    per_label = {f: _sets(predictions.raw[:, i], labels[:, i], entries[i], level) for i, f in enumerate(FINDINGS)}
    every = np.concatenate(list(per_label.values()))
    expected = {outcome: _expected(every, per_label, calibration, outcome, level) for outcome in (0, 1)}
    return {
        **_sizes(every),
        "present": {**_covered(every[every[:, 0] == 1]), "expected": expected[1]},
        "absent": {**_covered(every[every[:, 0] == 0]), "expected": expected[0]},
        "per_label": {f: _sizes(sets) for f, sets in per_label.items()},
    }


def _sets(raw: Floats, labels: Floats, entry: FindingCalibration, level: float) -> NDArray[np.int64]:
    """(n, 3) of the films whose label is known: label, whether the set holds present, whether it holds absent."""
    known = ~np.isnan(labels)
    limits = cutoffs(np.array(entry.scores), np.array(entry.outcomes), level)
    present, absent = limits.holds(raw[known])
    return np.stack([labels[known].astype(np.int64), present.astype(np.int64), absent.astype(np.int64)], axis=1)


def _expected(
    every: NDArray[np.int64],
    per_label: dict[str, NDArray[np.int64]],
    calibration: Calibration,
    outcome: int,
    level: float,
) -> float | None:
    """The coverage that theory gives a class over these films: at least nominal, more where its calibration films are few."""
    total = int((every[:, 0] == outcome).sum())
    if not total:
        return None
    fitted = {f: sum(o == outcome for o in calibration.findings[f].outcomes) for f in per_label}
    shares = (int((s[:, 0] == outcome).sum()) * expected_coverage(fitted[f], level) for f, s in per_label.items())
    return float(sum(shares) / total)


def _covered(sets: NDArray[np.int64]) -> dict[str, Any]:
    """Share of sets (n, 3) that hold their film's class."""
    if not len(sets):
        return {"coverage": None, "n": 0}
    return {"coverage": float(np.where(sets[:, 0] == 1, sets[:, 1], sets[:, 2]).mean()), "n": len(sets)}


def _sizes(sets: NDArray[np.int64]) -> dict[str, Any]:
    """`_covered`, and how large the sets are."""
    size = sets[:, 1] + sets[:, 2]
    shares = {"size": size, "singletons": size == 1, "empty": size == 0}
    return {**_covered(sets), **{name: float(v.mean()) if len(sets) else None for name, v in shares.items()}}
