"""The re-ranker of a model folder: what it weighs, which models' vectors it was fitted to, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from knowledge_base.fusion import RRF_K, WEIGHTS
from knowledge_base.rerank import FEATURES, Reranker
from rag_service import sealed
from rag_service.errors import BadWeights

FILE: Final = "reranker.json"
COMMAND: Final = "python -m rag_service.training reranker --data DIR --out FOLDER"


@dataclass(frozen=True)
class FeatureWeight:
    """How one feature counts: (value - mean) / scale * weight."""

    mean: float
    scale: float
    weight: float


@dataclass(frozen=True)
class RerankerRecord:
    """A fitted re-ranker: `features` by name, in the order of `rerank.FEATURES`.

    `model` and `text_model` made the vectors it compares, `fusion` (weight of each list, and k) the candidates it saw.
    """

    model: str
    text_model: str
    features: Mapping[str, FeatureWeight]
    fusion: Mapping[str, float]
    sample: str
    command: str = COMMAND

    @property
    def reranker(self) -> Reranker:
        """The model itself. `RecordError` when its numbers are not usable."""
        rows = [(f.mean, f.scale, f.weight) for f in self.features.values()]
        mean, scale, weight = np.array(rows, np.float64).T
        return Reranker(mean, scale, weight)

    def save(self, folder: Path) -> None:
        """Write `reranker.json`."""
        sealed.write(folder / FILE, asdict(self))


def fusion_in_use() -> dict[str, float]:
    """The weights of the lists and k, as a record holds them."""
    return {**WEIGHTS, "k": float(RRF_K)}


def load_reranker(folder: Path, model: str, text_model: str) -> Reranker | None:
    """The re-ranker in `folder`; None when the folder has none.

    BadWeights when it is altered, was fitted to vectors of other models, to other features or to another fusion.
    """
    if not (folder / FILE).is_file():
        return None
    raw = sealed.read(folder / FILE)
    try:
        record = _parse(raw)
        reranker = record.reranker
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadWeights(f"{FILE} is malformed in the model folder; make it again: {COMMAND}") from error
    wanted = {"model": model, "text_model": text_model, "features": list(FEATURES), "fusion": fusion_in_use()}
    found = {**{n: raw[n] for n in ("model", "text_model", "fusion")}, "features": list(record.features)}
    for part, running in wanted.items():
        if found[part] != running:
            raise BadWeights(f"{FILE} was fitted to the {part} {found[part]}, in use is {running}; fit it: {COMMAND}")
    return reranker


def _parse(raw: dict[str, Any]) -> RerankerRecord:
    features = {name: FeatureWeight(**entry) for name, entry in raw["features"].items()}
    return RerankerRecord(**{**raw, "features": features})
