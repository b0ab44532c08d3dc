"""The model card tells the run: figures as tables where they are known, as JSON where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from knowledge_base.findings import FINDINGS
from rag_service.calibration import Calibration, FindingCalibration, Reliability, Tiers
from rag_service.calibrators import Platt
from rag_service.models.catalogue import ModelRecord
from rag_service.models.network import Architecture
from rag_service.training.card import CARD_FILE, write_card
from rag_service.training.corpus import SOURCES, Corpus
from rag_service.training.loop import Plan

LABELS = {
    "macro_auroc": 0.8123, "macro_auroc_ci": [0.79, 0.83], "n_films": 500, "n_studies": 480, "seed": 7,
    "labels_in_macro": ["Edema"], "element_accuracy": 0.9, "label_f1_macro": 0.4, "label_f1_micro": 0.5, "brier_macro": 0.06,
    "ece_macro": 0.02,
    "per_label": {"Edema": {"auroc": 0.9, "f1": None, "brier": 0.05, "ece": 0.01, "positives": 12, "studies": 480}},
}  # fmt: skip
METHODS = {"n": 9, "methods": {"box": {"map": 0.3, "ndcg_at_10": 0.4, "p_at_5": 0.5}}}
RETRIEVAL = {
    "map": 0.3, "n_queries": 10, "n_gallery": 90, "seed": 7, "all": METHODS, "abnormal": METHODS,
    "by_text": {"common": METHODS, "phrases": {}}, "by_region": {"original": METHODS, "Edema": METHODS},
}  # fmt: skip


SPEED = {"seconds": 2, "hit_rate": 0.643, "quiet": True, "intervals": {"hit_rate": [0.562, 0.73]}}


def test_a_card_in_full(tmp_path: Path) -> None:
    record = ModelRecord("tiny", "1", "t.safetensors", "ab" * 32, "p@1", "none", Architecture(tags=("lung",)).to_json())
    entry = FindingCalibration(
        Platt(1.0, 0.0), 0.51, 0.4, 0.4, 0.5, 0.1, Reliability.TOO_WEAK, 3, 4, None, (0.1,), (0,)
    )
    findings = dict.fromkeys(FINDINGS, entry) | {"Edema": FindingCalibration(
        Platt(1.0, 0.0), 0.5, 0.3, 0.3, 0.5, 0.2, Reliability.RELIABLE, 30, 400, 0.912, (0.1,), (0,))}  # fmt: skip
    calibration = Calibration("tiny@1", findings, Tiers(0.9, 0.6, 1.0, 1.0, 9.0), (), "few films")
    zeros = np.zeros((3, 1), np.int8)
    corpus = Corpus(
        np.zeros((3, 1, 1), np.uint8), zeros, zeros, ("lung",), zeros[:, 0], zeros[:, 0], np.array([0, 0, 1], np.int8),
        np.array([0, 0, 1], np.int8), np.array(["train", "test", "train"]), ("", "", ""), ("a", "b", "c"), {},
    )  # fmt: skip
    for name, figures in (("labels", LABELS), ("retrieval", RETRIEVAL), ("speed", SPEED)):
        (tmp_path / f"{name}.json").write_text(json.dumps(figures))
    (tmp_path / "indication.json").write_text("{}")
    (tmp_path / "views.json").write_text(json.dumps({"sample": "few studies"}))
    paths = [tmp_path / f"{n}.json" for n in ("labels", "retrieval", "speed")]
    write_card(tmp_path, record, calibration, corpus, Plan(), paths, "Stopped once.")
    card = (tmp_path / CARD_FILE).read_text("utf-8")
    for line in (
        "# tiny@1-abababab",
        "**Research use only. Not a medical device. A clinician decides.**",
        "| source | train | calibration | test |",
        "| openi | 1 | 0 | 1 |",
        "| nih | 1 | 0 | 0 |",
        "Stopped once.",
        "## Measured: labels",
        "Macro-AUROC **0.812** [0.790, 0.830] over 1 findings,",
        "| Edema | 0.900 | - | 0.050 | 0.010 | 12 | 480 |",
        "10 queries, 90 cases, seed 7.",
        "| abnormal (9) | box | 0.300 | 0.400 | 0.500 |",
        "| by words, common (9) | box | 0.300 | 0.400 | 0.500 |",
        "| by region, original (9) | box | 0.300 | 0.400 | 0.500 |",
        "| `views.json` | few studies |",
        "| Edema | reliable | 0.500 | 0.300 | 0.200 | 30 | 0.912 |",
        "| Fracture | not_reliable_enough | 0.510 | 0.400 | 0.100 | 3 | - |",
        "| seconds | 2 |  |",
        "| hit_rate | 0.643 | [0.562, 0.730] |",
        "| `indication.json` | weighs known words of the indication | Open-i indications |",
    ):
        assert line in card.splitlines()
    assert "by region, Edema" not in card
    assert "decoder.json" not in card
    assert "| quiet" not in card
    assert len(SOURCES) == 7
    write_card(tmp_path, record, calibration, corpus, Plan(), [], "")
    assert "Measured" not in (tmp_path / CARD_FILE).read_text("utf-8")
