"""From a verified record to the film network that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from rag_service.errors import BadWeights
from rag_service.models.catalogue import ModelRecord, verified
from rag_service.models.network import Architecture, FilmNetwork


def load_network(record: ModelRecord, folder: Path) -> FilmNetwork:
    """The network of a film model's record, its digest checked first. BadWeights otherwise; never random weights."""
    path = verified(record, folder)
    try:
        network = FilmNetwork(Architecture(**_tuples(record.architecture)))
        network.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    except (SafetensorError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise BadWeights(f"{record.file} does not fit its architecture (expected sha256 {record.sha256})") from error
    return network


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
