"""The published table: figures are gathered once, rows know their targets, and what is missing stays missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import table
from eval.table import NEEDED, Row
from rag_service.models.encoder import FilmEncoder
from rag_service.training.card import _table_figures

MODEL = "tiny@1"


def figure(mean: float, sd: float | None = 0.01) -> dict[str, Any]:
    return {"mean": mean, "sd": sd, "per_seed": [mean]}


def paired(difference: float) -> dict[str, Any]:
    return {"difference": difference, "interval": [difference - 0.01, difference + 0.01], "p_value": 0.5}


BOX = {
    "macro_auroc": figure(0.81), "element_accuracy": figure(0.93), "label_f1_macro": figure(0.4), "label_f1_micro": figure(0.6),
    "brier": figure(0.04), "ece": figure(0.02), "auroc_loss_2x": figure(0.008),
}  # fmt: skip
FIGURES: dict[str, dict[str, Any]] = {
    "labels": {
        "macro_auroc": 0.87, "macro_auroc_ci": [0.82, 0.9], "element_accuracy": 0.91, "label_f1_macro": 0.46,
        "label_f1_micro": 0.61, "brier_macro": 0.046, "ece_macro": 0.019, "n_films": 20, "n_studies": 18,
        "signature": {"model": MODEL},
    },
    "ablations": {
        "variants": {"box": BOX, "point": {"macro_auroc": figure(0.80, None)}}, "paired": {"point": paired(0.01)},
        "seeds": [7, 8], "signature": {"model": MODEL},
    },
    "calibration": {"conformal": {"0.9": {"coverage": 0.888}}, "signature": {"model": MODEL}},
    "ood": {
        "radius_alone": {"not_chest": 0.83, "rotated": 0.7}, "combined": {"not_chest": 0.99, "rotated": 0.94},
        "auroc_ci": {"not_chest": {"radius": [0.8, 0.9], "combined": [0.98, 1.0]}}, "signature": {"model": MODEL},
    },
    "shift": {"device_loss_at_2x": 0.012, "device_loss_at_2x_ci": None, "signature": {"model": MODEL}},
    "labeler": {
        "signature": "rules against context",
        "parts": [{"name": "all", "comparisons": [
            {"first": "rules", "second": "context", "uncertain_is": "present", "rows": []},
            {"first": "rules", "second": "context", "uncertain_is": "absent",
             "rows": [{"finding": "Edema", "kappa": 0.1}, {"finding": "pooled", "kappa": 0.917}]},
        ]}],
    },
}  # fmt: skip


def gathered(runs: Path, asked: list[list[str]], code: int = 0) -> dict[str, Any]:
    def run(arguments: list[str]) -> int:
        asked.append(arguments)
        out = Path(arguments[arguments.index("--json") + 1])
        out.write_text(json.dumps(FIGURES[out.stem]))
        return code

    return dict(table.gather(Path("data"), runs, MODEL, 7, run))


def test_figures_are_measured_once_and_by_the_single_commands(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    assert gathered(tmp_path / "runs", asked) == FIGURES
    assert [a[0] for a in asked] == [n.task for n in NEEDED]
    assert asked[0][:6] == ["labels", "data/openi", "--split", "test", "--seed", "7"]
    assert gathered(tmp_path / "runs", asked) == FIGURES
    assert len(asked) == len(NEEDED)


def test_figures_of_another_model_are_measured_again(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    (tmp_path / "labels.json").write_text(json.dumps({"signature": {"model": "other@1"}}))
    (tmp_path / "ood.json").write_text(json.dumps(FIGURES["ood"]))
    gathered(tmp_path, asked)
    assert [a[0] for a in asked] == [n.task for n in NEEDED if n.name != "ood"]


def test_a_measurement_that_fails_stops_the_table(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="python -m eval labels failed with exit code 2"):
        gathered(tmp_path, [], code=2)


def test_the_table_in_full(tmp_path: Path, encoder: FilmEncoder) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"\0" * (3 << 19))
    result = table.measure(FIGURES, encoder, weights)
    rows = {r["name"]: r for r in result["rows"]}
    assert [r["met"] for r in result["rows"]][:8] == [True, False, True, True, False, True, False, False]
    assert rows["macro-AUROC"]["interval"] == (0.82, 0.9)
    assert rows["conformal coverage, distance from 0.9"]["ours"] == pytest.approx(0.012)
    assert rows["labeler kappa, against a second labeler"]["ours"] == 0.917
    assert rows["OOD AUROC by radius alone, not_chest"]["met"] is True
    assert rows["OOD AUROC by radius alone, rotated"]["interval"] is None
    assert rows["OOD AUROC, all scores, rotated"]["met"] is False
    assert rows["weights, MiB"]["ours"] == 1.5
    assert 0 < rows["encoder, heads and BL-TTA, ms a film"]["ours"] < 60_000
    lines = table.table(result).splitlines()
    assert lines[2].split() == [
        "macro-AUROC",
        "0.870",
        "[0.820,",
        "0.900]",
        "0.810",
        "±",
        "0.010",
        "0.626",
        "0.860",
        "met",
    ]
    assert "  point            0.800 +0.0100 [+0.0000, +0.0200] p 0.500" in lines
    assert not any("short runs" in line for line in lines)
    card = list(_table_figures(result))
    assert "| macro-AUROC | 0.870 | [0.820, 0.900] | 0.810 ± 0.010 | 0.626 | 0.86 met |" in card
    assert "| element accuracy | 0.910 |  | 0.930 ± 0.010 | 0.753 | 0.92 **missed** |" in card
    assert "| point | 0.800 | +0.0100 [+0.0000, +0.0200] | 0.500 |" in card


def test_trunks_are_shown_where_they_were_compared(encoder: FilmEncoder, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"\0")
    trunks = {
        "variants": {"pretrained": {"macro_auroc": 0.75, "ms_per_film": 20.0}, "plain": {"macro_auroc": 0.73, "ms_per_film": 9.0}},
        "paired": {"plain": paired(0.02)}, "signature": {"steps": 200},
    }  # fmt: skip
    result = table.measure(FIGURES | {"trunks": trunks}, encoder, weights)
    lines = table.table(result).splitlines()
    assert "short runs of 200 steps, pretrained trunk less it" in lines
    assert lines[-1] == "  plain            0.730   9.0 ms +0.0200 [+0.0100, +0.0300] p 0.500"
    assert "| plain | 0.730 | 9.0 | +0.0200 [+0.0100, +0.0300] | 0.500 |" in list(_table_figures(result))


def test_a_row_without_a_target_is_neither_met_nor_missed() -> None:
    assert Row("x", 0.5).met is None
    assert Row("x", None, target=0.5).met is None
    assert Row("x", 0.5, target=0.5, higher_is_better=False).met is True


def test_a_film_is_timed(encoder: FilmEncoder) -> None:
    assert table.milliseconds(encoder) > 0
    assert np.isfinite(table.milliseconds(encoder))
