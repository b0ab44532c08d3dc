"""python -m eval shift DIR: device, finding and population changed one at a time, with one network or two side by side.

DIR is an Open-i or NIH folder, or `anatomy_devices` (edits beside devices alone). What a folder does not allow is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from eval import films, groups, readings, scores
from eval.shift import acquisition, device_curve, devices, drafts, manifestation, markers, population, sweep
from eval.shift.assess import Truth
from rag_service.datasets import nih
from rag_service.datasets.films import DatasetError, FilmRow, Split
from rag_service.reader import Reader
from rag_service.service import RadiographService


class Part(StrEnum):
    """The kinds of shift."""

    ACQUISITION = "acquisition"
    MANIFESTATION = "manifestation"
    POPULATION = "population"
    MARKERS = "markers"


@dataclass(frozen=True)
class Plan:
    """What to measure: the folder, another whose films are another source, the split, how many films at most, which part,
    and how many films to draft."""

    folder: Path
    other: Path | None = None
    split: Split | None = None
    limit: int | None = None
    only: Part | None = None
    drafts: int = 0

    def wants(self, part: Part) -> bool:
        """Whether a part is to be measured."""
        return self.only is None or self.only is part


def measure(
    plan: Plan, readers: Mapping[str, Reader], service: Callable[[], RadiographService] | None, seed: int
) -> dict[str, Any]:
    """Everything `shift --json` writes. `readers` are "model" and, when two are compared, "weak"; `service` builds what drafts
    (None where there is no knowledge base). DatasetError when the folder cannot show the part asked for."""
    outlined = (plan.folder / devices.TABLE).is_file()
    rows = [] if outlined else films.labelled(films.read(plan.folder, plan.split))
    rows = _sample(rows, plan.limit, seed)
    if outlined and plan.only not in {None, Part.MANIFESTATION}:
        raise DatasetError(f"{plan.folder.name}/ has objects, not labels: it shows {Part.MANIFESTATION} alone")
    truth = Truth(readings.labels(rows), tuple(groups.patients(rows)))
    curve = device_curve.measure(rows, truth, readers, seed) if rows and plan.wants(Part.ACQUISITION) else None
    hardest = curve["model"]["shifts"]["device"]["2"] if curve else {}
    one = acquisition.unit(device_curve.input_side(readers["model"]))
    return {
        "device_loss_at_2x": hardest.get("loss"),
        "device_loss_at_2x_ci": hardest.get("loss_ci"),
        "acquisition": curve,
        "flips": hardest.get("flips"),
        "manifestation": _manifestation(plan, rows, readers, seed) if plan.wants(Part.MANIFESTATION) else None,
        "population": _population(plan, rows, readers, seed) if rows and plan.wants(Part.POPULATION) else None,
        "markers": markers.measure(rows, truth, readers, seed) if rows and plan.wants(Part.MARKERS) else None,
        "citations": _citations(rows[: plan.drafts], service, one, seed) if plan.drafts else None,
        "films": len(rows),
        "patients": len(set(truth.patients)),
        "seed": seed,
        "signature": {
            "films": films.signature(rows),
            **{name: reader.encoder.record.id for name, reader in readers.items()},
            "thresholds": {name: reader.calibration.digest for name, reader in readers.items()},
            "strength_1": asdict(one),
            "bootstrap": scores.RESAMPLES,
        },
    }


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [f"{result['films']} films of {result['patients']} patients, seed {result['seed']}"]
    for name, part in (
        ("acquisition", device_curve.table),
        ("manifestation", manifestation.table),
        ("population", population.table),
        ("markers", markers.table),
    ):
        lines += part(result[name]) if result[name] else [f"{name}: not measured"]
    return "\n".join(lines + drafts.table(result["citations"]))


def _manifestation(
    plan: Plan, rows: Sequence[FilmRow], readers: Mapping[str, Reader], seed: int
) -> dict[str, Any] | None:
    if not rows:
        cases = manifestation.device_cases(devices.device_films(plan.folder)[: plan.limit], seed)
    elif drawn := nih.boxes(plan.folder):
        cases = manifestation.boxed_cases(rows, drawn, seed)
    elif plan.only is Part.MANIFESTATION:
        raise DatasetError(f"{plan.folder.name}/ holds neither reader boxes nor outlined objects to edit")
    else:
        return None
    return manifestation.measure(cases, readers, seed)


def _population(plan: Plan, rows: Sequence[FilmRow], readers: Mapping[str, Reader], seed: int) -> dict[str, Any]:
    if plan.other is not None:
        others = films.labelled(films.read(plan.other, plan.split))
        rows = [*rows, *_sample(others, plan.limit, seed)]
    truth = Truth(readings.labels(rows), tuple(groups.patients(rows)))
    read = sweep.read(rows, list(readers.values()), {"clean": lambda film, _: film})
    p = {name: found["clean"] for name, found in zip(readers, read, strict=True)}
    return population.measure(rows, truth, p, {n: r.calibration for n, r in readers.items()}, seed)


def _citations(
    rows: Sequence[FilmRow], build: Callable[[], RadiographService] | None, one: acquisition.Unit, seed: int
) -> dict[str, Any] | None:
    if build is None or not rows:
        return None
    service = build()
    try:
        return drafts.measure(service, rows, one, seed)
    finally:
        service.close()


def _sample(rows: Sequence[FilmRow], limit: int | None, seed: int) -> list[FilmRow]:
    """At most `limit` films, drawn once by seed, in their own order."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    drawn = np.random.default_rng(seed).choice(len(rows), limit, replace=False)
    return [rows[i] for i in sorted(drawn.tolist())]
