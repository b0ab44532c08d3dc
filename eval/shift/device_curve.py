"""Every acquisition shift at every strength: macro-AUROC lost, label-F1 lost, statements flipped, by network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from eval import scores
from eval.shift import acquisition, sweep
from eval.shift.assess import Losses, Truth, difference, label_f1, losses, row
from eval.shift.sweep import Floats, Stored
from rag_service.calibration import Calibration
from rag_service.datasets.films import FilmRow
from rag_service.imaging.normalise import STORED_SIDE
from rag_service.models.network import FilmNetwork
from rag_service.reader import Reader

CLEAN: Final = ("clean", 0.0)

Change = tuple[str, float]


def measure(rows: Sequence[FilmRow], truth: Truth, readers: Mapping[str, Reader], seed: int) -> dict[str, Any]:
    """By network: clean scores and shift -> strength -> scores; with two networks, `difference` of weak and model."""
    one = acquisition.unit(input_side(readers["model"]))
    read = sweep.read(rows, list(readers.values()), {CLEAN: _same, **_changes(one, seed)})
    result: dict[str, Any] = {}
    lost: dict[str, Losses] = {}
    for (name, reader), found in zip(readers.items(), read, strict=True):
        clean = found.pop(CLEAN)
        lost[name] = losses(truth, clean, found, seed)
        result[name] = {
            "macro_auroc": lost[name].clean,
            "label_f1": label_f1(truth, clean, reader.calibration),
            "shifts": _nested({c: _row(truth, clean, p, reader.calibration, lost[name], c) for c, p in found.items()}),
        }
    if "weak" in lost:
        pairs = {c: difference(lost["weak"], lost["model"], c) for c in lost["model"].changed}
        result["difference"] = {"shifts": _nested(pairs)}
    return result


def input_side(reader: Reader) -> int:
    """Pixels a side at which training painted its changes: the network's input; the stored film's for other encoders."""
    network = reader.encoder.network
    return network.architecture.side if isinstance(network, FilmNetwork) else STORED_SIDE


def table(result: Mapping[str, Any]) -> list[str]:
    """Loss of macro-AUROC by shift and strength, and flips at the largest, for a reader."""
    lines = []
    for name in ("model", "weak", "difference"):
        if name in result:
            lines.append(f"macro-AUROC loss, {name}: " + " ".join(f"{f's={s:g}':>7s}" for s in acquisition.STRENGTHS))
            lines += [_line(shift, strengths) for shift, strengths in result[name]["shifts"].items()]
    return lines


def _row(truth: Truth, clean: Floats, p: Floats, calibration: Calibration, lost: Losses, c: Change) -> dict[str, Any]:
    return {
        "macro_auroc": lost.changed[c],
        "loss": lost.loss(c),
        "loss_ci": scores.middle(lost.sampled[c]),
        **row(truth, clean, p, calibration),
    }


def _line(shift: str, strengths: Mapping[str, Any]) -> str:
    cells = " ".join("      -" if v["loss"] is None else f"{v['loss']:7.3f}" for v in strengths.values())
    last = list(strengths.values())[-1]
    low, high = last["loss_ci"] or (float("nan"), float("nan"))
    told = f"  [{low:.3f}, {high:.3f}]"
    if "statements" in last:
        told += f"  flipped {last['statements']['flipped']} of {last['statements']['stated']}"
    return f"  {shift:22s} {cells}{told}"


def _changes(one: acquisition.Unit, seed: int) -> dict[Change, Callable[[Stored, int], Stored]]:
    return {
        (name, strength): partial(_shifted, name=name, strength=strength, seed=seed, one=one)
        for name in acquisition.SHIFTS
        for strength in acquisition.STRENGTHS
    }


def _shifted(film: Stored, own: int, *, name: str, strength: float, seed: int, one: acquisition.Unit) -> Stored:
    return acquisition.shifted(film, name, strength, (seed, own), one)


def _same(film: Stored, _: int) -> Stored:
    return film


def _nested(flat: Mapping[Change, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (name, strength), value in flat.items():
        nested.setdefault(name, {})[f"{strength:g}"] = value
    return nested
