"""Manifestation shifts: what a network says once a finding is edited out of, or into, a film whose every other pixel stays.

Kinds of edit: `remove` (an opacity inside a radiologist's box), `sham` (the same fill, at a box drawn on another film, where
the film shows no opacity: what the edit itself does to the answer), `add` (a soft opacity at a box drawn on another film) and
`add_keep_device` (a soft opacity across a tube or line, whose own pixels stay).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from tqdm import tqdm

from eval import scores
from eval.shift import inpaint, statements, sweep
from eval.shift.devices import DeviceFilm
from eval.shift.inpaint import Edit, Mask
from eval.shift.sweep import Floats, Stored
from knowledge_base.findings import FINDINGS
from rag_service.datasets import nih
from rag_service.datasets.films import FilmRow
from rag_service.imaging.film import Box
from rag_service.reader import Reader

REMOVABLE: Final = ("Lung Lesion", "Lung Opacity", "Pneumonia", "Atelectasis")
"""Findings that are an opacity inside their box; a heart or an effusion cannot be filled over."""
MAX_AREA: Final = 0.06
"""Share of the film above which the boxes of a finding are left: a membrane over half a lung is no lung."""
GROW: Final = 1.2
"""An edit is the ellipse in the box grown by this: readers draw close."""
HEIGHT: Final = 0.55
"""Share of the missing brightness that an added opacity takes away at its middle."""
BLOB: Final = 0.20
"""Width and height of an opacity laid across a device, in fractions of the film."""
TRIES: Final = 40


@dataclass(frozen=True, eq=False)
class Case:
    """One edit to be measured: its kind, the finding it is about, whose film it is."""

    kind: str
    finding: str
    patient: str
    edit: Edit


def boxed_cases(rows: Sequence[FilmRow], drawn: Sequence[nih.ReaderBox], seed: int) -> Iterator[Case]:
    """`remove` for every box that can be filled; `sham` and `add` for every film without an opacity."""
    by_film: dict[str, list[nih.ReaderBox]] = {}
    for box in drawn:
        if box.finding in REMOVABLE:
            by_film.setdefault(Path(box.image).stem, []).append(box)
    pool = [box for boxes in by_film.values() for box in boxes if _place(box).area <= MAX_AREA]
    for row in tqdm(rows, desc="editing films", unit="film"):
        own, rng = by_film.get(row.path.stem, []), np.random.default_rng([seed, sweep.own_seed(row)])
        bare = row.labels.get("Lung Opacity") is False and row.labels.get("Lung Lesion") is False
        if own or (bare and pool):
            film = sweep.stored(row.path)
            yield from _removals(film, row, own, rng) if own else _lesions(film, row, pool, rng)


def device_cases(films: Sequence[DeviceFilm], seed: int) -> Iterator[Case]:
    """`add_keep_device` on every film with a tube or line over a lung."""
    for number, shown in enumerate(tqdm(films, desc="editing films with devices", unit="film")):
        film, rng = sweep.stored(shown.path), np.random.default_rng([seed, number])
        device = np.any([inpaint.rectangle(b, len(film)) for b in shown.devices], axis=0)
        region = _across(device, shown.lungs, rng)
        if region is not None:
            edit = inpaint.added(film, region, device, HEIGHT, rng)
            yield Case("add_keep_device", "Lung Opacity", shown.path.stem, edit)


def measure(cases: Iterator[Case], readers: Mapping[str, Reader], seed: int) -> dict[str, Any]:
    """How many edits passed the quality gate and why others did not; then, by network, what the edits did by kind."""
    used: list[Case] = []
    refused: dict[str, int] = {}
    made = kept = changed = 0
    for case in cases:
        reasons = inpaint.faults(case.edit)
        made, kept, changed = made + 1, kept + case.edit.kept, changed + case.edit.kept_changed
        for reason in reasons:
            refused[reason] = refused.get(reason, 0) + 1
        if not reasons:
            used.append(case)
    return {
        "edits": made,
        "used": len(used),
        "refused": refused,
        "kept_pixels": kept,
        "kept_pixels_changed": changed,
        "touching_a_device": sum(c.edit.touches_device for c in used),
        "networks": {name: _network(used, reader, seed) for name, reader in readers.items()} if used else None,
    }


def table(result: Mapping[str, Any]) -> list[str]:
    """What the edits did, for a reader."""
    why = ", ".join(f"{k} {v}" for k, v in result["refused"].items()) or "none"
    lines = [
        f"edits: {result['used']} of {result['edits']} used (refused: {why}); of {result['kept_pixels']} kept pixels"
        f" {result['kept_pixels_changed']} changed; {result['touching_a_device']} touch a kept device"
    ]
    for name, kinds in (result["networks"] or {}).items():
        lines += [_line(name, kind, finding, v) for kind, found in kinds.items() for finding, v in found.items()]
    return lines


def _removals(film: Stored, row: FilmRow, own: Sequence[nih.ReaderBox], rng: Generator) -> Iterator[Case]:
    """All boxes of a finding are filled at once, so that the film is free of it, or none where together they are too large."""
    nothing = np.zeros(film.shape, bool)
    for finding in dict.fromkeys(b.finding for b in own):
        region = np.any([_region(_place(b)) for b in own if b.finding == finding], axis=0)
        if region.mean() <= MAX_AREA:
            yield Case("remove", finding, f"{row.source}/{row.patient}", inpaint.removed(film, region, nothing, rng))


def _lesions(film: Stored, row: FilmRow, pool: Sequence[nih.ReaderBox], rng: Generator) -> Iterator[Case]:
    borrowed = pool[int(rng.integers(len(pool)))]
    region, nothing = _region(_place(borrowed)), np.zeros(film.shape, bool)
    patient = f"{row.source}/{row.patient}"
    yield Case("sham", borrowed.finding, patient, inpaint.removed(film, region, nothing, rng))
    yield Case("add", "Lung Opacity", patient, inpaint.added(film, region, nothing, HEIGHT, rng))


def _across(device: Mask, lungs: Sequence[Box], rng: Generator) -> Mask | None:
    """An ellipse in a lung that the device crosses or touches; None when none of TRIES places does."""
    for _ in range(TRIES):
        lung = lungs[int(rng.integers(len(lungs)))]
        x, y = rng.uniform(lung.x_min, lung.x_max), rng.uniform(lung.y_min, lung.y_max)
        x, y = (float(np.clip(v, BLOB / 2, 1 - BLOB / 2)) for v in (x, y))
        region = inpaint.ellipse(Box(x - BLOB / 2, y - BLOB / 2, x + BLOB / 2, y + BLOB / 2), len(device))
        if 0 < (region & device).sum() < 0.7 * region.sum():
            return region
    return None


def _network(used: Sequence[Case], reader: Reader, seed: int) -> dict[str, Any]:
    before = sweep.probabilities([c.edit.before for c in used], reader)
    after = sweep.probabilities([c.edit.after for c in used], reader)
    groups: dict[str, dict[str, list[int]]] = {}
    for index, case in enumerate(used):
        groups.setdefault(case.kind, {}).setdefault(case.finding, []).append(index)
    return {
        kind: {
            f: _group([used[i] for i in rows], before[rows], after[rows], f, reader, seed) for f, rows in found.items()
        }
        for kind, found in groups.items()
    }


def _group(
    cases: Sequence[Case], before: Floats, after: Floats, finding: str, reader: Reader, seed: int
) -> dict[str, Any]:
    """The finding's own probability and calls from the flag up; the flips of the other findings."""
    column, flag = FINDINGS.index(finding), reader.calibration.findings[finding].flag
    moved = after[:, column] - before[:, column]
    flips = statements.flips(*(statements.sides(p, reader.calibration) for p in (before, after)))
    devices = FINDINGS.index("Support Devices")
    return {
        "films": len(cases),
        "p_before": float(before[:, column].mean()),
        "p_after": float(after[:, column].mean()),
        "delta": float(moved.mean()),
        "delta_ci": scores.interval([c.patient for c in cases], lambda rows: float(moved[rows].mean()), seed),
        "called_before": int((before[:, column] >= flag).sum()),
        "called_after": int((after[:, column] >= flag).sum()),
        "support_devices_delta": float((after - before)[:, devices].mean()),
        "others": statements.total({f: v for f, v in flips.items() if f != finding}),
        "flips": flips,
    }


def _line(network: str, kind: str, finding: str, v: Mapping[str, Any]) -> str:
    low, high = v["delta_ci"]
    return (
        f"  {network:6s} {kind:16s} {finding:14s} n {v['films']:4d}  p {v['p_before']:.3f} -> {v['p_after']:.3f}"
        f" ({v['delta']:+.3f} [{low:+.3f}, {high:+.3f}])  called {v['called_before']} -> {v['called_after']}"
        f"  others flipped {v['others']['flipped']} of {v['others']['stated']}"
    )


def _region(box: Box) -> Mask:
    return inpaint.ellipse(box, sweep.SIDE, GROW)


def _place(box: nih.ReaderBox) -> Box:
    return Box(box.x_min, box.y_min, box.x_max, box.y_max)
