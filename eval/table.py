"""python -m eval table DIR: every row of the published table beside ours, each from the measurement that prints it alone.

The figures are read from `--runs`; one that is missing there, or was made by another model, is measured first. Published: a
box-latent model on frozen MedSAM2 features, Open-i, 2,954 pairs, patient-level 80/10/10, 5 seeds (medRxiv 2026.04.20.26351338).
Ours differs as the notes under the table say: five seeds of the box head stand on one trained trunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from rag_service.models.encoder import FilmEncoder

Run = Callable[[list[str]], int]
Figures = Mapping[str, Any]
TIMED_FILMS: Final = 30
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Needed:
    """A measurement the table stands on: its name, what to type after `python -m eval`, and the folder it wants."""

    name: str
    task: str
    folder: str = ""
    options: tuple[str, ...] = ()

    def command(self, data: Path, out: Path, seed: int) -> list[str]:
        """The arguments of the command line."""
        return [self.task, str(data / self.folder), *self.options, "--seed", str(seed), "--json", str(out)]


NEEDED: Final = (
    Needed("labels", "labels", "openi", ("--split", "test")),
    Needed("ablations", "ablations", "", ("--seeds", "5")),
    Needed("calibration", "calibration", "openi", ("--split", "test")),
    Needed("ood", "ood"),
    Needed("shift", "shift", "openi", ("--split", "test", "--only", "acquisition")),
    Needed("labeler", "labeler", "openi"),
)
TRUNKS: Final = "trunks"
"""Compared by training; read where `python -m eval trunks DIR --json RUNS/trunks.json` has been run, never run from here."""


@dataclass(frozen=True)
class Row:
    """One line: the shipped model with its interval, mean and sd over seeds of the head, the published value, the target."""

    name: str
    ours: float | None
    interval: tuple[float, float] | None = None
    mean: float | None = None
    sd: float | None = None
    published: float | None = None
    target: float | None = None
    higher_is_better: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the shipped model meets the target; None without either."""
        if self.ours is None or self.target is None:
            return None
        return self.ours >= self.target if self.higher_is_better else self.ours <= self.target


def gather(data: Path, runs: Path, model: str, seed: int, run: Run) -> dict[str, Figures]:
    """Figures by name, measured where they are missing. RuntimeError when a measurement fails."""
    runs.mkdir(parents=True, exist_ok=True)
    for needed in NEEDED:
        path = runs / f"{needed.name}.json"
        if not _made_by(path, model) and (code := run(needed.command(data, path, seed))):
            raise RuntimeError(f"python -m eval {needed.task} failed with exit code {code}")
    names = [n.name for n in NEEDED] + ([TRUNKS] if (runs / f"{TRUNKS}.json").is_file() else [])
    return {name: json.loads((runs / f"{name}.json").read_text("utf-8")) for name in names}


def measure(figures: Mapping[str, Figures], encoder: FilmEncoder, weights: Path) -> dict[str, Any]:
    """Everything `table --json` writes."""
    speed = milliseconds(encoder)
    rows = [*_reading_rows(figures), *_ood_rows(figures["ood"]), *_running_rows(speed, weights)]
    return {
        "rows": [{**asdict(r), "met": r.met} for r in rows],
        "paired": figures["ablations"]["paired"],
        "variants": {n: v["macro_auroc"] for n, v in figures["ablations"]["variants"].items()},
        "trunks": figures.get(TRUNKS),
        "seeds": figures["ablations"]["seeds"],
        "n_films": figures["labels"]["n_films"],
        "n_studies": figures["labels"]["n_studies"],
        "signature": {"model": encoder.record.id, **{n: f.get("signature") for n, f in figures.items()}},
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{result['signature']['model']}, {result['n_studies']} test studies; seeds of the head {result['seeds']}",
        f"{'':42s} {'ours':>8s} {'95 %':>16s} {'5 seeds':>16s} {'published':>9s} {'target':>8s}",
    ]
    lines += [_line(row) for row in result["rows"]]
    lines.append("what each part is worth: macro-AUROC, mean over seeds, and the box less it, paired over studies")
    for name, found in result["variants"].items():
        lines.append(f"  {name:16s} {_number(found['mean'])} {_test(result['paired'].get(name))}")
    if result["trunks"]:
        lines.append(f"short runs of {result['trunks']['signature']['steps']} steps, pretrained trunk less it")
        for name, found in result["trunks"]["variants"].items():
            ms = f"{found['ms_per_film']:.1f} ms"
            paired = _test(result["trunks"]["paired"].get(name))
            lines.append(f"  {name:16s} {_number(found['macro_auroc'])} {ms:>8s} {paired}")
    return "\n".join(lines)


def milliseconds(encoder: FilmEncoder) -> float:
    """Median time of reading one film of 256 x 256 pixels: encoder, heads and BL-TTA, in ms, with torch's present threads."""
    films = np.random.default_rng(0).integers(0, 256, (TIMED_FILMS, 1, 256, 256), np.uint8)
    taken = []
    for film in films:
        begun = perf_counter()
        encoder.read_stored(film)
        taken.append(1000 * (perf_counter() - begun))
    return float(np.median(taken))


