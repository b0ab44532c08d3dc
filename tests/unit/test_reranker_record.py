"""The re-ranker of a model folder: kept, read back, and refused where it does not belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_base.rerank import FEATURES
from rag_service import sealed
from rag_service.errors import BadWeights
from rag_service.models import text
from rag_service.models.catalogue import load_record
from rag_service.reranker import COMMAND, FILE, FeatureWeight, RerankerRecord, fusion_in_use, load_reranker

WEIGHTS = Path(__file__).parents[2] / "rag_service" / "weights"
RECORD = RerankerRecord(
    "film@1",
    "mini@1",
    {f: FeatureWeight(float(i), 2.0, 0.5) for i, f in enumerate(FEATURES)},
    fusion_in_use(),
    "calibration: made by hand",
)


def test_a_reranker_is_read_as_it_was_kept(tmp_path: Path) -> None:
    assert load_reranker(tmp_path, "film@1", "mini@1") is None
    RECORD.save(tmp_path)
    loaded = load_reranker(tmp_path, "film@1", "mini@1")
    assert loaded is not None
    found = np.arange(8.0)[None] + 2.0
    assert loaded.scores(found).tolist() == RECORD.reranker.scores(found).tolist() == [4.0]
    assert sealed.read(tmp_path / FILE)["command"] == COMMAND


@pytest.mark.parametrize(
    ("models", "changes", "reason"),
    [
        (("other@2", "mini@1"), {}, "the model film@1, in use is other@2"),
        (("film@1", "other@2"), {}, "the text_model mini@1, in use is other@2"),
        (("film@1", "mini@1"), {"fusion": {"box": 1.0}}, "the fusion"),
        (("film@1", "mini@1"), {"features": {"agreement": {"mean": 0, "scale": 1, "weight": 1}}}, "malformed"),
        (("film@1", "mini@1"), {"features": {"agreement": 1}}, "malformed"),
        (("film@1", "mini@1"), {"features": None}, "malformed"),
        (("film@1", "mini@1"), {"unknown": 1}, "malformed"),
    ],
)
def test_another_reranker_is_refused_with_the_remedy(
    tmp_path: Path, models: tuple[str, str], changes: dict[str, Any], reason: str
) -> None:
    RECORD.save(tmp_path)
    sealed.write(tmp_path / FILE, {**sealed.read(tmp_path / FILE), **changes})
    with pytest.raises(BadWeights, match=reason) as raised:
        load_reranker(tmp_path, *models)
    assert COMMAND in str(raised.value)


def test_features_of_another_order_are_refused(tmp_path: Path) -> None:
    RECORD.save(tmp_path)
    turned = dict(reversed(sealed.read(tmp_path / FILE)["features"].items()))
    sealed.write(tmp_path / FILE, {**sealed.read(tmp_path / FILE), "features": turned})
    with pytest.raises(BadWeights, match="was fitted to the features"):
        load_reranker(tmp_path, "film@1", "mini@1")


def test_an_altered_reranker_is_refused(tmp_path: Path) -> None:
    RECORD.save(tmp_path)
    file = tmp_path / FILE
    file.write_text(file.read_text().replace("0.5", "0.9", 1))
    with pytest.raises(BadWeights, match="expected sha256"):
        load_reranker(tmp_path, "film@1", "mini@1")


def test_the_shipped_reranker_is_of_the_shipped_models() -> None:
    loaded = load_reranker(WEIGHTS, load_record(WEIGHTS).id, text.NAME)
    assert loaded is not None
    weight = dict(zip(FEATURES, loaded.weight.tolist(), strict=True))
    assert weight.pop("w2") <= 0.0
    assert min(weight.values()) >= 0.0
    assert weight["agreement"] > 0.1
