"""From a verified record to the film network that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
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
    # An infinite bias of a finding would leave as a probability of one, finite and certain.
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
        raise BadWeights(f"{record.file} holds numbers that are not finite (expected sha256 {record.sha256})")
    return network


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
