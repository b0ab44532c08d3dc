"""From a folder to a frozen encoder: digests first, then weights, then one interface."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from rag_service.errors import BadWeights
from rag_service.models.catalogue import RECORD_FILE, load_record
from rag_service.models.encoders.backbones import LOADERS, OwnTrunk
from rag_service.models.encoders.catalogue import OWN
from rag_service.models.encoders.record import EncoderRecord, Features, checked_config, read_record
from rag_service.models.weights import load_network

_OWN_MEAN: Final = 0.5
_OWN_STD: Final = 0.25


class Extractor:
    """A `FeatureExtractor` over a module that maps normalised pixels (B, K, S, S) to (B, D) and (B, C, h, w)."""

    def __init__(self, record: EncoderRecord, backbone: nn.Module) -> None:
        self._record = record
        self._backbone = backbone.eval()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._backbone.to(self.device)

    @property
    def record(self) -> EncoderRecord:
        """Which encoder this is."""
        return self._record

    @torch.inference_mode()
    def features(self, films: NDArray[np.uint8] | NDArray[np.float32]) -> Features:
        """Features of films (B, H, W), on the CPU. BadWeights when they are not finite or not as wide as recorded."""
        pooled, grid = self._backbone(to_pixels(films, self._record).to(self.device))
        if pooled.shape[1] != self._record.width:
            raise BadWeights(
                f"{self._record.id} gives features of width {pooled.shape[1]}, recorded is {self._record.width}"
            )
        if not bool(torch.isfinite(pooled).all()) or not bool(torch.isfinite(grid).all()):
            raise BadWeights(f"{self._record.id} produced numbers that are not finite")
        return Features(pooled.float().cpu(), grid.float().cpu())


def to_pixels(films: NDArray[np.uint8] | NDArray[np.float32], record: EncoderRecord) -> Tensor:
    """Films (B, H, W), uint8 or float32 in [0, 1] -> (B, K, S, S), normalised as the record says."""
    grey = torch.from_numpy(np.ascontiguousarray(films)).float()[:, None]
    if films.dtype == np.uint8:
        grey = grey.div(255.0)
    grey = functional.interpolate(grey, size=record.side, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (record.mean, record.std))
    return grey.sub(mean).div(std)


def load_extractor(name: str, folder: Path) -> Extractor:
    """The encoder `name` whose files and record lie in `folder`. BadWeights otherwise; never random weights."""
    if name == OWN:
        return _own(folder)
    from huggingface_hub.errors import StrictDataclassError

    record = read_record(name, folder)
    config = checked_config(record, folder)
    if record.loader not in LOADERS:
        raise BadWeights(f"{record.id} names the loader {record.loader}, which this version does not have")
    try:
        state = {k: v.float() for k, v in load_file(folder / record.weights).items()}
        backbone = LOADERS[record.loader](config, state)
    except (
        SafetensorError,
        StrictDataclassError,
        RuntimeError,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        raise BadWeights(
            f"{record.weights} of {record.name} does not fit its configuration (expected sha256 {record.sha256})"
        ) from error
    return Extractor(record, backbone)


def _own(folder: Path) -> Extractor:
    film_model = load_record(folder)
    network = load_network(film_model, folder).eval()
    side = network.architecture.side
    with torch.inference_mode():
        width = network(torch.zeros(1, 1, side, side)).pooled.shape[1]
    record = EncoderRecord(
        name=OWN,
        version=film_model.version,
        loader=OWN,
        weights=film_model.file,
        config=RECORD_FILE,
        side=side,
        mean=(_OWN_MEAN,),
        std=(_OWN_STD,),
        width=width,
        terms=film_model.terms,
        source=f"{film_model.id}, trained by this project",
        sha256=film_model.sha256,
    )
    return Extractor(record, OwnTrunk(network))