def _reading_rows(figures: Mapping[str, Figures]) -> list[Row]:
    labels, seeds = figures["labels"], figures["ablations"]["variants"]["box"]
    sets = figures["calibration"]["conformal"]["0.9"]
    lost, kappa = seeds["auroc_loss_2x"], _kappa(figures["labeler"])
    gap = None if sets["coverage"] is None else abs(sets["coverage"] - 0.9)

    def row(name: str, key: str, of_seeds: str, published: float | None, target: float, higher: bool = True) -> Row:
        found = seeds[of_seeds]
        interval = tuple(labels[f"{key}_ci"]) if labels.get(f"{key}_ci") else None
        return Row(name, labels[key], interval, found["mean"], found["sd"], published, target, higher)

    shift = figures["shift"]
    ci = tuple(shift["device_loss_at_2x_ci"]) if shift["device_loss_at_2x_ci"] else None
    return [
        row("macro-AUROC", "macro_auroc", "macro_auroc", 0.626, 0.86),
        row("element accuracy", "element_accuracy", "element_accuracy", 0.753, 0.92),
        row("label-F1, macro", "label_f1_macro", "label_f1_macro", 0.435, 0.45),
        row("label-F1, micro", "label_f1_micro", "label_f1_micro", None, 0.60),
        row("Brier, macro", "brier_macro", "brier", 0.061, 0.045, higher=False),
        row("ECE, macro", "ece_macro", "ece", None, 0.02, higher=False),
        Row(
            "AUROC loss at 2x device shift",
            shift["device_loss_at_2x"],
            ci,
            lost["mean"],
            lost["sd"],
            0.014,
            0.010,
            False,
        ),
        Row("conformal coverage, distance from 0.9", gap, target=0.01, higher_is_better=False),
        Row("labeler kappa, against a second labeler", kappa, published=0.702),
    ]


def _ood_rows(ood: Figures) -> list[Row]:
    targets = {"not_chest": 0.985, "lateral": 0.95, "rotated": 0.95}
    published = {"not_chest": 0.595}
    alone = [
        Row(f"OOD AUROC by radius alone, {n}", v, _ci(ood, n, "radius"), published=published.get(n), target=0.80)
        for n, v in ood["radius_alone"].items()
    ]
    joined = [
        Row(f"OOD AUROC, all scores, {n}", v, _ci(ood, n, "combined"), target=targets.get(n))
        for n, v in ood["combined"].items()
    ]
    return [*alone, *joined]


def _running_rows(speed: float, weights: Path) -> list[Row]:
    size = weights.stat().st_size / MIB
    return [
        Row("encoder, heads and BL-TTA, ms a film", speed, target=60.0, higher_is_better=False),
        Row("weights, MiB", size, target=24.0, higher_is_better=False),
    ]


def _ci(ood: Figures, name: str, score: str) -> tuple[float, float] | None:
    found = ood["auroc_ci"].get(name, {}).get(score)
    return (found[0], found[1]) if found else None


def _kappa(labeler: Figures) -> float | None:
    """The pooled kappa of the rules and the second labeler over every study, uncertain as absent."""
    for part in labeler["parts"]:
        for comparison in part["comparisons"] if part["name"] == "all" else ():
            if (comparison["first"], comparison["second"], comparison["uncertain_is"]) == (
                "rules",
                "context",
                "absent",
            ):
                return _pooled(comparison["rows"])
    return None


def _pooled(rows: Sequence[Mapping[str, Any]]) -> float | None:
    return next((float(r["kappa"]) for r in rows if r["finding"] == "pooled" and r["kappa"] is not None), None)


def _made_by(path: Path, model: str) -> bool:
    """Whether figures lie in a file and, where they name a model, are this model's: its name may differ, its digest may not."""
    if not path.is_file():
        return False
    signature = json.loads(path.read_text("utf-8")).get("signature", {})
    return not isinstance(signature, dict) or _digest(signature.get("model", model)) == _digest(model)


def _digest(model: str) -> str:
    """The digest that ends a model's id: a frozen trunk and the film model around it share it."""
    return model.rpartition("-")[2]


def _line(row: Mapping[str, Any]) -> str:
    interval = "" if row["interval"] is None else f"[{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]"
    seeds = "" if row["mean"] is None else f"{row['mean']:.3f}" + ("" if row["sd"] is None else f" ± {row['sd']:.3f}")
    verdict = {True: "met", False: "missed", None: ""}[row["met"]]
    numbers = f"{_number(row['ours']):>8s} {interval:>16s} {seeds:>16s}"
    return (
        f"{row['name']:42s} {numbers} {_number(row['published']):>9s} {_number(row['target']):>8s} {verdict}".rstrip()
    )


def _test(paired: Mapping[str, Any] | None) -> str:
    if paired is None or paired["difference"] is None:
        return ""
    low, high = paired["interval"] or (float("nan"), float("nan"))
    return f"{paired['difference']:+.4f} [{low:+.4f}, {high:+.4f}] p {paired['p_value']:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
